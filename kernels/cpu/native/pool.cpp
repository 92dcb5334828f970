// The threads of pool.h. Whoever waits spins for SPIN and then sleeps. The caller works too, and waits only for workers that are in its
// loop: one that wakes late finds the loop closed, and sleeps again. A worker enters without a lock: it counts itself in and then looks
// whether the loop is open; the caller closes the loop and then looks who is in. All atomics are sequentially consistent, so that in
// every such pair ("I write mine, then read yours") at least one side sees the other.
#include "pool.h"

#include <pthread.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace {

// Bridges the Python between two operations. Measured on two cores: a loop of 8 pieces of 5 µs takes 20.5 µs where the worker spins and 36
// where it sleeps, whatever the pause before; to wake it costs the caller 6 µs.
constexpr std::chrono::microseconds SPIN{50};

// Whether ready() became true within SPIN.
template <class F> bool spin(F ready) {
    const auto end = std::chrono::steady_clock::now() + SPIN;
    do {
        for (int i = 0; i < 16; i++) {
            if (ready()) return true;
#if defined(__x86_64__) || defined(__i386__)
            __builtin_ia32_pause();
#elif defined(__aarch64__)
            asm volatile("isb");  // waits a little; "yield" does nothing on most cores
#endif
        }
    } while (std::chrono::steady_clock::now() < end);
    return ready();
}

thread_local bool inside = false;  // this thread works in a loop
thread_local bool failed = false;  // this thread's call found no memory

class Pool {
    std::vector<std::thread> workers;
    void (*work)(void*, Z) = nullptr;  // this and the next two: written while nobody is in
    void* context = nullptr;
    Z count = 0;
    std::atomic<bool> open{false}, stop{false};
    std::atomic<int> asleep{0};
    std::mutex mutex;  // for sleeping
    std::condition_variable wake, done;
    alignas(64) std::atomic<uint64_t> loops{0};  // how many were opened: workers wait for a change
    alignas(64) std::atomic<int> in{0};          // workers in the loop
    alignas(64) std::atomic<Z> next{0};          // piece

    void drain() {
        guarded([&] {
            for (Z i; (i = next.fetch_add(1, std::memory_order_relaxed)) < count;) work(context, i);
        });
    }

    void serve() {
        inside = true;
        for (uint64_t seen = 0;;) {
            const auto called = [&] { return loops != seen; };
            if (!spin(called)) {
                std::unique_lock<std::mutex> lock(mutex);
                asleep++;
                wake.wait(lock, called);
                asleep--;
            }
            seen = loops;
            if (stop) return;
            in++;
            if (open) drain();
            if (--in == 0) {
                std::lock_guard<std::mutex> lock(mutex);
                done.notify_one();
            }
        }
    }

    void call_workers(Z wanted) {
        loops++;
        if (asleep == 0) return;
        {
            std::lock_guard<std::mutex> lock(mutex);
        }  // one that has counted itself asleep is so now
        if (wanted < asleep)
            for (Z i = 0; i < wanted; i++) wake.notify_one();
        else wake.notify_all();
    }

  public:
    std::mutex owner;  // held by the thread whose loop runs, and while threads change
    std::atomic<int> threads;
    std::atomic<bool> no_memory{false};  // in a piece

    explicit Pool(int n) : threads(n) {}

    void resize(int n) {
        stop = true;
        call_workers((Z)workers.size());
        for (auto& thread : workers) thread.join();
        workers.clear();
        stop = false;
        threads = n;
    }

    void run(Z n, void (*w)(void*, Z), void* c) {
        try {  // at the first loop, and the first one of a forked process
            while ((int)workers.size() + 1 < threads) workers.emplace_back([this] { serve(); });
        } catch (const std::exception&) {
            threads = (int)workers.size() + 1;  // the system gives no more
        }
        work = w, context = c, count = n;
        next = 0;
        open = true;
        call_workers(n - 1);
        drain();
        open = false;
        const auto left = [&] { return in == 0; };
        if (!spin(left)) {
            std::unique_lock<std::mutex> lock(mutex);
            done.wait(lock, left);
        }
    }
};

// Never destroyed, as the library is never unloaded: threads may wait in it until the process is gone.
Pool& pool = *new Pool(1);

// A forked process has none of the threads, and the old pool in whatever state: it gets a new one in its place.
const int registered = pthread_atfork(nullptr, nullptr, [] { new (&pool) Pool(pool.threads); });

}  // namespace

void note_no_memory() {
    if (inside) pool.no_memory = true;
    else failed = true;
}

void run_parallel(Z n, void (*work)(void*, Z), void* context) {
    const auto alone = [&] {
        for (Z i = 0; i < n; i++) work(context, i);
    };
    if (inside) return alone();  // what it throws is caught around the piece
    if (n < 2 || pool.threads < 2 || !pool.owner.try_lock()) return guarded(alone);
    inside = true;
    pool.run(n, work, context);
    inside = false;
    if (pool.no_memory.exchange(false)) note_no_memory();
    pool.owner.unlock();
}

int thread_count() { return pool.threads; }

EXPORT void set_threads(int n) {
    std::lock_guard<std::mutex> lock(pool.owner);
    if (n != pool.threads) pool.resize(n);
}

// Whether a call of this thread found no memory since the last question.
EXPORT int take_error() { return std::exchange(failed, false); }

EXPORT int vector_width() { return W; }
