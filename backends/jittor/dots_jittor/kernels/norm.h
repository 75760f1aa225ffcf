// Batch normalisation; the batch's variance is taken in a second pass.
//
// x and y are (samples, channels, pixels), dense in this order. `scale` and `shift` may be shorter than
// the number of channels: each entry then serves as many neighbouring channels. One thread treats a
// whole channel, so sums do not depend on their number.
// To be included after window.h.
#pragma once
#include <cmath>

namespace dots {

struct Normalised {
    Index samples, channels, pixels;
    Index scales, shifts;

    double count() const { return double(samples) * double(pixels); }
    Index scale(Index c) const { return c / (channels / scales); }
    Index shift(Index c) const { return c / (channels / shifts); }
    Index plane(Index n, Index c) const { return (n * channels + c) * pixels; }
};

// moments, shape (2, channels): mean and unbiased variance. saved, shape (3, channels): a rounded mean,
// what the rounding took from it, and 1/√(variance + ε). The distance of x from the mean is taken as
// (x − rounded) − taken, which keeps its digits where the mean is far from 0. `taken` is always
// applied to a sum or a factor: from x − rounded − taken the compiler would make x − (rounded + taken).
template <class T>
void normalise(const Normalised& v, const T* x, const T* scale, const T* shift, T* y, T* moments, T* saved,
               double epsilon) {
#pragma omp parallel for schedule(static)
    for (Index c = 0; c < v.channels; c++) {
        double total = 0;
        for (Index n = 0; n < v.samples; n++) {
            const T* in = x + v.plane(n, c);
            T sum = T(0);
            for (Index i = 0; i < v.pixels; i++) sum += in[i];
            total += sum;
        }
        const T rough = T(total / v.count());
        double squares = 0, rest = 0;
        for (Index n = 0; n < v.samples; n++) {
            const T* in = x + v.plane(n, c);
            T square = T(0), sum = T(0);
            for (Index i = 0; i < v.pixels; i++) {
                const T d = in[i] - rough;
                square += d * d;
                sum += d;
            }
            squares += square;
            rest += sum;
        }
        const double residual = rest / v.count();
        const double deviations = squares - rest * residual;
        const double inverse = 1 / std::sqrt(deviations / v.count() + epsilon);
        moments[c] = T(double(rough) + residual);
        moments[v.channels + c] = T(deviations / (v.count() - 1));
        saved[c] = rough;
        saved[v.channels + c] = T(residual);
        saved[2 * v.channels + c] = T(inverse);
        const T factor = T(inverse) * scale[v.scale(c)];
        const T offset = shift[v.shift(c)] - T(residual) * factor;
        for (Index n = 0; n < v.samples; n++) {
            const T* in = x + v.plane(n, c);
            T* out = y + v.plane(n, c);
            for (Index i = 0; i < v.pixels; i++) out[i] = (in[i] - rough) * factor + offset;
        }
    }
}

template <class T>
void normalise_gradient(const Normalised& v, const T* x, const T* scale, const T* saved, const T* dy, T* dx,
                        T* dscale, T* dshift) {
    std::vector<double> sums(v.channels), products(v.channels);
#pragma omp parallel for schedule(static)
    for (Index c = 0; c < v.channels; c++) {
        const T rough = saved[c], residual = saved[v.channels + c], inverse = saved[2 * v.channels + c];
        double total = 0, inner = 0;
        for (Index n = 0; n < v.samples; n++) {
            const T *in = x + v.plane(n, c), *g = dy + v.plane(n, c);
            T sum = T(0), product = T(0);
            for (Index i = 0; i < v.pixels; i++) {
                sum += g[i];
                product += g[i] * (in[i] - rough);
            }
            total += sum;
            inner += product;
        }
        sums[c] = total;
        products[c] = (inner - total * residual) * inverse;
        const T factor = inverse * scale[v.scale(c)];
        const T slope = T(products[c] / v.count()) * inverse, mean = T(total / v.count()) - residual * slope;
        for (Index n = 0; n < v.samples; n++) {
            const T *in = x + v.plane(n, c), *g = dy + v.plane(n, c);
            T* out = dx + v.plane(n, c);
            for (Index i = 0; i < v.pixels; i++)
                out[i] = factor * ((g[i] - mean) - (in[i] - rough) * slope);
        }
    }
    std::vector<double> scales(v.scales), shifts(v.shifts);
    for (Index c = 0; c < v.channels; c++) {
        scales[v.scale(c)] += products[c];
        shifts[v.shift(c)] += sums[c];
    }
    for (Index i = 0; i < v.scales; i++) dscale[i] = T(scales[i]);
    for (Index i = 0; i < v.shifts; i++) dshift[i] = T(shifts[i]);
}

// By given moments, in evaluation.
template <class T>
void normalise_by(const Normalised& v, const T* x, const T* scale, const T* shift, const T* mean, const T* variance,
                  T* y, double epsilon) {
#pragma omp parallel for collapse(2) schedule(static)
    for (Index n = 0; n < v.samples; n++)
        for (Index c = 0; c < v.channels; c++) {
            const T factor = T(scale[v.scale(c)] / std::sqrt(double(variance[c]) + epsilon));
            const T centre = mean[c], offset = shift[v.shift(c)];
            const T* in = x + v.plane(n, c);
            T* out = y + v.plane(n, c);
            for (Index i = 0; i < v.pixels; i++) out[i] = (in[i] - centre) * factor + offset;
        }
}

}  // namespace dots
