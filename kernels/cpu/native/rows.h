// Passes over rows of C channels while they are in the cache: sums of batch norm and what a gradient owes the previous layer. A short row is
// seen as several side by side, so that the vectors are full.
#pragma once
#include "vectors.h"

// Rows seen as one: rows [R, C] as [R / f, f · C].
static INLINE int beside(Z rows, int c) {
    int f = 1;
    while (f * c < 256 && rows % (2 * f) == 0) f *= 2;
    return f;
}
static INLINE void repeat(float* out, const float* v, int c, int f) {
    for (int i = 0; i < f; i++) memcpy(out + (Z)i * c, v, (size_t)c * 4);
}
static INLINE void lanes_to_channels(double* out, const float* sums, int c, int f) {
    for (int j = 0; j < c; j++) {
        double t = 0;
        for (int q = 0; q < f; q++) t += sums[q * c + j];
        out[j] = t;
    }
}

// mean [c] and the squares of the rest [c] of rows [R, C]
void row_statistics(double* mean, double* squares, const float* x, Z rows, int c);

// g = dy · [y > 0] (y null: dy), which may be dy, and sum[c] = Σ g; where pre is given product[c] = Σ g · (pre - mean)
void mask_and_sum(float* g, const float* dy, const float* y, const float* pre, const float* mean, Z rows, int c, double* sum, double* product);

// The groups of images that share statistics.
struct Groups {
    const int* counts;
    int size;
    int of(int image) const {
        int g = 0;
        for (int last = counts[0]; image >= last; last += counts[++g]) {}
        return g;
    }
};

// The layer before a gradient (kernels.contract.previous), to be finished image by image: y null where there is none.
struct Previous {
    const float *y, *pre, *mean, *var;
    float eps;
    Groups groups;
    int c;  // channels; an image's values are rows of them
    float* sums;  // [2, G, C], or [1, 1, C] without pre
    double* parts;  // [images][2][C], ours

    void image(float* dx, Z size, int i) const {
        if (!y) return;
        double* part = parts + (Z)i * 2 * c;
        mask_and_sum(dx, dx, y + i * size, pre ? pre + i * size : nullptr, pre ? mean + (Z)groups.of(i) * c : nullptr, size / c, c, part,
                     part + c);
    }
    void finish() const;  // parts → sums
};
