// Sums of partial results in a fixed order.

constexpr int THREADS = 256, UNROLL = 4;

__device__ inline bool aligned16(const void *p) { return ((u64)p & 15) == 0; }

#include "products/finish.cuh"

// out[i] = Σ_s partials[s, i] (+ bias[i mod columns]). partials: [s, n]. V neighbouring elements a thread; `lanes` (a power of two)
// threads share them and take every lanes-th split, then add theirs in a tree: few elements of many splits fill a device too.
template <int V, class T>
__device__ inline void split_sum(
    T *out, const float *partials, const float *bias, int splits, i64 n, i64 columns, int lanes, i64 block, float (*shared)[THREADS]) {
    const int width = THREADS / lanes, lane = threadIdx.x / width;
    const i64 first = (block * width + threadIdx.x % width) * V;
    const bool aligned = aligned16(out) && aligned16(partials);
    Sum own[V];
    float sum[V];
    if (first < n) {
#pragma unroll 8
        for (int s = lane; s < splits; s += lanes) {
            float v[V];
            read_row<V>(v, partials + s * n + first, aligned);
#pragma unroll
            for (int k = 0; k < V; ++k) own[k].add(v[k]);
        }
    }
#pragma unroll
    for (int k = 0; k < V; ++k) sum[k] = (float)own[k].value();
    for (int half = lanes / 2; half > 0; half /= 2) {
#pragma unroll
        for (int k = 0; k < V; ++k) shared[k][threadIdx.x] = sum[k];
        __syncthreads();
        if (lane < half)
#pragma unroll
            for (int k = 0; k < V; ++k) sum[k] += shared[k][threadIdx.x + half * width];
        __syncthreads();
    }
    if (lane > 0 || first >= n) return;
    if (bias)
#pragma unroll
        for (int k = 0; k < V; ++k) sum[k] += bias[(first + k) % columns];
    if constexpr (V == 4)
        if (aligned) return store4(out + first, sum);
#pragma unroll
    for (int k = 0; k < V; ++k) from_float(out[first + k], sum[k]);
}

extern "C" __global__ void split_reduce(act_t *out, const float *partials, const float *bias, int splits, i64 n, i64 columns, int lanes) {
    after_previous_launch();
    __shared__ float shared[4][THREADS];
    if (n % 4 == 0)
        split_sum<4>(out, partials, bias, splits, n, columns, lanes, blockIdx.x, shared);
    else
        split_sum<1>(out, partials, bias, splits, n, columns, lanes, blockIdx.x, shared);
}

// An entry of the list: 7 words of 8 bytes, as split_reduce has them.
struct Reduction {
    float *out;
    const float *partials, *bias;
    i64 n, columns, splits, lanes;
};

// Several sums in one launch. blocks [·, 2]: entry of the list, block of that sum.
extern "C" __global__ void split_reduce_list(const u64 *list, const int *blocks) {
    after_previous_launch();
    __shared__ float shared[4][THREADS];
    const int *block = blocks + 2 * (i64)blockIdx.x;
    const Reduction r = ((const Reduction *)list)[block[0]];
    float *out = r.out;
    const float *partials = r.partials;
    ASSUME_GLOBAL(out), ASSUME_GLOBAL(partials);
    if (r.n % 4 == 0)
        split_sum<4>(out, partials, r.bias, (int)r.splits, r.n, r.columns, (int)r.lanes, block[1], shared);
    else
        split_sum<1>(out, partials, r.bias, (int)r.splits, r.n, r.columns, (int)r.lanes, block[1], shared);
}

// Grid: the parts of the plan.
extern "C" __global__ void bn_finalise(float *mean, float *var, const float *partial, const float *counts, const int *plan, int c) {
    after_previous_launch();
    __shared__ double shared[TREE];
    finalise(mean, var, partial, counts, plan, c, blockIdx.x, shared);
}

extern "C" __global__ void bn_sums_finalise(float *sums, const float *partial, const int *plan, const float *var, float eps, int c) {
    after_previous_launch();
    __shared__ double shared[TREE];
    sums_finalise(sums, partial, plan, var, eps, c, blockIdx.x, shared);
}

// coefficients [3, c]: scale · g + slope · x + offset is the error at a batch norm's input, as in batch_norm.cuh's `backward`, of one group
// of `rows` rows; with dbeta and dgamma, unless null. With partial, sums are made first. Grid: blocks of `width` channels, the plan's parts.
extern "C" __global__ void bn_coefficients(
    float *coefficients, float *dgamma, float *dbeta, float *sums, const float *mean, const float *var, const float *gamma, float rows,
    float eps, int c, int width, const float *partial, const int *plan) {
    after_previous_launch();
    __shared__ double shared[TREE];
    if (partial) sums_finalise(sums, partial, plan, var, eps, c, blockIdx.x, shared);
    __syncthreads();
    const int end = min(c, (int)(blockIdx.x + 1) * width);
    for (int k = blockIdx.x * width + threadIdx.x; k < end; k += THREADS) {
        const float rstd = 1.0f / sqrtf(var[k] + eps), scale = gamma[k] * rstd, slope = -scale * rstd * sums[c + k] / rows;
        coefficients[k] = scale, coefficients[c + k] = slope, coefficients[2 * c + k] = -scale * sums[k] / rows - slope * mean[k];
        if (dgamma) dgamma[k] = sums[c + k];
        if (dbeta) dbeta[k] = sums[k];
    }
}

// partial[chunk] = column sums of `chunk_rows` rows of matrix [rows, c]; V channels a thread, `lanes` (a power of two) threads along them.
template <int V>
__device__ inline void column_sum(float *partial, const act_t *matrix, i64 rows, i64 chunk_rows, int c, int lanes, float *shared) {
    const int column = (blockIdx.y * lanes + threadIdx.x % lanes) * V, step = THREADS / lanes;
    const i64 start = (i64)blockIdx.x * chunk_rows, end = min(start + chunk_rows, rows);
    const bool aligned = aligned16(matrix);
    float sum[V] = {};
    for (i64 row = start + threadIdx.x / lanes; column < c && row < end; row += UNROLL * step) {
        float v[UNROLL][V];
#pragma unroll
        for (int u = 0; u < UNROLL; ++u) {
            if (row + u * step >= end) continue;
            const act_t *p = matrix + (row + u * step) * c + column;
            if (V == 8 && aligned)
                load8(v[u], p);
            else
#pragma unroll
                for (int k = 0; k < V; ++k) v[u][k] = to_float(p[k]);
        }
#pragma unroll
        for (int u = 0; u < UNROLL; ++u)
#pragma unroll
            for (int k = 0; k < V; ++k)
                if (row + u * step < end) sum[k] += v[u][k];
    }
    float *own = shared + threadIdx.x;
#pragma unroll
    for (int k = 0; k < V; ++k) own[k * THREADS] = sum[k];
    __syncthreads();
    for (int half = THREADS / 2; half >= lanes; half /= 2) {
        if (threadIdx.x < half)
#pragma unroll
            for (int k = 0; k < V; ++k) own[k * THREADS] += own[k * THREADS + half];
        __syncthreads();
    }
    if (threadIdx.x < lanes && column < c)
#pragma unroll
        for (int k = 0; k < V; ++k) partial[(i64)blockIdx.x * c + column + k] = own[k * THREADS];
}

extern "C" __global__ void column_partials(float *partial, const act_t *matrix, i64 rows, i64 chunk_rows, int c, int lanes, int vector) {
    after_previous_launch();
    __shared__ float shared[8 * THREADS];
    if (vector)
        column_sum<8>(partial, matrix, rows, chunk_rows, c, lanes, shared);
    else
        column_sum<1>(partial, matrix, rows, chunk_rows, c, lanes, shared);
}
