// The 5x5 stride-2 convolution with 3.3 times fewer multiplications: F(4, 3) on the four phases of the large image, as in
// kernels/cpu/winograd.py, which says why that is right. Differences: other points (winograd.h), and a block of tiles is transformed,
// multiplied and transformed back while it is in the second-level cache, which pays from 16 channels on.
//
//   U [36][T][4 · Ci]  the tiles' points, the phases of a pixel side by side      (large image; of the small one [36][T][Co])
//   M [36][T][Co]      products at each point: [T, (phases) · Ci] · [(phases) · Ci, Co], weights packed for `tile`
//
// Channels are filled up to whole vectors with zeros. At the point ∞ (for dgrad 0) the phases with two taps have no part: their channels
// are left out, which the order of PHASES makes one run.
#include "winograd.h"

#include "conv2d.h"
#include "product.h"

static thread_local Scratch own_points, own_products, all_points, all_products, all_weights, turned, border;

constexpr int TILE = 4, POINTS = 36;
constexpr int PHASES[4][2] = {{1, 0}, {0, 0}, {0, 1}, {1, 1}};
constexpr int FORWARD_TAPS[2][3] = {{0, 2, 4}, {1, 3, -1}}, DGRAD_TAPS[2][3] = {{4, 2, 0}, {-1, 3, 1}};  // of even and odd rows
constexpr int AT_INFINITY = 5, AT_ZERO = 0;

namespace {

struct Run {  // phases that take part at a point
    int first, last;
    int count() const { return last - first; }
};
Run run_at(int point, int dead) {
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

// Floats between two points of a [T][c] plane: not a multiple of 4 KB, or all 36 would share a cache set.
Z plane(int tiles, int c) { return (Z)((tiles + 3) / 4 * 4) * c + 16 + 64; }

// Pixels of an [h, w, c] image in steps of `step` from (row, col), size x size of them: a pointer to the first, its distances, and which rows
// and columns lie inside (bit u). Where channels fill no vector it is a copy [size][size][filled] with zeros.
struct Window {
    const float* p;
    Z row, col;
    unsigned rows, cols;
    bool whole;
};
Window window(const float* x, int h, int w, int c, int filled, int row, int col, int step, int size) {
    unsigned rows = 0, cols = 0;
    for (int u = 0; u < size; u++) {
        rows |= unsigned(row + u * step >= 0 && row + u * step < h) << u;
        cols |= unsigned(col + u * step >= 0 && col + u * step < w) << u;
    }
    const unsigned all = (1u << size) - 1;
    if (c == filled) return {x + ((Z)row * w + col) * c, (Z)step * w * c, (Z)step * c, rows, cols, (rows & cols) == all};
    float* copy = border.get((size_t)size * size * filled);
    memset(copy, 0, (size_t)size * size * filled * 4);
    for (int u = 0; u < size; u++)
        for (int v = 0; v < size; v++)
            if (rows >> u & cols >> v & 1)
                memcpy(copy + ((Z)u * size + v) * filled, x + ((Z)(row + u * step) * w + col + v * step) * c, (size_t)c * 4);
    return {copy, (Z)size * filled, filled, all, all, true};
}
template <bool WHOLE> INLINE V pixel(const Window& d, const float* p, int u, int v) {
    return WHOLE || (d.rows >> u & d.cols >> v & 1) ? load(p + u * d.row + v * d.col) : V{};
}

template <bool WHOLE> void whole_or_edge_to_points(float* out, Z points, const Window& d, int channels) {
    for (int c = 0; c < channels; c += W) {
        V t[6][6];
        const float* p = d.p + c;
        UNROLL for (int v = 0; v < 6; v++) {
            V in[6], r[6];
            UNROLL for (int u = 0; u < 6; u++) in[u] = pixel<WHOLE>(d, p, u, v);
            to_points(r, in[0], in[1], in[2], in[3], in[4], in[5]);
            UNROLL for (int u = 0; u < 6; u++) t[u][v] = r[u];
        }
        float* o = out + c;
        UNROLL for (int u = 0; u < 6; u++) {
            V r[6];
            to_points(r, t[u][0], t[u][1], t[u][2], t[u][3], t[u][4], t[u][5]);
            UNROLL for (int v = 0; v < 6; v++, o += points) store(o, r[v]);
        }
    }
}
void tile_to_points(float* out, Z points, const Window& d, int channels) {
    d.whole ? whole_or_edge_to_points<true>(out, points, d, channels) : whole_or_edge_to_points<false>(out, points, d, channels);
}
void tile_of_errors(float* out, Z points, const Window& d, int channels) {
    for (int c = 0; c < channels; c += W) {
        V t[6][4];
        const float* p = d.p + c;
        UNROLL for (int v = 0; v < 4; v++) {
            V r[6];
            errors_to_points(r, pixel<false>(d, p, 0, v), pixel<false>(d, p, 1, v), pixel<false>(d, p, 2, v), pixel<false>(d, p, 3, v));
            UNROLL for (int u = 0; u < 6; u++) t[u][v] = r[u];
        }
        float* o = out + c;
        UNROLL for (int u = 0; u < 6; u++) {
            V r[6];
            errors_to_points(r, t[u][0], t[u][1], t[u][2], t[u][3]);
            UNROLL for (int v = 0; v < 6; v++, o += points) store(o, r[v]);
        }
    }
}
// Outputs of a tile: rows `row` apart from y on, `rows` of them and `cols` a row. skip: a dead point of this phase's rows and columns.
INLINE void tile_from_points(float* y, Z row, Z col, int rows, int cols, int channels, const float* m, Z points, int filled, int dead_row,
                             int dead_col) {
    for (int c = 0; c < filled; c += W) {
        V t[4][6];
        const float* p = m + c;
        UNROLL for (int v = 0; v < 6; v++, p += points) {
            V in[6], r[4];
            UNROLL for (int u = 0; u < 6; u++) in[u] = u == dead_row || v == dead_col ? V{} : load(p + 6 * u * points);
            from_points(r, in[0], in[1], in[2], in[3], in[4], in[5]);
            UNROLL for (int u = 0; u < 4; u++) t[u][v] = r[u];
        }
        const int valid = std::min(W, channels - c);
        UNROLL for (int u = 0; u < 4; u++) {
            V r[4];
            from_points(r, t[u][0], t[u][1], t[u][2], t[u][3], t[u][4], t[u][5]);
            UNROLL for (int v = 0; v < 4; v++)
                if (u < rows && v < cols) {
                    float* o = y + u * row + v * col + c;
                    if (valid == W) store(o, r[v]);
                    else memcpy(o, &r[v], (size_t)valid * 4);
                }
        }
    }
}

// ---- both sides' tiles, numbered through all images ----

void large_tile(float* out, Z points, const float* x, const Tiles& g, Z t) {
    const int i = int(t / g.each()), ti = int(t % g.each()) / g.tw, tj = int(t % g.tw);
    const float* image = x + (Z)i * g.s.h * g.s.w * g.s.ci;
    for (int k = 0; k < 4; k++)
        tile_to_points(out + k * g.large, points,
                       window(image, g.s.h, g.s.w, g.s.ci, g.large, 8 * ti + PHASES[k][0] - 2, 8 * tj + PHASES[k][1] - 2, 2, 6), g.large);
}
Window small_window(const float* y, const Tiles& g, Z t, int before, int size) {
    const int i = int(t / g.each()), ti = int(t % g.each()) / g.tw, tj = int(t % g.tw);
    return window(y + (Z)i * g.s.oh * g.s.ow * g.s.co, g.s.oh, g.s.ow, g.s.co, g.small, TILE * ti - before, TILE * tj - before, 1, size);
}
void to_small(float* y, const Tiles& g, Z t, const float* m, Z points) {
    const int i = int(t / g.each()), ti = int(t % g.each()) / g.tw, tj = int(t % g.tw);
    float* first = y + (((Z)i * g.s.oh + TILE * ti) * g.s.ow + TILE * tj) * g.s.co;
    tile_from_points(first, (Z)g.s.ow * g.s.co, g.s.co, g.s.oh - TILE * ti, g.s.ow - TILE * tj, g.s.co, m, points, g.small, -1, -1);
}
void to_large(float* x, const Tiles& g, Z t, const float* m, Z points) {
    const int i = int(t / g.each()), ti = int(t % g.each()) / g.tw, tj = int(t % g.tw);
    for (int k = 0; k < 4; k++) {
        const int row = 8 * ti + PHASES[k][0], col = 8 * tj + PHASES[k][1];
        tile_from_points(x + (((Z)i * g.s.h + row) * g.s.w + col) * g.s.ci, 2 * (Z)g.s.w * g.s.ci, 2 * (Z)g.s.ci, (g.s.h - row + 1) / 2,
                         (g.s.w - col + 1) / 2, g.s.ci, m + k * g.large, points, g.large, PHASES[k][0] ? AT_ZERO : -1,
                         PHASES[k][1] ? AT_ZERO : -1);
    }
}

// ---- weights ----

// G g Gᵀ of every phase, packed for `tile` point by point: of [25][rows][columns] taps a product with the phases among its rows (forward)
// or its columns (dgrad, turned taps).
struct Weights {
    const float* at[POINTS];

    Weights(const float* w, const Tiles& g, bool forward) {
        const int dead = forward ? AT_INFINITY : AT_ZERO, depth = forward ? g.large : g.small, columns = forward ? g.small : g.large;
        const int rows = forward ? g.s.ci : g.s.co, real = forward ? g.s.co : g.s.ci;
        Z offsets[POINTS], size = 0;
        int panels[POINTS];
        for (int p = 0; p < POINTS; p++) {
            const int count = run_at(p, dead).count(), own = forward ? columns : count * columns;
            offsets[p] = size, panels[p] = whole_panel(own) * W;
            size += (Z)own * depth * (forward ? count : 1);
        }
        float* out = all_weights.get((size_t)size);
        if (depth != rows || columns != real) memset(out, 0, (size_t)size * 4);
        for (int p = 0; p < POINTS; p++) at[p] = out + offsets[p];
        const int vectors = (real + W - 1) / W;
        parallel(4 * (Z)vectors, [&](Z piece) {  // a phase, and a vector of channels
            const int k = int(piece / vectors), c = int(piece % vectors) * W, valid = std::min(W, real - c);
            const float* from[3][3];
            for (int u = 0; u < 3; u++)
                for (int v = 0; v < 3; v++) {
                    const int kr = (forward ? FORWARD_TAPS : DGRAD_TAPS)[PHASES[k][0]][u];
                    const int kc = (forward ? FORWARD_TAPS : DGRAD_TAPS)[PHASES[k][1]][v];
                    from[u][v] = kr < 0 || kc < 0 ? nullptr : w + (Z)(5 * kr + kc) * rows * real + c;
                }
            float* to[POINTS];  // null at a dead point
            for (int p = 0; p < POINTS; p++) {
                const Run run = run_at(p, dead);
                const Z deep = forward ? (Z)(k - run.first) * depth : 0, all = forward ? (Z)run.count() * depth : depth;
                const int column = forward ? c : (k - run.first) * columns + c;
                const bool part = k >= run.first && k < run.last;
                to[p] = part ? out + offsets[p] + (column / panels[p] * all + deep) * panels[p] + column % panels[p] : nullptr;
            }
            for (Z row = 0; row < rows; row++) {
                V t[6][3], r[6];
                UNROLL for (int v = 0; v < 3; v++) {
                    V taps[3] = {};
                    UNROLL for (int u = 0; u < 3; u++) {
                        if (!from[u][v]) continue;
                        if (valid == W) taps[u] = load(from[u][v] + row * real);
                        else memcpy(&taps[u], from[u][v] + row * real, (size_t)valid * 4);
                    }
                    taps_to_points(r, taps[0], taps[1], taps[2]);
                    UNROLL for (int u = 0; u < 6; u++) t[u][v] = r[u];
                }
                UNROLL for (int u = 0; u < 6; u++) {
                    taps_to_points(r, t[u][0], t[u][1], t[u][2]);
                    UNROLL for (int v = 0; v < 6; v++)
                        if (to[6 * u + v]) store(to[6 * u + v] + row * panels[6 * u + v], r[v]);
                }
            }
        });
    }
};

// ---- blocks of tiles ----

constexpr Z CACHE = 768 << 10;  // bytes of a block's points and products: of a second-level cache of 1 MB
constexpr int SHARED = 128;     // tiles of a block that all threads share

int block_of(Z bytes_each) { return int(std::min<Z>(96, std::max<Z>(24, CACHE / bytes_each / 24 * 24))); }

// Runs tiles → products → tiles for all images and what comes after each. in(point rows, stride, t), multiply(p, U, stride, rows, M, stride),
// out(t, M, stride). A thread takes whole images where there are enough; else all threads share a block, point by point.
template <class In, class Multiply, class Out>
void blocks(const Tiles& g, int in_channels, int out_channels, bool wide, float* result, Z image, int c, const After& after, In in, Multiply multiply,
            Out out) {
    const int each = g.each(), block = block_of((Z)POINTS * 4 * (in_channels + out_channels));
    const int images = std::max(1, block / each), units = (g.s.n + images - 1) / images;
    if (!wide && units >= 2 * thread_count()) {
        parallel(units, [&](Z unit) {
            const int first = int(unit) * images, last = std::min(g.s.n, first + images);
            const Z points = plane(block, in_channels), products = plane(block, out_channels);
            float *u = own_points.get((size_t)(POINTS * points)), *m = own_products.get((size_t)(POINTS * products));
            for (Z t = (Z)first * each; t < (Z)last * each; t += block) {
                const int count = int(std::min<Z>(block, (Z)last * each - t));
                for (int q = 0; q < count; q++) in(u + (Z)q * in_channels, points, t + q);
                for (int p = 0; p < POINTS; p++) multiply(p, u + p * points, (count + 3) / 4 * 4, m + p * products);
                for (int q = 0; q < count; q++) out(t + q, m + (Z)q * out_channels, products);
            }
            for (int i = first; i < last; i++) after.image(result + i * image, image / c, c, i);
        });
        return;
    }
    const int together = std::max(1, SHARED / each);  // images
    for (int first = 0; first < g.s.n; first += together) {
        const int last = std::min(g.s.n, first + together), count = (last - first) * each;
        const Z points = plane(count, in_channels), products = plane(count, out_channels), start = (Z)first * each;
        float *u = all_points.get((size_t)(POINTS * points)), *m = all_products.get((size_t)(POINTS * products));
        parallel(count, [&](Z q) { in(u + q * in_channels, points, start + q); });
        parallel(POINTS, [&](Z p) { multiply(int(p), u + p * points, (count + 3) / 4 * 4, m + p * products); });
        parallel(last - first, [&](Z i) {
            for (Z q = i * each; q < (i + 1) * each; q++) out(start + q, m + q * out_channels, products);
            after.image(result + (first + i) * image, image / c, c, int(first + i));
        });
    }
}

constexpr Z NARROW_WEIGHTS = 1 << 20;  // elements of transformed weights up to which each thread reads all of them

}  // namespace

bool winograd_suits(const Conv& s, bool weights) {
    if (s.kh != 5 || s.kw != 5 || s.stride != 2 || std::min(s.ci, s.co) < 16) return false;
    const Z tiles = (Z)((s.oh + 3) / 4) * ((s.ow + 3) / 4);
    return 3 * 121 * tiles < 2 * 25 * (Z)s.oh * s.ow && s.n * tiles >= (weights ? 16 : 24);
}

void winograd_forward(float* y, const float* x, const float* w, const Conv& s, const After& after) {
    const Tiles g(s);
    const Weights weights(w, g, true);
    blocks(g, 4 * g.large, g.small, 121 * (Z)g.large * g.small > NARROW_WEIGHTS, y, (Z)s.oh * s.ow * s.co, s.co, after,
           [&](float* u, Z points, Z t) { large_tile(u, points, x, g, t); },
           [&](int p, const float* u, int rows, float* m) {
               const Run run = run_at(p, AT_INFINITY);
               matrix_product(u + run.first * g.large, 4 * g.large, rows, run.count() * g.large, weights.at[p], m, g.small, g.small);
           },
           [&](Z t, const float* m, Z products) { to_small(y, g, t, m, products); });
}

void winograd_dgrad(float* dx, const float* dy, const float* w, const Conv& s, const After& after) {
    const Tiles g(s);
    float* taps = turned.get(25 * (size_t)s.ci * s.co);  // [25][Co][Ci]
    parallel(25 * (Z)((s.co + 15) / 16), [&](Z q) {
        const Z t = q % 25 * s.ci * s.co;
        const int first = int(q / 25) * 16, last = std::min(s.co, first + 16);
        for (int i = 0; i < s.ci; i++)
            for (int o = first; o < last; o++) taps[t + (Z)o * s.ci + i] = w[t + (Z)i * s.co + o];
    });
    const Weights weights(taps, g, false);
    blocks(g, g.small, 4 * g.large, 121 * (Z)g.large * g.small > NARROW_WEIGHTS, dx, (Z)s.h * s.w * s.ci, s.ci, after,
           [&](float* u, Z points, Z t) { tile_to_points(u, points, small_window(dy, g, t, 1, 6), g.small); },
           [&](int p, const float* u, int rows, float* m) {
               const Run run = run_at(p, AT_ZERO);
               matrix_product(u, g.small, rows, g.small, weights.at[p], m + run.first * g.large, 4 * g.large, run.count() * g.large);
           },
           [&](Z t, const float* m, Z products) { to_large(dx, g, t, m, products); });
}

// dw = Gᵀ [Σ_tiles (Bᵀ d B) ⊙ (A e Aᵀ)] G: at each point a product over tiles, [(phases) · Ci, T] · [T, Co].
void winograd_wgrad(float* dw, const float* x, const float* dy, const Conv& s) {
    const Tiles g(s);
    const int each = g.each(), block = block_of((Z)POINTS * 4 * (4 * g.large + g.small));
    Z at[POINTS], size = 0;
    for (int p = 0; p < POINTS; p++) at[p] = size, size += (Z)run_at(p, AT_INFINITY).count() * g.large * g.small;
    const auto multiply = [&](int p, const float* u, const float* e, int tiles, float* sums, bool add) {
        const Run run = run_at(p, AT_INFINITY);
        outer_product({u + run.first * g.large, 4 * g.large, 0, 0, e, g.small, 0, 0, 1, 1, tiles, sums + at[p], g.small, add},
                      run.count() * g.large, g.small);
    };
    // Lots of images with sums of their own, added in order; one where the sums are large. Their number depends on the shapes alone.
    const Z total = (Z)s.n * each;
    const int lots = size > 100000 || total < 8 * 24 ? 1 : std::min(8, s.n);
    float* sums = all_weights.get((size_t)(lots * size));
    if (lots > 1) {
        parallel(lots, [&](Z lot) {
            const Z first = s.n * lot / lots * each, last = s.n * (lot + 1) / lots * each;
            const Z points = plane(block, 4 * g.large), errors = plane(block, g.small);
            float *u = own_points.get((size_t)(POINTS * points)), *e = own_products.get((size_t)(POINTS * errors));
            for (Z t = first; t < last; t += block) {
                const int count = int(std::min<Z>(block, last - t));
                for (int q = 0; q < count; q++) {
                    large_tile(u + (Z)q * 4 * g.large, points, x, g, t + q);
                    tile_of_errors(e + (Z)q * g.small, errors, small_window(dy, g, t + q, 0, TILE), g.small);
                }
                for (int p = 0; p < POINTS; p++) multiply(p, u + p * points, e + p * errors, count, sums + lot * size, t > first);
            }
        });
    } else {
        for (Z t = 0; t < total; t += SHARED) {
            const int count = int(std::min<Z>(SHARED, total - t));
            const Z points = plane(count, 4 * g.large), errors = plane(count, g.small);
            float *u = all_points.get((size_t)(POINTS * points)), *e = all_products.get((size_t)(POINTS * errors));
            parallel(count, [&](Z q) {
                large_tile(u + q * 4 * g.large, points, x, g, t + q);
                tile_of_errors(e + q * g.small, errors, small_window(dy, g, t + q, 0, TILE), g.small);
            });
            parallel(POINTS, [&](Z p) { multiply(int(p), u + p * points, e + p * errors, count, sums, t > 0); });
        }
    }
    parallel(4 * (Z)s.ci, [&](Z q) {
        const int k = int(q % 4), i = int(q / 4);
        for (int c = 0; c < s.co; c += W) {
            V t[3][6], r[3];
            for (int v = 0; v < 6; v++) {
                V m[6];
                for (int u = 0; u < 6; u++) {
                    const Run run = run_at(6 * u + v, AT_INFINITY);
                    m[u] = V{};
                    if (k < run.first || k >= run.last) continue;
                    const float* from = sums + at[6 * u + v] + ((Z)(k - run.first) * g.large + i) * g.small + c;
                    for (int lot = 0; lot < lots; lot++) m[u] += load(from + lot * size);
                }
                points_to_taps(r, m[0], m[1], m[2], m[3], m[4], m[5]);
                for (int u = 0; u < 3; u++) t[u][v] = r[u];
            }
            for (int u = 0; u < 3; u++) {
                points_to_taps(r, t[u][0], t[u][1], t[u][2], t[u][3], t[u][4], t[u][5]);
                for (int v = 0; v < 3; v++) {
                    const int kr = FORWARD_TAPS[PHASES[k][0]][u], kc = FORWARD_TAPS[PHASES[k][1]][v];
                    if (kr >= 0 && kc >= 0)
                        memcpy(dw + ((Z)(5 * kr + kc) * s.ci + i) * s.co + c, &r[v], (size_t)std::min(W, s.co - c) * 4);
                }
            }
        }
    });
}
