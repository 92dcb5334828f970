// The convolutions of the contract and the blocks op + batch norm + ReLU, each in one call.
#include "batch_norm.h"
#include "conv2d.h"

static thread_local Scratch image_sums, previous_sums;

static double* doubles(Scratch& memory, Z count) { return (double*)memory.get((size_t)count * 2); }

EXPORT void conv2d_forward(float* y, const float* x, const float* w, const float* bias, int n, int h, int wd, int ci, int oh, int ow,
                           int co, int kh, int kw, int stride, int relu) {
    guarded([&] { forward(y, x, w, {n, h, wd, ci, oh, ow, co, kh, kw, stride}, {bias, relu, nullptr, nullptr}); });
}

// dx from dy with the previous layer's part (y null: none); also the fractional-strided convolution, with its bias and ReLU.
EXPORT void conv2d_dgrad(float* dx, const float* dy, const float* w, const float* bias, int n, int h, int wd, int ci, int oh, int ow,
                         int co, int kh, int kw, int stride, int relu, const float* y, const float* pre, const float* mean,
                         const float* var, float eps, const int* counts, int groups, int c, float* sums) {
    guarded([&] {
        const Previous previous{
            y, pre, mean, var, eps, {{counts, groups}, n, (Z)h * wd, false}, c, sums, doubles(previous_sums, (Z)n * 2 * c)};
        dgrad(dx, dy, w, {n, h, wd, ci, oh, ow, co, kh, kw, stride}, {bias, relu, nullptr, y ? &previous : nullptr});
        previous.finish();
    });
}

// The same for a fractional-strided convolution's dgrad, which is a convolution of dy.
EXPORT void conv_transpose2d_dgrad(float* dx, const float* dy, const float* w, int n, int h, int wd, int ci, int oh, int ow, int co, int kh,
                                   int kw, int stride, const float* y, const float* pre, const float* mean, const float* var, float eps,
                                   const int* counts, int groups, int c, float* sums) {
    guarded([&] {
        const Previous previous{
            y, pre, mean, var, eps, {{counts, groups}, n, (Z)oh * ow, false}, c, sums, doubles(previous_sums, (Z)n * 2 * c)};
        forward(dx, dy, w, {n, h, wd, ci, oh, ow, co, kh, kw, stride}, {nullptr, 0, nullptr, y ? &previous : nullptr});
        previous.finish();
    });
}

EXPORT void conv2d_wgrad(float* dw, const float* x, const float* dy, int n, int h, int wd, int ci, int oh, int ow, int co, int kh, int kw,
                         int stride) {
    guarded([&] { wgrad(dw, x, dy, {n, h, wd, ci, oh, ow, co, kh, kw, stride}); });
}

// y = relu(BN(conv(x, w))), or of convᵀ where `transposed`: then x is the small image. Statistics are made, or given and left alone; y null:
// pre and they are all that is made.
EXPORT void conv_bn_relu_forward(float* y, float* pre, float* mean, float* var, const float* x, const float* w, const float* gamma,
                                 const float* beta, const int* counts, int groups, int n, int h, int wd, int ci, int oh, int ow, int co,
                                 int kh, int kw, int stride, int transposed, float eps, int batch_statistics) {
    guarded([&] {
        const Conv s{n, h, wd, ci, oh, ow, co, kh, kw, stride};
        const int c = transposed ? ci : co;
        const Z rows = transposed ? (Z)h * wd : (Z)oh * ow;
        double* parts = batch_statistics ? doubles(image_sums, (Z)n * 2 * c) : nullptr;
        const After after{nullptr, 0, parts, nullptr};
        transposed ? dgrad(pre, x, w, s, after) : forward(pre, x, w, s, after);
        if (parts) combine_statistics(mean, var, parts, {{counts, groups}, n, rows, false}, c);
        if (y) normalise(y, pre, mean, var, gamma, beta, {counts, groups}, n, rows, c, eps, true);
    });
}

// What a gradient that is there already, [n, rows, c] (a linear layer's), owes the previous layer.
EXPORT void finish_previous(float* dx, int n, Z rows, const float* y, const float* pre, const float* mean, const float* var, float eps,
                            const int* counts, int groups, int c, float* sums) {
    guarded([&] {
        const Parts parts = Parts::of({counts, groups}, n, rows);
        const Previous previous{y, pre, mean, var, eps, parts, c, sums, doubles(previous_sums, (Z)parts.size() * 2 * c)};
        each_part(parts, c, [&](int p) { previous.part(dx + parts.first_row(p) * c, p); });
        previous.finish();
    });
}
