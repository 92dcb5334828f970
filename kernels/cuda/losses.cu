// The losses of Algorithm 1, each with its gradient, the equilibrium gate, and a classifier's loss. Sums run over features and batch,
// in double, each in an order fixed by the number of elements alone.

constexpr int THREADS = 256, PER_BLOCK = THREADS * 8;

__device__ inline bool aligned16(const void *p) { return ((u64)p & 15) == 0; }

// loss = ½ Σ (pred − target)² and dpred = pred − target, n elements, in steps of the whole grid. partial: a number for each block.
extern "C" __global__ void feature_likelihood(
    double *loss, double *partial, act_t *dpred, const act_t *pred, const act_t *target, i64 n, u32 *counters) {
    after_previous_launch();
    __shared__ double scratch[32];
    const bool aligned = aligned16(dpred) && aligned16(pred) && aligned16(target);
    double sum = 0.0;
    for (i64 first = (i64)blockIdx.x * PER_BLOCK; first < n; first += (i64)gridDim.x * PER_BLOCK) {
        const i64 i = first + threadIdx.x * 8;
        float p[8], t[8], squares = 0.0f;
        if (aligned && i + 8 <= n) {
            load8(p, pred + i);
            load8(t, target + i);
#pragma unroll
            for (int k = 0; k < 8; ++k) {
                p[k] -= t[k];
                squares += p[k] * p[k];
            }
            store8(dpred + i, p);
        } else {
            for (i64 k = i; k < i + 8 && k < n; ++k) {
                const float d = to_float(pred[k]) - to_float(target[k]);
                squares += d * d;
                dpred[k] = to_act(d);
            }
        }
        sum += squares;  // eight squares in float, the rest in double
    }
    sum_over_blocks(loss, 0.5, sum, partial, counters, scratch);
}

struct Term {
    double loss, slope;
};

// −log(σ(l) + e) and its derivative −σ(l) σ(−l) / (σ(l) + e); with e = 0 softplus(−l) and −σ(−l), with no 0/0.
__device__ inline Term log_loss(double l, double e) {
    const double small = exp(-fabs(l));  // never overflows
    const double p = (l < 0.0 ? small : 1.0) / (1.0 + small), q = (l < 0.0 ? 1.0 : small) / (1.0 + small);  // σ(l), σ(−l)
    if (e == 0.0) return {(l < 0.0 ? -l : 0.0) + log1p(small), -q};
    return {-log(p + e), -p * q / (p + e)};
}

// flags = (Dec, Dis) from the mean losses a (real) and b (generated); if neither would be updated, both are. counts, unless null, +=
// (1, flags[0], flags[1]). One thread.
__device__ inline void gate(
    u8 *flags, double *counts, const double *losses, double n_real, double n_generated, double equilibrium, double margin) {
    const double a = losses[0] / n_real, b = losses[1] / n_generated;
    const bool dis = !(a < equilibrium - margin || b < equilibrium - margin);
    const bool dec = !(a > equilibrium + margin || b > equilibrium + margin);
    flags[0] = dec || !dis;
    flags[1] = dis || !dec;
    if (counts) counts[0] += 1.0, counts[1] += flags[0], counts[2] += flags[1];
}

// losses = (Σ_real −log(σ(l) + e), Σ_generated −log(1 − σ(l) + e)), not weighted; dlogits, unless null, weighted. With flags, equilibrium_gate
// follows. One block.
extern "C" __global__ void gan_loss(
    double *losses, act_t *dlogits, const float *logits, i64 m, i64 n_real, double weight_real, double weight_generated, double e,
    u8 *flags, double *counts, double mean_of_real, double mean_of_generated, double equilibrium, double margin) {
    after_previous_launch();
    __shared__ double scratch[32];
    double real = 0.0, generated = 0.0;
    for (i64 i = threadIdx.x; i < m; i += THREADS) {
        const bool is_real = i < n_real;
        const Term term = log_loss(is_real ? logits[i] : -logits[i], e);  // 1 − σ(l) = σ(−l)
        (is_real ? real : generated) += term.loss;
        if (dlogits) dlogits[i] = to_act((float)(is_real ? term.slope * weight_real : -term.slope * weight_generated));
    }
    real = block_sum(real, scratch);
    generated = block_sum(generated, scratch);
    if (threadIdx.x == 0) {
        losses[0] = real;
        losses[1] = generated;
        if (flags) gate(flags, counts, losses, mean_of_real, mean_of_generated, equilibrium, margin);
    }
}

// loss = Σ_generated −log(σ(l) + e); dlogits is 0 on the real rows. One block.
extern "C" __global__ void generator_loss(double *loss, act_t *dlogits, const float *logits, i64 m, i64 n_real, double e) {
    after_previous_launch();
    __shared__ double scratch[32];
    double sum = 0.0;
    for (i64 i = threadIdx.x; i < m; i += THREADS) {
        Term term = {0.0, 0.0};
        if (i >= n_real) term = log_loss(logits[i], e);
        sum += term.loss;
        dlogits[i] = to_act((float)term.slope);
    }
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) loss[0] = sum;
}

// loss = Σ −log p[label] over the rows with a label (0 or more), p = softmax(logits) of each row. One block; a thread takes whole rows.
extern "C" __global__ void softmax_cross_entropy_forward(
    double *loss, float *p, const float *logits, const int *labels, i64 rows, i64 classes) {
    after_previous_launch();
    __shared__ double scratch[32];
    double sum = 0.0;
    for (i64 i = threadIdx.x; i < rows; i += THREADS) {
        const float *row = logits + i * classes;
        float top = row[0];
        for (i64 k = 1; k < classes; ++k) top = fmaxf(top, row[k]);
        double total = 0.0;
        for (i64 k = 0; k < classes; ++k) total += exp((double)row[k] - top);  // never overflows
        for (i64 k = 0; k < classes; ++k) p[i * classes + k] = (float)(exp((double)row[k] - top) / total);
        const int label = labels[i];
        if (label >= 0 && label < classes) sum += log(total) - ((double)row[label] - top);
        else if (label != -1) sum += __uint_as_float(0x7fffffffu);  // no class: NaN
    }
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) loss[0] = sum;
}

// dlogits = p − onehot(label), 0 in a row without a label. One element a thread.
extern "C" __global__ void softmax_cross_entropy_backward(act_t *dlogits, const float *p, const int *labels, i64 rows, i64 classes) {
    after_previous_launch();
    const i64 at = (i64)blockIdx.x * THREADS + threadIdx.x;
    if (at >= rows * classes) return;
    const int label = labels[at / classes];
    float error = label < 0 ? 0.0f : p[at] - (at % classes == label ? 1.0f : 0.0f);
    if (label < -1 || label >= classes) error = __uint_as_float(0x7fffffffu);
    dlogits[at] = to_act(error);
}

// One thread.
extern "C" __global__ void equilibrium_gate(
    u8 *flags, double *counts, const double *losses, double n_real, double n_generated, double equilibrium, double margin) {
    after_previous_launch();
    gate(flags, counts, losses, n_real, n_generated, equilibrium, margin);
}

// counts += (1, flags[0], flags[1]). One thread.
extern "C" __global__ void count_gate(double *counts, const u8 *flags) {
    after_previous_launch();
    counts[0] += 1.0;
    counts[1] += flags[0];
    counts[2] += flags[1];
}
