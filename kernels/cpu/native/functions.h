// Functions of vectors without the C library, and loops over flat arrays. NaN gives NaN; errors are some units in the last place
// (tests/test_native_small.py). The reduction x = n ln 2 + r and the polynomials are those of Cephes (S. Moshier).
#pragma once
#include <type_traits>
#include <vector>

#include "pool.h"

typedef int32_t VI __attribute__((vector_size(W * 4)));
typedef uint32_t VU32 __attribute__((vector_size(W * 4)));  // in which what a NaN gives as an integer may overflow

// 1.5 · 2^23: a number that it was added to has no fraction, and the integer in its last bits
constexpr float ROUND = 12582912;

struct Reduced {
    V r, series;  // |r| ≤ ½ ln 2;  exp(r) - 1 = r + series
    VU32 n;
};

static INLINE Reduced reduce(V x) {
    const V shifted = x * 1.44269504088896341f + ROUND, n = shifted - ROUND;
    const V r = x - n * 0.693359375f - n * -2.12194440e-4f;  // ln 2 in two parts: the first product is exact
    V p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    return {r, p * r * r, (VU32)shifted - (VU32)splat(ROUND)};
}

static INLINE V power_of_two(VU32 n) { return (V)((n + 127) << 23); }  // n from -126 to 127

static INLINE V clamp(V x, float low, float high) {
    x = x < low ? splat(low) : x;
    return x > high ? splat(high) : x;
}
static INLINE V magnitude(V x) { return (V)((VI)x & 0x7fffffff); }

static INLINE V exp(V x) {
    const Reduced a = reduce(clamp(x, -104, 89));  // to 0 and to infinity
    const VU32 half = ((a.n + 256) >> 1) - 128;    // 2^n itself may be no float
    return (a.series + a.r + 1) * power_of_two(half) * power_of_two(a.n - half);
}

static INLINE V expm1(V x) {
    const Reduced a = reduce(clamp(x, -20, 89));
    const V s = power_of_two(a.n - 1);  // half of 2^n, which may be 2^128
    return ((a.series + a.r) * s + (s - 0.5f)) * 2;
}

// With e = exp(2 |x|) - 1 it is e / (e + 2), whose relative error is below e's.
static INLINE V tanh(V x) {
    const V a = magnitude(x);
    const Reduced b = reduce(a > 10 ? splat(20) : a + a);
    const V s = power_of_two(b.n), e = (b.series + b.r) * s + (s - 1);
    return (V)((VI)(e / (e + 2)) | ((VI)x & (int)0x80000000));
}

// exp(-|x|) neither overflows nor loses what is small
static INLINE V sigmoid(V x) {
    const V e = exp(-magnitude(x)), s = 1 / (1 + e);
    return x < 0 ? e * s : s;
}

// x normal and positive
static INLINE V log(V x) {
    const VI exponent = ((VI)x - 0x3f3504f3) >> 23;  // of x = 2^e m with m from √½ to √2
    const V e = __builtin_convertvector(exponent, V), f = (V)((VI)x - exponent * (1 << 23)) - 1, square = f * f;
    V p = f * 7.0376836292e-2f - 1.1514610310e-1f;
    p = p * f + 1.1676998740e-1f;
    p = p * f - 1.2420140846e-1f;
    p = p * f + 1.4249322787e-1f;
    p = p * f - 1.6668057665e-1f;
    p = p * f + 2.0000714765e-1f;
    p = p * f - 2.4999993993e-1f;
    p = p * f + 3.3333331174e-1f;
    return f + (f * square * p + e * -2.12194440e-4f - 0.5f * square) + e * 0.693359375f;
}

// x^p of x ≥ 0, p > 0; 0 where x is smaller than a normal number
static INLINE V power(V x, float p) {
    const auto normal = x >= 1.17549435e-38f;
    const V y = exp(p * log(normal ? x : splat(1)));
    return normal ? y : splat(0);
}

static INLINE V floor(V x) {  // |x| < 2^22
    const V n = x + ROUND - ROUND;
    return n > x ? n - 1 : n;
}

// The n floats from p on, 1 to W of them; the others are 0.
static INLINE V load(const float* p, int n) {
    V v{};
    memcpy(&v, p, (size_t)n * 4);
    return v;
}
static INLINE void store(float* p, V v, int n) { memcpy(p, &v, (size_t)n * 4); }

// Calls f(i, n) for each vector of [first, last): n floats from i on, which is W, known when this is compiled, but for the last ones.
template <class F> INLINE void vectors(Z first, Z last, F f) {
    for (; last - first >= W; first += W) f(first, std::integral_constant<int, W>());
    if (first < last) f(first, int(last - first));
}

// out = f(in, …) element by element; out may be an input. `cost`: of an element, in additions.
template <class F, class... In> inline void map(Z size, Z cost, F f, float* out, const In*... in) {
    parallel_ranges(size, cost,
                    [&](Z first, Z last) { vectors(first, last, [&](Z i, auto n) { store(out + i, f(load(in + i, n)...), n); }); });
}

// Σ of term(i, n), a vector whose lanes from n on are 0, over [0, size): 32 vectors in float, those sums in double, in a fixed order.
template <class F> inline double sum_vectors(Z size, Z cost, F term) {
    const Z step = piece_size(cost);
    std::vector<double> parts((size_t)((size + step - 1) / step));
    parallel_ranges(size, cost, [&](Z first, Z last) {
        double& part = parts[(size_t)(first / step)];
        for (; first < last; first += 32 * W) {
            V sum{};
            vectors(first, std::min(last, first + 32 * W), [&](Z i, auto n) { sum += term(i, n); });
            for (int lane = 0; lane < W; lane++) part += sum[lane];
        }
    });
    double total = 0;
    for (double part : parts) total += part;
    return total;
}
