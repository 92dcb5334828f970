// Everything that Python may do to the pool at once. Prints the number of loops that were right.
//   pool_stress LOOPS FORKS: no forks under ThreadSanitizer and qemu-user, which cannot follow a forked process that starts threads.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <thread>
#include <vector>

#include "pool.h"

EXPORT void set_threads(int n);
EXPORT int take_error();

namespace {

std::atomic<long> loops{0};

void fail(const char* what) {
    fprintf(stderr, "pool_stress: %s\n", what);
    _exit(1);
}

// Sums that are right only if each piece ran once, and if what it wrote is seen here.
void one_loop(Z n, Z inner) {
    std::vector<Z> out(n * inner);  // not atomic: the pool alone must order these
    Z offset = n;
    parallel(n, [&](Z i) {
        parallel(inner, [&](Z j) { out[i * inner + j] += offset + i * inner + j; });
    });
    for (Z k = 0; k < n * inner; k++)
        if (out[k] != n + k) fail("a piece ran not once, or its result is not seen");
    loops++;
}

void no_memory(Z n) {
    parallel(n, [&](Z i) {
        parallel(2, [&](Z j) {
            if (i == n / 2 && j) throw std::bad_alloc();
        });
    });
    if (!take_error()) fail("a piece without memory was not reported");
    if (take_error()) fail("a report was given twice");
    loops++;
}

void many_loops(unsigned seed, int count) {
    for (int k = 0; k < count; k++) {
        seed = seed * 1664525u + 1013904223u;
        const unsigned r = seed >> 16;
        one_loop(1 + r % 13, 1 + r % 3);
        if (r % 7 == 0) no_memory(1 + r % 5);
        if (take_error()) fail("a failure of another thread was reported");
        if (r % 11 == 0) std::this_thread::sleep_for(std::chrono::microseconds(r % 300));  // about as long as workers spin
    }
}

void forked(int count) {
    const pid_t child = fork();
    if (child < 0) fail("cannot fork");
    if (child == 0) {
        alarm(50);
        many_loops(count, count);
        set_threads(3);
        many_loops(count + 1, count);
        _exit(0);
    }
    int status = 0;
    if (waitpid(child, &status, 0) != child || status != 0) fail("a forked process did not finish its loops");
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 3) return fprintf(stderr, "usage: pool_stress LOOPS FORKS\n"), 2;
    const int count = atoi(argv[1]), forks = atoi(argv[2]);
    alarm(100);  // a hang is a failure
    for (const int threads : {1, 2, 5, 16}) {
        set_threads(threads);
        if (thread_count() != threads) fail("set_threads did not");
        many_loops(threads, count);
    }
    std::atomic<bool> stop{false};
    std::vector<std::thread> python;
    for (unsigned t = 0; t < 3; t++) python.emplace_back([=] { many_loops(t, count); });
    python.emplace_back([&] {
        for (int k = 0; !stop; k++) {
            set_threads(1 + k % 4);
            std::this_thread::sleep_for(std::chrono::microseconds(200));
        }
    });
    for (int k = 0; k < forks; k++) forked(count / 20);  // while loops run, and while threads change
    for (int t = 0; t < 3; t++) python[t].join();
    stop = true;
    python[3].join();
    set_threads(4);
    one_loop(100, 1);
    printf("%ld loops\n", loops.load());
}
