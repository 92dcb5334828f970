// Results put together from parts, one after the other, in double (kernels/cpu/parts.py). One element a thread.

// mean = Σ_r share_r mean_r,   var = Σ_r share_r (var_r + (mean_r − mean)²)
// mean, var: [n]. parts: [count, 2, n]. shares: [count].
extern "C" __global__ void combine_statistics(float *mean, float *var, const float *parts, const double *shares, int count, i64 n) {
    after_previous_launch();
    const i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    double centre = 0.0, spread = 0.0;
    for (int r = 0; r < count; ++r) centre += shares[r] * parts[2 * r * n + i];
    for (int r = 0; r < count; ++r) {
        const double away = parts[2 * r * n + i] - centre;
        spread += shares[r] * (parts[(2 * r + 1) * n + i] + away * away);
    }
    mean[i] = (float)centre;
    var[i] = (float)spread;
}

// out[i] = factor · Σ_r parts[r, i]. parts: [count, n].
template <class T>
__device__ inline void sum(T *out, const T *parts, double factor, int count, i64 n) {
    const i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    double total = 0.0;
    for (int r = 0; r < count; ++r) total += parts[r * n + i];
    out[i] = (T)(factor * total);
}

extern "C" __global__ void sum_parts(float *out, const float *parts, double factor, int count, i64 n) {
    after_previous_launch();
    sum(out, parts, factor, count, n);
}

extern "C" __global__ void sum_parts_double(double *out, const double *parts, double factor, int count, i64 n) {
    after_previous_launch();
    sum(out, parts, factor, count, n);
}
