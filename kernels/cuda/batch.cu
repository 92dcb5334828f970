// What a recorded step reads on the device instead of numbers of the host: counter, learning rate, and the attributes of its images.

// lr[0] = rates[min(counter, count − 1)]. One thread.
extern "C" __global__ void look_up_rate(float *lr, const float *rates, const i64 *counter, i64 count) {
    after_previous_launch();
    lr[0] = rates[min(counter[0], count - 1)];
}

// counter += 1. One thread.
extern "C" __global__ void advance_counter(i64 *counter) {
    after_previous_launch();
    counter[0] += 1;
}

// out[i] = source[order[(step mod per_epoch) · n + i]], step = counter[0]: rows of `columns` values; NaN where there is no such row.
// The indices of gather_batch (random.cu). One element a thread.
extern "C" __global__ void gather_rows(
    float *out, const float *source, const int *order, const i64 *counter, i64 per_epoch, i64 count, i64 n, i64 columns) {
    after_previous_launch();
    const i64 at = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= n * columns) return;
    const i64 index = order[counter[0] % per_epoch * n + at / columns];
    out[at] = index >= 0 && index < count ? source[index * columns + at % columns] : __uint_as_float(0x7fffffffu);
}
