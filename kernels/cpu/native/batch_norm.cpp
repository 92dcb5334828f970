// Batch norm and its gradient on [n, rows, C]: images' sums in one pass each, put together in double, then one pass that applies them.
// With one row an image (a linear layer's units) whole groups take the place of images.
#include "batch_norm.h"

#include <vector>

static thread_local Scratch wide, together;

// ---- rows of one image ----

void row_statistics(double* mean, double* squares, const float* x, Z rows, int c) {
    const int f = beside(rows, c), w = f * c;
    float *s = wide.get(2 * (size_t)w), *m = s + w;
    memset(s, 0, (size_t)w * 4);
    for (Z i = 0; i < rows / f; i++) {
        const float* p = x + i * w;
        LANES for (int j = 0; j < w; j++) s[j] += p[j];
    }
    lanes_to_channels(mean, s, c, f);
    for (int j = 0; j < c; j++) mean[j] /= rows, m[j] = (float)mean[j];
    spread(m, c, f);
    memset(s, 0, (size_t)w * 4);
    for (Z i = 0; i < rows / f; i++) {
        const float* p = x + i * w;
        LANES for (int j = 0; j < w; j++) {
            const float d = p[j] - m[j];
            s[j] += d * d;
        }
    }
    lanes_to_channels(squares, s, c, f);
}

void mask_and_sum(float* g, const float* dy, const float* y, const float* pre, const float* mean, Z rows, int c, double* sum,
                  double* product) {
    const int f = beside(rows, c), w = f * c;
    float *s = wide.get(3 * (size_t)w), *t = s + w, *m = t + w;
    memset(s, 0, 2 * (size_t)w * 4);
    if (pre) repeat(m, mean, c, f);
    for (Z i = 0; i < rows / f; i++) {
        float* o = g + i * w;
        const float *d = dy + i * w, *q = y ? y + i * w : nullptr, *p = pre ? pre + i * w : nullptr;
        if (q && p) LANES for (int j = 0; j < w; j++) {
                const float v = q[j] > 0 ? d[j] : 0 * d[j];
                o[j] = v;
                s[j] += v;
                t[j] += v * (p[j] - m[j]);
            }
        else if (q) LANES for (int j = 0; j < w; j++) {
                const float v = q[j] > 0 ? d[j] : 0 * d[j];
                o[j] = v;
                s[j] += v;
            }
        else if (p) LANES for (int j = 0; j < w; j++) {
                o[j] = d[j];
                s[j] += d[j];
                t[j] += d[j] * (p[j] - m[j]);
            }
        else LANES for (int j = 0; j < w; j++) {
                o[j] = d[j];
                s[j] += d[j];
            }
    }
    lanes_to_channels(sum, s, c, f);
    if (pre) lanes_to_channels(product, t, c, f);
}

void Previous::finish() const {
    if (!y) return;
    const double* sum = memory;
    for (int g = 0; g < parts.groups.size; sum += (Z)parts.in_group(g++) * 2 * c)
        for (int j = 0; j < c; j++) {
            double s = 0, t = 0;
            for (int i = 0; i < parts.in_group(g); i++) {
                s += sum[(Z)i * 2 * c + j];
                if (pre) t += sum[(Z)i * 2 * c + c + j];
            }
            sums[(Z)g * c + j] = (float)s;
            if (pre) sums[(Z)(parts.groups.size + g) * c + j] = (float)(t / std::sqrt((double)var[(Z)g * c + j] + eps));
        }
}

// ---- statistics ----

void combine_statistics(float* mean, float* var, const double* sums, const Parts& parts, int c) {
    for (int g = 0; g < parts.groups.size; sums += (Z)parts.in_group(g++) * 2 * c) {
        const int count = parts.in_group(g);
        const double rows = (double)parts.rows_each(g);
        for (int j = 0; j < c; j++) {
            const double* p = sums + j;
            double centre = 0, squares = 0, between = 0;
            for (int i = 0; i < count; i++) centre += p[(Z)i * 2 * c], squares += p[(Z)i * 2 * c + c];
            centre /= count;
            for (int i = 0; i < count; i++) between += (p[(Z)i * 2 * c] - centre) * (p[(Z)i * 2 * c] - centre);
            mean[(Z)g * c + j] = (float)centre;
            var[(Z)g * c + j] = (float)((squares + rows * between) / (rows * count));
        }
    }
}

EXPORT void batch_norm_statistics(float* mean, float* var, const float* x, const int* counts, int groups, int n, Z rows, int c) {
    guarded([&] {
        const Parts parts = Parts::of({counts, groups}, n, rows);
        double* sums = (double*)together.get((size_t)parts.size() * 2 * c * 2);
        each_part(parts, c, [&](int p) {
            row_statistics(sums + (Z)p * 2 * c, sums + (Z)p * 2 * c + c, x + parts.first_row(p) * c, parts.rows_each(parts.group(p)), c);
        });
        combine_statistics(mean, var, sums, parts, c);
    });
}

// ---- forward ----

void normalise(float* y, const float* x, const float* mean, const float* var, const float* gamma, const float* beta, Groups groups, int n,
               Z rows, int c, float eps, bool relu) {
    const int f = beside(rows, c), w = f * c;
    float* all = together.get(((size_t)groups.size * 2 + 1) * w);  // of each group mean and scale, then beta, repeated
    for (int g = 0; g < groups.size; g++) {
        float *m = all + (Z)g * 2 * w, *s = m + w;
        for (int j = 0; j < c; j++) s[j] = gamma[j] / std::sqrt(var[(Z)g * c + j] + eps);
        repeat(m, mean + (Z)g * c, c, f);
        spread(s, c, f);
    }
    float* b = all + (Z)groups.size * 2 * w;
    repeat(b, beta, c, f);
    const Z lines = rows / f;  // of an image
    parallel_ranges(n * lines, w, [&](Z first, Z last) {
        for (Z r = first; r < last; r++) {
            const float *m = all + (Z)groups.of(int(r / lines)) * 2 * w, *s = m + w, *p = x + r * w;
            float* o = y + r * w;
            if (relu) LANES for (int j = 0; j < w; j++) {
                    const float v = (p[j] - m[j]) * s[j] + b[j];  // before scaling: x · scale - mean · scale would cancel
                    o[j] = v < 0 ? 0 : v;
                }
            else LANES for (int j = 0; j < w; j++) o[j] = (p[j] - m[j]) * s[j] + b[j];
        }
    });
}

EXPORT void batch_norm_forward(float* y, const float* x, const float* mean, const float* var, const float* gamma, const float* beta,
                               const int* counts, int groups, int n, Z rows, int c, float eps, int relu) {
    guarded([&] { normalise(y, x, mean, var, gamma, beta, {counts, groups}, n, rows, c, eps, relu); });
}

// ---- backward ----

EXPORT void batch_norm_backward(float* dx, const float* dy, const float* x, const float* y, const float* mean, const float* var,
                                const float* gamma, const int* counts, int groups, int n, Z rows, int c, float eps, int relu,
                                int batch_statistics, float* dgamma, float* dbeta, const float* sums) {
    guarded([&] {
        const Groups own{counts, groups};
        const int f = beside(rows, c), w = f * c;
        const Parts parts = Parts::of(own, n, rows);
        const size_t sums_size = sums ? 0 : (size_t)parts.size() * 2 * c * 2;
        float* memory = together.get(sums_size + (size_t)groups * 4 * w);
        double* made = (double*)memory;
        if (!sums)
            each_part(parts, c, [&](int p) {
                const Z at = parts.first_row(p) * c, group = parts.group(p);
                double* sum = made + (Z)p * 2 * c;
                mask_and_sum(dx + at, dy + at, relu ? y + at : nullptr, x + at, mean + group * c, parts.rows_each(int(group)), c, sum,
                             sum + c);
            });
        const float* source = sums ? dy : dx;
        // dx = scale · g + slope · (x - mean) + offset, the coefficients a channel and group
        float* coefficients = memory + sums_size;
        std::vector<double> beta_sum(c, 0.0), gamma_sum(c, 0.0);
        for (int q = 0; q < groups; made += (Z)parts.in_group(q++) * 2 * c) {
            float *m = coefficients + (Z)q * 4 * w, *s = m + w, *l = s + w, *o = l + w;
            repeat(m, mean + (Z)q * c, c, f);
            const double total = (double)counts[q] * rows;
            for (int j = 0; j < c; j++) {
                const double rstd = 1 / std::sqrt((double)var[(Z)q * c + j] + eps);
                double sum = 0, product = 0;
                if (sums) {
                    sum = sums[(Z)q * c + j], product = sums[(Z)(groups + q) * c + j];
                } else {
                    for (int i = 0; i < parts.in_group(q); i++) sum += made[(Z)i * 2 * c + j], product += made[(Z)i * 2 * c + c + j];
                    product *= rstd;
                }
                beta_sum[j] += sum, gamma_sum[j] += product;
                const double scale = gamma[j] * rstd;
                s[j] = (float)scale;
                l[j] = (float)(-scale * rstd * product / total);
                o[j] = (float)(-scale * sum / total);
            }
            for (float* v : {s, l, o}) spread(v, c, f);
        }
        for (int j = 0; j < c; j++) {
            if (dbeta) dbeta[j] = (float)beta_sum[j];
            if (dgamma) dgamma[j] = (float)gamma_sum[j];
        }
        const Z lines = rows / f;
        parallel_ranges(n * lines, w, [&](Z a, Z b) {
            for (Z r = a; r < b; r++) {
                const float *m = coefficients + (Z)own.of(int(r / lines)) * 4 * w, *s = m + w, *l = s + w, *o = l + w;
                const float *p = x + r * w, *q = source + r * w;
                float* d = dx + r * w;
                if (batch_statistics) LANES for (int j = 0; j < w; j++) d[j] = s[j] * q[j] + (l[j] * (p[j] - m[j]) + o[j]);
                else LANES for (int j = 0; j < w; j++) d[j] = s[j] * q[j];
            }
        });
    });
}

// out[c] = Σ_rows x[row, c]
EXPORT void column_sums(float* out, const float* x, Z rows, int c) {
    guarded([&] {
        const Z step = std::max<Z>(1, SMALL / c), pieces = (rows + step - 1) / step;
        double* parts = (double*)together.get((size_t)pieces * c * 2);
        parallel(pieces, [&](Z i) {
            const Z first = i * step, count = std::min(step, rows - first);
            const int f = beside(count, c), w = f * c;
            float* s = wide.get(w);
            memset(s, 0, (size_t)w * 4);
            for (Z r = 0; r < count / f; r++) {
                const float* p = x + first * c + r * w;
                LANES for (int j = 0; j < w; j++) s[j] += p[j];
            }
            lanes_to_channels(parts + i * c, s, c, f);
        });
        for (int j = 0; j < c; j++) {
            double t = 0;
            for (Z i = 0; i < pieces; i++) t += parts[i * c + j];
            out[j] = (float)t;
        }
    });
}
