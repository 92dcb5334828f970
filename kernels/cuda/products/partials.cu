// Sums of partial results in a fixed order.

constexpr int THREADS = 256, UNROLL = 4;

__device__ inline bool aligned16(const void *p) { return ((u64)p & 15) == 0; }

// A float sum that keeps its rounding errors (Neumaier 1974): thousands of terms cost no digits, and a consumer's chip has few
// double units.
struct Sum {
    float high = 0.0f, low = 0.0f;
    __device__ inline void add(float v) {
        const float total = high + v;
        low += fabsf(high) >= fabsf(v) ? (high - total) + v : (v - total) + high;
        high = total;
    }
    __device__ inline double value() const { return (double)high + low; }
};

template <int V>
__device__ inline void read(float *v, const float *p, bool aligned) {
    if constexpr (V == 4)
        if (aligned) return load4(v, p);
#pragma unroll
    for (int k = 0; k < V; ++k) v[k] = p[k];
}

// out[i] = Σ_s partials[s, i] (+ bias[i mod columns]). partials: [s, n]. V neighbouring elements a thread; `lanes` (a power of two)
// threads share them and take every lanes-th split, then add theirs in a tree: few elements of many splits fill a device too.
template <int V, class T>
__device__ inline void split_sum(
    T *out, const float *partials, const float *bias, int splits, i64 n, i64 columns, int lanes, float (*shared)[THREADS]) {
    const int width = THREADS / lanes, lane = threadIdx.x / width;
    const i64 first = ((i64)blockIdx.x * width + threadIdx.x % width) * V;
    const bool aligned = aligned16(out) && aligned16(partials);
    float sum[V] = {};
    if (first < n) {
#pragma unroll 8
        for (int s = lane; s < splits; s += lanes) {
            float v[V];
            read<V>(v, partials + s * n + first, aligned);
#pragma unroll
            for (int k = 0; k < V; ++k) sum[k] += v[k];
        }
    }
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
        split_sum<4>(out, partials, bias, splits, n, columns, lanes, shared);
    else
        split_sum<1>(out, partials, bias, splits, n, columns, lanes, shared);
}

// What a thread of the next two kernels sums: V channels from (blockIdx.x · width + t % width) · V on, of group blockIdx.y, and of
// the group's terms (phases × chunks × column blocks) every (blockDim.x / width)-th, from t / width on.
struct Share {
    int channel, lane, lanes, blocks, c;
    int count, start, chunks, all;  // of the group: terms, first chunk, chunks a phase; chunks of all groups a phase
    __device__ inline Share(const int *starts, int groups, int phases, int k, int channels, int width, int v) {
        channel = (blockIdx.x * width + threadIdx.x % width) * v;
        lane = threadIdx.x / width, lanes = blockDim.x / width;
        start = starts[blockIdx.y], all = starts[groups];
        chunks = starts[blockIdx.y + 1] - start, blocks = k, c = channels;
        count = channel < c ? phases * chunks * blocks : 0;
    }
    __device__ inline i64 row(int i) const { return i / blocks / chunks * all + start + i / blocks % chunks; }
    __device__ inline int column(int i) const { return i % blocks * c + channel; }
};

constexpr int TREE = 2048;  // doubles of shared memory: V a thread

// total[k] = Σ sums[k] over the lanes of a channel, in every thread of the channel; a tree.
template <int V>
__device__ inline void lane_sums(double *total, const Sum *sums, double *shared, int width) {
    __syncthreads();  // an earlier result has been read
#pragma unroll
    for (int k = 0; k < V; ++k) shared[k * blockDim.x + threadIdx.x] = sums[k].value();
    __syncthreads();
    for (int half = blockDim.x / 2; half >= width; half /= 2) {
        if (threadIdx.x < half)
#pragma unroll
            for (int k = 0; k < V; ++k) shared[k * blockDim.x + threadIdx.x] += shared[k * blockDim.x + threadIdx.x + half];
        __syncthreads();
    }
#pragma unroll
    for (int k = 0; k < V; ++k) total[k] = shared[k * blockDim.x + threadIdx.x % width];
}

// mean, var [G, C] from partial [phases · chunks, 2, k · C] = (Σ, Σ of squares about the chunk's own mean) and counts [phases · chunks]:
//     mean = Σ sum / Σ count,   var = (Σ squares + Σ count (chunk's mean − mean)²) / Σ count
// A chunk with count 0 adds nothing, whatever its row holds.
template <int V>
__device__ inline void finalise(
    float *mean, float *var, const float *partial, const float *counts, const Share share, int width, double *shared) {
    const i64 columns = (i64)share.blocks * share.c;
    const bool aligned = aligned16(partial);
    Sum sum[V], count, squares[V];
    double n[1], total[V];
#pragma unroll 4
    for (int i = share.lane; i < share.count; i += share.lanes) {
        const i64 row = share.row(i);
        const float rows = counts[row];
        float s[V];
        read<V>(s, partial + row * 2 * columns + share.column(i), aligned);
#pragma unroll
        for (int k = 0; k < V; ++k) sum[k].add(rows > 0.0f ? s[k] : 0.0f);
        count.add(rows);
    }
    lane_sums<1>(n, &count, shared, width);
    lane_sums<V>(total, sum, shared, width);
    float centre[V];
#pragma unroll
    for (int k = 0; k < V; ++k) centre[k] = (float)(total[k] / n[0]);
#pragma unroll 4
    for (int i = share.lane; i < share.count; i += share.lanes) {
        const i64 row = share.row(i), at = row * 2 * columns + share.column(i);
        const float rows = counts[row];
        float s[V], m2[V];
        read<V>(s, partial + at, aligned);
        read<V>(m2, partial + at + columns, aligned);
#pragma unroll
        for (int k = 0; k < V; ++k) {
            const float d = s[k] / rows - centre[k];
            squares[k].add(rows > 0.0f ? m2[k] + rows * d * d : 0.0f);
        }
    }
    lane_sums<V>(total, squares, shared, width);
    if (share.lane > 0 || share.channel >= share.c) return;
    const i64 out = (i64)blockIdx.y * share.c + share.channel;
#pragma unroll
    for (int k = 0; k < V; ++k) mean[out + k] = centre[k], var[out + k] = (float)(total[k] / n[0]);
}

extern "C" __global__ void bn_finalise(
    float *mean, float *var, const float *partial, const float *counts, const int *starts, int groups, int phases, int k, int c, int width,
    int vector) {
    after_previous_launch();
    __shared__ double shared[TREE];
    const Share share(starts, groups, phases, k, c, width, vector ? 4 : 1);
    if (vector)
        finalise<4>(mean, var, partial, counts, share, width, shared);
    else
        finalise<1>(mean, var, partial, counts, share, width, shared);
}

// sums [2, G, C] from partial [phases · chunks, rows, k · C] = (Σ g, Σ g · (x − mean)); the second × rstd = 1 / sqrt(var + eps).
// var null: only the first, sums [1, G, C].
template <int V>
__device__ inline void sums_finalise(
    float *sums, const float *partial, const float *var, float eps, int groups, int rows, const Share share, int width, double *shared) {
    const i64 columns = (i64)share.blocks * share.c;
    const bool aligned = aligned16(partial);
    Sum sum_g[V], sum_gx[V];
    double g[V], gx[V];
#pragma unroll 4
    for (int i = share.lane; i < share.count; i += share.lanes) {
        const i64 at = share.row(i) * rows * columns + share.column(i);
        float v[V], u[V];
        read<V>(v, partial + at, aligned);
        if (var) read<V>(u, partial + at + columns, aligned);
#pragma unroll
        for (int k = 0; k < V; ++k) {
            sum_g[k].add(v[k]);
            if (var) sum_gx[k].add(u[k]);
        }
    }
    lane_sums<V>(g, sum_g, shared, width);
    if (var) lane_sums<V>(gx, sum_gx, shared, width);
    if (share.lane > 0 || share.channel >= share.c) return;
    const i64 out = (i64)blockIdx.y * share.c + share.channel;
#pragma unroll
    for (int k = 0; k < V; ++k) {
        sums[out + k] = (float)g[k];
        if (var) sums[(i64)groups * share.c + out + k] = (float)(gx[k] / sqrt((double)var[out + k] + eps));
    }
}

extern "C" __global__ void bn_sums_finalise(
    float *sums, const float *partial, const int *starts, const float *var, float eps, int groups, int phases, int rows, int k, int c,
    int width, int vector) {
    after_previous_launch();
    __shared__ double shared[TREE];
    const Share share(starts, groups, phases, k, c, width, vector ? 4 : 1);
    if (vector)
        sums_finalise<4>(sums, partial, var, eps, groups, rows, share, width, shared);
    else
        sums_finalise<1>(sums, partial, var, eps, groups, rows, share, width, shared);
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
