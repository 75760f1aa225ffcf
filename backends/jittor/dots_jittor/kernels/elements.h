// Functions of single elements.
// To be included after window.h.
#pragma once

namespace dots {

template <class T>
void rectify(const T* x, T* y, Index count) {
#pragma omp parallel for schedule(static)
    for (Index i = 0; i < count; i++) y[i] = rectified(x[i]);
}

template <class T>
void rectify_gradient(const T* x, const T* dy, T* dx, Index count) {
#pragma omp parallel for schedule(static)
    for (Index i = 0; i < count; i++) dx[i] = x[i] > T(0) ? dy[i] : T(0);
}

template <class T>
void add(const T* const* terms, Index number, T* y, Index count) {
    const Index block = 4096;
#pragma omp parallel for schedule(static)
    for (Index first = 0; first < count; first += block) {
        const Index end = first + block < count ? first + block : count;
        for (Index i = first; i < end; i++) y[i] = terms[0][i] + terms[1][i];
        for (Index k = 2; k < number; k++)
            for (Index i = first; i < end; i++) y[i] += terms[k][i];
    }
}

}  // namespace dots
