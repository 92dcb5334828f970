// The blocks of a launch. Included by emulation.h.
//
// Blocks that wait for each other run in turns: up to MOST_BLOCKS at a time, a new one for each that has ended, and another's turn may come
// wherever blocks meet (an atomic operation, a fence, `acquire`, a sleep) or a barrier is. How many, whose turn and in what order is drawn
// from the seed. Others see a block's plain stores from its fence on, or in half of the blocks before that, and at its end; a block
// sees what others wrote when it acquires or fences, until then memory as it was when the launch began. That is the least that the PTX memory
// model promises. So a missing fence, wait or barrier, and counters set back too early, give wrong values in some order or a launch without
// an end, which is an error. Not modelled: a store of the value that the block sees there already, which is none; and an acquire shows what
// all blocks have fenced, not only those that counted where it looks.
#pragma once

namespace emulation {
const unsigned MOST_BLOCKS = 8, MOST_POLLS = 2000, MOST_MEETINGS = 1u << 18;
const size_t CHUNK = 256;

struct Block {
    uint3 index;
    Thread* threads;
    char *stacks, *variables;  // its shared variables while another has its turn
    char *allocated, *dynamic;  // dynamic shared memory between two zones that must stay untouched
    char *view, *synced;  // the arrays as it sees them while another has its turn, and as they were when it last published or acquired
    unsigned ended;
    bool eager;
};
static Block pool[MOST_BLOCKS], *block;  // `block` has its turn
static unsigned meetings;                // since a block has ended

// What blocks write and read of each other: at `memory` as the block sees it whose turn it is, and in `published` what all may see.
struct Array {
    char* memory;
    size_t size, at;  // in published, initial and each block's view
};
static Array* arrays;
static unsigned array_count;
static char *published, *initial;

template <class F>
static void each_array(F f) {
    for (unsigned i = 0; i < array_count; i++) f(arrays[i].memory, arrays[i].at, arrays[i].size);
}
// f(what the block sees, what it saw when it last synchronised, what is published, bytes) for short pieces of all arrays.
template <class F>
static void each_piece(F f) {
    each_array([f](char* memory, size_t at, size_t size) {
        for (size_t i = 0; i < size; i += CHUNK)
            f(memory + i, block->synced + at + i, published + at + i, size - i < CHUNK ? size - i : CHUNK);
    });
}
// What the block has written all may see from now on.
static void publish() {
    each_piece([](char* own, char* synced, char* all, size_t n) {
        if (!memcmp(own, synced, n)) return;
        for (size_t i = 0; i < n; i++)
            if (own[i] != synced[i]) all[i] = synced[i] = own[i], polls = 0;
    });
}
// The block sees what is published, except where it has written itself.
static void refresh() {
    each_piece([](char* own, char* synced, char* all, size_t n) {
        if (!memcmp(synced, all, n)) return;
        for (size_t i = 0; i < n; i++)
            if (own[i] == synced[i]) own[i] = synced[i] = all[i];
    });
}

// In front of what other blocks see, or what a thread sees of them: theirs may come first.
static void meet(bool polling) {
    polls = polling ? polls + 1 : 0;
    if (polls > MOST_POLLS) fail("waits for what no block does that has begun: this launch would not end");
    if (++meetings > MOST_MEETINGS) fail("goes on and on, and no block ends");
    if (!array_count) return;
    met = true;
    swapcontext(&threads[current].context, &scheduler);
}
static void fence() {
    if (!array_count) return;
    meet(false);
    publish(), refresh();
}
template <class T>
static T acquire(const T* p) {
    meet(true);
    refresh();
    return *(const volatile T*)p;
}
// An atomic operation: what it writes all see at once, and nothing else that the block wrote.
template <class T, class F>
static T change(T* p, F changed) {
    char* own = (char*)p;
    Array* array = nullptr;
    for (unsigned i = 0; i < array_count; i++)
        if (own >= arrays[i].memory && own < arrays[i].memory + arrays[i].size) array = arrays + i;
    if (array) {
        meet(false);
        const size_t at = array->at + (own - array->memory);
        if (memcmp(own, block->synced + at, sizeof(T))) memcpy(published + at, own, sizeof(T));  // its own stores there come first
        memcpy(own, published + at, sizeof(T));
    }
    const T old = *p;
    *p = changed(old);
    if (array) {
        const size_t at = array->at + (own - array->memory);
        memcpy(published + at, own, sizeof(T)), memcpy(block->synced + at, own, sizeof(T));
    }
    return old;
}

static void turn_to(Block& other) {
    const size_t shared = __stop_emulated_shared - __start_emulated_shared;
    if (block == &other) return;
    if (block) {
        memcpy(block->variables, __start_emulated_shared, shared), block->ended = ended;
        each_array([](char* memory, size_t at, size_t size) { memcpy(block->view + at, memory, size); });
    }
    block = &other, threads = other.threads, dynamic_shared = other.dynamic, blockIdx = other.index, ended = other.ended;
    memcpy(__start_emulated_shared, other.variables, shared);
    each_array([](char* memory, size_t at, size_t size) { memcpy(memory, block->view + at, size); });
}

static void begin(uint64_t number, unsigned shared) {
    const unsigned n = (unsigned)number;
    blockIdx = block->index = {n % gridDim.x, n / gridDim.x % gridDim.y, n / gridDim.x / gridDim.y};
    memset(__start_emulated_shared, 0xff, __stop_emulated_shared - __start_emulated_shared);
    memset(block->dynamic, 0xff, shared + 128);
    begin_threads(block->stacks);
    each_array([](char* memory, size_t at, size_t size) { memcpy(memory, initial + at, size), memcpy(block->synced + at, memory, size); });
    block->eager = array_count && random_index(2);
    meetings = 0;
}

static bool end(unsigned shared) {
    publish();
    for (unsigned i = shared; i < shared + 128; i++)
        if ((unsigned char)block->dynamic[i] != 0xff)
            return snprintf(message, sizeof message, "wrote past its %u bytes of dynamic shared memory", shared), false;
    return true;
}

// Room for a block; false: there is none.
static bool make(Block& b, size_t view, unsigned shared) {
    if (!b.stacks) {
        void* memory = mmap(nullptr, STACK * MOST_THREADS, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        b.threads = (Thread*)calloc(MOST_THREADS, sizeof(Thread));
        b.variables = (char*)malloc(__stop_emulated_shared - __start_emulated_shared);
        if (memory == MAP_FAILED || !b.threads || !b.variables) return false;
        b.stacks = (char*)memory;
    }
    b.allocated = (char*)malloc(shared + 2 * 256), b.view = (char*)malloc(view + 1), b.synced = (char*)malloc(view + 1);
    b.dynamic = (char*)(((uintptr_t)b.allocated + 255) / 256 * 256);
    return b.allocated && b.view && b.synced;
}

// All blocks of the grid, the `running` of `rooms` at a time.
static bool run_blocks(unsigned running, unsigned shared) {
    const uint64_t blocks = (uint64_t)gridDim.x * gridDim.y * gridDim.z;
    uint64_t step = 1, begun = 0, next = random_index((unsigned)blocks);
    for (uint64_t prime : {7919ull, 104729ull, 1299709ull})
        if (blocks % prime) step = prime % blocks ? prime : 1;  // coprime to the count: every block once, out of order
    Block* rooms[MOST_BLOCKS];
    const auto begin_next = [&] { begin(next, shared), next = (next + step) % blocks, begun++; };
    for (unsigned i = 0; i < running; i++) turn_to(*(rooms[i] = pool + i)), begin_next();
    for (unsigned turn = 0; running > 0;) {
        if (running > 1 && (met || random_index(8) == 0)) {  // the first rooms' turn comes more often: some blocks are quick, some slow
            const unsigned one = random_index(running), other = random_index(running);
            turn = one < other ? one : other;
        }
        turn_to(*rooms[turn]);
        if (!run_threads()) return false;
        if (block->eager) publish();
        if (ended < count) continue;
        if (!end(shared)) return false;
        if (begun < blocks) begin_next();
        else rooms[turn] = rooms[--running], turn = 0;
    }
    return true;
}

// given: address and bytes of each of the n arrays; most: blocks that run at a time, where arrays are given.
static const char* launch(
    void (*kernel)(void*), void** values, const unsigned* extents, unsigned shared, uint64_t seed, const uint64_t* given, unsigned n,
    unsigned most) {
    gridDim = {extents[0], extents[1], extents[2]}, blockDim = {extents[3], extents[4], extents[5]};
    count = blockDim.x * blockDim.y * blockDim.z;
    body = kernel, body_argument = values, message[0] = 0, random_state = seed, block = nullptr, polls = 0;
    static char signal_stack[16 << 10];
    stack_t own = {}, former_stack;
    own.ss_sp = signal_stack, own.ss_size = sizeof signal_stack;
    sigaltstack(&own, &former_stack);
    struct sigaction action = {}, former[2];
    action.sa_sigaction = stray, action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, &former[0]), sigaction(SIGBUS, &action, &former[1]);
    const uint64_t blocks = (uint64_t)gridDim.x * gridDim.y * gridDim.z;
    if (most > MOST_BLOCKS) most = MOST_BLOCKS;
    if (most > blocks) most = (unsigned)blocks;
    const unsigned running = n ? 1 + random_index(most) : 1;
    size_t size = 0;
    arrays = (Array*)calloc(n + 1, sizeof(Array)), array_count = n;
    for (unsigned i = 0; i < n; size += arrays[i++].size) arrays[i] = {(char*)given[2 * i], given[2 * i + 1], size};
    published = (char*)malloc(size + 1), initial = (char*)malloc(size + 1);
    each_array([](char* memory, size_t at, size_t bytes) { memcpy(initial + at, memory, bytes); });
    memcpy(published, initial, size);
    bool room = true;
    for (unsigned i = 0; i < running; i++) room &= make(pool[i], size, shared);
    const bool good = room && run_blocks(running, shared);
    each_array([](char* memory, size_t at, size_t bytes) { memcpy(memory, published + at, bytes); });
    for (unsigned i = 0; i < running; i++) free(pool[i].allocated), free(pool[i].view), free(pool[i].synced);
    free(arrays), free(published), free(initial), array_count = 0;
    sigaction(SIGSEGV, &former[0], nullptr), sigaction(SIGBUS, &former[1], nullptr);
    sigaltstack(&former_stack, nullptr);
    return good ? nullptr : room ? message : "no memory for the emulated threads";
}
}  // namespace emulation
