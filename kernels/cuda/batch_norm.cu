// Batch normalisation (Ioffe & Szegedy 2015, Algorithm 1) followed by an optional ReLU, and its gradient.
//     x̂ = (x − mean) · rstd,   rstd = 1 / sqrt(var + eps),   y = γ x̂ + β  (then max(y, 0) with relu)
// x, y, dy, dx: [rows, C]. mean, var: [G, C], sums: [2, G, C]. gamma, beta, dgamma, dbeta: [C].
//
// A block takes the rows of one chunk, (group, first row, end row, rows of the group) in chunks [T, 4], and `lanes` vectors of
// channels: thread t has vector t % lanes and every (blockDim.x / lanes)-th row from t / lanes on, so that what belongs to a channel
// is loaded or summed once a thread. With `vector` eight channels a thread (C must be a multiple of 8), else one.
// Grid: (T, blocks of lanes · 8 or lanes · 1 channels).

constexpr int THREADS = 256, UNROLL = 4;

__device__ inline bool aligned16(const void *p) { return ((u64)p & 15) == 0; }

#include "batch_norm.cuh"
#include "products/finish.cuh"

// partial[chunk] = (Σ x, Σ (x − the chunk's mean)²) and counts[chunk]: Welford's update in a thread, then pairs of threads by
// Chan et al.'s formula, so that a mean far from 0 costs no digits. shared: 17 values a thread.
template <int V>
__device__ inline void statistics(
    float *partial, float *counts, const act_t *x, const i64 *chunks, int c, int lanes, float *shared, int number, int side) {
    const Position at = position<V>(chunks, lanes, number, side);
    const bool inside = at.column < c, aligned = aligned16(x);
    float mean[V] = {}, m2[V] = {}, n = 0.0f;
    for (i64 row = at.first; inside && row < at.end; row += UNROLL * at.step) {
        float v[UNROLL][V];
#pragma unroll
        for (int u = 0; u < UNROLL; ++u)
            if (row + u * at.step < at.end) read<V>(v[u], x + (row + u * at.step) * c + at.column, aligned);
#pragma unroll
        for (int u = 0; u < UNROLL; ++u) {
            if (row + u * at.step >= at.end) continue;
            n += 1.0f;
            const float share = 1.0f / n;
#pragma unroll
            for (int k = 0; k < V; ++k) {
                const float d = v[u][k] - mean[k];
                mean[k] += d * share;
                m2[k] += d * (v[u][k] - mean[k]);
            }
        }
    }
    float *own = shared + threadIdx.x;  // values of one thread lie THREADS apart
    own[0] = n;
#pragma unroll
    for (int k = 0; k < V; ++k) own[(1 + 2 * k) * THREADS] = mean[k], own[(2 + 2 * k) * THREADS] = m2[k];
    __syncthreads();
    for (int half = THREADS / 2; half >= lanes; half /= 2) {
        const float *other = own + half;
        if (threadIdx.x < half && other[0] > 0.0f) {
            const float total = n + other[0], share = other[0] / total;
#pragma unroll
            for (int k = 0; k < V; ++k) {
                const float d = other[(1 + 2 * k) * THREADS] - mean[k];
                mean[k] += d * share;
                m2[k] += other[(2 + 2 * k) * THREADS] + d * d * n * share;
                own[(1 + 2 * k) * THREADS] = mean[k], own[(2 + 2 * k) * THREADS] = m2[k];
            }
            own[0] = n = total;
        }
        __syncthreads();
    }
    if (threadIdx.x == 0 && side == 0) counts[number] = n;
    if (threadIdx.x >= lanes || !inside) return;
#pragma unroll
    for (int k = 0; k < V; ++k) mean[k] *= n;
    float *out = partial + (i64)number * 2 * c + at.column;
    write<V>(out, mean, aligned16(partial));
    write<V>(out + c, m2, aligned16(partial));
}

__device__ inline void statistics(
    float *partial, float *counts, const act_t *x, const i64 *chunks, int c, int lanes, int vector, float *shared, int number, int side) {
    if (vector)
        statistics<8>(partial, counts, x, chunks, c, lanes, shared, number, side);
    else
        statistics<1>(partial, counts, x, chunks, c, lanes, shared, number, side);
}

extern "C" __global__ void bn_statistics(float *partial, float *counts, const act_t *x, const i64 *chunks, int c, int lanes, int vector) {
    after_previous_launch();
    __shared__ float shared[17 * THREADS];
    statistics(partial, counts, x, chunks, c, lanes, vector, shared, blockIdx.x, blockIdx.y);
}

// With partial, mean and var are made first.
extern "C" __global__ void bn_forward(
    act_t *y, const act_t *x, float *mean, float *var, const float *gamma, const float *beta, const i64 *chunks, int c, int lanes, float eps,
    int relu, int vector, float *running_mean, float *running_var, const double *shares, int groups, double momentum, const float *partial,
    const float *counts, const int *plan, u32 *counters) {
    after_previous_launch();
    __shared__ double shared[TREE];
    if (partial) first_of_all(counters, plan[0], [=](int part) { finalise(mean, var, partial, counts, plan, c, part, shared); });
    forward(y, x, mean, var, gamma, beta, chunks, c, lanes, eps, relu, vector, {running_mean, running_var, shares, groups, momentum});
}

// The same, and before that bn_statistics of the chunks in sum_chunks [sum_count, 4].
extern "C" __global__ void bn_statistics_forward(
    act_t *y, const act_t *x, float *mean, float *var, const float *gamma, const float *beta, const i64 *chunks, int c, int lanes, float eps,
    int relu, int vector, float *running_mean, float *running_var, const double *shares, int groups, double momentum, float *partial,
    float *counts, const int *plan, u32 *counters, const i64 *sum_chunks, int sum_count) {
    after_previous_launch();
    __shared__ double shared[9 * THREADS];
    first_of_all(counters + 3, sum_count * gridDim.y, [=](int part) {
        statistics(partial, counts, x, sum_chunks, c, lanes, vector, (float *)shared, part % sum_count, part / sum_count);
    });
    first_of_all(counters, plan[0], [=](int part) { finalise(mean, var, partial, counts, plan, c, part, shared); });
    forward(y, x, mean, var, gamma, beta, chunks, c, lanes, eps, relu, vector, {running_mean, running_var, shares, groups, momentum});
}

// partial[chunk] = (Σ g, Σ g · (x − mean)). shared: 16 values a thread.
template <int V>
__device__ inline void backward_sums(
    float *partial, const act_t *dy, const act_t *x, const act_t *y, const float *mean, const i64 *chunks, int c, int lanes,
    float *shared, int number, int side) {
    const Position at = position<V>(chunks, lanes, number, side);
    const bool inside = at.column < c, aligned = aligned16(dy) && aligned16(x) && aligned16(y);
    float sum_g[V] = {}, sum_gx[V] = {}, m[V] = {};
    if (inside) read<V>(m, mean + at.group * c + at.column, aligned16(mean));
    for (i64 row = at.first; inside && row < at.end; row += UNROLL * at.step) {
        float g[UNROLL][V], v[UNROLL][V];
#pragma unroll
        for (int u = 0; u < UNROLL; ++u) {
            if (row + u * at.step >= at.end) continue;
            const i64 i = (row + u * at.step) * c + at.column;
            masked<V>(g[u], dy, y, i, aligned);
            read<V>(v[u], x + i, aligned);
        }
#pragma unroll
        for (int u = 0; u < UNROLL; ++u) {
            if (row + u * at.step >= at.end) continue;
#pragma unroll
            for (int k = 0; k < V; ++k) sum_g[k] += g[u][k], sum_gx[k] += g[u][k] * (v[u][k] - m[k]);
        }
    }
    float *own = shared + threadIdx.x;
#pragma unroll
    for (int k = 0; k < V; ++k) own[2 * k * THREADS] = sum_g[k], own[(2 * k + 1) * THREADS] = sum_gx[k];
    __syncthreads();
    for (int half = THREADS / 2; half >= lanes; half /= 2) {
        if (threadIdx.x < half)
#pragma unroll
            for (int k = 0; k < 2 * V; ++k) own[k * THREADS] += own[k * THREADS + half];
        __syncthreads();
    }
    if (threadIdx.x >= lanes || !inside) return;
    float *out = partial + (i64)number * 2 * c + at.column;
#pragma unroll
    for (int k = 0; k < V; ++k) out[k] = own[2 * k * THREADS], out[c + k] = own[(2 * k + 1) * THREADS];
}

__device__ inline void backward_sums(
    float *partial, const act_t *dy, const act_t *x, const act_t *y, const float *mean, const i64 *chunks, int c, int lanes, int vector,
    float *shared, int number, int side) {
    if (vector)
        backward_sums<8>(partial, dy, x, y, mean, chunks, c, lanes, shared, number, side);
    else
        backward_sums<1>(partial, dy, x, y, mean, chunks, c, lanes, shared, number, side);
}

extern "C" __global__ void bn_backward_sums(
    float *partial, const act_t *dy, const act_t *x, const act_t *y, const float *mean, const i64 *chunks, int c, int lanes, int vector) {
    after_previous_launch();
    __shared__ float shared[16 * THREADS];
    backward_sums(partial, dy, x, y, mean, chunks, c, lanes, vector, shared, blockIdx.x, blockIdx.y);
}

// With partial, sums are made first.
extern "C" __global__ void bn_backward(
    act_t *dx, float *dgamma, float *dbeta, const act_t *dy, const act_t *x, const act_t *y, const float *mean, const float *var,
    const float *gamma, float *sums, const i64 *chunks, int c, int groups, int lanes, float eps, int constant, int vector,
    const float *partial, const int *plan, u32 *counters) {
    after_previous_launch();
    __shared__ double shared[TREE];
    if (partial) first_of_all(counters, plan[0], [=](int part) { sums_finalise(sums, partial, plan, var, eps, c, part, shared); });
    backward(dx, dgamma, dbeta, dy, x, y, mean, var, gamma, sums, chunks, c, groups, lanes, eps, constant, vector);
}

// The same, and before that bn_backward_sums of the chunks in sum_chunks [sum_count, 4].
extern "C" __global__ void bn_sums_backward(
    act_t *dx, float *dgamma, float *dbeta, const act_t *dy, const act_t *x, const act_t *y, const float *mean, const float *var,
    const float *gamma, float *sums, const i64 *chunks, int c, int groups, int lanes, float eps, int constant, int vector,
    float *partial, const int *plan, u32 *counters, const i64 *sum_chunks, int sum_count) {
    after_previous_launch();
    __shared__ double shared[8 * THREADS];
    first_of_all(counters + 3, sum_count * gridDim.y, [=](int part) {
        backward_sums(partial, dy, x, y, mean, sum_chunks, c, lanes, vector, (float *)shared, part % sum_count, part / sum_count);
    });
    first_of_all(counters, plan[0], [=](int part) { sums_finalise(sums, partial, plan, var, eps, c, part, shared); });
    backward(dx, dgamma, dbeta, dy, x, y, mean, var, gamma, sums, chunks, c, groups, lanes, eps, constant, vector);
}
