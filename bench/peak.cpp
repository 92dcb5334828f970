// The most multiply-adds a second that the vector units of some cores do: sums in registers that do not wait for each other, more of
// them than one is cycles long, and nothing else. Where a processor has no multiply-add of its own, a product and a sum.
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "vectors.h"

constexpr int SUMS = REGISTERS == 32 ? 24 : 12;

// Operations a second of `threads` threads at once, two for each multiply-add of a lane; each does `turns` turns of SUMS vectors.
EXPORT double multiply_adds(int threads, Z turns, float factor, float term) {
    typedef std::chrono::steady_clock Clock;
    std::atomic<int> waiting{threads};
    std::vector<Clock::time_point> begin(threads), end(threads);
    std::vector<float> kept(threads);  // a result that is used: the work is not left out
    auto work = [&](int id) {
        V sums[SUMS];
        const V a = splat(factor), b = splat(term);
        UNROLL for (int i = 0; i < SUMS; i++) sums[i] = splat((float)i);
        for (waiting--; waiting > 0;) std::this_thread::yield();
        begin[id] = Clock::now();
        for (Z t = 0; t < turns; t++) UNROLL for (int i = 0; i < SUMS; i++) sums[i] = sums[i] * a + b;
        UNROLL for (int i = 1; i < SUMS; i++) sums[0] += sums[i];
        for (int lane = 0; lane < W; lane++) kept[id] += sums[0][lane];
        end[id] = Clock::now();
    };
    std::vector<std::thread> others;
    for (int id = 1; id < threads; id++) others.emplace_back(work, id);
    work(0);
    for (std::thread& other : others) other.join();
    const auto first = *std::min_element(begin.begin(), begin.end()), last = *std::max_element(end.begin(), end.end());
    return kept[0] == kept[0] ? 2.0 * W * SUMS * turns * threads / std::chrono::duration<double>(last - first).count() : 0;
}
