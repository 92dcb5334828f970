// RMSProp and Adam with L2 weight decay, one parameter or a list of all of them in one launch, which moves their averages too. A block
// takes CHUNK elements of one parameter. A parameter whose enabled flag is 0 is not touched, optimiser state included: the flag is read on
// the device. Its average is.

constexpr int THREADS = 256, CHUNK = 8192;

// An entry of the list: 10 words of 8 bytes. copy: the parameter in act_t for the matmuls, or null. a, b: RMSProp's mean square and nothing,
// Adam's m and v. grad: null means that only the average moves. enabled: null means yes. rate: a factor of lr. t: Adam's count of applied
// updates. average: or null.
struct Entry {
    float *w;
    act_t *copy;
    float *a, *b;
    const float *grad;
    const u8 *enabled;
    i64 n;
    float weight_decay, rate;
    i64 *t;
    float *average;
    __device__ inline bool active() const { return grad && (!enabled || enabled[0]); }
};

__device__ inline bool aligned16(const void *p) { return ((u64)p & 15) == 0; }

// average ← average + blend · (w − average), of a parameter that is not updated.
__device__ inline void move_average(const Entry e, i64 chunk, float blend) {
    float *average = e.average;
    const float *w = e.w;
    if (!average) return;
    ASSUME_GLOBAL(average), ASSUME_GLOBAL(w);
    const i64 first = chunk * CHUNK, end = min(first + CHUNK, e.n);
    for (i64 i = first + threadIdx.x; i < end; i += THREADS) average[i] += blend * (w[i] - average[i]);
}

// f(w, a, b, g) changes its first two or three arguments; g = grad + weight_decay · w. BOTH: there is a state b.
template <bool BOTH, class F>
__device__ inline void update(const Entry e, i64 chunk, float blend, F f) {
    float *ew = e.w, *ea = e.a, *eb = e.b, *average = e.average;
    const float *grad = e.grad;
    act_t *copy = e.copy;
    ASSUME_GLOBAL(ew), ASSUME_GLOBAL(ea), ASSUME_GLOBAL(grad);
    if (BOTH) ASSUME_GLOBAL(eb);
    const float weight_decay = e.weight_decay;
    const i64 first = chunk * CHUNK, end = min(first + CHUNK, e.n);
    const bool aligned =
        aligned16(ew) && aligned16(copy) && aligned16(ea) && aligned16(grad) && aligned16(average) && (!BOTH || aligned16(eb));
    for (i64 i = first + threadIdx.x * 8; i < end; i += THREADS * 8) {
        if (aligned && i + 8 <= end) {
            float w[8], a[8], b[8], g[8];
            load8(w, ew + i);
            load8(g, grad + i);
            load8(a, ea + i);
            if (BOTH) load8(b, eb + i);
#pragma unroll
            for (int k = 0; k < 8; ++k) f(w[k], a[k], b[k], g[k] + weight_decay * w[k]);
            store8(ew + i, w);
            store8(ea + i, a);
            if (BOTH) store8(eb + i, b);
            if (copy) {
                ASSUME_GLOBAL(copy);
                store8(copy + i, w);
            }
            if (average) {
                ASSUME_GLOBAL(average);
                load8(g, average + i);
#pragma unroll
                for (int k = 0; k < 8; ++k) g[k] += blend * (w[k] - g[k]);
                store8(average + i, g);
            }
            continue;
        }
        for (i64 k = i; k < i + 8 && k < end; ++k) {
            float w = ew[k], a = ea[k], b = BOTH ? eb[k] : 0.0f;
            f(w, a, b, grad[k] + weight_decay * w);
            ew[k] = w;
            ea[k] = a;
            if (BOTH) eb[k] = b;
            if (copy) {
                ASSUME_GLOBAL(copy);
                copy[k] = to_act(w);
            }
            if (average) {
                ASSUME_GLOBAL(average);
                average[k] += blend * (w - average[k]);
            }
        }
    }
}

// ms ← decay · ms + rest · g²;  w ← w − lr · g / (sqrt(ms) + eps),  rest = 1 − decay.
__device__ inline void rmsprop(const Entry e, i64 chunk, float lr, float blend, float decay, float rest, float eps) {
    if (!e.active()) return move_average(e, chunk, blend);
    lr *= e.rate;
    update<false>(e, chunk, blend, [=](float &w, float &ms, float &, float g) {
        ms = decay * ms + rest * (g * g);
        w -= lr * (g / (sqrtf(ms) + eps));
    });
}

extern "C" __global__ void rmsprop_one(
    float *w, float *ms, const float *grad, const u8 *enabled, i64 n, float weight_decay, const float *device_lr, float lr, float decay,
    float rest, float eps) {
    after_previous_launch();
    const Entry e = {w, nullptr, ms, nullptr, grad, enabled, n, weight_decay, 1.0f, nullptr, nullptr};
    rmsprop(e, blockIdx.x, device_lr ? device_lr[0] : lr, 1.0f, decay, rest, eps);
}

// chunks [blocks, 2]: entry of the list, chunk of that parameter.
extern "C" __global__ void rmsprop_list(
    const u64 *list, const int *chunks, const float *device_lr, float lr, const float *device_blend, float blend, float decay, float rest,
    float eps) {
    after_previous_launch();
    const int *chunk = chunks + 2 * (i64)blockIdx.x;
    const float own_blend = device_blend ? device_blend[0] : blend;
    rmsprop(((const Entry *)list)[chunk[0]], chunk[1], device_lr ? device_lr[0] : lr, own_blend, decay, rest, eps);
}

// t ← t + 1, then rates = (lr / (1 − β1^t), 1 / sqrt(1 − β2^t)): the factors of every block of this parameter's update, which follows.
__device__ inline void advance(float *rates, i64 *t, double lr, double beta1, double beta2) {
    const double steps = (double)(t[0] += 1);
    rates[0] = (float)(lr / (1.0 - pow(beta1, steps)));
    rates[1] = (float)(1.0 / sqrt(1.0 - pow(beta2, steps)));
}

// One thread.
extern "C" __global__ void adam_advance_one(
    float *rates, i64 *t, const u8 *enabled, const float *device_lr, double lr, double beta1, double beta2) {
    after_previous_launch();
    if (!enabled || enabled[0]) advance(rates, t, device_lr ? device_lr[0] : lr, beta1, beta2);
}

// rates [entries, 2]: one thread an entry.
extern "C" __global__ void adam_advance_list(
    float *rates, const u64 *list, int entries, const float *device_lr, double lr, double beta1, double beta2) {
    after_previous_launch();
    const int i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= entries) return;
    const Entry e = ((const Entry *)list)[i];
    if (e.active()) advance(rates + 2 * i, e.t, (device_lr ? device_lr[0] : lr) * e.rate, beta1, beta2);
}

// m ← β1 m + rest1 g;  v ← β2 v + rest2 g²;  w ← w − rates[0] · m / (sqrt(v) · rates[1] + eps),  rest = 1 − β (Kingma & Ba 2015).
__device__ inline void adam(
    const Entry e, i64 chunk, const float *rates, float blend, float beta1, float rest1, float beta2, float rest2, float eps) {
    if (!e.active()) return move_average(e, chunk, blend);
    const float rate = rates[0], correction = rates[1];
    update<true>(e, chunk, blend, [=](float &w, float &m, float &v, float g) {
        m = beta1 * m + rest1 * g;
        v = beta2 * v + rest2 * (g * g);
        w -= rate * (m / (sqrtf(v) * correction + eps));
    });
}

extern "C" __global__ void adam_one(
    float *w, float *m, float *v, const float *grad, const u8 *enabled, i64 n, float weight_decay, const float *rates, float beta1,
    float rest1, float beta2, float rest2, float eps) {
    after_previous_launch();
    const Entry e = {w, nullptr, m, v, grad, enabled, n, weight_decay, 1.0f, nullptr, nullptr};
    adam(e, blockIdx.x, rates, 1.0f, beta1, rest1, beta2, rest2, eps);
}

extern "C" __global__ void adam_list(
    const u64 *list, const int *chunks, const float *rates, const float *device_blend, float blend, float beta1, float rest1, float beta2,
    float rest2, float eps) {
    after_previous_launch();
    const int *chunk = chunks + 2 * (i64)blockIdx.x;
    const float own_blend = device_blend ? device_blend[0] : blend;
    adam(((const Entry *)list)[chunk[0]], chunk[1], rates + 2 * (i64)chunk[0], own_blend, beta1, rest1, beta2, rest2, eps);
}
