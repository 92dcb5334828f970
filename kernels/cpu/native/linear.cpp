// Linear layer and its two gradients on [n, inputs] · [inputs, outputs], by the microkernels of product.h on the weights as they lie: each
// is read once for some rows of the batch, which at small batches is the cost. Columns beyond whole vectors are done one by one.
#include "optimizer.h"
#include "pool.h"
#include "product.h"

static thread_local Scratch gradient, panel, rows, sums;

constexpr Z LINEAR = 1 << 18;  // multiplications of a piece

constexpr int DEPTH = 128, ROW = DEPTH + 16;  // inputs at a time, and how far apart their rows are then: not a power of two, or they would
                                              // share cache sets

// y[n][N vectors] (+)= x[n][run] · w[run][N vectors]; x in rows of ROW, w's rows `outputs` apart and copied side by side.
template <int N> static void forward_panel(float* y, const float* x, const float* w, Z n, int run, Z outputs, bool add) {
    float* b = panel.get(DEPTH * 3 * W);
    for (int r = 0; r < run; r++) memcpy(b + r * N * W, w + r * outputs, N * W * 4);
    tiles<N>(x, ROW, 0, 1, run, b, N * W, y, outputs, n, add);
}

// Columns [first, last) of y, whole vectors, from inputs [begin, end). Of long rows few at a time: each is then a stream that memory can
// run ahead of.
static void forward_block(float* y, const float* x, const float* w, Z n, Z inputs, Z outputs, Z begin, Z end, Z first, Z last) {
    const int lines = outputs <= 512 ? DEPTH : n > 24 ? 64 : 16;
    float* a = rows.get((size_t)n * ROW);
    for (Z k = begin; k < end; k += DEPTH) {
        const int depth = int(std::min<Z>(DEPTH, end - k));
        for (Z m = 0; m < n; m++) memcpy(a + m * ROW, x + m * inputs + k, (size_t)depth * 4);
        for (int l = 0; l < depth; l += lines) {
            const int run = std::min(lines, depth - l);
            const bool add = k + l > begin;
            for (Z v = first; v < last;) {
                const float* b = w + (k + l) * outputs + v;
                const int vectors = next_vectors(int((last - v) / W));
                const auto work = vectors == 3 ? forward_panel<3> : vectors == 2 ? forward_panel<2> : forward_panel<1>;
                work(y + v, a + l, b, n, run, outputs, add);
                v += vectors * W;
            }
        }
    }
}

// Small weights are cut by columns. Large ones are read from memory, row by row: they are cut by inputs, into sums of their own that are
// added in order; their number depends on the sizes alone.
EXPORT void linear_forward(float* y, const float* x, const float* w, const float* bias, Z n, Z inputs, Z outputs) {
    guarded([&] {
        const Z whole = outputs / W * W, cuts = inputs * outputs > 1 << 20 ? (inputs + 1023) / 1024 : 1, size = n * outputs;
        const Z each = std::max<Z>(outputs > 512 ? 32 : 1, LINEAR / std::max<Z>(1, n * inputs * W)) * W;
        const Z columns = cuts > 1 ? std::max<Z>(1, whole) : each, pieces = (whole + columns - 1) / columns;
        float* parts = cuts > 1 ? sums.get((size_t)((cuts - 1) * size)) : nullptr;
        parallel(cuts * pieces, [&](Z piece) {
            const Z cut = piece / pieces, first = piece % pieces * columns;
            forward_block(cut ? parts + (cut - 1) * size : y, x, w, n, inputs, outputs, inputs * cut / cuts, inputs * (cut + 1) / cuts,
                          first, std::min(whole, first + columns));
        });
        for (Z m = 0; m < n; m++)  // columns beyond whole vectors
            for (Z o = whole; o < outputs; o++) {
                float sum = 0;
                for (Z i = 0; i < inputs; i++) sum += x[m * inputs + i] * w[i * outputs + o];
                y[m * outputs + o] = sum;
            }
        if (cuts == 1 && !bias) return;
        parallel_ranges(n, outputs * cuts, [&](Z begin, Z end) {
            for (Z m = begin; m < end; m++) {
                float* out = y + m * outputs;
                for (Z cut = 1; cut < cuts; cut++) {
                    const float* part = parts + (cut - 1) * size + m * outputs;
                    LANES for (Z o = 0; o < whole; o++) out[o] += part[o];
                }
                if (bias) LANES for (Z o = 0; o < outputs; o++) out[o] += bias[o];
            }
        });
    });
}

// dx = dy · wᵀ: both run along outputs, so an element is a dot product. dy: in rows of `apart`.
template <int M, int C> static void dgrad_block(float* dx, const float* dy, Z apart, const float* w, Z inputs, Z outputs) {
    dots<M, C>(dy, apart, 0, 1, int(outputs / W * W), w, outputs, 0, dx, inputs, 1);
    for (Z o = outputs / W * W; o < outputs; o++)
        for (Z m = 0; m < M; m++)
            for (Z i = 0; i < C; i++) dx[m * inputs + i] += dy[m * apart + o] * w[i * outputs + o];
}
EXPORT void linear_dgrad(float* dx, const float* dy, const float* w, Z n, Z inputs, Z outputs) {
    guarded([&] {
        constexpr int M = REGISTERS == 32 ? 8 : 4, C = REGISTERS == 32 ? 3 : 2;
        const Z each = std::max<Z>(1, LINEAR / std::max<Z>(1, n * outputs * C)) * C, apart = outputs + 16;
        float* errors = rows.get((size_t)(n * apart));
        for (Z m = 0; m < n; m++) memcpy(errors + m * apart, dy + m * outputs, (size_t)outputs * 4);
        parallel((inputs + each - 1) / each, [&](Z piece) {
            const Z last = std::min(inputs, (piece + 1) * each);
            for (Z i = piece * each; i < last;) {
                Z m = 0;
                if (i + C <= last) {
                    for (; m + M <= n; m += M)
                        dgrad_block<M, C>(dx + m * inputs + i, errors + m * apart, apart, w + i * outputs, inputs, outputs);
                    for (; m < n; m++) dgrad_block<1, C>(dx + m * inputs + i, errors + m * apart, apart, w + i * outputs, inputs, outputs);
                    i += C;
                } else {
                    for (; m < n; m++) dgrad_block<1, 1>(dx + m * inputs + i, errors + m * apart, apart, w + i * outputs, inputs, outputs);
                    i++;
                }
            }
        });
    });
}

// Rows [first, first + rows) of dw = xᵀ · dy, to out.
static void wgrad_rows(float* out, const float* x, const float* dy, Z n, Z inputs, Z outputs, Z first, Z rows) {
    outer_product({x + first, inputs, 0, 0, dy, outputs, 0, 0, 1, 1, int(n), out, outputs, false}, int(rows), int(outputs / W * W));
    for (Z i = 0; i < rows; i++)
        for (Z o = outputs / W * W; o < outputs; o++) {
            float sum = 0;
            for (Z m = 0; m < n; m++) sum += x[m * inputs + first + i] * dy[m * outputs + o];
            out[i * outputs + o] = sum;
        }
}
static Z rows_at_once(Z n, Z outputs) {
    return std::max<Z>(1, std::min<Z>(LINEAR / std::max<Z>(1, n * outputs), (1 << 16) / outputs) / 24) * 24;
}

EXPORT void linear_wgrad(float* dw, const float* x, const float* dy, Z n, Z inputs, Z outputs) {
    guarded([&] {
        const Z each = rows_at_once(n, outputs);
        parallel((inputs + each - 1) / each, [&](Z piece) {
            const Z first = piece * each;
            wgrad_rows(dw + first * outputs, x, dy, n, inputs, outputs, first, std::min(each, inputs - first));
        });
    });
}

// The gradient of some rows at a time, used for RMSProp while it is in the cache, and never stored.
EXPORT void linear_wgrad_rmsprop(float* w, float* ms, const float* x, const float* dy, Z n, Z inputs, Z outputs, float lr, double decay,
                                 float eps, float weight_decay) {
    guarded([&] {
        const Z each = rows_at_once(n, outputs);
        parallel((inputs + each - 1) / each, [&](Z piece) {
            const Z first = piece * each, count = std::min(each, inputs - first), at = first * outputs;
            float* dw = gradient.get((size_t)(each * outputs));
            wgrad_rows(dw, x, dy, n, inputs, outputs, first, count);
            rmsprop_run(w + at, ms + at, dw, count * outputs, lr, decay, eps, weight_decay);
        });
    });
}
