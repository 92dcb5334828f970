// The weight gradient, direct: for each kernel row the product of the image's lines, KW · Ci values a pixel, with the errors, summed over
// pixels. Images come in lots that are added in order: the bits depend on no thread. A lot pads few images at a time, while they are in
// the cache for all kernel rows.
#include "conv2d.h"
#include "product.h"

static thread_local Scratch padded, filled, parts;

constexpr int LOTS = 8;

void wgrad(float* dw, const float* x, const float* dy, const Conv& s) {
    if (winograd_suits(s)) return winograd_wgrad(dw, x, dy, s);
    const int ph = (s.oh - 1) * s.stride + s.kh, pw = (s.ow - 1) * s.stride + s.kw, row = s.kw * s.ci;
    const Z image = (Z)ph * pw * s.ci, errors = (Z)s.oh * s.ow;
    const bool swapped = s.co <= FEW;  // then dy's few channels are splat, and the lanes run along the line
    const int wide = ((swapped ? row : s.co) + W - 1) / W * W, high = swapped ? s.co : row;
    const bool copied = !swapped && wide != s.co;  // dy's channels filled up to whole vectors
    const int lots = std::min(LOTS, s.n), dc = copied ? wide : s.co;
    const int together = int(std::max<Z>(1, 256 / errors));  // images in one go: the sums are loaded and stored once for them
    const Z part = (Z)s.kh * high * wide;
    float* sums = parts.get((size_t)(part * lots));
    parallel(lots, [&](Z lot) {
        const int begin = int(s.n * lot / lots), end = int(s.n * (lot + 1) / lots);
        float* a = padded.get((size_t)(image * together) + W);
        for (int first = begin; first < end; first += together) {
            const int images = std::min(together, end - first);
            for (int i = 0; i < images; i++)
                pad(a + image * i, x + (Z)(first + i) * s.h * s.w * s.ci, s.h, s.w, s.ci, -(s.kh / 2), ph, s.kw / 2, pw);
            memset(a + image * images, 0, W * 4);
            const float* d = dy + first * errors * s.co;
            if (copied) {
                float* right = filled.get((size_t)(together * errors * wide));
                for (Z q = 0; q < images * errors; q++) {
                    memcpy(right + q * wide, d + q * s.co, (size_t)s.co * 4);
                    memset(right + q * wide + s.co, 0, (size_t)(wide - s.co) * 4);
                }
                d = right;
            }
            const Z xs = (Z)s.stride * s.ci, xl = (Z)s.stride * pw * s.ci, es = dc, el = (Z)s.ow * dc, ei = errors * dc;
            for (int r = 0; r < s.kh; r++) {
                const float* lines = a + (Z)r * pw * s.ci;
                float* c = sums + part * lot + (Z)r * high * wide;
                const bool add = first > begin;
                if (swapped) outer_product({d, es, el, ei, lines, xs, xl, image, images, s.oh, s.ow, c, wide, add}, high, wide);
                else outer_product({lines, xs, xl, image, d, es, el, ei, images, s.oh, s.ow, c, wide, add}, high, wide);
            }
        }
    });
    parallel_ranges((Z)s.kh * row, (Z)lots * s.co, [&](Z begin, Z end) {
        for (Z q = begin; q < end; q++)
            for (int m = 0; m < s.co; m++) {
                const Z kernel_row = q / row, k = q % row;
                const float* c = sums + kernel_row * high * wide + (swapped ? m * wide + k : k * wide + m);
                float total = 0;
                for (int lot = 0; lot < lots; lot++) total += c[part * lot];
                dw[q * s.co + m] = total;
            }
    });
}
