// Element-wise operations on flat arrays.
#include "pool.h"

// y = max(x, 0), NaN where x is
EXPORT void relu_forward(float* y, const float* x, Z size) {
    parallel_ranges(size, 1, [&](Z first, Z last) {
        for (Z i = first; i < last; i++) y[i] = x[i] < 0 ? 0 : x[i];
    });
}

// dx = dy * [y > 0]
EXPORT void relu_backward(float* dx, const float* dy, const float* y, Z size) {
    parallel_ranges(size, 1, [&](Z first, Z last) {
        for (Z i = first; i < last; i++) dx[i] = y[i] > 0 ? dy[i] : 0 * dy[i];
    });
}
