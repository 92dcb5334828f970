// Operands in the layout that the matmul kernels read: weights reordered and padded, images and channels padded.

constexpr int THREADS = 256, SIDE = 32;

__device__ inline bool aligned16(const void *p) { return ((u64)p & 15) == 0; }

enum Mode { FORWARD, DGRAD1, PHASES, IMAGE, IMAGE_DGRAD1, COLUMNS, COLUMNS_DGRAD1 };

// Where dst[t, k, n] comes from in w [KH, KW, Ci, Co]; −1: nowhere, it is 0.
__device__ inline i64 origin(int mode, int t, int k, int n, int kh, int kw, int ci, int co) {
    const int all = kh * kw;
    if (mode == IMAGE || mode == IMAGE_DGRAD1) {  // dst[0, (tap, channel), n]: a pixel has four or eight channels
        const int bits = (mode == IMAGE ? ci : co) <= 4 ? 2 : 3;
        t = k >> bits, k &= (1 << bits) - 1;
    }
    int in = k, out = n;
    if (mode == COLUMNS || mode == COLUMNS_DGRAD1) {  // dst[kh, (kw, co), ci]: t is the kernel's row, k = 4 kw + co, n = ci
        if (k / 4 >= kw) return -1;
        t = t * kw + k / 4, in = n, out = k % 4;
        if (mode == COLUMNS_DGRAD1) in = k % 4, out = n, t = all - 1 - t;
    }
    if (t >= all) return -1;
    if (mode == DGRAD1 || mode == IMAGE_DGRAD1) {  // the flipped, transposed kernel
        in = n, out = k, t = all - 1 - t;
    } else if (mode == PHASES) {  // n = (ph · 2 + pw) · Ci + c, tap (dh, dw) of 3×3: w[2 + ph − 2 dh, 2 + pw − 2 dw, c, k]
        const int phase = n / ci, h = 2 + phase / 2 - 2 * (t / 3 - 1), v = 2 + phase % 2 - 2 * (t % 3 - 1);
        if (phase > 3 || h < 0 || h >= kh || v < 0 || v >= kw) return -1;
        in = n % ci, out = k, t = h * kw + v;
    }
    return in < ci && out < co ? ((i64)t * ci + in) * co + out : -1;
}

// dst [taps, rows, columns] from w: SIDE × SIDE elements of tap t, of the (x, y)-th square. They go through shared memory, so that both
// the reading, along k where the mode transposes, and the writing, along n, are of consecutive elements.
__device__ inline void pack(
    act_t *dst, const act_t *w, int mode, int kh, int kw, int ci, int co, int rows, int columns, int x, int y, int t,
    float (*square)[SIDE + 1]) {
    const int first_k = y * SIDE, first_n = x * SIDE;
    const bool transposed = mode == DGRAD1 || mode == PHASES || mode == IMAGE_DGRAD1;
    for (int i = threadIdx.x; i < SIDE * SIDE; i += THREADS) {
        const int k = transposed ? i % SIDE : i / SIDE, n = transposed ? i / SIDE : i % SIDE;
        const i64 from = origin(mode, t, first_k + k, first_n + n, kh, kw, ci, co);
        square[k][n] = from < 0 ? 0.0f : to_float(w[from]);
    }
    __syncthreads();
    const int k = threadIdx.x / (SIDE / 8), column = threadIdx.x % (SIDE / 8) * 8, n = first_n + column;
    if (k >= SIDE || first_k + k >= rows) return;
    act_t *out = dst + ((i64)t * rows + first_k + k) * columns + n;
    float v[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) v[i] = square[k][column + i];
    if (n + 8 <= columns && aligned16(out))
        store8(out, v);
    else
        for (int i = 0; i < 8 && n + i < columns; ++i) out[i] = to_act(v[i]);
}

// Grid: (blocks of columns, of rows, taps).
extern "C" __global__ void pack_weights(act_t *dst, const act_t *w, int mode, int kh, int kw, int ci, int co, int rows, int columns) {
    after_previous_launch();
    __shared__ float square[SIDE][SIDE + 1];
    pack(dst, w, mode, kh, kw, ci, co, rows, columns, blockIdx.x, blockIdx.y, blockIdx.z, square);
}

// An entry of the list: 6 words of 8 bytes, as pack_weights has them.
struct Packing {
    act_t *dst;
    const act_t *w;
    int mode, kh, kw, ci, co, rows, columns, unused;
};

// Several weights in one launch. blocks [·, 4]: entry of the list, and the block's place in that one's grid.
extern "C" __global__ void pack_list(const u64 *list, const int *blocks) {
    after_previous_launch();
    __shared__ float square[SIDE][SIDE + 1];
    const int *block = blocks + 4 * (i64)blockIdx.x;
    const Packing p = ((const Packing *)list)[block[0]];
    act_t *dst = p.dst;
    const act_t *w = p.w;
    ASSUME_GLOBAL(dst), ASSUME_GLOBAL(w);
    pack(dst, w, p.mode, p.kh, p.kw, p.ci, p.co, p.rows, p.columns, block[1], block[2], block[3], square);
}

// dst [N, DH, DW, DC] from src [N, H, W, C] set in at (border, border), zeros elsewhere; eight consecutive elements of dst a thread.
extern "C" __global__ void pad(act_t *dst, const act_t *src, i64 n, int dh, int dw, int dc, int h, int w, int c, int border) {
    after_previous_launch();
    const i64 first = ((i64)blockIdx.x * THREADS + threadIdx.x) * 8;
    int channel = (int)(first % dc), column = (int)(first / dc % dw), row = (int)(first / dc / dw % dh);
    i64 image = first / dc / dw / dh;
    float v[8];
#pragma unroll
    for (int k = 0; k < 8; ++k) {
        const int y = row - border, x = column - border;
        v[k] = 0.0f;
        if (first + k < n && channel < c && y >= 0 && y < h && x >= 0 && x < w)
            v[k] = to_float(src[((image * h + y) * w + x) * c + channel]);
        if (++channel == dc) {
            channel = 0;
            if (++column == dw) {
                column = 0;
                if (++row == dh) row = 0, ++image;
            }
        }
    }
    if (first + 8 <= n && aligned16(dst))
        store8(dst + first, v);
    else
        for (int k = 0; k < 8 && first + k < n; ++k) dst[first + k] = to_act(v[k]);
}
