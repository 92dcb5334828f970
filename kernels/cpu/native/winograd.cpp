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

static thread_local Scratch own_points, own_products, own_weights, all_points, all_products, all_weights, turned, border;

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

// Floats between two tiles of c channels, and between two points of T tiles: not multiples of 1 KB and 4 KB, or they would share cache sets.
int apart(int c) { return c % 256 ? c : c + 16; }
Z plane(int tiles, int c) { return (Z)((tiles + 3) / 4 * 4) * apart(c) + 16 + 64; }

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

// ---- whole images on one thread: few channels ----

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

constexpr Z CACHE = 768 << 10;  // bytes of a block's points and products: of a second-level cache of 1 MB
constexpr int SHARED = 192;     // tiles of a block that all threads share

int block_of(Z bytes_each) { return int(std::min<Z>(96, std::max<Z>(24, CACHE / bytes_each / 24 * 24))); }

// What a product of points and weights is: forward of the large image's points, or dgrad of the small one's.
struct Direction {
    bool forward;
    int in, out;  // channels of a tile's points and products
    int dead;
    int from() const { return apart(in); }  // floats between two tiles
    int to() const { return apart(out); }
};

// One thread's whole images: tiles → points → products → tiles, the weights of all points packed before.
template <class In, class Out> void own_blocks(const Tiles& g, const Direction& d, const Weights& weights, int first, int last, In in, Out out) {
    const int block = block_of((Z)POINTS * 4 * (d.in + d.out));
    const Z points = plane(block, d.in), products = plane(block, d.out), end = (Z)last * g.each();
    float *u = own_points.get((size_t)(POINTS * points)), *m = own_products.get((size_t)(POINTS * products));
    for (Z t = (Z)first * g.each(); t < end; t += block) {
        const int count = int(std::min<Z>(block, end - t)), rows = (count + 3) / 4 * 4;
        for (int q = 0; q < count; q++) in(u + (Z)q * d.from(), points, t + q);
        for (int p = 0; p < POINTS; p++) {
            const Run run = run_at(p, d.dead);
            const Z skipped = run.first * g.large;
            if (d.forward) matrix_product(u + p * points + skipped, d.from(), rows, run.count() * g.large, weights.at[p], m + p * products, d.to(), d.out);
            else matrix_product(u + p * points, d.from(), rows, d.in, weights.at[p], m + p * products + skipped, d.to(), run.count() * g.large);
        }
        for (int q = 0; q < count; q++) out(t + q, m + (Z)q * d.to(), products);
    }
}

// ---- shared blocks: many channels or few tiles ----
// All threads work on one block of tiles. A piece is six points, a row of the 6x6, for a panel of N vectors of outputs (of a dgrad: of one
// phase). It makes its weights itself, DEPTH inputs at a time, and multiplies while they are in the cache: written to memory for all points
// they would be five times as large as w, and cost as much time as the products.

constexpr int DEPTH = 32;  // inputs of each of up to four phases, or four times as many of a dgrad

constexpr float G[6][3] = {{1, 0, 0}, {-2.f / 3, -2.f / 3 * A, -1.f / 3}, {-2.f / 3, 2.f / 3 * A, -1.f / 3},
                           {1.f / 6, B / 6, 1.f / 3}, {1.f / 6, -B / 6, 1.f / 3}, {0, 0, 1}};

// to[v][count][N · W] for the points 6u + v of a phase with I and J taps a column and a row, of which (i, j) is at[i][j][row · columns]; first: their
// place among G's three.
template <int N, int I, int J>
INLINE void weights_of(float* const* to, int u, int first, const float* const (*at)[3], int count, Z columns) {
    for (int r = 0; r < count; r++)
        UNROLL for (int n = 0; n < N; n++) {
            V t[3] = {}, out[6];
            UNROLL for (int j = 0; j < J; j++) {
                const int place = J == 3 ? j : j + first;
                const int top = I == 3 ? 0 : first;
                V sum = G[u][top] * load(at[0][j] + r * columns + n * W);
                UNROLL for (int i = 1; i < I; i++) sum += G[u][top + i] * load(at[i][j] + r * columns + n * W);
                t[place] = sum;
            }
            taps_to_points(out, t[0], t[1], t[2]);
            UNROLL for (int v = 0; v < 6; v++) store(to[v] + (r * N + n) * W, out[v]);
        }
}

// The same from taps [25][rows][columns], from (row, column) on; where they reach over the edge, from a copy with zeros.
template <int N>
void weights_at(float* const* to, int u, int phase, bool forward, const float* w, int rows, int columns, int row, int count, int column) {
    const int(*taps)[3] = forward ? FORWARD_TAPS : DGRAD_TAPS;
    const int a = PHASES[phase][0], b = PHASES[phase][1], first = forward ? 0 : 1;
    const bool whole = row + count <= rows && column + N * W <= columns;
    const float* at[3][3];
    for (int i = 0; i < 3 - a; i++)
        for (int j = 0; j < 3 - b; j++) {
            const float* from = w + (Z)(5 * taps[a][a ? i + first : i] + taps[b][b ? j + first : j]) * rows * columns;
            at[i][j] = from + (Z)row * columns + column;
            if (whole) continue;
            float* copy = border.get((size_t)9 * count * N * W) + (Z)(3 * i + j) * count * N * W;
            for (int r = 0; r < count; r++)
                for (int c = 0; c < N * W; c++)
                    copy[r * N * W + c] = row + r < rows && column + c < columns ? from[(Z)(row + r) * columns + column + c] : 0;
            at[i][j] = copy;
        }
    const Z apart = whole ? columns : N * W;
    if (a && b) weights_of<N, 2, 2>(to, u, first, at, count, apart);
    else if (a) weights_of<N, 2, 3>(to, u, first, at, count, apart);
    else if (b) weights_of<N, 3, 2>(to, u, first, at, count, apart);
    else weights_of<N, 3, 3>(to, u, first, at, count, apart);
}

// Piece (u, panel, phase of a dgrad) of a block: its columns of m for `rows` tiles.
template <int N> void shared_piece(const Tiles& g, const Direction& d, const float* w, int u, int phase, int column, const float* points, Z plane_in,
                                   float* products, Z plane_out, int rows) {
    constexpr int groups = tile_groups<N>(), M = 4 * groups;
    const int depth = d.forward ? DEPTH : 4 * DEPTH, inputs = d.forward ? g.large : g.small;
    const int real_rows = d.forward ? g.s.ci : g.s.co, real_columns = d.forward ? g.s.co : g.s.ci;
    const Run all = d.forward ? run_at(6 * u + 1, d.dead) : Run{phase, phase + 1};
    float* memory = own_weights.get(6 * 4 * DEPTH * N * W);
    float* b[6];
    for (int v = 0; v < 6; v++) b[v] = memory + v * 4 * DEPTH * N * W;
    for (int k = 0; k < inputs; k += depth) {
        const int run = std::min(depth, inputs - k);
        for (int f = all.first; f < all.last; f++) {
            float* to[6];
            for (int v = 0; v < 6; v++) to[v] = b[v] + (f - all.first) * run * N * W;
            weights_at<N>(to, u, f, d.forward, w, real_rows, real_columns, k, run, column);
        }
        for (int v = 0; v < 6; v++) {
            const Run part = run_at(6 * u + v, d.dead);
            if (!d.forward && (phase < part.first || phase >= part.last)) continue;
            const int runs = d.forward ? part.count() : 1;
            const float* a = points + (6 * u + v) * plane_in + (d.forward ? part.first * g.large : 0) + k;
            float* c = products + (6 * u + v) * plane_out + (d.forward ? 0 : phase * g.large) + column;
            int m = 0;
            for (; m + M <= rows; m += M) {
                const float* from[groups];
                float* to[groups];
                UNROLL for (int q = 0; q < groups; q++) from[q] = a + (Z)(m + 4 * q) * d.from(), to[q] = c + (Z)(m + 4 * q) * d.to();
                tile<groups, 4, N>(from, d.from(), g.large, runs, run, b[v], N * W, to, d.to(), k > 0);
            }
            for (; m < rows; m += 4) {
                const float* from = a + (Z)m * d.from();
                float* to = c + (Z)m * d.to();
                tile<1, 4, N>(&from, d.from(), g.large, runs, run, b[v], N * W, &to, d.to(), k > 0);
            }
        }
    }
}

void shared_products(const Tiles& g, const Direction& d, const float* w, const float* points, Z plane_in, float* products, Z plane_out, int rows) {
    const int columns = d.forward ? g.small : g.large, n = whole_panel(columns), panels = columns / (n * W), phases = d.forward ? 1 : 4;
    parallel(6 * (Z)panels * phases, [&](Z piece) {
        const int u = int(piece % 6), phase = int(piece / 6 % phases), column = int(piece / 6 / phases) * n * W;
        if (!d.forward && u == d.dead && PHASES[phase][0]) return;
        const auto work = n == 3 ? shared_piece<3> : n == 2 ? shared_piece<2> : shared_piece<1>;
        work(g, d, w, u, phase, column, points, plane_in, products, plane_out, rows);
    });
}

constexpr Z NARROW = 1 << 20;  // elements of transformed weights up to which each thread reads all of them

// Tiles → products → tiles for all images, and what comes after each: a thread takes whole images where there are enough and the weights are
// small, else all threads share blocks of images.
template <class In, class Out>
void all_images(const Tiles& g, const Direction& d, const float* w, float* result, Z image, int c, const After& after, In in, Out out) {
    const int images = std::max(1, block_of((Z)POINTS * 4 * (d.in + d.out)) / g.each()), units = (g.s.n + images - 1) / images;
    if (121 * (Z)g.large * g.small <= NARROW && units >= 4) {  // not a matter of threads: the bits differ
        const Weights weights(w, g, d.forward);
        parallel(units, [&](Z unit) {
            const int first = int(unit) * images, last = std::min(g.s.n, first + images);
            own_blocks(g, d, weights, first, last, in, out);
            for (int i = first; i < last; i++) after.image(result + i * image, image / c, c, i);
        });
        return;
    }
    const int blocks = (g.s.n * g.each() + SHARED - 1) / SHARED, together = std::max(1, (g.s.n + blocks - 1) / blocks);  // images
    for (int first = 0; first < g.s.n; first += together) {
        const int last = std::min(g.s.n, first + together), count = (last - first) * g.each();
        const Z points = plane(count, d.in), products = plane(count, d.out), start = (Z)first * g.each();
        float *u = all_points.get((size_t)(POINTS * points)), *m = all_products.get((size_t)(POINTS * products));
        parallel(count, [&](Z q) { in(u + q * d.from(), points, start + q); });
        shared_products(g, d, w, u, points, m, products, (count + 3) / 4 * 4);
        parallel(last - first, [&](Z i) {
            for (Z q = i * g.each(); q < (i + 1) * g.each(); q++) out(start + q, m + q * d.to(), products);
            after.image(result + (first + i) * image, image / c, c, int(first + i));
        });
    }
}

}  // namespace

bool winograd_suits(const Conv& s) {
    if (s.kh != 5 || s.kw != 5 || s.stride != 2 || std::min(s.ci, s.co) < 16) return false;
    const Z tiles = (Z)((s.oh + 3) / 4) * ((s.ow + 3) / 4);
    return 3 * 121 * tiles < 2 * 25 * (Z)s.oh * s.ow && s.n * tiles >= 8;
}

void winograd_forward(float* y, const float* x, const float* w, const Conv& s, const After& after) {
    const Tiles g(s);
    all_images(g, {true, 4 * g.large, g.small, AT_INFINITY}, w, y, (Z)s.oh * s.ow * s.co, s.co, after,
               [&](float* u, Z points, Z t) { large_tile(u, points, x, g, t); },
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
    all_images(g, {false, g.small, 4 * g.large, AT_ZERO}, taps, dx, (Z)s.h * s.w * s.ci, s.ci, after,
               [&](float* u, Z points, Z t) { tile_to_points(u, points, small_window(dy, g, t, 1, 6), g.small); },
               [&](Z t, const float* m, Z products) { to_large(dx, g, t, m, products); });
}

// ---- the weight gradient ----

namespace {

// What a block of tiles gives the weights: dw (+)= Gᵀ [Σ_tiles (Bᵀ d B) ⊙ (A e Aᵀ)] G. A piece is some inputs of a phase and a panel of outputs: at each
// point the product [inputs, T] · [T, outputs], whose 36 sums are in the cache when they are transformed.
constexpr int INPUTS = 32;

INLINE void add_taps(float* dw, V value, int valid, bool add) {
    if (valid >= W) return store(dw, add ? load(dw) + value : value);
    for (int j = 0; j < valid; j++) dw[j] = add ? dw[j] + value[j] : value[j];
}

void wgrad_piece(float* dw, const Tiles& g, int k, int first, int column, int width, const float* u, Z points, const float* e, Z errors, int tiles,
                 bool add) {
    const int inputs = std::min(INPUTS, g.large - first), odd_row = PHASES[k][0], odd_col = PHASES[k][1];
    const Z each = (Z)INPUTS * width;  // floats of a point
    float* sums = own_weights.get((size_t)(POINTS * each));
    for (int p = 0; p < POINTS; p++) {
        if ((odd_row && p / 6 == AT_INFINITY) || (odd_col && p % 6 == AT_INFINITY)) continue;
        outer_product({u + p * points + k * g.large + first, apart(4 * g.large), 0, 0, e + p * errors + column, apart(g.small), 0, 0, 1, 1, tiles, sums + p * each,
                       width, false},
                      inputs, width);
    }
    for (int i = 0; i < std::min(inputs, g.s.ci - first); i++)
        for (int c = 0; c < std::min(width, g.s.co - column); c += W) {
            const float* from = sums + (Z)i * width + c;
            V t[3][6], r[3];
            UNROLL for (int v = 0; v < 6; v++) {
                V m[6];
                UNROLL for (int q = 0; q < 6; q++)
                    m[q] = (odd_row && q == AT_INFINITY) || (odd_col && v == AT_INFINITY) ? V{} : load(from + (6 * q + v) * each);
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
    const int width = whole_panel(g.small) * W, panels = g.small / width, parts = (g.large + INPUTS - 1) / INPUTS;
    for (Z t = 0; t < total; t += step) {
        const int count = int(std::min(step, total - t));
        const Z points = plane(count, 4 * g.large), errors = plane(count, g.small);
        float *u = all_points.get((size_t)(POINTS * points)), *e = all_products.get((size_t)(POINTS * errors));
        parallel(count, [&](Z q) {
            large_tile(u + q * apart(4 * g.large), points, x, g, t + q);
            tile_of_errors(e + q * apart(g.small), errors, small_window(dy, g, t + q, 0, TILE), g.small);
        });
        parallel(4 * (Z)parts * panels, [&](Z piece) {
            const int k = int(piece % 4), part = int(piece / 4 % parts), panel = int(piece / 4 / parts);
            wgrad_piece(dw, g, k, part * INPUTS, panel * width, width, u, points, e, errors, count, t > 0);
        });
    }
}
