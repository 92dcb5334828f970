// Winograd's F(4, 3) in one dimension, on vectors: four outputs of a 3-tap correlation by 6 multiplications, y = Aᵀ [(G g) ⊙ (Bᵀ d)]
// (Winograd 1980; Lavin & Gray 2016), at the points 0, ±√½, ±√2, ∞. Of the sets tried these lose least: in float32 the two-dimensional
// form is within 5e-7 to 1.5e-6 of the exact result (16 to 256 channels), 0, ±1, ±2, ∞ within 1.1e-6 to 3.3e-6.
#pragma once
#include "vectors.h"

constexpr float A = 0.70710678118654752f, B = 1.41421356237309505f;  // √½, √2: A·B = 1, A² + B² = 5/2
constexpr float A3 = A / 2, B3 = 2 * B;                              // their cubes

// The values at ±√½ and ±√2, from what is even in the point and what is odd.
static INLINE void both_signs(V* r, V even1, V odd1, V even2, V odd2) {
    r[1] = even1 + odd1;
    r[2] = even1 - odd1;
    r[3] = even2 + odd2;
    r[4] = even2 - odd2;
}
// Bᵀ d: r[6] from six neighbours
static INLINE void to_points(V* r, V d0, V d1, V d2, V d3, V d4, V d5) {
    const V even1 = d4 - 2.f * d2, odd1 = A * d3 - B * d1, even2 = d4 - .5f * d2, odd2 = B * d3 - A * d1;
    r[0] = d0 + (d4 - 2.5f * d2);
    both_signs(r, even1, odd1, even2, odd2);
    r[5] = d1 + (d5 - 2.5f * d3);
}
// Aᵀ m: y[4] from six points
static INLINE void from_points(V* y, V m0, V m1, V m2, V m3, V m4, V m5) {
    const V sum1 = m1 + m2, rest1 = m1 - m2, sum2 = m3 + m4, rest2 = m3 - m4;
    y[0] = m0 + (sum1 + sum2);
    y[1] = A * rest1 + B * rest2;
    y[2] = .5f * sum1 + 2.f * sum2;
    y[3] = m5 + (A3 * rest1 + B3 * rest2);
}
// A e: r[6] from four errors
static INLINE void errors_to_points(V* r, V e0, V e1, V e2, V e3) {
    const V even1 = e0 + .5f * e2, odd1 = A * e1 + A3 * e3, even2 = e0 + 2.f * e2, odd2 = B * e1 + B3 * e3;
    r[0] = e0;
    both_signs(r, even1, odd1, even2, odd2);
    r[5] = e3;
}
// G g: r[6] from three taps
static INLINE void taps_to_points(V* r, V g0, V g1, V g2) {
    const V even1 = (g0 + .5f * g2) * (-2.f / 3), odd1 = g1 * (-2.f / 3 * A), even2 = (g0 + 2.f * g2) * (1.f / 6), odd2 = g1 * (B / 6);
    r[0] = g0;
    both_signs(r, even1, odd1, even2, odd2);
    r[5] = g2;
}
// Gᵀ m: g[3] from six points
static INLINE void points_to_taps(V* g, V m0, V m1, V m2, V m3, V m4, V m5) {
    const V sum1 = (m1 + m2) * (-2.f / 3), rest1 = (m1 - m2) * (-2.f / 3), sum2 = (m3 + m4) * (1.f / 6), rest2 = (m3 - m4) * (1.f / 6);
    g[0] = m0 + (sum1 + sum2);
    g[1] = A * rest1 + B * rest2;
    g[2] = m5 + (.5f * sum1 + 2.f * sum2);
}
