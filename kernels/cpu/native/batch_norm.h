// What the fused blocks use of batch norm: statistics and gradient sums of images, put together, and the passes that apply them.
#pragma once
#include "pool.h"
#include "rows.h"

// mean, var [G, C] from the parts' (mean, squares) (Chan et al. 1979)
void combine_statistics(float* mean, float* var, const double* sums, const Parts& parts, int c);

// y = gamma (x - mean) · rstd + beta, clipped at 0 with relu; x, y [n, rows, c]
void normalise(float* y, const float* x, const float* mean, const float* var, const float* gamma, const float* beta, Groups groups, int n,
               Z rows, int c, float eps, bool relu);

// Runs work(part) for all: on one thread where there is little to do.
template <class F> inline void each_part(const Parts& parts, int c, F work) {
    if ((Z)parts.n * parts.rows * c < 2 * SMALL)
        for (int p = 0; p < parts.size(); p++) work(p);
    else parallel(parts.size(), [&](Z p) { work(int(p)); });
}
