// RMSProp and Adam of one parameter or of a list, in one parallel loop over the pieces of all; equations: kernels.contract.optimizer.
#include "optimizer.h"

#include <vector>

#include "pool.h"

namespace {

struct Entry {
    float *w, *copy, *state, *second, *average;  // the operand copy, RMSProp's mean square, Adam's m and v, the moving average; or null
    const float* grad;                           // null: only the average moves
    Z size;
    float weight_decay;
    float rate, correction;  // of this parameter, and Adam's
};

// An entry's line in the binding's table: these, as 64-bit numbers; an address of 0: there is none.
enum { PARAMETER, COPY, STATE, SECOND, COUNT, GRAD, ENABLED, AVERAGE, SIZE, COLUMNS };

template <class T> T* at(uint64_t address) { return reinterpret_cast<T*>((uintptr_t)address); }

// The entries with something to do; f(entry, t, lr) is called for those whose gates are open, with their own rate. t: Adam's count of
// updates, or null. numbers [n, 2]: weight decay and factor of the rate.
template <class F> std::vector<Entry> entries_of(const uint64_t* table, const double* numbers, Z n, double lr, F f) {
    std::vector<Entry> entries;
    entries.reserve((size_t)n);
    for (Z i = 0; i < n; i++) {
        const uint64_t* line = table + i * COLUMNS;
        const uint8_t* enabled = at<const uint8_t>(line[ENABLED]);
        const float* grad = enabled && !*enabled ? nullptr : at<const float>(line[GRAD]);
        float* average = at<float>(line[AVERAGE]);
        if (!grad && !average) continue;
        const double rate = lr * numbers[2 * i + 1];
        entries.push_back({at<float>(line[PARAMETER]), at<float>(line[COPY]), at<float>(line[STATE]), at<float>(line[SECOND]), average, grad,
                           (Z)line[SIZE], (float)numbers[2 * i], (float)rate, 0});
        if (grad) f(entries.back(), at<int64_t>(line[COUNT]), rate);
    }
    return entries;
}

void average_run(float* __restrict average, const float* __restrict w, Z n, float blend) {
    for (Z i = 0; i < n; i++) average[i] += blend * (w[i] - average[i]);
}

// Calls update(entry, first, last) for pieces of all entries, copies what it updated, and moves their averages.
template <class F> void update_all(const std::vector<Entry>& entries, double blend, F update) {
    constexpr Z STEP = piece_size(2);
    std::vector<Z> ends;  // of each entry's pieces
    ends.reserve(entries.size());
    for (const Entry& e : entries) ends.push_back((ends.empty() ? 0 : ends.back()) + (e.size + STEP - 1) / STEP);
    parallel(ends.empty() ? 0 : ends.back(), [&](Z piece) {
        const size_t number = (size_t)(std::upper_bound(ends.begin(), ends.end(), piece) - ends.begin());
        const Entry& e = entries[number];
        const Z first = (piece - (number ? ends[number - 1] : 0)) * STEP, last = std::min(e.size, first + STEP);
        if (e.grad) update(e, first, last);
        if (e.grad && e.copy) memcpy(e.copy + first, e.w + first, (size_t)(last - first) * 4);
        if (e.average) average_run(e.average + first, e.w + first, last - first, (float)blend);
    });
}

void rmsprop(const std::vector<Entry>& entries, double blend, double decay, double eps) {
    update_all(entries, blend, [=](const Entry& e, Z i, Z end) {
        rmsprop_run(e.w + i, e.state + i, e.grad + i, end - i, e.rate, decay, (float)eps, e.weight_decay);
    });
}

// The bias corrections of the update that is now counted
void advance(Entry& e, int64_t* t, double lr, double beta1, double beta2) {
    const double updates = (double)++*t;
    e.rate = (float)(lr / (1 - std::pow(beta1, updates)));
    e.correction = (float)(1 / std::sqrt(1 - std::pow(beta2, updates)));
}

void adam_run(float* __restrict w, float* __restrict m, float* __restrict v, const float* __restrict dw, Z n, double beta1, double beta2,
              float eps, const Entry& e) {
    const float keep1 = (float)beta1, add1 = (float)(1 - beta1), keep2 = (float)beta2, add2 = (float)(1 - beta2);
    const float weight_decay = e.weight_decay, rate = e.rate, correction = e.correction;
    for (Z i = 0; i < n; i++) {
        const float g = weight_decay != 0 ? dw[i] + weight_decay * w[i] : dw[i], square = g * g;
        m[i] = keep1 * m[i] + add1 * g;
        v[i] = keep2 * v[i] + add2 * square;
        w[i] -= rate * (m[i] / (std::sqrt(v[i]) * correction + eps));
    }
}

void adam(const std::vector<Entry>& entries, double blend, double beta1, double beta2, double eps) {
    update_all(entries, blend, [=](const Entry& e, Z i, Z end) {
        adam_run(e.w + i, e.state + i, e.second + i, e.grad + i, end - i, beta1, beta2, (float)eps, e);
    });
}

}  // namespace

EXPORT void rmsprop_update(float* w, float* ms, const float* dw, Z size, double lr, double decay, double eps, double weight_decay) {
    rmsprop({{w, nullptr, ms, nullptr, nullptr, dw, size, (float)weight_decay, (float)lr, 0}}, 1, decay, eps);
}

EXPORT void adam_update(float* w, float* m, float* v, int64_t* t, const float* dw, Z size, double lr, double beta1, double beta2,
                        double eps, double weight_decay) {
    std::vector<Entry> one{{w, nullptr, m, v, nullptr, dw, size, (float)weight_decay, 0, 0}};
    advance(one[0], t, lr, beta1, beta2);
    adam(one, 1, beta1, beta2, eps);
}

EXPORT void rmsprop_update_all(const uint64_t* table, const double* numbers, Z n, double lr, double blend, double decay, double eps) {
    rmsprop(entries_of(table, numbers, n, lr, [](Entry&, int64_t*, double) {}), blend, decay, eps);
}

EXPORT void adam_update_all(const uint64_t* table, const double* numbers, Z n, double lr, double blend, double beta1, double beta2,
                            double eps) {
    adam(entries_of(table, numbers, n, lr, [=](Entry& e, int64_t* t, double rate) { advance(e, t, rate, beta1, beta2); }), blend, beta1,
         beta2, eps);
}
