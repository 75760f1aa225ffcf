// Softmax within blocks of a few logits, and cross-entropy.
// To be included after window.h.
#pragma once
#include <cmath>
#include <vector>

namespace dots {

// labels: the block of each logit, or a negative number for those that get weight 0.
template <class T>
void block_softmax(const T* logits, const int* labels, T* weights, Index count, Index blocks, double temperature) {
    std::vector<double> largest(blocks, -INFINITY), sums(blocks);
    for (Index i = 0; i < count; i++)
        if (labels[i] >= 0 && !(logits[i] <= largest[labels[i]])) largest[labels[i]] = logits[i];
    for (Index i = 0; i < count; i++)
        if (labels[i] >= 0) sums[labels[i]] += std::exp((logits[i] - largest[labels[i]]) / temperature);
    for (Index i = 0; i < count; i++)
        weights[i] = labels[i] < 0
                         ? T(0)
                         : T(std::exp((logits[i] - largest[labels[i]]) / temperature) / sums[labels[i]]);
}

template <class T>
void block_softmax_gradient(const T* weights, const int* labels, const T* dweights, T* dlogits, Index count,
                            Index blocks, double temperature) {
    std::vector<double> inner(blocks);
    for (Index i = 0; i < count; i++)
        if (labels[i] >= 0) inner[labels[i]] += double(weights[i]) * double(dweights[i]);
    for (Index i = 0; i < count; i++)
        dlogits[i] = labels[i] < 0 ? T(0) : T(weights[i] * (dweights[i] - inner[labels[i]]) / temperature);
}

// What softmax is taken of: free·logits + shifts.
template <class T>
std::vector<T> shifted(const T* logits, const T* free, const T* shifts, Index count) {
    std::vector<T> sums(count);
    for (Index i = 0; i < count; i++) sums[i] = free[i] * logits[i] + shifts[i];
    return sums;
}

// Of logits (samples, classes), the sum over samples of the cross-entropy, times `share`, and the number of
// correct predictions. The target is 1 − smoothing on the label plus smoothing spread over all classes.
template <class T>
void cross_entropy(const T* logits, const int* labels, T* loss, T* correct, Index samples, Index classes,
                   double smoothing, double share) {
    double total = 0;
    Index hits = 0;
    for (Index n = 0; n < samples; n++) {
        const T* z = logits + n * classes;
        Index best = 0;
        for (Index k = 1; k < classes; k++)
            if (z[k] > z[best]) best = k;
        hits += best == labels[n];
        double powers = 0, sum = 0;
        for (Index k = 0; k < classes; k++) {
            powers += std::exp(double(z[k]) - double(z[best]));
            sum += double(z[k]) - double(z[best]);
        }
        total += std::log(powers) - (1 - smoothing) * (double(z[labels[n]]) - double(z[best])) -
                 smoothing / classes * sum;
    }
    loss[0] = T(share * total);
    correct[0] = T(hits);
}

template <class T>
void cross_entropy_gradient(const T* logits, const int* labels, const T* dloss, T* dlogits, Index samples,
                            Index classes, double smoothing, double share) {
    const double factor = share * double(dloss[0]);
    for (Index n = 0; n < samples; n++) {
        const T* z = logits + n * classes;
        T* out = dlogits + n * classes;
        double largest = z[0], powers = 0;
        for (Index k = 1; k < classes; k++)
            if (z[k] > largest) largest = z[k];
        for (Index k = 0; k < classes; k++) powers += std::exp(double(z[k]) - largest);
        for (Index k = 0; k < classes; k++) {
            const double target = smoothing / classes + (k == labels[n] ? 1 - smoothing : 0);
            out[k] = T(factor * (std::exp(double(z[k]) - largest) / powers - target));
        }
    }
}

}  // namespace dots
