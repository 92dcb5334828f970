#pragma once
#include "vectors.h"
static INLINE void rmsprop_run(float* w, float* ms, const float* dw, Z n, float lr, float decay, float eps, float weight_decay) {
    const float rest = 1 - decay;
    for (Z i = 0; i < n; i++) {
        const float g = dw[i] + weight_decay * w[i], s = decay * ms[i] + rest * (g * g);
        ms[i] = s;
        w[i] -= lr * (g / (std::sqrt(s) + eps));
    }
}
