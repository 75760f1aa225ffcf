// Sums of a few tensors, differently weighted for every edge, edge after edge along channels.
// To be included after window.h.
#pragma once

namespace dots {

// factors (edges, tensors); values = channels · pixels of one sample.
template <class T>
void mix(const T* const* basis, const T* factors, T* y, Index samples, Index edges, Index tensors, Index values) {
#pragma omp parallel for collapse(2) schedule(static)
    for (Index n = 0; n < samples; n++)
        for (Index e = 0; e < edges; e++) {
            T* out = y + (n * edges + e) * values;
            for (Index b = 0; b < tensors; b++) {
                const T factor = factors[e * tensors + b];
                const T* in = basis[b] + n * values;
                if (b == 0)
                    for (Index i = 0; i < values; i++) out[i] = factor * in[i];
                else
                    for (Index i = 0; i < values; i++) out[i] += factor * in[i];
            }
        }
}

template <class T>
void mix_gradient(const T* const* basis, const T* factors, const T* dy, T* const* dbasis, T* dfactors, Index samples,
                  Index edges, Index tensors, Index values) {
    // One sum a sample, joined in order: the result does not depend on the number of threads.
    std::vector<double> sums(samples * edges * tensors);
#pragma omp parallel for schedule(static)
    for (Index n = 0; n < samples; n++)
        for (Index b = 0; b < tensors; b++) {
            T* to = dbasis[b] + n * values;
            const T* in = basis[b] + n * values;
            for (Index i = 0; i < values; i++) to[i] = T(0);
            for (Index e = 0; e < edges; e++) {
                const T* from = dy + (n * edges + e) * values;
                const T factor = factors[e * tensors + b];
                T sum = T(0);
                for (Index i = 0; i < values; i++) {
                    to[i] += factor * from[i];
                    sum += in[i] * from[i];
                }
                sums[(n * edges + e) * tensors + b] = sum;
            }
        }
    for (Index k = 0; k < edges * tensors; k++) {
        double total = 0;
        for (Index n = 0; n < samples; n++) total += sums[n * edges * tensors + k];
        dfactors[k] = T(total);
    }
}

}  // namespace dots
