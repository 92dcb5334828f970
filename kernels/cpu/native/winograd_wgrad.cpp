// The weight gradient in Winograd's form: dw = Gᵀ [Σ_tiles (Bᵀ d B) ⊙ (A e Aᵀ)] G, at each point a product over tiles.
#include "product.h"
#include "winograd.h"
#include "winograd_tiles.h"

static thread_local Scratch points_memory, errors_memory, sums_memory;

namespace {

// What a block of tiles gives the weights. A piece is some inputs of a phase and a panel of outputs: at each
// point the product [inputs, T] · [T, outputs], whose 36 sums are in the cache when they are transformed.
constexpr int INPUTS = 32, PIECES = 32;  // at least so many inputs a piece, and about so many pieces or more

INLINE void add_taps(float* dw, V value, int valid, bool add) {
    if (valid >= W) return store(dw, add ? load(dw) + value : value);
    for (int j = 0; j < valid; j++) dw[j] = add ? dw[j] + value[j] : value[j];
}

void wgrad_piece(float* dw, const Tiles& g, int k, int first, int most, int column, int width, const float* u, Z points, const float* e,
                 Z errors, int tiles, bool add) {
    const int inputs = std::min(most, g.large - first), odd_row = PHASES[k][0], odd_col = PHASES[k][1];
    const Z each = (Z)inputs * width;  // floats of a point
    float* sums = sums_memory.get((size_t)(POINTS * each));
    for (int p = 0; p < POINTS; p++) {
        if ((odd_row && p / 6 == AT_INFINITY) || (odd_col && p % 6 == AT_INFINITY)) continue;
        outer_product({u + p * points + k * g.large + first, apart(4 * g.large), 0, 0, e + p * errors + column, apart(g.small), 0, 0, 1, 1,
                       tiles, sums + p * each, width, false},
                      inputs, width);
    }
    for (int i = 0; i < std::min(inputs, g.s.ci - first); i++)
        for (int c = 0; c < std::min(width, g.s.co - column); c += W) {
            const float* from = sums + (Z)i * width + c;
            V t[3][6], r[3];
            UNROLL for (int v = 0; v < 6; v++) {
                V m[6];
                UNROLL for (int q = 0; q < 6; q++) m[q] =
                    (odd_row && q == AT_INFINITY) || (odd_col && v == AT_INFINITY) ? V{} : load(from + (6 * q + v) * each);
                points_to_taps(r, m[0], m[1], m[2], m[3], m[4], m[5]);
                UNROLL for (int q = 0; q < 3; q++) t[q][v] = r[q];
            }
            UNROLL for (int q = 0; q < 3; q++) {
                points_to_taps(r, t[q][0], t[q][1], t[q][2], t[q][3], t[q][4], t[q][5]);
                UNROLL for (int v = 0; v < 3; v++) {
                    const int kr = FORWARD_TAPS[odd_row][q], kc = FORWARD_TAPS[odd_col][v];
                    if (kr < 0 || kc < 0) continue;
                    add_taps(dw + ((Z)(5 * kr + kc) * g.s.ci + first + i) * g.s.co + column + c, r[v], g.s.co - column - c, add);
                }
            }
        }
}

}  // namespace

void winograd_wgrad(float* dw, const float* x, const float* dy, const Conv& s) {
    const Tiles g(s);
    const Z total = (Z)s.n * g.each(), blocks = (total + SHARED - 1) / SHARED, step = (total + blocks - 1) / blocks;
    int width = whole_panel(g.small) * W, inputs = INPUTS;
    const auto pieces = [&] { return 4 * ((g.large + inputs - 1) / inputs) * ((g.small + width - 1) / width); };
    if (pieces() >= 2 * PIECES) width *= 2;  // larger pieces read points and errors less often
    if (pieces() >= 2 * PIECES) inputs *= 2;
    const int parts = (g.large + inputs - 1) / inputs;
    for (Z t = 0; t < total; t += step) {
        const int count = int(std::min(step, total - t));
        const Z points = plane(count, 4 * g.large), errors = plane(count, g.small);
        float *u = points_memory.get((size_t)(POINTS * points)), *e = errors_memory.get((size_t)(POINTS * errors));
        parallel(count, [&](Z q) {
            large_tile(u + q * apart(4 * g.large), points, x, g, t + q);
            small_errors(e + q * apart(g.small), errors, dy, g, t + q);
        });
        parallel(pieces(), [&](Z piece) {
            const int k = int(piece % 4), part = int(piece / 4 % parts), panel = int(piece / 4 / parts);
            wgrad_piece(dw, g, k, part * inputs, inputs, panel * width, std::min(width, g.small - panel * width), u, points, e, errors,
                        count, t > 0);
        });
    }
}
