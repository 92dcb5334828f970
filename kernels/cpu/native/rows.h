// Passes over rows of C channels while they are in the cache: sums of batch norm and what a gradient owes the previous layer. A short row
// is seen as several side by side, so that the vectors are full.
#pragma once
#include "vectors.h"

// Rows seen as one: rows [R, C] as [R / f, f · C].
static INLINE int beside(Z rows, int c) {
    int f = 1;
    while (f * c < 256 && rows % (2 * f) == 0) f *= 2;
    return f;
}
static INLINE void spread(float* v, int c, int f) {  // the first c of v to all f · c
    for (int i = 1; i < f; i++) memcpy(v + (Z)i * c, v, (size_t)c * 4);
}
static INLINE void repeat(float* out, const float* v, int c, int f) {
    memcpy(out, v, (size_t)c * 4);
    spread(out, c, f);
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
void mask_and_sum(float* g, const float* dy, const float* y, const float* pre, const float* mean, Z rows, int c, double* sum,
                  double* product);

// The groups of images that share statistics.
struct Groups {
    const int* counts;
    int size;
    int of(int image) const {
        int g = 0;
        for (int last = counts[0]; image >= last; last += counts[++g]) {
        }
        return g;
    }
};

// What sums are made of first, [parts][2][c] doubles: images of `rows` rows each, or whole groups where an image is one row (units of a
// linear layer).
struct Parts {
    Groups groups;
    int n;
    Z rows;
    bool by_group;
    Parts(Groups g, int images, Z r, bool whole) : groups(g), n(images), rows(r), by_group(whole) {}
    int size() const { return by_group ? groups.size : n; }
    int in_group(int g) const { return by_group ? 1 : groups.counts[g]; }
    Z rows_each(int g) const { return by_group ? groups.counts[g] : rows; }
    int group(int part) const { return by_group ? part : groups.of(part); }
    Z first_row(int part) const {
        if (!by_group) return part * rows;
        Z row = 0;
        for (int g = 0; g < part; g++) row += groups.counts[g];
        return row;
    }
    static Parts of(Groups g, int n, Z rows) { return {g, n, rows, rows == 1}; }
};

// The layer before a gradient (kernels.contract.previous), to be finished part by part: y null where there is none.
struct Previous {
    const float *y, *pre, *mean, *var;
    float eps;
    Parts parts;  // rows of c channels
    int c;
    float* sums;     // [2, G, C], or [1, 1, C] without pre
    double* memory;  // [parts][2][c]

    void part(float* own, int p) const {  // own: the gradient's values of this part
        if (!y) return;
        const Z at = parts.first_row(p) * c, g = parts.group(p);
        double* sum = memory + (Z)p * 2 * c;
        mask_and_sum(own, own, y + at, pre ? pre + at : nullptr, pre ? mean + g * c : nullptr, parts.rows_each(int(g)), c, sum, sum + c);
    }
    void finish() const;  // memory → sums
};
