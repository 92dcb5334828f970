// Tiles of Winograd's form of the 5x5 stride-2 convolution, 3.3 times fewer multiplications: F(4, 3) on the four phases of the large image,
// as in kernels/cpu/winograd.py, which says why that is right. Here a block of tiles is transformed, multiplied and transformed back while
// it is in the cache, which pays from 16 channels on.
//
//   U [36][T][4 · Ci]  the tiles' points, the phases of a pixel side by side      (of the small image [36][T][Co])
//   M [36][T][Co]      products at each point: [T, (phases) · Ci] · [(phases) · Ci, Co]
//
// Channels are filled up to whole vectors with zeros. At the point ∞ (for dgrad 0) the phases with two taps have no part: their channels
// are left out, which the order of PHASES makes one run.
#pragma once
#include "conv2d.h"

constexpr int TILE = 4, POINTS = 36;
constexpr int PHASES[4][2] = {{1, 0}, {0, 0}, {0, 1}, {1, 1}};
constexpr int FORWARD_TAPS[2][3] = {{0, 2, 4}, {1, 3, -1}}, DGRAD_TAPS[2][3] = {{4, 2, 0}, {-1, 3, 1}};  // of even and odd rows
constexpr int AT_INFINITY = 5, AT_ZERO = 0;

struct Run {  // phases that take part at a point
    int first, last;
    int count() const { return last - first; }
};
inline Run run_at(int point, int dead) {
    const int row = point / 6, col = point % 6;
    if (row == dead) return {1, col == dead ? 2 : 3};
    return {0, col == dead ? 2 : 4};
}

struct Tiles {
    Conv s;
    int th, tw, large, small;  // tiles of an image; channels filled up to vectors
    explicit Tiles(const Conv& c)
        : s(c), th((c.oh + TILE - 1) / TILE), tw((c.ow + TILE - 1) / TILE), large((c.ci + W - 1) / W * W), small((c.co + W - 1) / W * W) {}
    int each() const { return th * tw; }
};

// Floats between two tiles of c channels, and between two points of T tiles: not multiples of 1 KB and 4 KB, or they would share cache
// sets.
inline int apart(int c) { return c % 256 ? c : c + 16; }
inline Z plane(int tiles, int c) { return (Z)((tiles + 3) / 4 * 4) * apart(c) + 16 + 64; }

// Forward: the large image's points times weights make the small image; dgrad: the other way round.
struct Direction {
    Tiles g;
    bool forward;
    const float* source;
    float* result;
    int in, out, dead;  // channels of a tile's points and products; the dead point
    Direction(const Conv& s, bool ahead, const float* from, float* to)
        : g(s),
          forward(ahead),
          source(from),
          result(to),
          in(ahead ? 4 * g.large : g.small),
          out(ahead ? g.small : 4 * g.large),
          dead(ahead ? AT_INFINITY : AT_ZERO) {}

    int from() const { return apart(in); }  // floats between two tiles
    int to() const { return apart(out); }
    void read(float* u, Z points, Z t) const;           // tile t, numbered through all images, to its points
    void write(Z t, const float* m, Z products) const;  // and its products to pixels
    void finish(const After& after, int i) const {      // image i is written
        const Z rows = forward ? (Z)g.s.oh * g.s.ow : (Z)g.s.h * g.s.w;
        const int c = forward ? g.s.co : g.s.ci;
        after.image(result + i * rows * c, rows, c, i);
    }
};

// Both sides' tiles of a weight gradient.
void large_tile(float* out, Z points, const float* x, const Tiles& g, Z t);
void small_errors(float* out, Z points, const float* dy, const Tiles& g, Z t);

// The two ways of all images, and what comes after each: a thread takes whole images, or all threads share blocks of tiles.
int own_images_at_once(const Direction& d);
void own_images(const Direction& d, const float* w, const After& after);
void shared_images(const Direction& d, const float* w, const After& after);
constexpr int SHARED = 192;  // tiles of a shared block
