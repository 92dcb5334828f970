// Element-wise operations on flat arrays.
#include "functions.h"

// y = max(x, 0), NaN where x is
EXPORT void relu_forward(float* y, const float* x, Z size) {
    map(size, 1, [](V x) { return x < 0 ? splat(0) : x; }, y, x);
}

// dx = dy * [y > 0]: an infinite error behind a closed ReLU is NaN
EXPORT void relu_backward(float* dx, const float* dy, const float* y, Z size) {
    map(size, 1, [](V dy, V y) { return dy * (y > 0 ? splat(1) : splat(0)); }, dx, dy, y);
}

EXPORT void tanh_forward(float* y, const float* x, Z size) {
    map(size, 4, [](V x) { return tanh(x); }, y, x);
}

EXPORT void tanh_backward(float* dx, const float* dy, const float* y, Z size) {
    map(size, 1, [](V dy, V y) { return dy * (1 - y * y); }, dx, dy, y);
}

EXPORT void sigmoid_forward(float* y, const float* x, Z size) {
    map(size, 4, [](V x) { return sigmoid(x); }, y, x);
}

EXPORT void sigmoid_backward(float* dx, const float* dy, const float* y, Z size) {
    map(size, 1, [](V dy, V y) { return dy * (y * (1 - y)); }, dx, dy, y);
}

EXPORT void add(float* out, const float* a, const float* b, Z size, float alpha, float beta) {
    map(size, 1, [=](V a, V b) { return alpha * a + beta * b; }, out, a, b);
}

EXPORT void scale(float* out, const float* x, Z size, float factor) {
    map(size, 1, [=](V x) { return x * factor; }, out, x);
}
