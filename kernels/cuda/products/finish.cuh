// Batch norm statistics, and the sums of its backward, from the partial sums of chunks, in a fixed order. THREADS: of a block.

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
__device__ inline void read_row(float *v, const float *p, bool aligned) {
    if constexpr (V == 4)
        if (aligned) return load4(v, p);
#pragma unroll
    for (int k = 0; k < V; ++k) v[k] = p[k];
}

// What is to be added up, and by how many: `_plan` of partials.py. A part is one group's sums of `width` times four channels, or of
// `width` channels where `vector` is 0. starts: first chunk of each group, and behind the last.
struct Plan {
    int parts, groups, phases, blocks, width, vector;
    const int *starts;
    __device__ inline Plan(const int *p)
        : parts(p[0]), groups(p[1]), phases(p[2]), blocks(p[3]), width(p[4]), vector(p[5]), starts(p + 6) {}
};

// What a thread sums of a part: V channels, and of the group's terms (phases × chunks × column blocks) every lanes-th.
struct Share {
    int group, groups, channel, width, lane, lanes, blocks, c;
    int count, start, chunks, all;  // of the group: terms, first chunk, chunks a phase; chunks of all groups a phase
    __device__ inline Share(const Plan plan, int channels, int part, int v) {
        groups = plan.groups, group = part % groups;
        width = plan.width, channel = (part / groups * width + threadIdx.x % width) * v;
        lane = threadIdx.x / width, lanes = THREADS / width;
        start = plan.starts[group], all = plan.starts[groups];
        chunks = plan.starts[group + 1] - start, blocks = plan.blocks, c = channels;
        count = channel < c ? plan.phases * chunks * blocks : 0;
    }
    __device__ inline i64 row(int i) const { return i / blocks / chunks * all + start + i / blocks % chunks; }
    __device__ inline int column(int i) const { return i % blocks * c + channel; }
};

constexpr int TREE = 4 * THREADS;  // doubles of shared memory: V a thread

// total[k] = Σ sums[k] over the lanes of a channel, in every thread of the channel; a tree.
template <int V>
__device__ inline void lane_sums(double *total, const Sum *sums, double *shared, int width) {
    __syncthreads();  // an earlier result has been read
#pragma unroll
    for (int k = 0; k < V; ++k) shared[k * THREADS + threadIdx.x] = sums[k].value();
    __syncthreads();
    for (int half = THREADS / 2; half >= width; half /= 2) {
        if (threadIdx.x < half)
#pragma unroll
            for (int k = 0; k < V; ++k) shared[k * THREADS + threadIdx.x] += shared[k * THREADS + threadIdx.x + half];
        __syncthreads();
    }
#pragma unroll
    for (int k = 0; k < V; ++k) total[k] = shared[k * THREADS + threadIdx.x % width];
}

// mean, var [G, C] from partial [phases · chunks, 2, k · C] = (Σ, Σ of squares about the chunk's own mean) and counts [phases · chunks]:
//     mean = Σ sum / Σ count,   var = (Σ squares + Σ count (chunk's mean − mean)²) / Σ count
// A chunk with count 0 adds nothing, whatever its row holds.
template <int V>
__device__ inline void finalise(float *mean, float *var, const float *partial, const float *counts, const Share share, double *shared) {
    const i64 columns = (i64)share.blocks * share.c;
    const bool aligned = aligned16(partial);
    Sum sum[V], count, squares[V];
    double n[1], total[V];
#pragma unroll 4
    for (int i = share.lane; i < share.count; i += share.lanes) {
        const i64 row = share.row(i);
        const float rows = counts[row];
        float s[V];
        read_row<V>(s, partial + row * 2 * columns + share.column(i), aligned);
#pragma unroll
        for (int k = 0; k < V; ++k) sum[k].add(rows > 0.0f ? s[k] : 0.0f);
        count.add(rows);
    }
    lane_sums<1>(n, &count, shared, share.width);
    lane_sums<V>(total, sum, shared, share.width);
    float centre[V];
#pragma unroll
    for (int k = 0; k < V; ++k) centre[k] = (float)(total[k] / n[0]);
#pragma unroll 4
    for (int i = share.lane; i < share.count; i += share.lanes) {
        const i64 row = share.row(i), at = row * 2 * columns + share.column(i);
        const float rows = counts[row];
        float s[V], m2[V];
        read_row<V>(s, partial + at, aligned);
        read_row<V>(m2, partial + at + columns, aligned);
#pragma unroll
        for (int k = 0; k < V; ++k) {
            const float d = s[k] / rows - centre[k];
            squares[k].add(rows > 0.0f ? m2[k] + rows * d * d : 0.0f);
        }
    }
    lane_sums<V>(total, squares, shared, share.width);
    if (share.lane > 0 || share.channel >= share.c) return;
    const i64 out = (i64)share.group * share.c + share.channel;
#pragma unroll
    for (int k = 0; k < V; ++k) mean[out + k] = centre[k], var[out + k] = (float)(total[k] / n[0]);
}

__device__ inline void finalise(
    float *mean, float *var, const float *partial, const float *counts, const int *numbers, int c, int part, double *shared) {
    const Plan plan(numbers);
    if (plan.vector)
        finalise<4>(mean, var, partial, counts, Share(plan, c, part, 4), shared);
    else
        finalise<1>(mean, var, partial, counts, Share(plan, c, part, 1), shared);
}

// sums [2, G, C] from partial [phases · chunks, 2, k · C] = (Σ g, Σ g · (x − mean)); the second × rstd = 1 / sqrt(var + eps).
template <int V>
__device__ inline void sums_finalise(float *sums, const float *partial, const float *var, float eps, const Share share, double *shared) {
    const i64 columns = (i64)share.blocks * share.c;
    const bool aligned = aligned16(partial);
    Sum sum_g[V], sum_gx[V];
    double g[V], gx[V];
#pragma unroll 4
    for (int i = share.lane; i < share.count; i += share.lanes) {
        const i64 at = share.row(i) * 2 * columns + share.column(i);
        float v[V], u[V];
        read_row<V>(v, partial + at, aligned);
        read_row<V>(u, partial + at + columns, aligned);
#pragma unroll
        for (int k = 0; k < V; ++k) {
            sum_g[k].add(v[k]);
            sum_gx[k].add(u[k]);
        }
    }
    lane_sums<V>(g, sum_g, shared, share.width);
    lane_sums<V>(gx, sum_gx, shared, share.width);
    if (share.lane > 0 || share.channel >= share.c) return;
    const i64 out = (i64)share.group * share.c + share.channel;
#pragma unroll
    for (int k = 0; k < V; ++k) {
        sums[out + k] = (float)g[k];
        sums[(i64)share.groups * share.c + out + k] = (float)(gx[k] / sqrt((double)var[out + k] + eps));
    }
}

__device__ inline void sums_finalise(
    float *sums, const float *partial, const int *numbers, const float *var, float eps, int c, int part, double *shared) {
    const Plan plan(numbers);
    if (plan.vector)
        sums_finalise<4>(sums, partial, var, eps, Share(plan, c, part, 4), shared);
    else
        sums_finalise<1>(sums, partial, var, eps, Share(plan, c, part, 1), shared);
}
