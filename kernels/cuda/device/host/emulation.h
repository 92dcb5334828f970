// CUDA C on the host, for tests: each thread of a block is a fiber, run in shuffled order from one barrier to the next. Shared memory
// holds NaN bytes when a block starts; blocks run in shuffled order, one after the other. Found this way: a barrier that not all
// threads reach, threads that depend on an order, reads of unwritten memory, an index outside a fixed array, a misaligned vector, and
// where blocks wait for each other a missing fence or a wait that need not end. Not found: races between barriers that every tried order
// survives.
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

static Thread* threads;
static char* stacks;
static ucontext_t scheduler;
static unsigned count, current;
static void (*body)(void*);
static void* body_argument;
static char* dynamic_shared;
static char message[512];
static uint64_t random_state;

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
    threads[current].state = DONE;
    setcontext(&scheduler);
}

static void wait(State state, int line, unsigned mask) {
    Thread& thread = threads[current];
    thread.state = state, thread.line = line, thread.mask = mask;
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

static bool run_block() {
    memset(__start_emulated_shared, 0xff, __stop_emulated_shared - __start_emulated_shared);
    for (unsigned i = 0; i < count; i++) {
        Thread& thread = threads[i];
        thread.index = {i % blockDim.x, i / blockDim.x % blockDim.y, i / (blockDim.x * blockDim.y)};
        thread.state = READY;
        getcontext(&thread.context);
        thread.context.uc_stack.ss_sp = stacks + i * STACK, thread.context.uc_stack.ss_size = STACK, thread.context.uc_link = nullptr;
        makecontext(&thread.context, fiber, 0);
    }
    static unsigned order[MOST_THREADS];
    for (unsigned done = 0; done < count;) {
        unsigned ready = 0;
        for (unsigned i = 0; i < count; i++)
            if (threads[i].state == READY) order[ready++] = i;
        if (!ready) {
            if (!wake()) return explain(), false;
            continue;
        }
        for (unsigned left = ready; left > 0; left--) {
            std::swap(order[left - 1], order[random_index(left)]);
            current = order[left - 1], threadIdx = threads[current].index;
            swapcontext(&scheduler, &threads[current].context);
            if (message[0]) return false;
        }
        done = 0;
        for (unsigned i = 0; i < count; i++) done += threads[i].state == DONE;
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

// Arrays of a launch whose blocks wait for each other. What a block writes is in `published`, which the next block begins with, from its
// __threadfence() on. What it writes later, or has not fenced when it counts (an atomic operation), is `late`: only the next launch sees it.
struct Array {
    char *memory, *published, *late, *is_late;
    size_t size;
};
static Array* arrays;
static unsigned array_count;

static void each_array(void (*f)(Array&)) {
    for (unsigned i = 0; i < array_count; i++) f(arrays[i]);
}
static void fence() {
    each_array([](Array& a) {
        for (size_t i = 0; i < a.size; i++)
            if (a.memory[i] != a.published[i] && !(a.is_late[i] && a.memory[i] == a.late[i])) a.published[i] = a.memory[i], a.is_late[i] = 0;
    });
}
static void be_late(Array& a) {
    for (size_t i = 0; i < a.size; i++)
        if (a.memory[i] != a.published[i]) a.late[i] = a.memory[i], a.is_late[i] = 1;
}
static void hide(Array& a) {  // behind a block
    be_late(a);
    memcpy(a.memory, a.published, a.size);
}
static void reveal(Array& a) {  // behind the last one
    for (size_t i = 0; i < a.size; i++)
        if (a.is_late[i]) a.memory[i] = a.late[i];
    free(a.published), free(a.late), free(a.is_late);
}
static void share(const uint64_t* given, unsigned n) {
    arrays = (Array*)calloc(n + 1, sizeof(Array)), array_count = n;
    for (unsigned i = 0; i < n; i++) {
        const size_t size = given[2 * i + 1];
        arrays[i] = {(char*)given[2 * i], (char*)malloc(size + 1), (char*)malloc(size + 1), (char*)calloc(size + 1, 1), size};
        memcpy(arrays[i].published, arrays[i].memory, size);
    }
}
// An atomic operation: what it wrote all see at once.
template <class T>
static T changed(T* p, T value) {
    const T old = *p;
    each_array(be_late);
    *p = value;
    for (unsigned i = 0; i < array_count; i++)
        if ((char*)p >= arrays[i].memory && (char*)p < arrays[i].memory + arrays[i].size)
            memcpy(arrays[i].published + ((char*)p - arrays[i].memory), p, sizeof(T));
    return old;
}

static const char* launch(
    void (*kernel)(void*), void** values, const unsigned* extents, unsigned shared, uint64_t seed, const uint64_t* given, unsigned n) {
    gridDim = {extents[0], extents[1], extents[2]}, blockDim = {extents[3], extents[4], extents[5]};
    count = blockDim.x * blockDim.y * blockDim.z;
    body = kernel, body_argument = values, message[0] = 0, random_state = seed;
    if (!stacks) {
        void* memory = mmap(nullptr, STACK * MOST_THREADS, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        threads = (Thread*)calloc(MOST_THREADS, sizeof(Thread));
        if (memory == MAP_FAILED || !threads) return "no memory for the emulated threads";
        stacks = (char*)memory;
    }
    static char signal_stack[16 << 10];
    stack_t own = {}, former_stack;
    own.ss_sp = signal_stack, own.ss_size = sizeof signal_stack;
    sigaltstack(&own, &former_stack);
    struct sigaction action = {}, former[2];
    action.sa_sigaction = stray, action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, &former[0]), sigaction(SIGBUS, &action, &former[1]);
    char* raw = (char*)malloc(shared + 2 * 256);  // dynamic shared memory between two zones that must stay untouched
    dynamic_shared = (char*)(((uintptr_t)raw + 255) / 256 * 256);
    uint64_t blocks = (uint64_t)gridDim.x * gridDim.y * gridDim.z, step = 1, block = random_index((unsigned)blocks);
    for (uint64_t prime : {7919ull, 104729ull, 1299709ull})
        if (blocks % prime) step = prime % blocks ? prime : 1;  // coprime to the count: every block once, out of order
    bool good = true;
    share(given, n);
    for (uint64_t i = 0; i < blocks && good; i++, block = (block + step) % blocks) {
        blockIdx = {(unsigned)(block % gridDim.x), (unsigned)(block / gridDim.x % gridDim.y), (unsigned)(block / gridDim.x / gridDim.y)};
        memset(dynamic_shared, 0xff, shared + 128);
        good = run_block();
        each_array(hide);
        for (unsigned k = shared; good && k < shared + 128; k++)
            if ((unsigned char)dynamic_shared[k] != 0xff) {
                good = false;
                snprintf(message, sizeof message, "wrote past its %u bytes of dynamic shared memory", shared);
            }
    }
    each_array(reveal);
    free(arrays), array_count = 0;
    free(raw);
    sigaction(SIGSEGV, &former[0], nullptr), sigaction(SIGBUS, &former[1], nullptr);
    sigaltstack(&former_stack, nullptr);
    return good ? nullptr : message;
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
#include "device_functions.h"
