// Convolution forward and dgrad, direct: no im2col. An NHWC image within zeros already is the left matrix of the product: the KW · Ci
// values that an output reads from one line lie side by side, and the next output's begin S · Ci further on. A dgrad is the same product
// over dy with turned weights, for stride 2 one for each of the four output phases, whose taps are their own.
#include "conv2d.h"

#include <vector>

#include "product.h"

static thread_local Scratch padded, packed, spare;

void After::image(float* y, Z rows, int c, int i) const {
    if (bias) {
        const int f = beside(rows, c), w = f * c;
        float* b = spare.get(w);
        repeat(b, bias, c, f);
        for (Z r = 0; r < rows / f; r++) {
            float* o = y + r * w;
            if (activation == 1) LANES for (int j = 0; j < w; j++) {
                    const float v = o[j] + b[j];
                    o[j] = v < 0 ? 0 : v;
                }
            else LANES for (int j = 0; j < w; j++) o[j] += b[j];
        }
    } else if (activation == 1)
        for (Z j = 0; j < rows * c; j++) y[j] = y[j] < 0 ? 0 : y[j];
    if (statistics) row_statistics(statistics + (Z)i * 2 * c, statistics + (Z)i * 2 * c + c, y, rows, c);
    if (previous) previous->part(y, i);
}

void pad(float* out, const float* x, int h, int w, int c, int first, int lines, int left, int pw) {
    const int inside = std::min(w, pw - left);
    for (int i = 0; i < lines; i++, out += (Z)pw * c) {
        const int row = first + i;
        if (row < 0 || row >= h) {
            memset(out, 0, (size_t)pw * c * 4);
            continue;
        }
        memset(out, 0, (size_t)left * c * 4);
        memcpy(out + left * c, x + (Z)row * w * c, (size_t)inside * c * 4);
        memset(out + (Z)(left + inside) * c, 0, (size_t)(pw - left - inside) * c * 4);
    }
}

// ---- packed weights ----

// Taps [rows · cols] of [channels, co] by strides, one of which is 1 → panels [rows · cols · channels][N · W], or for few outputs [co][rows][cols · channels].
struct Taps {
    std::vector<const float*> at;
    int rows, channels;
    Z channel_stride;
    int co;
    Z co_stride;

    int run() const { return (int)at.size() / rows * channels; }
    int padded_run() const { return (run() + W - 1) / W * W; }
    size_t floats() const { return co <= FEW ? (size_t)co * rows * padded_run() : packed_floats(co, (Z)at.size() * channels); }
    void pack(float* out) const;
};

void Taps::pack(float* out) const {
    const int cols = (int)at.size() / rows;
    if (co <= FEW) {
        const int wide = padded_run();
        memset(out, 0, floats() * 4);
        for (int n = 0; n < co; n++)
            for (int t = 0; t < (int)at.size(); t++)
                for (int c = 0; c < channels; c++)
                    out[(Z)(n * rows + t / cols) * wide + t % cols * channels + c] = at[t][c * channel_stride + n * co_stride];
        return;
    }
    const int width = panel_vectors(co) * W, panels = (co + width - 1) / width;
    const Z depth = (Z)at.size() * channels;
    const auto tap = [&](Z t) {
        for (int panel = 0; panel < panels; panel++) {
            const int valid = std::min(width, co - panel * width);
            float* o = out + (panel * depth + t * channels) * width;
            const float* s = at[t] + (Z)panel * width * co_stride;
            if (co_stride == 1)
                for (int c = 0; c < channels; c++, o += width) {
                    memcpy(o, s + c * channel_stride, (size_t)valid * 4);
                    memset(o + valid, 0, (size_t)(width - valid) * 4);
                }
            else {  // turned: a channel's outputs lie apart, an output's channels side by side
                turn(o, width, s, co_stride, valid, channels);
                for (int c = 0; c < channels; c++) memset(o + (Z)c * width + valid, 0, (size_t)(width - valid) * 4);
            }
        }
    };
    if (depth * co < SMALL)
        for (Z t = 0; t < (Z)at.size(); t++) tap(t);
    else parallel((Z)at.size(), tap);
}

// ---- the product of image lines and packed weights ----

struct Lines {  // outputs [oh, ow] of one product
    int oh, ow;
    const float* a;     // the first output's first input
    Z a_pixel, a_line;  // between neighbouring outputs
    Z a_row;            // between kernel rows
    int rows, run;
    const float* b;
    float* c;
    Z c_pixel, c_line;
    int co;
};

template <int G, int GW, int N> static void product_of(const Lines& g) {
    const int per_line = g.ow / GW, groups = g.oh * per_line, width = N * W;
    const int piece = std::max(48, WEIGHTS_IN_L1 / (width * 4)), pieces = (g.run + piece - 1) / piece, step = (g.run + pieces - 1) / pieces;
    const int together = pieces > 1 ? 1 : std::max(1, std::min(g.rows, piece / g.run));
    for (int panel = 0; panel * width < g.co; panel++) {
        const int valid = std::min(width, g.co - panel * width);
        for (int row = 0; row < g.rows; row += together)
            for (int k = 0; k < g.run; k += step) {
                const int run = std::min(step, g.run - k), rows = std::min(together, g.rows - row);
                const float* b = g.b + (((Z)panel * g.rows + row) * g.run + k) * width;
                const bool add = row || k;
                for (int t = 0; t < groups; t += G) {
                    const int count = std::min(G, groups - t);
                    const float* a[G];
                    float* c[G];
                    for (int i = 0; i < count; i++) {
                        const int line = (t + i) / per_line, col = (t + i) % per_line * GW;
                        a[i] = g.a + line * g.a_line + col * g.a_pixel + row * g.a_row + k;
                        c[i] = g.c + line * g.c_line + col * g.c_pixel + panel * width;
                    }
                    if (valid == width && count == G) {
                        tile<G, GW, N>(a, g.a_pixel, g.a_row, rows, run, b, width, c, g.c_pixel, add);
                    } else if (valid == width) {
                        for (int i = 0; i < count; i++)
                            tile<1, GW, N>(a + i, g.a_pixel, g.a_row, rows, run, b, width, c + i, g.c_pixel, add);
                    } else {  // channels that fill no vector
                        for (int i = 0; i < count; i++) {
                            float block[GW * N * W];
                            float* s = block;
                            for (int q = 0; q < GW; q++)
                                for (int j = 0; j < width; j++) s[q * width + j] = add && j < valid ? c[i][q * g.c_pixel + j] : 0;
                            tile<1, GW, N>(a + i, g.a_pixel, g.a_row, rows, run, b, width, &s, width, add);
                            for (int q = 0; q < GW; q++) memcpy(c[i] + q * g.c_pixel, s + q * width, (size_t)valid * 4);
                        }
                    }
                }
            }
    }
}
template <int N> static void product_n(const Lines& g) {
    constexpr int G = tile_groups<N>();
    if (g.ow % 4 == 0) product_of<G, 4, N>(g);
    else if (g.ow % 2 == 0) product_of<2 * G, 2, N>(g);
    else product_of<4 * G, 1, N>(g);
}
template <int C> static void few_of(const Lines& g) {
    constexpr int M = REGISTERS == 32 ? (C <= 3 ? 8 : 4) : (C <= 3 ? 4 : 2);
    for (int i = 0; i < g.oh; i++)
        for (int j = 0; j < g.ow;) {
            const float* a = g.a + i * g.a_line + j * g.a_pixel;
            float* c = g.c + i * g.c_line + j * g.c_pixel;
            const Z run = (g.run + W - 1) / W * W;
            if (j + M <= g.ow) dots<M, C>(a, g.a_pixel, g.a_row, g.rows, g.run, g.b, run * g.rows, run, c, g.c_pixel, 1), j += M;
            else dots<1, C>(a, g.a_pixel, g.a_row, g.rows, g.run, g.b, run * g.rows, run, c, g.c_pixel, 1), j++;
        }
}
static void product(const Lines& g) {
    if (g.co <= FEW) {
        switch (g.co) {
            case 1: return few_of<1>(g);
            case 2: return few_of<2>(g);
            case 3: return few_of<3>(g);
            default: return few_of<4>(g);
        }
    }
    switch (panel_vectors(g.co)) {
        case 1: return product_n<1>(g);
        case 2: return product_n<2>(g);
        default: return product_n<3>(g);
    }
}

// Pieces of lines that an image is cut into: one where there are images enough for the threads.
static int cuts_of(int n, int lines) { return n >= 8 ? 1 : std::min(lines, (8 + n - 1) / n); }

// Runs work(image, first line, last line) over all images' lines, and what comes after each image.
template <class F> static void each_image(int n, int lines, float* out, Z image, int c, const After& after, F work) {
    const int cuts = cuts_of(n, lines);
    parallel((Z)n * cuts, [&](Z t) {
        const int i = int(t / cuts), k = int(t % cuts);
        work(i, lines * k / cuts, lines * (k + 1) / cuts);
        if (cuts == 1) after.image(out + i * image, image / c, c, i);
    });
    if (cuts > 1) parallel(n, [&](Z i) { after.image(out + i * image, image / c, c, int(i)); });
}

void forward(float* y, const float* x, const float* w, const Conv& s, const After& after) {
    if (winograd_suits(s)) return winograd_forward(y, x, w, s, after);
    Taps taps{{}, s.kh, s.ci, s.co, s.co, 1};
    for (int t = 0; t < s.kh * s.kw; t++) taps.at.push_back(w + (Z)t * s.ci * s.co);
    float* b = packed.get(taps.floats());
    taps.pack(b);
    const int pw = (s.ow - 1) * s.stride + s.kw;
    each_image(s.n, s.oh, y, (Z)s.oh * s.ow * s.co, s.co, after, [&](int i, int first, int last) {
        const int lines = (last - first - 1) * s.stride + s.kh;
        float* a = padded.get((size_t)lines * pw * s.ci + W);
        pad(a, x + (Z)i * s.h * s.w * s.ci, s.h, s.w, s.ci, first * s.stride - s.kh / 2, lines, s.kw / 2, pw);
        memset(a + (Z)lines * pw * s.ci, 0, W * 4);
        product({last - first, s.ow, a, (Z)s.stride * s.ci, (Z)s.stride * pw * s.ci, (Z)pw * s.ci, s.kh, s.kw * s.ci, b,
                 y + ((Z)i * s.oh + first) * s.ow * s.co, s.co, (Z)s.ow * s.co, s.co});
    });
}

// An output phase of a dgrad: dx's rows row, row + S, … and their columns read dy's taps first_row … first_row + rows - 1, weights at
// `offset`.
struct Phase {
    int row, col, first_row, first_col, rows, cols;
    size_t offset;
};

void dgrad(float* dx, const float* dy, const float* w, const Conv& s, const After& after) {
    if (winograd_suits(s)) return winograd_dgrad(dx, dy, w, s, after);
    const auto down = [](int a, int b) { return a >= 0 ? a / b : -((-a + b - 1) / b); };
    const auto first = [&](int a, int k) { return -down(k / 2 - a, s.stride); };  // of i' - i over the taps of a phase
    const auto last = [&](int a, int k) { return down(a + k / 2, s.stride); };
    std::vector<Phase> phases;
    std::vector<Taps> weights;
    size_t size = 0;
    for (int a = 0; a < s.stride; a++)
        for (int b = 0; b < s.stride; b++) {
            const Phase p{a,   b, first(a, s.kh), first(b, s.kw), last(a, s.kh) - first(a, s.kh) + 1, last(b, s.kw) - first(b, s.kw) + 1,
                          size};
            Taps taps{{}, std::max(1, p.rows), s.co, 1, s.ci, s.co};
            for (int i = 0; i < p.rows; i++)
                for (int j = 0; j < p.cols; j++) {
                    const int kr = a + s.kh / 2 - s.stride * (p.first_row + i), kc = b + s.kw / 2 - s.stride * (p.first_col + j);
                    taps.at.push_back(w + (Z)(kr * s.kw + kc) * s.ci * s.co);
                }
            phases.push_back(p);
            size += taps.floats();
            weights.push_back(std::move(taps));
        }
    float* b = packed.get(size);
    for (size_t k = 0; k < phases.size(); k++)
        if (!weights[k].at.empty()) weights[k].pack(b + phases[k].offset);
    const int top = -first(0, s.kh), left = -first(0, s.kw), below = last(s.stride - 1, s.kh), right = last(s.stride - 1, s.kw);
    const int gh = (s.h + s.stride - 1) / s.stride, gw = (s.w + s.stride - 1) / s.stride, pw = left + gw + right;
    each_image(s.n, gh, dx, (Z)s.h * s.w * s.ci, s.ci, after, [&](int i, int begin, int end) {
        const int lines = top + end - begin + below;
        float* a = padded.get((size_t)lines * pw * s.co + W);
        pad(a, dy + (Z)i * s.oh * s.ow * s.co, s.oh, s.ow, s.co, begin - top, lines, left, pw);
        memset(a + (Z)lines * pw * s.co, 0, W * 4);
        for (const Phase& p : phases) {
            const int rows = std::min(end, (s.h - p.row + s.stride - 1) / s.stride) - begin, cols = (s.w - p.col + s.stride - 1) / s.stride;
            float* out = dx + (((Z)i * s.h + begin * s.stride + p.row) * s.w + p.col) * s.ci;
            const Z pixel = (Z)s.stride * s.ci, line = pixel * s.w;
            if (p.rows < 1 || p.cols < 1) {  // a 1x1 kernel reaches only one pixel in four
                for (int r = 0; r < rows; r++)
                    for (int q = 0; q < cols; q++) memset(out + r * line + q * pixel, 0, (size_t)s.ci * 4);
                continue;
            }
            product({rows, cols, a + ((Z)(top + p.first_row) * pw + left + p.first_col) * s.co, s.co, (Z)pw * s.co, (Z)pw * s.co, p.rows,
                     p.cols * s.co, b + p.offset, out, pixel, line, s.ci});
        }
    });
}
