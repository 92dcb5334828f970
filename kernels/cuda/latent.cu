// Reparametrisation and the KL divergence to N(0, I) (paper, equations 2 to 4), n = N · L elements of [N, L]:
//     z = μ + exp(½ log σ²) · ε,      KL = ½ Σ (μ² + σ² − 1 − log σ²)

constexpr int THREADS = 256;

// z, and KL in double; partial: a number for each block. Then copied = prior, m elements that nothing here depends on.
extern "C" __global__ void reparametrize_forward(
    act_t *z, double *kl, double *partial, const float *mu, const float *logvar, const float *eps, i64 n, act_t *copied, const float *prior,
    i64 m, u32 *counters) {
    after_previous_launch();
    __shared__ double scratch[32];
    double own = 0.0;
    for (i64 i = (i64)blockIdx.x * THREADS + threadIdx.x; i < n; i += (i64)gridDim.x * THREADS) {
        const float m = mu[i], l = logvar[i];
        z[i] = to_act(m + expf(0.5f * l) * eps[i]);
        own += m * m + (expm1f(l) - l);
    }
    for (i64 i = (i64)blockIdx.x * THREADS + threadIdx.x; i < m; i += (i64)gridDim.x * THREADS) copied[i] = to_act(prior[i]);
    sum_over_blocks(kl, 0.5, own, partial, counters, scratch);
}

// dμ = dz + μ, d log σ² = ½ (dz · σ ε + σ² − 1): the error that arrives at z plus the gradient of KL.
extern "C" __global__ void reparametrize_backward(
    act_t *dmu, act_t *dlogvar, const act_t *dz, const float *mu, const float *logvar, const float *eps, i64 n) {
    after_previous_launch();
    const i64 i = (i64)blockIdx.x * THREADS + threadIdx.x;
    if (i >= n) return;
    const float d = to_float(dz[i]), l = logvar[i], e = eps[i];
    const float own_mu = d + mu[i];
    dlogvar[i] = to_act(0.5f * (d * expf(0.5f * l) * e + expm1f(l)));
    dmu[i] = to_act(own_mu);
}
