// A parallel loop over n pieces on the library's threads. Pieces are taken in order by whichever thread is free, so nothing may depend
// on which thread ran which piece: each writes to places of its own.
#pragma once
#include "vectors.h"

// Calls work(context, i) for i in [0, n) and returns when all are done. A loop inside a loop, or beside one of another Python thread, runs
// on the calling thread alone. A piece may throw nothing but std::bad_alloc.
void run_parallel(Z n, void (*work)(void*, Z), void* context);
int thread_count();

// Calls f, for a function that takes memory outside a loop. Where f or a piece finds none, the call's result is not to be used and
// Python raises MemoryError.
void note_no_memory();
template <class F> inline void guarded(F f) {
    try {
        f();
    } catch (const std::bad_alloc&) {
        note_no_memory();
    }
}

template <class F> inline void parallel(Z n, F f) {
    run_parallel(n, [](void* context, Z i) { (*(F*)context)(i); }, (void*)&f);
}

constexpr Z SMALL = 1 << 14;  // floats of element-wise work that do not repay waking a thread

constexpr Z piece_size(Z elements_each) { return std::max<Z>(1, SMALL / std::max<Z>(1, elements_each)); }

// Calls f(first, last) for pieces of [0, n) of about SMALL elements; small work is one piece. Pieces do not depend on the threads.
template <class F> inline void parallel_ranges(Z n, Z elements_each, F f) {
    const Z step = piece_size(elements_each);
    parallel((n + step - 1) / step, [&](Z i) { f(i * step, std::min(n, (i + 1) * step)); });
}
