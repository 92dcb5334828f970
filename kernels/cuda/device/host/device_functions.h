// The device functions that kernels use, on the host. Included by emulation.h.
#pragma once

#define __syncthreads() emulation::wait(emulation::BARRIER, __LINE__, 0)
#define __syncwarp(...) emulation::exchange(0xffffffffu, 0, 0, __LINE__)
#define __shfl_sync(mask, value, lane) emulation::exchange(mask, value, (lane) & 31, __LINE__)
#define __shfl_xor_sync(mask, value, lanes) emulation::exchange(mask, value, (emulation::current % 32) ^ (lanes), __LINE__)
#define __shfl_down_sync(mask, value, by) emulation::shift(mask, value, (int)(by), __LINE__)
#define __shfl_up_sync(mask, value, by) emulation::shift(mask, value, -(int)(by), __LINE__)
#define __ballot_sync(mask, chosen) emulation::ballot(mask, chosen, __LINE__)
#define __any_sync(mask, chosen) (emulation::ballot(mask, chosen, __LINE__) != 0)
#define __all_sync(mask, chosen) (emulation::ballot(mask, !(chosen), __LINE__) == 0)

namespace emulation {
// A lane whose partner is outside the warp keeps its own value.
template <class T>
static T shift(unsigned mask, T value, int by, int line) {
    int own = current % 32, lane = own + by;
    return exchange(mask, value, lane < 0 || lane > 31 ? own : lane, line);
}
template <class To, class From>
static To same_bits(From from) {
    To to;
    static_assert(sizeof to == sizeof from, "sizes differ");
    memcpy(&to, &from, sizeof to);
    return to;
}
}  // namespace emulation

static inline void __threadfence() { emulation::fence(); }
static inline void __threadfence_block() {}
static inline void __nanosleep(unsigned) { emulation::meet(true); }
[[noreturn]] static inline void __trap() { emulation::fail("__trap()"); }
template <class T> static inline T __ldg(const T* p) { return *p; }
template <class T> static inline T __ldcs(const T* p) { return *p; }
template <class T> static inline T __ldcg(const T* p) { return *p; }
template <class T> static inline void __stcs(T* p, T value) { *p = value; }
template <class T> static inline T atomicAdd(T* p, T v) { return emulation::change(p, [v](T old) { return (T)(old + v); }); }
template <class T> static inline T atomicMax(T* p, T v) { return emulation::change(p, [v](T old) { return v > old ? v : old; }); }
template <class T> static inline T atomicMin(T* p, T v) { return emulation::change(p, [v](T old) { return v < old ? v : old; }); }
template <class T> static inline T atomicOr(T* p, T v) { return emulation::change(p, [v](T old) { return (T)(old | v); }); }
template <class T> static inline T atomicExch(T* p, T v) { return emulation::change(p, [v](T) { return v; }); }
static inline unsigned atomicInc(unsigned* p, unsigned most) {
    return emulation::change(p, [most](unsigned old) { return old >= most ? 0 : old + 1; });
}

static inline unsigned __float_as_uint(float x) { return emulation::same_bits<unsigned>(x); }
static inline int __float_as_int(float x) { return emulation::same_bits<int>(x); }
static inline float __uint_as_float(unsigned x) { return emulation::same_bits<float>(x); }
static inline float __int_as_float(int x) { return emulation::same_bits<float>(x); }
static inline long long __double_as_longlong(double x) { return emulation::same_bits<long long>(x); }
static inline double __longlong_as_double(long long x) { return emulation::same_bits<double>(x); }
static inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((unsigned long long)a * b >> 32); }
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) { return (unsigned long long)((unsigned __int128)a * b >> 64); }
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline unsigned __brev(unsigned x) { unsigned y = 0; for (int i = 0; i < 32; i++) y |= (x >> i & 1) << (31 - i); return y; }

// CUDA's min and max: integers by the usual conversions, of a NaN and a number the number.
template <class A, class B> static inline typename std::common_type<A, B>::type min(A a, B b) {
    typedef typename std::common_type<A, B>::type T;
    if constexpr (std::is_floating_point<T>::value) return std::fmin((T)a, (T)b);
    else return (T)b < (T)a ? (T)b : (T)a;
}
template <class A, class B> static inline typename std::common_type<A, B>::type max(A a, B b) {
    typedef typename std::common_type<A, B>::type T;
    if constexpr (std::is_floating_point<T>::value) return std::fmax((T)a, (T)b);
    else return (T)a < (T)b ? (T)b : (T)a;
}
static inline float rsqrtf(float x) { return (float)(1.0 / std::sqrt((double)x)); }
static inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }
static inline float __frcp_rn(float x) { return 1.0f / x; }
static inline float __fsqrt_rn(float x) { return std::sqrt(x); }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
static inline double __dadd_rn(double a, double b) { return a + b; }
static inline double __dsub_rn(double a, double b) { return a - b; }
static inline double __dmul_rn(double a, double b) { return a * b; }
static inline double __ddiv_rn(double a, double b) { return a / b; }
static inline double __dsqrt_rn(double x) { return std::sqrt(x); }
static inline double __fma_rn(double a, double b, double c) { return std::fma(a, b, c); }
static inline float __double2float_rn(double x) { return (float)x; }
static inline float __uint2float_rn(unsigned x) { return (float)x; }
static inline float __int2float_rn(int x) { return (float)x; }
static inline float __ull2float_rn(unsigned long long x) { return (float)x; }
static inline double __uint2double_rn(unsigned x) { return (double)x; }
static inline double __int2double_rn(int x) { return (double)x; }
static inline double __ull2double_rn(unsigned long long x) { return (double)x; }
static inline int __float2int_rn(float x) { return (int)std::nearbyint(x); }
static inline void sincospi(double x, double* s, double* c) { double turns = std::remainder(x, 2.0); sincos(M_PI * turns, s, c); }
static inline void sincospif(float x, float* s, float* c) { double a, b; sincospi((double)x, &a, &b), *s = (float)a, *c = (float)b; }
static inline double cospi(double x) { double s, c; sincospi(x, &s, &c); return c; }
static inline double sinpi(double x) { double s, c; sincospi(x, &s, &c); return s; }
static inline float cospif(float x) { return (float)cospi((double)x); }
static inline float sinpif(float x) { return (float)sinpi((double)x); }

using std::isfinite;
using std::isinf;
using std::isnan;
#define assert(condition) ((condition) ? (void)0 : emulation::fail("assert(" #condition ")"))

// GCC wants alignas before `static`, CUDA's compilers after __shared__.
#define alignas(n) __attribute__((aligned(n)))

// NVRTC, which sees no system header, does not know these.
#undef INFINITY
#undef NAN
#undef M_PI
#undef FLT_MAX
#undef INT_MAX
