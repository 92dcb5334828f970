// Winograd's products of many channels, or of few tiles: all threads work on one block of tiles. A piece is six points, a row of the 6x6,
// for a panel of N vectors of outputs (of a dgrad: of one phase). It makes its weights itself, DEPTH inputs at a time, and multiplies while
// they are in the cache: written to memory for all points they would be five times as large as w, and cost as much time as the products.
#include "product.h"
#include "winograd.h"
#include "winograd_tiles.h"

static thread_local Scratch points_memory, products_memory, weights_memory, border;

namespace {

constexpr int PIECES = 18;  // a loop has enough of them
constexpr int DEPTH = 32;   // inputs of each of up to four phases, or four times as many of a dgrad

constexpr float G[6][3] = {
    {1, 0, 0}, {-2.f / 3, -2.f / 3 * A, -1.f / 3}, {-2.f / 3, 2.f / 3 * A, -1.f / 3}, {1.f / 6, B / 6, 1.f / 3}, {1.f / 6, -B / 6, 1.f / 3},
    {0, 0, 1}};

// to[v][count][N · W] for the points 6u + v of a phase with I and J taps a column and a row, of which (i, j) is at[i][j][row · columns];
// first: their place among G's three.
template <int N, int I, int J>
INLINE void weights_of(float* const* to, int u, int first, const float* const (*at)[3], int count, Z columns) {
    for (int r = 0; r < count; r++) UNROLL for (int n = 0; n < N; n++) {
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
    const int (*taps)[3] = forward ? FORWARD_TAPS : DGRAD_TAPS;
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

// Piece (u, some panels, phase of a dgrad) of a block: its columns of m for `rows` tiles.
template <int N> void shared_piece(const Direction& d, const float* w, int u, int phase, int column, int panels, const float* points,
                                   Z plane_in, float* products, Z plane_out, int rows) {
    constexpr int width = N * W;
    const Tiles& g = d.g;
    const int depth = d.forward ? DEPTH : 4 * DEPTH, inputs = d.forward ? g.large : g.small;
    const int real_rows = d.forward ? g.s.ci : g.s.co, real_columns = d.forward ? g.s.co : g.s.ci;
    const Run all = d.forward ? run_at(6 * u + 1, d.dead) : Run{phase, phase + 1};
    constexpr Z panel_floats = (Z)4 * DEPTH * width;
    float* memory = weights_memory.get((size_t)(6 * panels * panel_floats));
    for (int k = 0; k < inputs; k += depth) {
        const int run = std::min(depth, inputs - k);
        for (int q = 0; q < panels; q++)
            for (int f = all.first; f < all.last; f++) {
                float* to[6];
                for (int v = 0; v < 6; v++) to[v] = memory + (v * panels + q) * panel_floats + (f - all.first) * run * width;
                weights_at<N>(to, u, f, d.forward, w, real_rows, real_columns, k, run, column + q * width);
            }
        for (int v = 0; v < 6; v++) {
            const Run part = run_at(6 * u + v, d.dead);
            if (!d.forward && (phase < part.first || phase >= part.last)) continue;
            const int runs = d.forward ? part.count() : 1;
            const float* a = points + (6 * u + v) * plane_in + (d.forward ? part.first * g.large : 0) + k;
            for (int q = 0; q < panels; q++) {
                const float* b = memory + (v * panels + q) * panel_floats;
                float* c = products + (6 * u + v) * plane_out + (d.forward ? 0 : phase * g.large) + column + q * width;
                tiles<N>(a, d.from(), g.large, runs, run, b, width, c, d.to(), rows, k > 0);
            }
        }
    }
}

void shared_products(const Direction& d, const float* w, const float* points, Z plane_in, float* products, Z plane_out, int rows) {
    const int columns = d.forward ? d.g.small : d.g.large, n = whole_panel(columns), panels = columns / (n * W), phases = d.forward ? 1 : 4;
    // Two panels a piece halve how often the points are read; with few pieces threads would wait for the last.
    const int together = 6 * panels * phases >= 2 * PIECES ? 2 : 1, pieces = (panels + together - 1) / together;
    parallel(6 * (Z)pieces * phases, [&](Z piece) {
        const int u = int(piece % 6), phase = int(piece / 6 % phases), first = int(piece / 6 / phases) * together;
        if (!d.forward && u == d.dead && PHASES[phase][0]) return;
        const auto work = n == 3 ? shared_piece<3> : n == 2 ? shared_piece<2> : shared_piece<1>;
        work(d, w, u, phase, first * n * W, std::min(together, panels - first), points, plane_in, products, plane_out, rows);
    });
}

}  // namespace

void shared_images(const Direction& d, const float* w, const After& after) {
    const int n = d.g.s.n, each = d.g.each();
    const int blocks = (n * each + SHARED - 1) / SHARED, together = std::max(1, (n + blocks - 1) / blocks);  // images
    for (int first = 0; first < n; first += together) {
        const int last = std::min(n, first + together), count = (last - first) * each;
        const Z points = plane(count, d.in), products = plane(count, d.out), start = (Z)first * each;
        float *u = points_memory.get((size_t)(POINTS * points)), *m = products_memory.get((size_t)(POINTS * products));
        parallel(count, [&](Z q) { d.read(u + q * d.from(), points, start + q); });
        shared_products(d, w, u, points, m, products, (count + 3) / 4 * 4);
        parallel(last - first, [&](Z i) {
            for (Z q = i * each; q < (i + 1) * each; q++) d.write(start + q, m + q * d.to(), products);
            d.finish(after, int(first + i));
        });
    }
}
