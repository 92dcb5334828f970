// Reparametrisation and the KL divergence, element by element; equations: kernels.contract.latent.
#include "functions.h"

constexpr Z COST = 8;  // two exponentials

EXPORT void reparametrize_forward(float* z, double* kl, const float* mu, const float* logvar, const float* eps, Z size) {
    *kl = 0.5 * sum_vectors(size, COST, [=](Z i, auto n) {
              const V m = load(mu + i, n), l = load(logvar + i, n), e = load(eps + i, n);
              store(z + i, m + exp(0.5f * l) * e, n);
              return m * m + (expm1(l) - l);
          });
}

EXPORT void reparametrize_backward(float* dmu, float* dlogvar, const float* dz, const float* mu, const float* logvar, const float* eps,
                                   Z size) {
    parallel_ranges(size, COST, [=](Z first, Z last) {
        vectors(first, last, [=](Z i, auto n) {
            const V d = load(dz + i, n), m = load(mu + i, n), l = load(logvar + i, n), e = load(eps + i, n);
            store(dmu + i, d + m, n);
            store(dlogvar + i, 0.5f * (d * exp(0.5f * l) * e + expm1(l)), n);
        });
    });
}
