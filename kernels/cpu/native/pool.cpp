// The threads of pool.h. A worker that waits spins for SPIN turns and then sleeps; the caller works too, and waits only for workers that
// have taken a piece: one that wakes late finds no job and sleeps again.
#include "pool.h"

#include <pthread.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

namespace {

#if defined(__x86_64__) || defined(__i386__)
inline void pause_briefly() { __builtin_ia32_pause(); }
#else
inline void pause_briefly() { asm volatile("yield"); }
#endif
constexpr int SPIN = 2000;  // turns of about 20 ns

class Pool {
    std::vector<std::thread> workers;
    std::mutex mutex;
    std::condition_variable wake, done;
    std::atomic<uint64_t> jobs{0};  // how many were started
    std::atomic<int> active{0};     // workers in the job
    std::atomic<Z> next{0};
    Z count = 0;
    void (*work)(void*, Z) = nullptr;
    void* context = nullptr;
    bool open = false, stop = false;
    int sleeping = 0;

    void drain() {
        for (Z i; (i = next.fetch_add(1, std::memory_order_relaxed)) < count;) work(context, i);
    }
    void loop() {
        uint64_t seen = 0;
        for (;;) {
            for (int i = 0; i < SPIN && jobs.load(std::memory_order_acquire) == seen; i++) pause_briefly();
            {
                std::unique_lock<std::mutex> lock(mutex);
                sleeping++;
                wake.wait(lock, [&] { return stop || jobs.load(std::memory_order_relaxed) != seen; });
                sleeping--;
                if (stop) return;
                seen = jobs.load(std::memory_order_relaxed);
                if (!open) continue;
                active.fetch_add(1, std::memory_order_relaxed);
            }
            drain();
            if (active.fetch_sub(1, std::memory_order_acq_rel) == 1) {
                std::lock_guard<std::mutex> lock(mutex);
                done.notify_one();
            }
        }
    }

  public:
    std::mutex owner;  // held by the thread whose loop runs
    const int threads;

    explicit Pool(int n) : threads(n) {
        for (int i = 1; i < n; i++) workers.emplace_back([this] { loop(); });
    }
    ~Pool() {
        {
            std::lock_guard<std::mutex> lock(mutex);
            stop = true;
            jobs++;
        }
        wake.notify_all();
        for (auto& thread : workers) thread.join();
    }
    void run(Z n, void (*f)(void*, Z), void* c) {
        bool asleep;
        {
            std::lock_guard<std::mutex> lock(mutex);
            work = f, context = c, count = n, open = true;
            next.store(0, std::memory_order_relaxed);
            jobs.fetch_add(1, std::memory_order_release);
            asleep = sleeping > 0;
        }
        if (asleep) wake.notify_all();
        drain();
        {
            std::lock_guard<std::mutex> lock(mutex);
            open = false;
        }
        for (int i = 0; i < SPIN && active.load(std::memory_order_acquire); i++) pause_briefly();
        if (active.load(std::memory_order_acquire)) {
            std::unique_lock<std::mutex> lock(mutex);
            done.wait(lock, [&] { return !active.load(std::memory_order_acquire); });
        }
    }
};

std::atomic<Pool*> pool{nullptr};
std::mutex change;

void after_fork() {  // the child has none of the threads, and may have the mutexes in any state: leave the old pool be
    pool.store(nullptr);
    new (&change) std::mutex;
}
const int registered = pthread_atfork(nullptr, nullptr, after_fork);
thread_local bool inside = false;

}  // namespace

void run_parallel(Z n, void (*work)(void*, Z), void* context) {
    Pool* p = pool.load(std::memory_order_acquire);
    if (n < 2 || !p || p->threads < 2 || inside || !p->owner.try_lock()) {
        for (Z i = 0; i < n; i++) work(context, i);
        return;
    }
    inside = true;
    p->run(n, work, context);
    inside = false;
    p->owner.unlock();
}

int thread_count() {
    Pool* p = pool.load(std::memory_order_acquire);
    return p ? p->threads : 1;
}

EXPORT void set_threads(int n) {
    std::lock_guard<std::mutex> lock(change);
    Pool* old = pool.load();
    if (old && old->threads == n) return;
    pool.store(new Pool(n));
    delete old;  // no loop may be running: the binding sees to it
}

EXPORT int vector_width() { return W; }
