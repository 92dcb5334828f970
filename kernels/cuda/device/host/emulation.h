// CUDA C on the host, for tests: each thread of a block is a fiber, run in shuffled order from one barrier to the next. Shared memory
// holds NaN bytes when a block starts; blocks run in shuffled order, one after the other, or in turns where they wait for each other
// (blocks.h). Found this way: a barrier that not all threads reach, threads that depend on an order, reads of unwritten memory, an index
// outside a fixed array, a misaligned vector. Not found: races between barriers that every tried order survives.
#pragma once
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __constant__ static const
#define __shared__ static __attribute__((section("emulated_shared")))

struct uint3 { unsigned x, y, z; };
struct dim3 { unsigned x, y, z; };
#define VECTORS(T, name, bytes)                                        \
    struct alignas(2 * bytes) name##2 { T x, y; };                     \
    struct alignas(4 * bytes > 16 ? 16 : 4 * bytes) name##4 { T x, y, z, w; }; \
    static inline name##2 make_##name##2(T x, T y) { return {x, y}; }  \
    static inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
VECTORS(float, float, 4)
VECTORS(int, int, 4)
VECTORS(unsigned, uint, 4)
VECTORS(unsigned char, uchar, 1)
VECTORS(unsigned short, ushort, 2)
VECTORS(double, double, 8)

static uint3 threadIdx, blockIdx;
static dim3 blockDim, gridDim;
static const int warpSize = 32;

namespace emulation {
enum State { READY, BARRIER, WARP, DONE };
const size_t STACK = 256 << 10, SLOT = 16;
const unsigned MOST_THREADS = 1024;

struct Thread {
    ucontext_t context;
    uint3 index;
    State state;
    int line;          // where it waits
    unsigned mask;     // lanes it waits for
    unsigned arrived;  // those of them that came
    char given[SLOT], received[32][SLOT];
};
__shared__ __attribute__((used)) char first_shared[1];  // the section exists in every file
extern "C" char __start_emulated_shared[] __attribute__((visibility("hidden")));
extern "C" char __stop_emulated_shared[] __attribute__((visibility("hidden")));

static Thread* threads;  // of the block whose turn it is
static ucontext_t scheduler;
static unsigned count, current, ended;
static void (*body)(void*);
static void* body_argument;
static char* dynamic_shared;
static char message[512];
static uint64_t random_state;
static bool met;        // a thread has come to where blocks meet
static unsigned polls;  // looks at what other blocks wrote since anything else was done

static unsigned random_index(unsigned n) {
    random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
    return (unsigned)((random_state >> 33) % n);
}

[[noreturn]] static void fail(const char* text) {
    if (!message[0])
        snprintf(message, sizeof message, "%s (block %u,%u,%u thread %u,%u,%u)", text, blockIdx.x, blockIdx.y, blockIdx.z,
                 threadIdx.x, threadIdx.y, threadIdx.z);
    setcontext(&scheduler);
    abort();
}

static void fiber() {
    body(body_argument);
    threads[current].state = DONE, ended++, polls = 0;
    setcontext(&scheduler);
}

static void wait(State state, int line, unsigned mask) {
    Thread& thread = threads[current];
    thread.state = state, thread.line = line, thread.mask = mask, polls = 0;
    swapcontext(&thread.context, &scheduler);
}

// The lanes of a warp whose thread exists and has not returned.
static unsigned alive(unsigned warp) {
    unsigned lanes = 0;
    for (unsigned i = 32 * warp; i < 32 * warp + 32 && i < count; i++)
        if (threads[i].state != DONE) lanes |= 1u << i % 32;
    return lanes;
}

static bool warp_arrived(unsigned i) {
    Thread& mine = threads[i];
    unsigned wanted = mine.arrived = mine.mask & alive(i / 32), first = i / 32 * 32;
    for (unsigned lane = 0; lane < 32; lane++) {
        if (!(wanted >> lane & 1)) continue;
        Thread& other = threads[first + lane];
        if (other.state != WARP || other.line != mine.line || other.mask != mine.mask) return false;
    }
    return true;
}

// Threads that nothing can wake: say where they are.
static void explain() {
    int done = 0, lines[2] = {0, 0}, waiting[2] = {0, 0};
    bool warp = false;
    for (unsigned i = 0; i < count; i++) {
        Thread& thread = threads[i];
        if (thread.state == DONE) { done++; continue; }
        warp |= thread.state == WARP;
        int k = waiting[0] == 0 || lines[0] == thread.line ? 0 : 1;
        lines[k] = thread.line, waiting[k]++;
    }
    int n = snprintf(message, sizeof message, "divergent %s: of %u threads in block %u,%u,%u %d wait at line %d",
                     warp ? "warp operation or barrier" : "__syncthreads()", count, blockIdx.x, blockIdx.y, blockIdx.z, waiting[0], lines[0]);
    if (waiting[1]) n += snprintf(message + n, sizeof message - n, ", %d at line %d", waiting[1], lines[1]);
    if (done) snprintf(message + n, sizeof message - n, ", %d have returned", done);
}

// Makes every thread whose barrier or warp operation is complete ready; false where none is.
static bool wake() {
    bool woken[MOST_THREADS] = {}, any = false, all = true;
    for (unsigned i = 0; i < count; i++) {
        all &= threads[i].state == BARRIER && threads[i].line == threads[0].line;
        if (threads[i].state == WARP) any |= woken[i] = warp_arrived(i);
    }
    for (unsigned i = 0; i < count; i++) {
        if (!all && !woken[i]) continue;
        threads[i].state = READY;
        for (unsigned lane = 0; woken[i] && lane < 32; lane++)
            if (threads[i].arrived >> lane & 1) memcpy(threads[i].received[lane], threads[i / 32 * 32 + lane].given, SLOT);
    }
    return all || any;
}

static void begin_threads(char* stacks) {
    for (unsigned i = 0; i < count; i++) {
        Thread& thread = threads[i];
        thread.index = {i % blockDim.x, i / blockDim.x % blockDim.y, i / (blockDim.x * blockDim.y)};
        thread.state = READY;
        getcontext(&thread.context);
        thread.context.uc_stack.ss_sp = stacks + i * STACK, thread.context.uc_stack.ss_size = STACK, thread.context.uc_link = nullptr;
        makecontext(&thread.context, fiber, 0);
    }
    ended = 0;
}

// Runs each thread that is ready up to its next barrier, in shuffled order, or until one of them comes to where blocks meet. False: nothing
// can wake the block's threads.
static bool run_threads() {
    static unsigned order[MOST_THREADS];
    unsigned ready = 0;
    for (unsigned i = 0; i < count; i++)
        if (threads[i].state == READY) order[ready++] = i;
    met = false;
    if (!ready || polls) {  // a thread that polls keeps no other from its barrier
        if (wake()) return true;
        if (!ready) return explain(), false;
    }
    for (unsigned left = ready; left > 0 && !met; left--) {
        std::swap(order[left - 1], order[random_index(left)]);
        current = order[left - 1], threadIdx = threads[current].index;
        swapcontext(&scheduler, &threads[current].context);
        if (message[0]) return false;
    }
    return true;
}

// One exchange between the lanes of a warp: all give a value, each reads that of `lane`; values of missing lanes are NaN bytes.
template <class T>
static T exchange(unsigned mask, T value, int lane, int line) {
    static_assert(sizeof(T) <= SLOT, "a warp exchanges at most 16 bytes");
    Thread& mine = threads[current];
    if (!(mask >> current % 32 & 1)) fail("warp operation: the mask leaves out the calling lane");
    memcpy(mine.given, &value, sizeof(T));
    wait(WARP, line, mask);
    T result;
    memset(&result, 0xff, sizeof(T));
    if (mine.arrived >> lane & 1) memcpy(&result, mine.received[lane], sizeof(T));
    return result;
}

template <class F>
static unsigned ballot(unsigned mask, F chosen, int line) {
    unsigned all = 0;
    exchange(mask, chosen ? 1u : 0u, current % 32, line);
    Thread& mine = threads[current];
    for (unsigned lane = 0; lane < 32; lane++)
        if (mine.arrived >> lane & 1) all |= (unsigned)mine.received[lane][0] << lane;
    return all;
}

// Element types as NumPy's kind and size: what an argument must be. "x": any.
template <class T> struct Code { static constexpr const char* text = "x"; };
#define CODE(T, code) template <> struct Code<T> { static constexpr const char* text = code; };
CODE(float, "f4") CODE(double, "f8") CODE(int, "i4") CODE(unsigned, "u4") CODE(long, "i8") CODE(long long, "i8") CODE(unsigned long, "u8")
CODE(unsigned long long, "u8") CODE(unsigned char, "u1") CODE(signed char, "i1") CODE(unsigned short, "u2") CODE(short, "i2")
CODE(bool, "b1")

template <class A>
static void describe(char*& out) {
    using Element = typename std::remove_cv<typename std::remove_pointer<A>::type>::type;
    out += sprintf(out, "%s%s,", std::is_pointer<A>::value ? "*" : "", Code<Element>::text);
}
template <class... A>
static void describe_all(void (*)(A...), char* out) {
    *out = 0;
    int unused[] = {0, (describe<A>(out), 0)...};
    (void)unused;
}
template <class... A, size_t... I>
static void call(void (*f)(A...), void** values, std::index_sequence<I...>) { f(*(typename std::remove_cv<A>::type*)values[I]...); }
template <class... A>
static void call(void (*f)(A...), void** values) { call(f, values, std::index_sequence_for<A...>()); }

static void stray(int, siginfo_t* info, void*) {
    char text[80];
    snprintf(text, sizeof text, "touched address %p, far outside every array", info->si_addr);
    sigset_t signals;
    sigemptyset(&signals), sigaddset(&signals, SIGSEGV), sigaddset(&signals, SIGBUS);
    sigprocmask(SIG_UNBLOCK, &signals, nullptr);
    fail(text);
}
}  // namespace emulation

// What g++ -fsanitize=bounds,alignment calls where a kernel goes wrong.
struct SanitizedLocation { const char* file; unsigned line, column; };
extern "C" __attribute__((visibility("hidden"), used)) void __ubsan_handle_out_of_bounds(void* data, void* index) {
    char text[160];
    snprintf(text, sizeof text, "index %ld outside a fixed array at line %u", (long)index, ((SanitizedLocation*)data)->line);
    emulation::fail(text);
}
extern "C" __attribute__((visibility("hidden"), used)) void __ubsan_handle_type_mismatch_v1(void* data, void* pointer) {
    char text[160];
    snprintf(text, sizeof text, "misaligned address %p at line %u", pointer, ((SanitizedLocation*)data)->line);
    emulation::fail(text);
}
#include "blocks.h"
#include "device_functions.h"
