// Batches gathered from a data set of bytes; contract: kernels.contract.batch. Images are [H, W, C].
#include <vector>

#include "philox.h"
#include "pool.h"

namespace {

// x = image / 127.5 - 1, mirrored left to right or not
void put_image(float* x, const uint8_t* image, Z height, Z width, Z channels, bool mirrored) {
    static thread_local std::vector<uint8_t> reversed;
    const Z row = width * channels;
    for (Z i = 0; i < height; i++, x += row, image += row) {
        const uint8_t* source = image;
        if (mirrored) {
            reversed.resize((size_t)row);
            uint8_t* to = reversed.data();
            for (Z j = width - 1; j >= 0; j--)
                for (Z c = 0; c < channels; c++) *to++ = image[j * channels + c];
            source = reversed.data();
        }
        for (Z j = 0; j < row; j++) x[j] = source[j] / 127.5f - 1;  // both ends of the range are exact
    }
}

// Calls flipped(i) for each image of a batch
template <class F> void put_images(float* x, const uint8_t* images, const int* indices, Z n, Z height, Z width, Z channels, F flipped) {
    const Z size = height * width * channels;
    parallel_ranges(n, size, [&](Z first, Z last) {
        for (Z i = first; i < last; i++) put_image(x + i * size, images + indices[i] * size, height, width, channels, flipped(i));
    });
}

}  // namespace

// flips may be null
EXPORT void gather_images(float* x, const uint8_t* images, const int* indices, const uint8_t* flips, Z n, Z height, Z width, Z channels) {
    put_images(x, images, indices, n, height, width, channels, [=](Z i) { return flips && flips[i]; });
}

// indices: of these images, of which the first is image `start` of the step's batch
EXPORT void gather_batch(float* x, const uint8_t* images, const int* indices, Z n, Z height, Z width, Z channels, uint64_t seed,
                         uint64_t step, int flip, Z start) {
    put_images(x, images, indices, n, height, width, channels, [=](Z i) { return flip && is_mirrored(seed, step, start + i); });
}
