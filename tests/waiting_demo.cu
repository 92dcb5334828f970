// CUDA C for tests/test_cuda_blocks.py: blocks that wait for each other. Every thread writes what others read, and reads what others wrote.

// squares = x² [rows, n threads], totals[column, row] = squares[row, (column + row) mod n], out[block, thread] = Σ totals, and once more every
// n-th from the thread's own on.
extern "C" __global__ void shares(int *out, int *totals, int *squares, const int *x, int rows, u32 *counters) {
    const int n = blockDim.x, thread = threadIdx.x;
    first_of_all(counters + 3, rows, [=](int row) { squares[row * n + thread] = x[row * n + thread] * x[row * n + thread]; });
    first_of_all(counters, n, [=](int column) {
        if (thread < rows) totals[column * rows + thread] = squares[thread * n + (column + thread) % n];
    });
    const int block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    int sum = 0;
    for (int i = 0; i < n * rows; i++) sum += totals[i] * (i % n == thread ? 2 : 1);
    out[block * n + thread] = sum;
}

// out[thread] += Σ over blocks of own[block, n − 1 − thread], by the last block; own = x.
extern "C" __global__ void last_adds(int *out, int *own, const int *x, u32 *counters) {
    const int n = blockDim.x, blocks = gridDim.x * gridDim.y * gridDim.z;
    const int block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    own[block * n + threadIdx.x] = x[block * n + threadIdx.x];
    if (!last_of_all(counters)) return;
    int sum = 0;
    for (int i = 0; i < blocks; i++) sum += own[i * n + n - 1 - threadIdx.x];
    out[threadIdx.x] += sum;
}

// Block 0 needs what the others do: right only where all run at a time.
extern "C" __global__ void needs_all(int *out, u32 *counters) {
    __syncthreads();
    if (threadIdx.x == 0) {
        if (blockIdx.x > 0) atomicAdd(counters, 1u);
        while (blockIdx.x == 0 && acquire(counters) < gridDim.x - 1) __nanosleep(40);
        if (blockIdx.x == 0) counters[0] = 0;
    }
    __syncthreads();
    out[blockIdx.x * blockDim.x + threadIdx.x] = 1;
}
