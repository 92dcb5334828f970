// A batch of training images, each varied: formulas at kernels.contract.batch.augment_batch. Rows are taken apart into planes of channels.
#include "functions.h"
#include "philox.h"

namespace {

struct Colours {
    float power, contrast;  // exponents, 1: none
    float hue;              // in sixths of the circle
    bool tones, hues;       // whether contrast, or the hue, changes
};

// The image's row under the map, [C][stride] in [0, 1]. y, x: the source's place of the row's first pixel, and the step to the next one.
template <int C>
void move_row(float* planes, Z stride, const uint8_t* image, Z height, Z width, double y0, double x0, double y_step, double x_step) {
    const double bottom = (double)(height - 1), right = (double)(width - 1);
    for (Z j = 0; j < width; j++) {
        double y = y0 + y_step * (double)j, x = x0 + x_step * (double)j;
        y = y > 0 ? (y < bottom ? y : bottom) : 0;  // 0 for a NaN, too
        x = x > 0 ? (x < right ? x : right) : 0;
        const Z top = (Z)y, left = (Z)x;
        const float down = (float)(y - (double)top), along = (float)(x - (double)left);
        const uint8_t* a = image + (top * width + left) * C;
        const Z next = left < width - 1 ? C : 0, below = top < height - 1 ? width * C : 0;
        for (int c = 0; c < C; c++) {
            const float p = a[c], q = a[c + next], r = a[c + below], s = a[c + below + next];
            const float upper = p + (q - p) * along, lower = r + (s - r) * along;
            planes[c * stride + j] = (upper + (lower - upper) * down) / 255;
        }
    }
}

INLINE V smaller(V a, V b) { return a < b ? a : b; }
INLINE V larger(V a, V b) { return a > b ? a : b; }

// A channel of the colour, from its place on the hue's circle
INLINE V channel(V place, V saturation, V value) {
    const V k = place - 6 * floor(place * (1.0f / 6));
    return value - value * saturation * clamp(smaller(k, 4 - k), 0, 1);
}

INLINE void recolour(V& r, V& g, V& b, const Colours& colours) {
    V value = larger(larger(r, g), b);
    const V span = value - smaller(smaller(r, g), b), divisor = span > 0 ? span : splat(1);
    V hue = value == r ? (g - b) / divisor : value == g ? (b - r) / divisor + 2 : (r - g) / divisor + 4;
    V saturation = span / (value > 0 ? value : splat(1));
    if (colours.tones) saturation = power(saturation, colours.contrast), value = power(value, colours.contrast);
    hue = (span > 0 ? hue : splat(0)) + colours.hue;
    r = channel(hue + 5, saturation, value), g = channel(hue + 3, saturation, value), b = channel(hue + 1, saturation, value);
}

template <int C> void recolour_row(float* planes, Z stride, Z width, const Colours& colours) {
    vectors(0, width, [&](Z i, auto n) {
        V v[C];
        for (int c = 0; c < C; c++) {
            v[c] = load(planes + c * stride + i, n);
            if (colours.power != 1) v[c] = power(v[c], colours.power);
        }
        if constexpr (C == 3)
            if (colours.tones || colours.hues) recolour(v[0], v[1], v[2], colours);
        for (int c = 0; c < C; c++) store(planes + c * stride + i, 2 * v[c] - 1, n);
    });
}

struct Strengths {
    double translation, scale, rotation, gamma, contrast, hue;
};

// exp((σ² + σ · draw) / ln 2)
double exponent(double sigma, double draw) { return sigma != 0 ? std::exp((sigma * sigma + sigma * draw) / 0.693147180559945309417) : 1; }

// One image, from its eight draws
template <int C>
void vary(float* x, const uint8_t* image, Z height, Z width, const double draw[8], const Strengths& strengths, bool mirrored) {
    static thread_local Scratch memory;
    float* planes = memory.get((size_t)(width * C));
    const double tone = exponent(strengths.contrast, draw[5]), power = exponent(strengths.gamma, draw[4]) * (C == 1 ? tone : 1);
    const double hue = std::fmod(6 * strengths.hue * draw[6], 6.0);
    const Colours colours{(float)power, (float)tone, (float)hue, strengths.contrast != 0, strengths.hue != 0};

    const double angle = strengths.rotation * draw[3], factor = 1 + strengths.scale * draw[2];
    const double cos = std::cos(angle) / factor, sin = std::sin(angle) / factor, side = mirrored ? -1 : 1;
    const double middle_y = (double)(height - 1) / 2, middle_x = (double)(width - 1) / 2;
    const double y0 = middle_y - side * sin * middle_x + strengths.translation * (double)height * draw[1];
    const double x0 = middle_x - side * cos * middle_x + strengths.translation * (double)width * draw[0];
    for (Z i = 0; i < height; i++, x += width * C) {
        const double dy = (double)i - middle_y;
        move_row<C>(planes, width, image, height, width, y0 + cos * dy, x0 - sin * dy, side * sin, side * cos);
        recolour_row<C>(planes, width, width, colours);
        for (Z j = 0; j < width; j++)
            for (int c = 0; c < C; c++) x[j * C + c] = planes[c * width + j];
    }
}

}  // namespace

// indices: of these images, of which the first is image `start` of the step's batch; channels: 1 or 3
EXPORT void augment_batch(float* x, const uint8_t* images, const int* indices, Z n, Z height, Z width, int channels, uint64_t seed,
                          uint64_t step, int flip, double translation, double scale, double rotation, double gamma, double contrast,
                          double hue, Z start) {
    const Strengths strengths{translation, scale, rotation, gamma, contrast, hue};
    const Z size = height * width * channels;
    parallel_ranges(n, 16 * size, [=](Z first, Z last) {
        for (Z i = first; i < last; i++) {
            double draw[8];
            const auto block = (uint32_t)(2 * (start + i));
            for (uint32_t half = 0; half < 2; half++) Draw{seed, step, STREAM_AUGMENT}.normals(block + half, draw + 4 * half);
            (channels == 1 ? vary<1> : vary<3>)(x + i * size, images + indices[i] * size, height, width, draw, strengths,
                                                flip && is_mirrored(seed, step, start + i));
        }
    });
}
