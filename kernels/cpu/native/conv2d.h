// Convolutions inside the library. Axis letters as in kernels.contract.conv2d; every image is finished by `After` while it is in the cache.
#pragma once
#include "pool.h"
#include "rows.h"

struct Conv {
    int n, h, w, ci, oh, ow, co, kh, kw, stride;
};

// What is done to each image of a result: bias and ReLU (activation 1), statistics [n][2][c], or what it owes the previous layer.
struct After {
    const float* bias;
    int activation;
    double* statistics;
    const Previous* previous;
    void image(float* y, Z rows, int c, int i) const;
};
void forward(float* y, const float* x, const float* w, const Conv& s, const After& after);
void dgrad(float* dx, const float* dy, const float* w, const Conv& s, const After& after);
void wgrad(float* dw, const float* x, const float* dy, const Conv& s);

// Winograd's form of the same (winograd.cpp), for 5x5 kernels of stride 2.
bool winograd_suits(const Conv& s);
void winograd_forward(float* y, const float* x, const float* w, const Conv& s, const After& after);
void winograd_dgrad(float* dx, const float* dy, const float* w, const Conv& s, const After& after);
void winograd_wgrad(float* dw, const float* x, const float* dy, const Conv& s);

// Rows [first, first + lines) of an image [h, w, c] within zeros, `left` of them before each: [lines, pw, c]
void pad(float* out, const float* x, int h, int w, int c, int first, int lines, int left, int pw);
