// Philox4x32-10 as in kernels/philox.py: a pure function of (seed, step, stream, index).
#pragma once
#include "vectors.h"

struct Draw {
    uint64_t seed, step;
    uint32_t stream;

    // The four words of a block
    INLINE void block(uint32_t number, uint32_t words[4]) const {
        uint32_t c0 = number, c1 = stream, c2 = (uint32_t)step, c3 = (uint32_t)(step >> 32);
        uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
        for (int round = 0; round < 10; round++) {
            const uint64_t p0 = (uint64_t)0xD2511F53 * c0, p1 = (uint64_t)0xCD9E8D57 * c2;
            c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
            c1 = (uint32_t)p1;
            c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
            c3 = (uint32_t)p0;
            k0 += 0x9E3779B9, k1 += 0xBB67AE85;
        }
        words[0] = c0, words[1] = c1, words[2] = c2, words[3] = c3;
    }

    // N(0, 1) by Box-Muller: two pairs of a block
    INLINE void normals(uint32_t number, double out[4]) const {
        uint32_t words[4];
        block(number, words);
        for (int i = 0; i < 4; i += 2) {
            const double r = std::sqrt(-2 * std::log(unit(words[i]))), angle = 2 * 3.14159265358979323846 * unit(words[i + 1]);
            out[i] = r * std::cos(angle);
            out[i + 1] = r * std::sin(angle);
        }
    }

    static INLINE double unit(uint32_t word) { return (word + 0.5) / 4294967296.0; }  // U(0, 1), never 0 or 1
};

// The streams that operations draw from themselves, as in kernels/philox.py
constexpr uint32_t STREAM_FLIP = 4, STREAM_INIT = 5, STREAM_AUGMENT = 10;

// Whether image i of the step's batch is mirrored
static inline bool is_mirrored(uint64_t seed, uint64_t step, Z i) {
    uint32_t words[4];
    Draw{seed, step, STREAM_FLIP}.block((uint32_t)(i / 4), words);
    return words[i % 4] & 1;
}
