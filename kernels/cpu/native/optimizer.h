// RMSProp of a run of floats, for the list's pieces and for gradients that are used where they are made.
#pragma once
#include "vectors.h"

// g = dw + weight_decay · w;  ms = decay · ms + (1 - decay) g²;  w -= lr · g / (sqrt(ms) + eps). The runs are apart. `decay` is a double:
// 1 - decay of a float would have lost half of its digits.
static inline void rmsprop_run(float* __restrict w, float* __restrict ms, const float* __restrict dw, Z n, float lr, double decay,
                               float eps, float weight_decay) {
    const float keep = (float)decay, add = (float)(1 - decay);
    for (Z i = 0; i < n; i++) {
        const float g = weight_decay != 0 ? dw[i] + weight_decay * w[i] : dw[i], square = g * g;
        ms[i] = keep * ms[i] + add * square;
        w[i] -= lr * (g / (std::sqrt(ms[i]) + eps));
    }
}
