// The random numbers of kernels/philox.py on the device, and batches of images, flipped and augmented by them.
// Philox4x32-10 (Salmon et al. 2011): key = the seed, counter = (block, stream, step low, step high), four words a block.

constexpr int THREADS = 256;
constexpr u32 STREAM_FLIP = 4, STREAM_AUGMENT = 10;  // as in kernels/philox.py

__device__ inline uint4 philox(u64 seed, u64 step, u32 stream, u32 block) {
    u32 c0 = block, c1 = stream, c2 = (u32)step, c3 = (u32)(step >> 32), k0 = (u32)seed, k1 = (u32)(seed >> 32);
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        const u64 p0 = (u64)0xD2511F53u * c0, p1 = (u64)0xCD9E8D57u * c2;
        c0 = (u32)(p1 >> 32) ^ c1 ^ k0;
        c1 = (u32)p1;
        c2 = (u32)(p0 >> 32) ^ c3 ^ k1;
        c3 = (u32)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return make_uint4(c0, c1, c2, c3);
}

// U(0, 1), never 0 or 1: exact in double.
__device__ inline double unit(u32 word) { return (word + 0.5) * 0x1p-32; }

// out[first … first + 4) = v as far as there are such elements, of n.
template <class T>
__device__ inline void put4(T *out, const float *v, i64 first, i64 n) {
    if (first >= 0 && first + 4 <= n && ((u64)(out + first) & (4 * sizeof(T) - 1)) == 0)
        store4(out + first, v);
    else
        for (int k = 0; k < 4 && first + k < n; ++k)
            if (first + k >= 0) from_float(out[first + k], v[k]);
}

// Whether word i of (seed, step, STREAM_FLIP) is odd: image i is mirrored.
__device__ inline bool odd_flip(u64 seed, u64 step, i64 i) {
    const uint4 words = philox(seed, step, STREAM_FLIP, (u32)(i / 4));
    const u32 word[4] = {words.x, words.y, words.z, words.w};
    bool odd = false;
#pragma unroll
    for (int k = 0; k < 4; ++k)
        if (i % 4 == k) odd = word[k] & 1;
    return odd;
}

// N(0, 1) draws by Box-Muller in double: words (a, b) give r cos(2πv), r sin(2πv), r = sqrt(−2 ln u). One Philox block a thread.
// out[0] is element `start` of the draw. The grid's second row, if there is one, draws `second`, of the same size and another stream.
extern "C" __global__ void normal(
    act_t *out, u64 seed, const i64 *device_step, u64 step, u32 stream, i64 start, i64 n, act_t *second, u32 second_stream) {
    after_previous_launch();
    if (blockIdx.y) out = second, stream = second_stream;
    const i64 block = (i64)blockIdx.x * THREADS + threadIdx.x, first = 4 * block - start % 4;
    if (first >= n) return;
    const uint4 words = philox(seed, device_step ? (u64)device_step[0] : step, stream, (u32)(start / 4 + block));
    const double ra = sqrt(-2.0 * log(unit(words.x))), rb = sqrt(-2.0 * log(unit(words.z)));
    double sin_a, cos_a, sin_b, cos_b;
    sincospi(2.0 * unit(words.y), &sin_a, &cos_a);
    sincospi(2.0 * unit(words.w), &sin_b, &cos_b);
    const float v[4] = {(float)(ra * cos_a), (float)(ra * sin_a), (float)(rb * cos_b), (float)(rb * sin_b)};
    put4(out, v, first, n);
}

// U(−bound, bound): float32(bound · (2 u − 1)), computed in double with one rounding, so that every engine has the same bits.
extern "C" __global__ void uniform_init(float *out, double bound, u64 seed, u64 step, u32 stream, i64 n) {
    after_previous_launch();
    const i64 block = (i64)blockIdx.x * THREADS + threadIdx.x;
    if (4 * block >= n) return;
    const uint4 words = philox(seed, step, stream, (u32)block);
    const u32 word[4] = {words.x, words.y, words.z, words.w};
    float v[4];
#pragma unroll
    for (int k = 0; k < 4; ++k) v[k] = (float)(bound * (2.0 * unit(word[k]) - 1.0));
    put4(out, v, 4 * block, n);
}

// Eight consecutive elements of x = image / 127.5 − 1, mirrored left to right with flip; NaN where there is no such image.
// image: uint8 [H, W, C], or null. x: [H, W, C]. size = H · W · C.
__device__ inline void convert(act_t *x, const u8 *image, bool flip, int width, int channels, i64 size, i64 first) {
    const i64 line = (i64)width * channels, row = first / line * line;
    int pixel = (int)((first - row) / channels), channel = (int)((first - row) % channels);
    i64 start = row;
    float v[8];
#pragma unroll
    for (int k = 0; k < 8; ++k) {
        v[k] = __uint_as_float(0x7fffffffu);
        if (image && first + k < size) v[k] = image[start + (flip ? width - 1 - pixel : pixel) * (i64)channels + channel] / 127.5f - 1.0f;
        if (++channel == channels) {
            channel = 0;
            if (++pixel == width) pixel = 0, start += line;
        }
    }
    if (first + 8 <= size && ((u64)(x + first) & 15) == 0)
        store8(x + first, v);
    else
        for (int k = 0; k < 8 && first + k < size; ++k) x[first + k] = to_act(v[k]);
}

// x[i] = images[indices[i]] / 127.5 − 1, mirrored where flips[i]. images: uint8 [count, H, W, C]; indices: int32 or (wide) int64
// [n]; flips: bytes [n] or null. Grid: (vectors of an image, images).
extern "C" __global__ void gather_images(
    act_t *x, const u8 *images, const void *indices, const void *flips, int wide, i64 count, int n, int width, int channels, i64 size) {
    after_previous_launch();
    const i64 first = ((i64)blockIdx.x * THREADS + threadIdx.x) * 8;
    if (first >= size) return;
    for (i64 i = blockIdx.y; i < n; i += gridDim.y) {
        const i64 index = wide ? ((const i64 *)indices)[i] : ((const int *)indices)[i];
        const u8 *image = index >= 0 && index < count ? images + index * size : nullptr;
        convert(x + i * size, image, flips && ((const u8 *)flips)[i], width, channels, size, first);
    }
}

// The batch of step = counter[0]: x[i] = images[order[(step mod per_epoch) · n + i]] / 127.5 − 1, mirrored where flip is set and
// word number + i of (seed, step, STREAM_FLIP) is odd. order: int32. Grid as above.
extern "C" __global__ void gather_batch(
    act_t *x, const u8 *images, const int *order, const i64 *counter, i64 per_epoch, u64 seed, int flip, i64 number, i64 count, int n,
    int width, int channels, i64 size) {
    after_previous_launch();
    const i64 first = ((i64)blockIdx.x * THREADS + threadIdx.x) * 8, step = counter[0];
    if (first >= size) return;
    for (i64 i = blockIdx.y; i < n; i += gridDim.y) {
        const bool mirrored = flip && odd_flip(seed, (u64)step, number + i);
        const i64 index = order[step % per_epoch * n + i];
        const u8 *image = index >= 0 && index < count ? images + index * size : nullptr;
        convert(x + i * size, image, mirrored, width, channels, size, first);
    }
}

// ---- augmented images: kernels/cpu/augment.py has the formulas ----

// What the threads of a block share about their image.
struct Augmentation {
    float column, row;  // of the centre in the source, the shift included
    float cosine, sine;  // of the rotation, over the scale
    float gamma, contrast, hue;  // two exponents; hue in sixths of the circle
    int mirrored;
};

// exp((σ² + σ · draw) / ln 2), and 1 for σ = 0.
__device__ inline float exponent(float sigma, double draw) {
    return sigma == 0.0f ? 1.0f : (float)exp(((double)sigma * sigma + sigma * draw) * 1.4426950408889634);
}

// Image i's random numbers from (seed, step, STREAM_AUGMENT), eight normal ones an image: threads 0 to 3 draw a pair each.
__device__ inline void draw_augmentation(
    Augmentation *out, int thread, u64 seed, u64 step, i64 i, int flip, float translation, float scale, float rotation, float gamma,
    float contrast, float hue, int height, int width) {
    if (thread >= 4) return;
    const uint4 words = philox(seed, step, STREAM_AUGMENT, (u32)(2 * i + thread / 2));
    const bool second = thread & 1;
    const double r = sqrt(-2.0 * log(unit(second ? words.z : words.x)));
    double sine, cosine;
    sincospi(2.0 * unit(second ? words.w : words.y), &sine, &cosine);
    const double a = r * cosine, b = r * sine;
    if (thread == 0) {
        out->column = (float)(0.5 * (width - 1) + (double)translation * width * a);
        out->row = (float)(0.5 * (height - 1) + (double)translation * height * b);
    } else if (thread == 1) {
        sincospi((double)rotation * b * 0.3183098861837907, &sine, &cosine);
        out->cosine = (float)(cosine / (1.0 + (double)scale * a));
        out->sine = (float)(sine / (1.0 + (double)scale * a));
    } else if (thread == 2) {
        out->gamma = exponent(gamma, a);
        out->contrast = exponent(contrast, b);
    } else {
        out->hue = (float)(6.0 * hue * a);
        out->mirrored = flip && odd_flip(seed, step, i);
    }
}

// Contrast and hue of a colour in [0, 1], by HSV.
__device__ inline void recolour(float *v, float contrast, float hue) {
    const float value = fmaxf(v[0], fmaxf(v[1], v[2])), span = value - fminf(v[0], fminf(v[1], v[2]));
    const float divisor = span > 0.0f ? span : 1.0f;
    float h = value == v[0] ? (v[1] - v[2]) / divisor : value == v[1] ? (v[2] - v[0]) / divisor + 2.0f : (v[0] - v[1]) / divisor + 4.0f;
    h = (span > 0.0f ? h : 0.0f) + hue;
    const float s = powf(value > 0.0f ? span / value : 0.0f, contrast), top = powf(value, contrast);
#pragma unroll
    for (int channel = 0; channel < 3; ++channel) {
        float k = (h + (5 - 2 * channel)) / 6.0f;
        k = 6.0f * (k - floorf(k));
        v[channel] = top - top * s * fminf(fmaxf(fminf(k, 4.0f - k), 0.0f), 1.0f);
    }
}

// gather_batch's images, each moved, scaled, rotated and recoloured by random numbers of its own, image number + i's: strengths as in
// kernels/augmentation.py. channels: 1 or 3. NaN where there is no such image. Grid: (pixels of an image, images), a pixel a thread.
extern "C" __global__ void augment_batch(
    act_t *x, const u8 *images, const int *order, const i64 *counter, i64 per_epoch, u64 seed, int flip, i64 number, float translation,
    float scale, float rotation, float gamma, float contrast, float hue, i64 count, int n, int height, int width, int channels) {
    after_previous_launch();
    __shared__ Augmentation shared;
    const i64 step = counter[0], pixels = (i64)height * width, pixel = (i64)blockIdx.x * THREADS + threadIdx.x;
    for (i64 i = blockIdx.y; i < n; i += gridDim.y) {
        __syncthreads();  // no thread reads the previous image's any more
        draw_augmentation(
            &shared, threadIdx.x, seed, (u64)step, number + i, flip, translation, scale, rotation, gamma, contrast, hue, height, width);
        __syncthreads();
        if (pixel >= pixels) continue;
        const i64 index = order[step % per_epoch * n + i];
        act_t *out = x + (i * pixels + pixel) * channels;
        if (index < 0 || index >= count) {
            for (int channel = 0; channel < channels; ++channel) out[channel] = to_act(__uint_as_float(0x7fffffffu));
            continue;
        }
        const u8 *image = images + index * pixels * channels;
        const int r = (int)(pixel / width), c = (int)(pixel % width);
        const float dy = r - 0.5f * (height - 1), dx = (shared.mirrored ? width - 1 - c : c) - 0.5f * (width - 1);
        const float y = fminf(fmaxf(shared.cosine * dy + shared.sine * dx + shared.row, 0.0f), height - 1.0f);
        const float z = fminf(fmaxf(shared.cosine * dx - shared.sine * dy + shared.column, 0.0f), width - 1.0f);
        const int top = (int)y, left = (int)z, bottom = min(top + 1, height - 1), right = min(left + 1, width - 1);
        const float fy = y - top, fx = z - left;
        float v[3];  // three, and a loop of three, for one channel too: an index that is not known would put v into local memory
#pragma unroll
        for (int channel = 0; channel < 3; ++channel) {
            v[channel] = 0.0f;
            if (channel >= channels) continue;
            const float a = image[(top * (i64)width + left) * channels + channel];
            const float b = image[(top * (i64)width + right) * channels + channel];
            const float e = image[(bottom * (i64)width + left) * channels + channel];
            const float g = image[(bottom * (i64)width + right) * channels + channel];
            const float upper = a + (b - a) * fx, lower = e + (g - e) * fx;
            v[channel] = (upper + (lower - upper) * fy) / 255.0f;
        }
        const float power = channels == 1 ? shared.gamma * shared.contrast : shared.gamma;
        if (gamma != 0.0f || (channels == 1 && contrast != 0.0f)) {
#pragma unroll
            for (int channel = 0; channel < 3; ++channel) v[channel] = powf(v[channel], power);
        }
        if (channels == 3 && (contrast != 0.0f || hue != 0.0f)) recolour(v, shared.contrast, shared.hue);
#pragma unroll
        for (int channel = 0; channel < 3; ++channel)
            if (channel < channels) out[channel] = to_act(2.0f * v[channel] - 1.0f);
    }
}
