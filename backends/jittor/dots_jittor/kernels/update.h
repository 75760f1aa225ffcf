// What a step does to flat tensors: the two update rules, and the running statistics.
// To be included after window.h.
#pragma once
#include <cmath>

namespace dots {

// Summed block by block, so that the result does not depend on the number of threads.
template <class T>
double square_norm(const T* x, Index count) {
    const Index block = 1024, blocks = (count + block - 1) / block;
    std::vector<double> sums(blocks);
#pragma omp parallel for schedule(static)
    for (Index b = 0; b < blocks; b++) {
        const Index end = (b + 1) * block < count ? (b + 1) * block : count;
        T sum = T(0);
        for (Index i = b * block; i < end; i++) sum += x[i] * x[i];
        sums[b] = sum;
    }
    double total = 0;
    for (Index b = 0; b < blocks; b++) total += sums[b];
    return total;
}

// What a gradient is multiplied by so that its norm is at most `clip`; 0 means no clipping.
template <class T>
double clipping(const T* gradient, Index count, double clip) {
    if (clip == 0) return 1;
    const double factor = clip / (std::sqrt(square_norm(gradient, count)) + 1e-6);
    return factor > 1 ? 1 : factor;  // a NaN stays
}

template <class T>
void clipped(const T* gradient, T* out, Index count, double clip) {
    const T f = T(clipping(gradient, count, clip));
    for (Index i = 0; i < count; i++) out[i] = f * gradient[i];
}

template <class T>
void momentum_sgd(const T* gradient, const T* weights, const T* buffer, T* new_weights, T* new_buffer, Index count,
                  double clip, double decay, double momentum, double rate) {
    const T f = T(clipping(gradient, count, clip)), d = T(decay), m = T(momentum), r = T(rate);
#pragma omp parallel for schedule(static)
    for (Index i = 0; i < count; i++) {
        const T moved = m * buffer[i] + (f * gradient[i] + d * weights[i]);
        new_buffer[i] = moved;
        new_weights[i] = weights[i] - r * moved;
    }
}

// first_share, second_share: the bias corrections 1 − β₁ᵗ and 1 − β₂ᵗ.
template <class T>
void adam(const T* gradient, const T* values, const T* first, const T* second, T* new_values, T* new_first,
          T* new_second, Index count, double beta1, double beta2, double epsilon, double decay, double first_share,
          double second_share, double rate) {
    for (Index i = 0; i < count; i++) {
        const double g = double(gradient[i]) + decay * double(values[i]);
        const double m = beta1 * double(first[i]) + (1 - beta1) * g;
        const double v = beta2 * double(second[i]) + (1 - beta2) * g * g;
        new_first[i] = T(m);
        new_second[i] = T(v);
        new_values[i] = T(double(values[i]) - rate * (m / first_share) / (std::sqrt(v / second_share) + epsilon));
    }
}

template <class T>
void norm(const T* x, T* out, Index count) {
    out[0] = T(std::sqrt(square_norm(x, count)));
}

// By a vector of length `radius` along the gradient; by nothing where that is 0 or no number.
template <class T>
void perturbed(const T* weights, const T* gradient, T* out, Index count, double radius) {
    const double length = std::sqrt(square_norm(gradient, count));
    const T step = length > 0 ? T(radius / length) : T(0);
#pragma omp parallel for schedule(static)
    for (Index i = 0; i < count; i++) out[i] = weights[i] + step * gradient[i];
}

template <class T>
void add_scaled(const T* total, const T* term, T* out, Index count, double factor) {
    const T f = T(factor);
#pragma omp parallel for schedule(static)
    for (Index i = 0; i < count; i++) out[i] = total[i] + f * term[i];
}

// A step of `share` from the old values towards the new ones.
template <class T>
void approach(const T* old, const T* target, T* out, Index count, double share) {
    const T kept = T(1 - share), taken = T(share);
    for (Index i = 0; i < count; i++) out[i] = kept * old[i] + taken * target[i];
}

// Likewise where `moves` is not 0; elsewhere the old value.
template <class T>
void approach_some(const T* old, const T* target, const unsigned char* moves, T* out, Index count, double share) {
    const T kept = T(1 - share), taken = T(share);
    for (Index i = 0; i < count; i++) out[i] = moves[i] ? kept * old[i] + taken * target[i] : old[i];
}

}  // namespace dots
