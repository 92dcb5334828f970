// Batch norm (batch_norm.cu): what a block has of the rows, and the passes that apply statistics and sums. THREADS, UNROLL, aligned16: its.

// V consecutive elements; p is a multiple of 16 bytes where `aligned`.
template <int V, class T>
__device__ inline void read(float *v, const T *p, bool aligned) {
    if constexpr (V == 8)
        if (aligned) return load8(v, p);
#pragma unroll
    for (int k = 0; k < V; ++k) v[k] = to_float(p[k]);
}

template <int V, class T>
__device__ inline void write(T *p, const float *v, bool aligned) {
    if constexpr (V == 8)
        if (aligned) return store8(p, v);
#pragma unroll
    for (int k = 0; k < V; ++k) from_float(p[k], v[k]);
}

struct Position {  // of a thread
    i64 group, first, end, rows;  // its chunk; first: its own first row
    int column, step;             // its first channel; rows from one of its rows to the next
};

// Of chunk `number` and the columns' block `side`.
template <int V>
__device__ inline Position position(const i64 *chunks, int lanes, int number, int side) {
    const i64 *chunk = chunks + 4 * (i64)number;
    const int step = blockDim.x / lanes;
    return {chunk[0], chunk[1] + threadIdx.x / lanes, chunk[2], chunk[3], (int)(side * lanes + threadIdx.x % lanes) * V, step};
}

__device__ inline float reciprocal_deviation(float var, float eps) { return 1.0f / sqrtf(var + eps); }

// y may be x.
template <int V>
__device__ inline void forward(
    act_t *y, const act_t *x, const float *mean, const float *var, const float *gamma, const float *beta, const i64 *chunks, int c,
    int lanes, float eps, bool relu) {
    const Position at = position<V>(chunks, lanes, blockIdx.x, blockIdx.y);
    if (at.column >= c) return;
    const bool aligned = aligned16(x) && aligned16(y);
    float m[V], scale[V], shift[V], spread[V];
    read<V>(m, mean + at.group * c + at.column, aligned16(mean));
    read<V>(spread, var + at.group * c + at.column, aligned16(var));
    read<V>(scale, gamma + at.column, aligned16(gamma));
    read<V>(shift, beta + at.column, aligned16(beta));
#pragma unroll
    for (int k = 0; k < V; ++k) scale[k] *= reciprocal_deviation(spread[k], eps);
    for (i64 row = at.first; row < at.end; row += UNROLL * at.step) {
        float v[UNROLL][V];
#pragma unroll
        for (int u = 0; u < UNROLL; ++u)
            if (row + u * at.step < at.end) read<V>(v[u], x + (row + u * at.step) * c + at.column, aligned);
#pragma unroll
        for (int u = 0; u < UNROLL; ++u) {
            if (row + u * at.step >= at.end) continue;
#pragma unroll
            for (int k = 0; k < V; ++k) {
                const float value = (v[u][k] - m[k]) * scale[k] + shift[k];  // x · scale − mean · scale would cancel
                v[u][k] = relu && value < 0.0f ? 0.0f : value;
            }
            write<V>(y + (row + u * at.step) * c + at.column, v[u], aligned);
        }
    }
}

// running ← momentum · running + (1 − momentum) · Σ share · statistics, for mean and variance. shares: [G], sum 1.
struct Running {
    float *mean, *var;
    const double *shares;
    int groups;
    double momentum;
    __device__ inline void move(const float *batch_mean, const float *batch_var, int c, int channel) const {
        double m = 0.0, v = 0.0;
        for (int g = 0; g < groups; ++g)
            m += shares[g] * batch_mean[(i64)g * c + channel], v += shares[g] * batch_var[(i64)g * c + channel];
        mean[channel] = (float)(momentum * mean[channel] + (1.0 - momentum) * m);
        var[channel] = (float)(momentum * var[channel] + (1.0 - momentum) * v);
    }
};

// The first row of blocks also moves the running statistics of its channels, if there are any.
__device__ inline void forward(
    act_t *y, const act_t *x, const float *mean, const float *var, const float *gamma, const float *beta, const i64 *chunks, int c,
    int lanes, float eps, int relu, int vector, const Running running) {
    if (running.mean && blockIdx.x == 0) {
        const int width = lanes * (vector ? 8 : 1), first = blockIdx.y * width;
        for (int k = threadIdx.x; k < width && first + k < c; k += THREADS) running.move(mean, var, c, first + k);
    }
    if (vector)
        forward<8>(y, x, mean, var, gamma, beta, chunks, c, lanes, eps, relu);
    else
        forward<1>(y, x, mean, var, gamma, beta, chunks, c, lanes, eps, relu);
}

// g = dy · [y > 0], or dy where y is null.
template <int V>
__device__ inline void masked(float *g, const act_t *dy, const act_t *y, i64 i, bool aligned) {
    read<V>(g, dy + i, aligned);
    if (!y) return;
    float v[V];
    read<V>(v, y + i, aligned);
#pragma unroll
    for (int k = 0; k < V; ++k) g[k] *= v[k] > 0.0f ? 1.0f : 0.0f;
}

// dx = γ rstd · (g − Σ g / M − x̂ · Σ (g x̂) / M), sums = (Σ g, Σ g x̂) of each group, M its rows; dx = γ rstd · g with `constant`
// statistics. y null: dy is g already. dbeta and dgamma, unless null: the sums over the groups. dx may be dy.
template <int V>
__device__ inline void backward(
    act_t *dx, float *dgamma, float *dbeta, const act_t *dy, const act_t *x, const act_t *y, const float *mean, const float *var,
    const float *gamma, const float *sums, const i64 *chunks, int c, int groups, int lanes, float eps, bool constant) {
    const Position at = position<V>(chunks, lanes, blockIdx.x, blockIdx.y);
    if (at.column >= c) return;
    if (blockIdx.x == 0 && threadIdx.x < lanes)
        for (int k = 0; k < V; ++k) {
            float beta = 0.0f, total = 0.0f;
            for (i64 i = at.column + k; i < (i64)groups * c; i += c) {
                if (dbeta) beta += sums[i];
                if (dgamma) total += sums[(i64)groups * c + i];
            }
            if (dbeta) dbeta[at.column + k] = beta;
            if (dgamma) dgamma[at.column + k] = total;
        }
    const bool aligned = aligned16(dx) && aligned16(dy) && aligned16(x) && aligned16(y);
    float m[V] = {}, scale[V], slope[V] = {}, offset[V] = {}, spread[V];
    const i64 parameters = at.group * c + at.column;
    read<V>(spread, var + parameters, aligned16(var));
    read<V>(scale, gamma + at.column, aligned16(gamma));
    if (!constant) {
        read<V>(m, mean + parameters, aligned16(mean));
        read<V>(offset, sums + parameters, aligned16(sums));
        read<V>(slope, sums + (i64)groups * c + parameters, aligned16(sums));
    }
#pragma unroll
    for (int k = 0; k < V; ++k) {
        const float rstd = reciprocal_deviation(spread[k], eps);
        scale[k] *= rstd;
        slope[k] *= -scale[k] * rstd / at.rows;
        offset[k] *= -scale[k] / at.rows;
    }
    for (i64 row = at.first; row < at.end; row += UNROLL * at.step) {
        float g[UNROLL][V], v[UNROLL][V];
#pragma unroll
        for (int u = 0; u < UNROLL; ++u) {
            if (row + u * at.step >= at.end) continue;
            const i64 i = (row + u * at.step) * c + at.column;
            masked<V>(g[u], dy, y, i, aligned);
            if (!constant) read<V>(v[u], x + i, aligned);
        }
#pragma unroll
        for (int u = 0; u < UNROLL; ++u) {
            if (row + u * at.step >= at.end) continue;
#pragma unroll
            for (int k = 0; k < V; ++k) {
                g[u][k] *= scale[k];
                if (!constant) g[u][k] += slope[k] * (v[u][k] - m[k]) + offset[k];
            }
            write<V>(dx + (row + u * at.step) * c + at.column, g[u], aligned);
        }
    }
}

__device__ inline void backward(
    act_t *dx, float *dgamma, float *dbeta, const act_t *dy, const act_t *x, const act_t *y, const float *mean, const float *var,
    const float *gamma, const float *sums, const i64 *chunks, int c, int groups, int lanes, float eps, int constant, int vector) {
    if (vector)
        backward<8>(dx, dgamma, dbeta, dy, x, y, mean, var, gamma, sums, chunks, c, groups, lanes, eps, constant);
    else
        backward<1>(dx, dgamma, dbeta, dy, x, y, mean, var, gamma, sums, chunks, c, groups, lanes, eps, constant);
}
