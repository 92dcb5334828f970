// The counters of the step: what a recorded step reads on the device instead of numbers of the host.

// lr[0] = rates[min(counter, count − 1)]. One thread.
extern "C" __global__ void look_up_rate(float *lr, const float *rates, const i64 *counter, i64 count) {
    lr[0] = rates[min(counter[0], count - 1)];
}

// counter += 1. One thread.
extern "C" __global__ void advance_counter(i64 *counter) { counter[0] += 1; }
