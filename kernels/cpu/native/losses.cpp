// The losses of Algorithm 1 with their gradients; equations: kernels.contract.losses.
#include "functions.h"

EXPORT void feature_likelihood(double* loss, float* dpred, const float* pred, const float* target, Z size) {
    *loss = 0.5 * sum_vectors(size, 1, [=](Z i, auto n) {
                const V d = load(pred + i, n) - load(target + i, n);
                store(dpred + i, d, n);
                return d * d;
            });
}

namespace {

struct LogLoss {
    double value, slope;
};

// -log(σ(l) + e) and its derivative -σ(l) σ(-l) / (σ(l) + e); with e = 0 they are softplus(-l) and -σ(-l), with no 0 / 0
LogLoss log_loss(double l, double log_eps) {
    const double small = std::exp(-std::fabs(l)), large = 1 / (1 + small);
    const double p = l < 0 ? small * large : large, q = l < 0 ? large : small * large;
    if (log_eps == 0) return {(l < 0 ? -l : 0) + std::log1p(small), -q};
    return {-std::log(p + log_eps), -p * q / (p + log_eps)};
}

}  // namespace

// The real rows come first; 1 - σ(l) = σ(-l). dlogits may be null.
EXPORT void gan_loss(double* losses, float* dlogits, const float* logits, Z n, Z n_real, double real_weight, double generated_weight,
                     double log_eps) {
    losses[0] = losses[1] = 0;
    for (Z i = 0; i < n; i++) {
        const bool real = i < n_real;
        const LogLoss one = log_loss(real ? logits[i] : -logits[i], log_eps);
        losses[real ? 0 : 1] += one.value;
        if (dlogits) dlogits[i] = (float)(real ? one.slope * real_weight : -one.slope * generated_weight);
    }
}

EXPORT void generator_loss(double* loss, float* dlogits, const float* logits, Z n, Z n_real, double log_eps) {
    *loss = 0;
    for (Z i = 0; i < n; i++) {
        const LogLoss one = i < n_real ? LogLoss{} : log_loss(logits[i], log_eps);
        *loss += one.value;
        dlogits[i] = (float)one.slope;
    }
}
