// Which convolutions go Winograd's way, and how: winograd_tiles.h says what it is.
#include "product.h"
#include "winograd_tiles.h"

static thread_local Scratch turned;

constexpr Z NARROW = 1 << 20;  // elements of transformed weights up to which each thread may read all of them

bool winograd_suits(const Conv& s) {
    if (s.kh != 5 || s.kw != 5 || s.stride != 2 || std::min(s.ci, s.co) < 16) return false;
    const Z tiles = (Z)((s.oh + 3) / 4) * ((s.ow + 3) / 4);
    return 3 * 121 * tiles < 2 * 25 * (Z)s.oh * s.ow &&
           s.n * tiles >= 4;  // at the edges tiles may be mostly empty; few do not repay the weights
}

// The choice is not a matter of threads: the bits differ.
static void all_images(const Direction& d, const float* w, const After& after) {
    const bool narrow = 121 * (Z)d.g.large * d.g.small <= NARROW, many = d.g.s.n > 3 * own_images_at_once(d);
    if (narrow && many) own_images(d, w, after);
    else shared_images(d, w, after);
}

void winograd_forward(float* y, const float* x, const float* w, const Conv& s, const After& after) {
    all_images(Direction(s, true, x, y), w, after);
}

void winograd_dgrad(float* dx, const float* dy, const float* w, const Conv& s, const After& after) {
    float* taps = turned.get(25 * (size_t)s.ci * s.co);  // [25][Co][Ci]
    constexpr int AT_ONCE = 64;                          // outputs of a piece
    parallel(25 * (Z)((s.co + AT_ONCE - 1) / AT_ONCE), [&](Z q) {
        const Z t = q % 25 * s.ci * s.co;
        const int first = int(q / 25) * AT_ONCE;
        turn(taps + t + (Z)first * s.ci, s.ci, w + t + first, s.co, s.ci, std::min(AT_ONCE, s.co - first));
    });
    all_images(Direction(s, false, dy, dx), taps, after);
}
