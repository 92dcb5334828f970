// CUDA C for tests/test_cuda_device.py: right and wrong kernels.

extern "C" __global__ void scale(act_t* __restrict__ y, const act_t* __restrict__ x, float factor, long long n) {
    i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = to_act(factor * to_float(x[i]));
}

extern "C" __global__ void round_all(bf16* y, const float* x, int n) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) y[i] = round_bf16(x[i]);
}

extern "C" __global__ void __launch_bounds__(128) total(float* sums, const float* x, int n) {
    __shared__ float part[32];
    float sum = 0.0f;
    for (int i = threadIdx.x; i < n; i += blockDim.x) sum += x[blockIdx.x * n + i];
    sum = block_sum(sum, part);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

extern "C" __global__ void place(int* out) {
    int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y, z = blockIdx.z * blockDim.z + threadIdx.z;
    int width = gridDim.x * blockDim.x, height = gridDim.y * blockDim.y;
    out[(z * height + y) * width + x] = x + 100 * y + 10000 * z;
}

template <class T>
__device__ void turned(T* out, const T* x) {
    __shared__ T tile[64];
    tile[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    out[threadIdx.x] = tile[63 - threadIdx.x];
}
extern "C" __global__ void turn_float(float* out, const float* x) { turned(out, x); }
extern "C" __global__ void turn_bf16(bf16* out, const bf16* x) { turned(out, x); }

extern "C" __global__ void turn_dynamic(float* out, const float* x) {
    extern __shared__ float tile[];
    tile[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    out[threadIdx.x] = tile[blockDim.x - 1 - threadIdx.x];
}

// Lanes of a half warp exchange among themselves, twice for the first half.
extern "C" __global__ void lanes(int* out) {
    int lane = threadIdx.x % 32, value = threadIdx.x;
    if (lane < 16) {
        value = __shfl_xor_sync(0x0000ffffu, value, 1);
        value = __shfl_xor_sync(0x0000ffffu, value, 2);
    }
    __syncwarp();
    value += 1000 * __shfl_down_sync(0xffffffffu, (int)threadIdx.x, 1);
    unsigned odd = __ballot_sync(0xffffffffu, lane % 2);
    out[threadIdx.x] = odd == 0xaaaaaaaau ? value : -1;
}

extern "C" __global__ void copy8(act_t* out, const act_t* x, int skip) {
    float v[8];
    load8(v, x + skip + 8 * threadIdx.x);
    store8(out + 8 * threadIdx.x, v);
}

// The process has a function of this name already.
extern "C" __global__ void PyErr_Clear(int* out) { out[threadIdx.x] = threadIdx.x; }

// ---- wrong ----

extern "C" __global__ void no_barrier(float* out, const float* x) {
    __shared__ float tile[64];
    tile[threadIdx.x] = x[threadIdx.x];
    out[threadIdx.x] = tile[63 - threadIdx.x];
}
template <class F>
__device__ void unsynchronised(float* out, F x) {
    __shared__ float tile[64];
    tile[threadIdx.x] = x(threadIdx.x);
    out[threadIdx.x] = tile[63 - threadIdx.x];
}
extern "C" __global__ void no_barrier_in_template(float* out, const float* x) {
    unsynchronised(out, [=](int i) { return x[i]; });
}
extern "C" __global__ void half_returns(float* out) {
    if (threadIdx.x < 10) return;
    __syncthreads();
    out[threadIdx.x] = 1.0f;
}
extern "C" __global__ void two_barriers(float* out) {
    if (threadIdx.x < 32) __syncthreads();
    else __syncthreads(), out[0] = 1.0f;
    if (threadIdx.x < 32)
        __syncthreads();
    else
        __syncthreads();
}
extern "C" __global__ void lane_left(float* out) {
    if (threadIdx.x != 3) out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1.0f, 1);
    __syncthreads();
}
extern "C" __global__ void outside_tile(float* out, int skip) {
    __shared__ float tile[64];
    tile[(int)threadIdx.x + skip] = 1.0f;
    out[threadIdx.x] = 0.0f;
}
extern "C" __global__ void outside_array(float* out, int skip) { out[(int)threadIdx.x + skip] = 1.0f; }
