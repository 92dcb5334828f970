// Element-wise operations on n elements of any shape, and copies. A block takes PER_BLOCK of them; eight consecutive ones, 16 bytes of
// bfloat16, are one thread's vector. A pointer that is not a multiple of 16 bytes, or the last, incomplete block, takes single elements.
// An output may be an input: a thread loads all its vectors before it stores the first.

constexpr int THREADS = 256, UNROLL = 2, PER_BLOCK = THREADS * 8 * UNROLL;

__device__ inline bool aligned16(const void *p) { return ((u64)p & 15) == 0; }

// out[i] = f(a[i], b[i], c[i]); with INPUTS 2 c is not read, with 1 b neither.
template <int INPUTS, class Out, class In, class F>
__device__ inline void map(Out *out, const In *a, const In *b, const In *c, i64 n, F f) {
    const i64 first = (i64)blockIdx.x * PER_BLOCK, end = min(first + PER_BLOCK, n);
    if (end - first == PER_BLOCK && aligned16(out) && aligned16(a) && (INPUTS < 2 || aligned16(b)) && (INPUTS < 3 || aligned16(c))) {
        float va[UNROLL][8], vb[UNROLL][8], vc[UNROLL][8];
#pragma unroll
        for (int u = 0; u < UNROLL; ++u) {
            const i64 i = first + (u * THREADS + threadIdx.x) * 8;
            load8(va[u], a + i);
            if (INPUTS > 1) load8(vb[u], b + i);
            if (INPUTS > 2) load8(vc[u], c + i);
        }
#pragma unroll
        for (int u = 0; u < UNROLL; ++u) {
#pragma unroll
            for (int k = 0; k < 8; ++k) va[u][k] = f(va[u][k], INPUTS > 1 ? vb[u][k] : 0.0f, INPUTS > 2 ? vc[u][k] : 0.0f);
            store8(out + first + (u * THREADS + threadIdx.x) * 8, va[u]);
        }
        return;
    }
    for (i64 i = first + threadIdx.x; i < end; i += THREADS)
        from_float(out[i], f(to_float(a[i]), INPUTS > 1 ? to_float(b[i]) : 0.0f, INPUTS > 2 ? to_float(c[i]) : 0.0f));
}

// y = max(x, 0); NaN stays NaN.
extern "C" __global__ void relu_forward(act_t *y, const act_t *x, i64 n) {
    after_previous_launch();
    map<1>(y, x, x, x, n, [](float v, float, float) { return v < 0.0f ? 0.0f : v; });
}

// dx = dy · [y > 0]: a multiplication, so that the mask does not hide an infinite or NaN error.
extern "C" __global__ void relu_backward(act_t *dx, const act_t *dy, const act_t *y, i64 n) {
    after_previous_launch();
    map<2>(dx, dy, y, y, n, [](float e, float v, float) { return e * (v > 0.0f ? 1.0f : 0.0f); });
}

extern "C" __global__ void tanh_forward(act_t *y, const act_t *x, i64 n) {
    after_previous_launch();
    map<1>(y, x, x, x, n, [](float v, float, float) { return tanhf(v); });
}

// dx = dy · (1 − y²)
extern "C" __global__ void tanh_backward(act_t *dx, const act_t *dy, const act_t *y, i64 n) {
    after_previous_launch();
    map<2>(dx, dy, y, y, n, [](float e, float v, float) { return e * fmaf(-v, v, 1.0f); });
}

// y = 1 / (1 + exp(−x)): an exp that overflows gives 0. By tanh small values would lose their digits.
extern "C" __global__ void sigmoid_forward(act_t *y, const act_t *x, i64 n) {
    after_previous_launch();
    map<1>(y, x, x, x, n, [](float v, float, float) { return 1.0f / (1.0f + expf(-v)); });
}

// dx = dy · y (1 − y)
extern "C" __global__ void sigmoid_backward(act_t *dx, const act_t *dy, const act_t *y, i64 n) {
    after_previous_launch();
    map<2>(dx, dy, y, y, n, [](float e, float v, float) { return e * ((1.0f - v) * v); });
}

// out = alpha · a + beta · b
extern "C" __global__ void add(
    act_t *out, const act_t *a, const act_t *b, const float *device_alpha, float alpha, float beta, i64 n) {
    after_previous_launch();
    const float factor = device_alpha ? device_alpha[0] : alpha;
    map<2>(out, a, b, b, n, [=](float u, float v, float) { return factor * u + beta * v; });
}

// The same, rounded, then tanh_backward.
extern "C" __global__ void add_tanh_backward(
    act_t *out, const act_t *a, const act_t *b, const act_t *y, const float *device_alpha, float alpha, float beta, i64 n) {
    after_previous_launch();
    const float factor = device_alpha ? device_alpha[0] : alpha;
    map<3>(out, a, b, y, n, [=](float u, float v, float w) { return to_float(to_act(factor * u + beta * v)) * fmaf(-w, w, 1.0f); });
}

// out = factor · x
extern "C" __global__ void scale(act_t *out, const act_t *x, float factor, i64 n) {
    after_previous_launch();
    map<1>(out, x, x, x, n, [=](float v, float, float) { return factor * v; });
}

// float32 → act_t.
extern "C" __global__ void narrow(act_t *out, const float *x, i64 n) {
    after_previous_launch();
    map<1>(out, x, x, x, n, [](float v, float, float) { return v; });
}

// act_t → float32.
extern "C" __global__ void widen(float *out, const act_t *x, i64 n) {
    after_previous_launch();
    map<1>(out, x, x, x, n, [](float v, float, float) { return v; });
}

// y = [x, a]: rows of columns + attributes, the attributes rounded from float32. Eight consecutive elements of a row a thread; whole
// vectors where the row's address allows. Grid: (vectors of a row, rows).
extern "C" __global__ void concatenate(act_t *y, const act_t *x, const float *a, i64 rows, i64 columns, i64 attributes) {
    after_previous_launch();
    const i64 width = columns + attributes, first = ((i64)blockIdx.x * THREADS + threadIdx.x) * 8;
    if (first >= width) return;
    for (i64 row = blockIdx.y; row < rows; row += gridDim.y) {
        act_t *to = y + row * width + first;
        const act_t *from = x + row * columns + first;
        if (first + 8 <= columns && aligned16(to) && aligned16(from)) {
            float v[8];
            load8(v, from);
            store8(to, v);
            continue;
        }
        for (i64 k = first; k < first + 8 && k < width; ++k)
            y[row * width + k] = k < columns ? x[row * columns + k] : to_act(a[row * attributes + k - columns]);
    }
}

// Bytes of any type, 16 a thread.
extern "C" __global__ void copy_bytes(void *to, const void *from, i64 bytes) {
    after_previous_launch();
    u8 *out = (u8 *)to;
    const u8 *x = (const u8 *)from;
    const i64 first = ((i64)blockIdx.x * THREADS + threadIdx.x) * 16;
    if (aligned16(out) && aligned16(x) && first + 16 <= bytes)
        *(uint4 *)(out + first) = *(const uint4 *)(x + first);
    else
        for (i64 k = first; k < first + 16 && k < bytes; ++k) out[k] = x[k];
}

// Every element = the one whose bytes, repeated to 8, are in value; 16 bytes a thread.
extern "C" __global__ void fill_bytes(void *to, u64 value, i64 bytes) {
    after_previous_launch();
    u8 *out = (u8 *)to;
    const i64 first = ((i64)blockIdx.x * THREADS + threadIdx.x) * 16;
    const u32 low = (u32)value, high = (u32)(value >> 32);
    if (aligned16(out) && first + 16 <= bytes)
        *(uint4 *)(out + first) = make_uint4(low, high, low, high);
    else
        for (i64 k = first; k < first + 16 && k < bytes; ++k) out[k] = (u8)(value >> (8 * (k % 8)));
}
