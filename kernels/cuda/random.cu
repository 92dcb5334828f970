// The draws of kernels/philox.py on the device, and the batches of images that they choose and flip.
// Philox4x32-10 (Salmon et al. 2011): key = the seed, counter = (block, stream, step low, step high), four words a block.

constexpr int THREADS = 256;
constexpr u32 STREAM_FLIP = 4;  // as in kernels/philox.py

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

// out[first … first + 4) = v as far as there are n elements.
template <class T>
__device__ inline void put4(T *out, const float *v, i64 first, i64 n) {
    if (first + 4 <= n && ((u64)out & (4 * sizeof(T) - 1)) == 0)
        store4(out + first, v);
    else
        for (int k = 0; k < 4 && first + k < n; ++k) from_float(out[first + k], v[k]);
}

// N(0, 1) draws by Box-Muller in double: words (a, b) give r cos(2πv), r sin(2πv), r = sqrt(−2 ln u). One Philox block a thread.
extern "C" __global__ void normal(act_t *out, u64 seed, const i64 *device_step, u64 step, u32 stream, i64 n) {
    const i64 block = (i64)blockIdx.x * THREADS + threadIdx.x;
    if (4 * block >= n) return;
    const uint4 words = philox(seed, device_step ? (u64)device_step[0] : step, stream, (u32)block);
    const double ra = sqrt(-2.0 * log(unit(words.x))), rb = sqrt(-2.0 * log(unit(words.z)));
    double sin_a, cos_a, sin_b, cos_b;
    sincospi(2.0 * unit(words.y), &sin_a, &cos_a);
    sincospi(2.0 * unit(words.w), &sin_b, &cos_b);
    const float v[4] = {(float)(ra * cos_a), (float)(ra * sin_a), (float)(rb * cos_b), (float)(rb * sin_b)};
    put4(out, v, 4 * block, n);
}

// U(−bound, bound): float32(bound · (2 u − 1)), formed in double with one rounding, so that every engine has the same bits.
extern "C" __global__ void uniform_init(float *out, double bound, u64 seed, u64 step, u32 stream, i64 n) {
    const i64 block = (i64)blockIdx.x * THREADS + threadIdx.x;
    if (4 * block >= n) return;
    const uint4 words = philox(seed, step, stream, (u32)block);
    const u32 word[4] = {words.x, words.y, words.z, words.w};
    float v[4];
#pragma unroll
    for (int k = 0; k < 4; ++k) v[k] = (float)(bound * (2.0 * unit(word[k]) - 1.0));
    put4(out, v, 4 * block, n);
}

// Eight neighbours of x = image / 127.5 − 1, mirrored left to right with flip; NaN where there is no such image.
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
    const i64 first = ((i64)blockIdx.x * THREADS + threadIdx.x) * 8;
    if (first >= size) return;
    for (i64 i = blockIdx.y; i < n; i += gridDim.y) {
        const i64 index = wide ? ((const i64 *)indices)[i] : ((const int *)indices)[i];
        const u8 *image = index >= 0 && index < count ? images + index * size : nullptr;
        convert(x + i * size, image, flips && ((const u8 *)flips)[i], width, channels, size, first);
    }
}

// The batch of step = counter[0]: x[i] = images[order[(step mod per_epoch) · n + i]] / 127.5 − 1, mirrored where flip is set and
// word i of (seed, step, STREAM_FLIP) is odd. order: int32. Grid as above.
extern "C" __global__ void gather_batch(
    act_t *x, const u8 *images, const int *order, const i64 *counter, i64 per_epoch, u64 seed, int flip, i64 count, int n, int width,
    int channels, i64 size) {
    const i64 first = ((i64)blockIdx.x * THREADS + threadIdx.x) * 8, step = counter[0];
    if (first >= size) return;
    for (i64 i = blockIdx.y; i < n; i += gridDim.y) {
        bool mirrored = false;
        if (flip) {
            const uint4 words = philox(seed, (u64)step, STREAM_FLIP, (u32)(i / 4));
            const u32 word[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
            for (int k = 0; k < 4; ++k)
                if (i % 4 == k) mirrored = word[k] & 1;
        }
        const i64 index = order[step % per_epoch * n + i];
        const u8 *image = index >= 0 && index < count ? images + index * size : nullptr;
        convert(x + i * size, image, mirrored, width, channels, size, first);
    }
}
