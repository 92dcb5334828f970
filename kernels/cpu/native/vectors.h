// Vectors of W floats by the compilers' own extension (g++, clang), and scratch memory. W and the registers that tiles may fill come from
// what the compiler was told of the processor; every width gives the same results to rounding.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>

#if defined(__AVX512F__)
constexpr int W = 16, REGISTERS = 32;
#elif defined(__AVX__)
constexpr int W = 8, REGISTERS = 16;
#elif defined(__aarch64__)
constexpr int W = 4, REGISTERS = 32;
#else
constexpr int W = 4, REGISTERS = 16;
#endif

typedef float V __attribute__((vector_size(W * 4)));
typedef float VU __attribute__((vector_size(W * 4), aligned(4), may_alias));  // anywhere in memory
typedef ptrdiff_t Z;

#define EXPORT extern "C" __attribute__((visibility("default")))  // library.py reads the signatures behind this word
#define INLINE inline __attribute__((always_inline))

// Before a loop of a constant number of turns: all of them, one after the other, so that an array of vectors stays in registers.
// LANES: before a loop whose turns are independent, also where an output is an input: vectors without a test for overlapping arrays.
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#define LANES _Pragma("clang loop vectorize(assume_safety)")
#else
#define UNROLL _Pragma("GCC unroll 64")
#define LANES _Pragma("GCC ivdep")
#endif

static INLINE V load(const float* p) { return *(const VU*)p; }
static INLINE void store(float* p, V v) { *(VU*)p = v; }
static INLINE V splat(float s) { return s - V{}; }  // s + V{} would cost an addition: it is not s where s is -0

// Memory of one thread for one purpose: grows, never shrinks, zero when new. A vector may be read from the last float on.
class Scratch {
    float* memory = nullptr;
    size_t size = 0;

  public:
    Scratch() = default;
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;
    ~Scratch() { free(memory); }
    float* get(size_t floats) {
        if (floats > size) {
            free(memory);
            memory = nullptr;
            size = 0;
            const size_t bytes = ((floats + W) * 4 + 63) / 64 * 64;
            if (posix_memalign((void**)&memory, 64, bytes)) throw std::bad_alloc();
            memset(memory, 0, bytes);
            size = floats;
        }
        return memory;
    }
};
