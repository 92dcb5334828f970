// Random numbers; contract: kernels.contract.random.
#include "philox.h"
#include "pool.h"

namespace {

// Calls f(block, i, n) for the blocks of four of [0, size): n numbers from i on
template <class F> void blocks(Z size, Z cost, F f) {
    parallel_ranges((size + 3) / 4, 4 * cost, [&](Z first, Z last) {
        for (Z b = first; b < last; b++) f((uint32_t)b, 4 * b, (int)std::min<Z>(4, size - 4 * b));
    });
}

}  // namespace

// Elements start to start + size of the draw
EXPORT void normal(float* out, Z size, Z start, uint64_t seed, uint64_t step, uint32_t stream) {
    const Draw draw{seed, step, stream};
    const Z before = start % 4;  // of the first block
    blocks(size + before, 32, [=](uint32_t b, Z i, int n) {
        double values[4];
        draw.normals((uint32_t)(start / 4) + b, values);
        for (int j = b ? 0 : (int)before; j < n; j++) out[i + j - before] = (float)values[j];
    });
}

// Every step is exact but the last product and its rounding: all engines draw these bits.
EXPORT void uniform_init(float* out, Z size, double bound, uint64_t seed, uint64_t index) {
    const Draw draw{seed, index, STREAM_INIT};
    blocks(size, 8, [=](uint32_t b, Z i, int n) {
        uint32_t words[4];
        draw.block(b, words);
        for (int j = 0; j < n; j++) out[i + j] = (float)(bound * (2 * Draw::unit(words[j]) - 1));
    });
}
