// The three microkernels, each a small block of a matrix product held in registers while the sum runs, and their packed weights.
//
//   tile    c[m][n] += Σ_k a_m[k] · b[k][n]      a few rows (pixels) times N vectors of columns (output channels)
//   outer   c[m][n] += Σ_j a[j][m] · b[j][n]     the weight gradient: the sum runs over pixels
//   dots    c[m][n]  = Σ_k a_m[k] · b_n[k]       few output channels: lanes run along k, and are added at the end
//
// Every output is one sum in the order of k (or j), however the blocks are cut: its bits depend on no block and no thread.
#pragma once
#include <utility>

#include "vectors.h"

// ---- tile ----

// Rows of one product: G groups of GW rows, a group's rows `as` apart, each a sum of `rows` runs of `run` neighbouring values, the runs
// `ar` apart: an image within zeros is such a matrix already, KW · Ci values of a line for each of KH lines. b: [rows · run] rows, `bs`
// apart, of N vectors. add: onto c's values.
template <int G, int GW, int N>
static INLINE void tile(const float* const* a, Z as, Z ar, int rows, int run, const float* b, Z bs, float* const* c, Z cs, bool add) {
    V acc[G * GW][N];
    UNROLL for (int m = 0; m < G * GW; m++) UNROLL for (int n = 0; n < N; n++) acc[m][n] =
        add ? load(c[m / GW] + (m % GW) * cs + n * W) : V{};
    for (int r = 0; r < rows; r++) {
        const float* p[G];
        UNROLL for (int g = 0; g < G; g++) p[g] = a[g] + r * ar;
        for (int k = 0; k < run; k++) {
            V w[N];
            UNROLL for (int n = 0; n < N; n++) w[n] = load(b + n * W);
            UNROLL for (int m = 0; m < G * GW; m++) {
                const V x = splat(p[m / GW][(m % GW) * as]);
                UNROLL for (int n = 0; n < N; n++) acc[m][n] += x * w[n];
            }
            UNROLL for (int g = 0; g < G; g++) p[g]++;
            b += bs;
        }
    }
    UNROLL for (int m = 0; m < G * GW; m++) UNROLL for (int n = 0; n < N; n++) store(c[m / GW] + (m % GW) * cs + n * W, acc[m][n]);
}

// Vectors of columns in a panel of packed weights, for so many columns: 3, 2 or 1, so that few columns are padding.
static INLINE int panel_vectors(int columns) {
    const int v = (columns + W - 1) / W;
    return v % 3 == 0 ? 3 : v % 2 == 0 ? 2 : v > 4 ? 2 : v;
}
// The same for columns that fill vectors, with no vector of padding: a panel must not reach into the next row of the result.
static INLINE int whole_panel(int columns) {
    const int v = columns / W;
    return v % 3 == 0 ? 3 : v % 2 == 0 ? 2 : 1;
}
static INLINE size_t packed_floats(int columns, Z depth) {
    const int width = panel_vectors(columns) * W;
    return (size_t)depth * ((columns + width - 1) / width * width);
}

// Rows of a tile of N vectors, in groups of 4: as many as the registers hold beside b's vectors and a value of a.
template <int N> constexpr int tile_groups() { return REGISTERS == 32 ? (N == 1 ? 4 : N == 2 ? 3 : 2) : (N == 1 ? 2 : 1); }
constexpr int WEIGHTS_IN_L1 = 24576;  // bytes of a panel that are used for all rows before the next ones

// c[rows][N vectors] (+)= a · b, rows of a and c `as` and `cs` apart; the sum as in `tile`.
template <int N>
static INLINE void tiles(const float* a, Z as, Z ar, int runs, int run, const float* b, Z bs, float* c, Z cs, Z rows, bool add) {
    constexpr int G = tile_groups<N>(), M = 4 * G;
    Z m = 0;
    for (; m + M <= rows; m += M) {
        const float* from[G];
        float* to[G];
        UNROLL for (int g = 0; g < G; g++) from[g] = a + (m + 4 * g) * as, to[g] = c + (m + 4 * g) * cs;
        tile<G, 4, N>(from, as, ar, runs, run, b, bs, to, cs, add);
    }
    for (; m + 4 <= rows; m += 4) {
        const float* from = a + m * as;
        float* to = c + m * cs;
        tile<1, 4, N>(&from, as, ar, runs, run, b, bs, &to, cs, add);
    }
    for (; m < rows; m++) {
        const float* from = a + m * as;
        float* to = c + m * cs;
        tile<1, 1, N>(&from, as, ar, runs, run, b, bs, &to, cs, add);
    }
}

// c[rows][columns] = a[rows][depth] · packed b; columns: a multiple of W, in whole_panel's panels.
template <int N> static void matrix_panels(const float* a, Z as, int rows, int depth, const float* b, float* c, Z cs, int panels) {
    constexpr int width = N * W;
    const int pieces = (depth * width * 4 + WEIGHTS_IN_L1 - 1) / WEIGHTS_IN_L1, step = (depth + pieces - 1) / pieces;
    for (int panel = 0; panel < panels; panel++)
        for (int k = 0; k < depth; k += step)
            tiles<N>(a + k, as, 0, 1, std::min(step, depth - k), b + ((Z)panel * depth + k) * width, width, c + panel * width, cs, rows,
                     k > 0);
}
static INLINE void matrix_product(const float* a, Z as, int rows, int depth, const float* b, float* c, Z cs, int columns) {
    const int n = whole_panel(columns), panels = columns / (n * W);
    if (n == 1) matrix_panels<1>(a, as, rows, depth, b, c, cs, panels);
    else if (n == 2) matrix_panels<2>(a, as, rows, depth, b, c, cs, panels);
    else matrix_panels<3>(a, as, rows, depth, b, c, cs, panels);
}

constexpr int FEW = 4;  // so many channels fill no vector

// Vectors of the next block where `left` are to be done: 3, 2 or 1, and never one alone behind threes.
static INLINE int next_vectors(int left) { return left >= 3 && left != 4 ? 3 : left >= 2 ? 2 : 1; }

// ---- outer ----

// c[m][n] (+)= Σ a[m] · b[n] over `cols` neighbours (as, bs apart) of `lines` lines (al, bl) of `images` (ai, bi): M values of a, N vectors
// of b.
struct Outer {
    const float* a;
    Z as, al, ai;
    const float* b;
    Z bs, bl, bi;
    int images, lines, cols;
    float* c;
    Z cs;
    bool add;
};
template <int M, int N> static void outer(const Outer& s, int row, int column) {
    V acc[M][N];
    float* const c = s.c + row * s.cs + column;
    UNROLL for (int m = 0; m < M; m++) UNROLL for (int n = 0; n < N; n++) acc[m][n] = s.add ? load(c + m * s.cs + n * W) : V{};
    for (int i = 0; i < s.images; i++)
        for (int l = 0; l < s.lines; l++) {
            const float *p = s.a + i * s.ai + l * s.al + row, *q = s.b + i * s.bi + l * s.bl + column;
            for (int j = 0; j < s.cols; j++) {
                V w[N];
                UNROLL for (int n = 0; n < N; n++) w[n] = load(q + n * W);
                UNROLL for (int m = 0; m < M; m++) {
                    const V x = splat(p[m]);
                    UNROLL for (int n = 0; n < N; n++) acc[m][n] += x * w[n];
                }
                p += s.as;
                q += s.bs;
            }
        }
    UNROLL for (int m = 0; m < M; m++) UNROLL for (int n = 0; n < N; n++) store(c + m * s.cs + n * W, acc[m][n]);
}
template <int M, int N> static void outer_rows(const Outer& s, int rows, int column) {
    int r = 0;
    for (; r + M <= rows; r += M) outer<M, N>(s, r, column);
    if constexpr (M > 15)
        for (; r + 15 <= rows; r += 15) outer<15, N>(s, r, column);
    if constexpr (M > 5)
        for (; r + 5 <= rows; r += 5) outer<5, N>(s, r, column);
    if constexpr (M > 3)
        for (; r + 3 <= rows; r += 3) outer<3, N>(s, r, column);
    for (; r < rows; r++) outer<1, N>(s, r, column);
}
// All of c: `rows` values of a, `columns` of b, a multiple of W.
static INLINE void outer_product(const Outer& s, int rows, int columns) {
    constexpr bool many = REGISTERS == 32;
    for (int v = 0, vectors = columns / W; v < vectors;) {
        const int left = vectors - v, n = many && rows <= FEW && left >= 5 ? 5 : next_vectors(left);
        if (n == 5) outer_rows<3, many ? 5 : 1>(s, rows, v * W);
        else if (n == 3) outer_rows<many ? 8 : 4, 3>(s, rows, v * W);
        else if (n == 2) outer_rows<many ? 12 : 6, 2>(s, rows, v * W);
        else outer_rows<many ? 20 : 10, 1>(s, rows, v * W);
        v += n;
    }
}

// ---- turned matrices ----

// Lanes l of a and b: where l has the bit S, a takes b's lane l - S, else b takes a's lane l + S.
template <int S, size_t... I> static INLINE void exchange(V& a, V& b, std::index_sequence<I...>) {
    const V first = __builtin_shufflevector(a, b, (int(I) & S ? W + int(I) - S : int(I))...);
    b = __builtin_shufflevector(a, b, (int(I) & S ? W + int(I) : int(I) + S)...);
    a = first;
}
template <int S = 1> static INLINE void transpose(V* v) {  // lane j of v[i] and lane i of v[j] change places
    if constexpr (S < W) {
        UNROLL for (int i = 0; i < W; i++) if (!(i & S)) exchange<S>(v[i], v[i | S], std::make_index_sequence<W>());
        transpose<2 * S>(v);
    }
}
// to[c][n] = from[n][c] for n < rows, c < columns; rows of `apart` and `to_apart` floats
static INLINE void turn(float* to, Z to_apart, const float* from, Z apart, int rows, int columns) {
    for (int n = 0; n < rows; n += W)
        for (int c = 0; c < columns; c += W)
            if (n + W <= rows && c + W <= columns) {
                V v[W];
                UNROLL for (int i = 0; i < W; i++) v[i] = load(from + (n + i) * apart + c);
                transpose(v);
                UNROLL for (int i = 0; i < W; i++) store(to + (c + i) * to_apart + n, v[i]);
            } else {
                for (int i = n; i < std::min(rows, n + W); i++)
                    for (int j = c; j < std::min(columns, c + W); j++) to[j * to_apart + i] = from[i * apart + j];
            }
}

// ---- dots ----

// Lane i of the result: the sum of the lanes of v[i], by W - 1 pairwise additions.
template <int S, size_t... I> static INLINE V fold(V a, V b, std::index_sequence<I...>) {
    return __builtin_shufflevector(a, b, (int(I) & S ? W + int(I) : int(I))...) +
           __builtin_shufflevector(a, b, (int(I) & S ? W + (int(I) ^ S) : (int(I) ^ S))...);
}
template <int COUNT> static INLINE V lane_sums(V* v) {
    if constexpr (COUNT == 1) return v[0];
    else {
        UNROLL for (int i = 0; i < COUNT / 2; i++) v[i] = fold<W / COUNT>(v[2 * i], v[2 * i + 1], std::make_index_sequence<W>());
        return lane_sums<COUNT / 2>(v);
    }
}
// c[m][n] = Σ a[m][k] · b[n][k]: M rows of a (as apart), C of b (bs apart), each `rows` runs (ar, br apart) of `run` values; b has zeros up
// to a multiple of W behind each run, a may be read so far.
template <int M, int C>
static INLINE void dots(const float* a, Z as, Z ar, int rows, int run, const float* b, Z bs, Z br, float* c, Z cm, Z cn) {
    V acc[M][C] = {};
    for (int r = 0; r < rows; r++)
        for (int k = 0; k < run; k += W) {
            V w[C];
            UNROLL for (int n = 0; n < C; n++) w[n] = load(b + n * bs + r * br + k);
            UNROLL for (int m = 0; m < M; m++) {
                const V x = load(a + r * ar + m * as + k);
                UNROLL for (int n = 0; n < C; n++) acc[m][n] += x * w[n];
            }
        }
    constexpr int all = M * C;
    float sums[(all + W - 1) / W * W];
    UNROLL for (int q = 0; q < all; q += W) {
        V v[W];
        UNROLL for (int i = 0; i < W; i++) v[i] = q + i < all ? acc[(q + i) / C][(q + i) % C] : V{};
        store(sums + q, lane_sums<W>(v));
    }
    UNROLL for (int m = 0; m < M; m++) UNROLL for (int n = 0; n < C; n++) c[m * cm + n * cn] = sums[m * C + n];
}
