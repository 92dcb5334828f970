// Winograd's products of few channels: a thread takes whole images, and reads weights that were packed for all.
#include "product.h"
#include "winograd.h"
#include "winograd_tiles.h"

static thread_local Scratch points_memory, products_memory, weights_memory;

namespace {

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
        float* out = weights_memory.get((size_t)size);
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
                    UNROLL for (int v = 0; v < 6; v++) if (to[6 * u + v]) store(to[6 * u + v] + row * panels[6 * u + v], r[v]);
                }
            }
        });
    }
};

constexpr Z CACHE = 768 << 10;  // bytes of a block's points and products: of a second-level cache of 1 MB

int block_of(const Direction& d) { return int(std::min<Z>(96, std::max<Z>(24, CACHE / ((Z)POINTS * 4 * (d.in + d.out)) / 24 * 24))); }

// Images [first, last) on one thread: tiles → points → products → tiles.
void some_images(const Direction& d, const Weights& weights, int first, int last) {
    const Tiles& g = d.g;
    const int block = block_of(d);
    const Z points = plane(block, d.in), products = plane(block, d.out), end = (Z)last * g.each();
    float *u = points_memory.get((size_t)(POINTS * points)), *m = products_memory.get((size_t)(POINTS * products));
    for (Z t = (Z)first * g.each(); t < end; t += block) {
        const int count = int(std::min<Z>(block, end - t)), rows = (count + 3) / 4 * 4;
        for (int q = 0; q < count; q++) d.read(u + (Z)q * d.from(), points, t + q);
        for (int p = 0; p < POINTS; p++) {
            const Run run = run_at(p, d.dead);
            const Z skipped = run.first * g.large;
            if (d.forward)
                matrix_product(u + p * points + skipped, d.from(), rows, run.count() * g.large, weights.at[p], m + p * products, d.to(),
                               d.out);
            else
                matrix_product(u + p * points, d.from(), rows, d.in, weights.at[p], m + p * products + skipped, d.to(),
                               run.count() * g.large);
        }
        for (int q = 0; q < count; q++) d.write(t + q, m + (Z)q * d.to(), products);
    }
}

}  // namespace

int own_images_at_once(const Direction& d) { return std::max(1, block_of(d) / d.g.each()); }

void own_images(const Direction& d, const float* w, const After& after) {
    const Weights weights(w, d.g, d.forward);
    const int each = own_images_at_once(d);
    parallel((d.g.s.n + each - 1) / each, [&](Z unit) {
        const int first = int(unit) * each, last = std::min(d.g.s.n, first + each);
        some_images(d, weights, first, last);
        for (int i = first; i < last; i++) d.finish(after, i);
    });
}
