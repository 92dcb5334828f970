// Between pixels and points: the transforms of tiles, at the edges of images too.
#include "winograd_tiles.h"

#include "winograd.h"

static thread_local Scratch border;

namespace {

// Pixels of an [h, w, c] image in steps of `step` from (row, col), size x size of them: a pointer to the first, its distances, and which
// rows and columns lie inside (bit u). Where channels fill no vector it is a copy [size][size][filled] with zeros.
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
            UNROLL for (int v = 0; v < 4; v++) if (u < rows && v < cols) {
                float* o = y + u * row + v * col + c;
                if (valid == W) store(o, r[v]);
                else memcpy(o, &r[v], (size_t)valid * 4);
            }
        }
    }
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

}  // namespace

void large_tile(float* out, Z points, const float* x, const Tiles& g, Z t) {
    const int i = int(t / g.each()), ti = int(t % g.each()) / g.tw, tj = int(t % g.tw);
    const float* image = x + (Z)i * g.s.h * g.s.w * g.s.ci;
    for (int k = 0; k < 4; k++)
        tile_to_points(out + k * g.large, points,
                       window(image, g.s.h, g.s.w, g.s.ci, g.large, 8 * ti + PHASES[k][0] - 2, 8 * tj + PHASES[k][1] - 2, 2, 6), g.large);
}
void small_errors(float* out, Z points, const float* dy, const Tiles& g, Z t) {
    tile_of_errors(out, points, small_window(dy, g, t, 0, TILE), g.small);
}

void Direction::read(float* u, Z points, Z t) const {
    forward ? large_tile(u, points, source, g, t) : tile_to_points(u, points, small_window(source, g, t, 1, 6), g.small);
}
void Direction::write(Z t, const float* m, Z products) const {
    forward ? to_small(result, g, t, m, products) : to_large(result, g, t, m, products);
}
