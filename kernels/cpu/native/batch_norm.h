// What the fused blocks use of batch norm: statistics and gradient sums of images, put together, and the passes that apply them.
#pragma once
#include "pool.h"
#include "rows.h"

// mean, var [G, C] from the parts' (mean, squares) (Chan et al. 1979)
void combine_statistics(float* mean, float* var, const double* sums, const Parts& parts, int c);

// y = gamma (x - mean) · rstd + beta, clipped at 0 with relu; x, y [n, rows, c]
void normalise(float* y, const float* x, const float* mean, const float* var, const float* gamma, const float* beta, Groups groups, int n,
               Z rows, int c, float eps, bool relu);

// The gradient; as kernels.contract.batch_norm: dgamma, dbeta, sums may be null.
struct Gradient {
    float* dx;
    const float *dy, *x, *y, *mean, *var, *gamma;
    Groups groups;
    float eps;
    bool relu, batch_statistics;
    float *dgamma, *dbeta;
    const float* sums;
};
void normalise_backward(const Gradient& g, int n, Z rows, int c);
