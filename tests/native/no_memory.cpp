// For tests/test_native_pool.py: calls that find no memory, in piece number `failing` of a loop or outside any loop.
#include "pool.h"

EXPORT void fail_in_piece(Z pieces, Z failing) {
    parallel(pieces, [&](Z i) {
        if (i == failing) throw std::bad_alloc();
    });
}

EXPORT void fail_outside(int failing) {
    guarded([&] {
        Scratch scratch;
        if (failing) scratch.get(size_t(1) << 60);
    });
}
