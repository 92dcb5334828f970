// Precedes the text of every CUDA C file: element types, their conversions and vector loads. NVRTC and g++ compile it.
//
// act_t is the type of activations, errors and matrix operands: float, or bf16 under -DACT_BF16. Arithmetic is always in float.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef long long i64;
typedef unsigned long long u64;

// bfloat16 as storage: the upper half of a float. Not the toolkit's type: NVRTC without a toolkit does not have its header.
struct bf16 {
    u16 bits;
};

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(bf16 x) { return __uint_as_float((u32)x.bits << 16); }

// Round to nearest, ties to even; NaN stays NaN.
__device__ __forceinline__ bf16 round_bf16(float x) {
    bf16 out;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(out.bits) : "f"(x));
#else
    u32 bits = __float_as_uint(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) out.bits = 0x7fff;
    else out.bits = (u16)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
#endif
    return out;
}

__device__ __forceinline__ void from_float(float& out, float x) { out = x; }
__device__ __forceinline__ void from_float(bf16& out, float x) { out = round_bf16(x); }

#ifdef ACT_BF16
typedef bf16 act_t;
__device__ __forceinline__ act_t to_act(float x) { return round_bf16(x); }
#else
typedef float act_t;
__device__ __forceinline__ act_t to_act(float x) { return x; }
#endif

// The first statement of every kernel. Where the launch before is still running (programmatic dependent launch, sm_90 and later; PTX ISA,
// "griddepcontrol"), it waits for its end, and for what it wrote; the next launch may take the room that this one leaves from now on.
__device__ __forceinline__ void after_previous_launch() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;");
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// The compiler cannot know that pointers from a list are to global memory, whose loads and stores are quicker than generic ones. A null
// pointer is not: it may be said of a pointer only where that is used. On the host the pointer is used, so that a null one shows.
#ifdef __CUDA_ARCH__
#define ASSUME_GLOBAL(p) __builtin_assume(__isGlobal(p))
#else
#define ASSUME_GLOBAL(p) (void)*(const volatile u8 *)(p)
#endif

// Eight (four) consecutive elements: 16 bytes a load for bf16, two of 16 for float. p must be aligned to 16 bytes (load4 of bf16: 8).
__device__ __forceinline__ void load8(float* v, const float* p) {
    float4 a = *(const float4*)p, b = *(const float4*)(p + 4);
    v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w, v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
}
__device__ __forceinline__ void unpack2(float* v, u32 pair) {
    v[0] = __uint_as_float(pair << 16), v[1] = __uint_as_float(pair & 0xffff0000u);
}
__device__ __forceinline__ u32 pack2(const float* v) { return (u32)round_bf16(v[0]).bits | ((u32)round_bf16(v[1]).bits << 16); }
__device__ __forceinline__ void load8(float* v, const bf16* p) {
    uint4 a = *(const uint4*)p;
    unpack2(v, a.x), unpack2(v + 2, a.y), unpack2(v + 4, a.z), unpack2(v + 6, a.w);
}
__device__ __forceinline__ void store8(float* p, const float* v) {
    *(float4*)p = make_float4(v[0], v[1], v[2], v[3]);
    *(float4*)(p + 4) = make_float4(v[4], v[5], v[6], v[7]);
}
__device__ __forceinline__ void store8(bf16* p, const float* v) {
    *(uint4*)p = make_uint4(pack2(v), pack2(v + 2), pack2(v + 4), pack2(v + 6));
}
__device__ __forceinline__ void load4(float* v, const float* p) {
    float4 a = *(const float4*)p;
    v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w;
}
__device__ __forceinline__ void load4(float* v, const bf16* p) {
    uint2 a = *(const uint2*)p;
    unpack2(v, a.x), unpack2(v + 2, a.y);
}
__device__ __forceinline__ void store4(float* p, const float* v) { *(float4*)p = make_float4(v[0], v[1], v[2], v[3]); }
__device__ __forceinline__ void store4(bf16* p, const float* v) { *(uint2*)p = make_uint2(pack2(v), pack2(v + 2)); }

// The sum over a warp, the same bits in every lane. All 32 lanes call it.
template <class T>
__device__ __forceinline__ T warp_sum(T x) {
    for (int lanes = 16; lanes > 0; lanes /= 2) x += __shfl_xor_sync(0xffffffffu, x, lanes);
    return x;
}

// The sum over a one-dimensional block of whole warps, in every thread, always in the same order. scratch: 32 values of shared memory.
template <class T>
__device__ __forceinline__ T block_sum(T x, T* scratch) {
    int warps = blockDim.x / 32;
    x = warp_sum(x);
    __syncthreads();  // the previous result in scratch has been read
    if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = x;
    __syncthreads();
    T sum = scratch[0];
    for (int warp = 1; warp < warps; warp++) sum += scratch[warp];
    return sum;
}

// p[0]; what the block that counted there had written behind its fence is seen from now on (PTX ISA, "memory consistency model").
__device__ __forceinline__ u32 acquire(const u32* p) {
#ifdef __CUDA_ARCH__
    u32 value;
    asm volatile("ld.acquire.gpu.u32 %0, [%1];" : "=r"(value) : "l"(p) : "memory");
    return value;
#else
    return *(const volatile u32*)p;
#endif
}

// What all blocks of a launch need, made by those of them that come first: work(part) for every part below `parts`, each by one whole
// block, then every block waits until all are done. No block waits for one that has not begun: a part belongs to a block that is running.
// What a part writes does not depend on which block does it. counters: three integers that are 0 between launches (`Device.counters`):
// parts begun, parts done, blocks that need them no more, of which the last sets all three back. A block that comes when all is done
// waits for one load.
template <class Work>
__device__ __forceinline__ void first_of_all(u32* counters, int parts, Work work) {
    __shared__ u32 part;
    const bool leader = threadIdx.x == 0;
    u32 done = 0;
    while (true) {
        if (leader) {
            done = acquire(counters + 1);
            part = done < parts ? atomicAdd(counters, 1u) : parts;
        }
        __syncthreads();
        if (part >= parts) break;
        work((int)part);
        __syncthreads();  // the whole block has written its part, and read which it was
        if (leader) {
            __threadfence();  // others see what was written before they see that it was
            atomicAdd(counters + 1, 1u);
        }
    }
    while (leader && done < parts) {
        __nanosleep(40);
        done = acquire(counters + 1);
    }
    __syncthreads();
    if (leader && atomicAdd(counters + 2, 1u) == gridDim.x * gridDim.y * gridDim.z - 1) counters[0] = counters[1] = counters[2] = 0;
}

// In every thread of a block whether it is the last of its launch to come here: it then sees what all of them wrote before. counters as of
// `first_of_all`.
__device__ __forceinline__ bool last_of_all(u32* counters) {
    __shared__ bool last;
    __syncthreads();  // the whole block has written
    if (threadIdx.x == 0) {
        __threadfence();  // what was written is seen before the count is
        last = atomicAdd(counters, 1u) == gridDim.x * gridDim.y * gridDim.z - 1;
        if (last) counters[0] = 0;
        __threadfence();
    }
    __syncthreads();
    return last;
}

// out[0] = factor · Σ own over all threads of all blocks, always in the same order, by the last block. partial: a number for each block of a
// grid of one axis; scratch: 32 of shared memory.
__device__ __forceinline__ void sum_over_blocks(double* out, double factor, double own, double* partial, u32* counters, double* scratch) {
    own = block_sum(own, scratch);
    if (threadIdx.x == 0) partial[blockIdx.x] = own;
    if (!last_of_all(counters)) return;
    double sum = 0.0;
    for (u32 i = threadIdx.x; i < gridDim.x; i += blockDim.x) sum += partial[i];
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) out[0] = factor * sum;
}
