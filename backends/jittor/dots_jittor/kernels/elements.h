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

// Two tensors side by side along channels, shuffled: place (g, c) of (parts, channels/parts) goes to
// (c, g). Of each sample, `first` has so many of the `channels` channels and `rest` the others.
template <class T>
void interleave(const T* first, const T* rest, T* y, Index samples, Index channels, Index firsts, Index parts,
                Index pixels) {
    const Index width = channels / parts;
#pragma omp parallel for collapse(2) schedule(static)
    for (Index n = 0; n < samples; n++)
        for (Index k = 0; k < channels; k++) {
            const T* from = k < firsts ? first + (n * firsts + k) * pixels
                                       : rest + (n * (channels - firsts) + k - firsts) * pixels;
            T* to = y + (n * channels + k % width * parts + k / width) * pixels;
            for (Index i = 0; i < pixels; i++) to[i] = from[i];
        }
}

// The inverse.
template <class T>
void part(const T* y, T* first, T* rest, Index samples, Index channels, Index firsts, Index parts, Index pixels) {
    const Index width = channels / parts;
#pragma omp parallel for collapse(2) schedule(static)
    for (Index n = 0; n < samples; n++)
        for (Index k = 0; k < channels; k++) {
            const T* from = y + (n * channels + k % width * parts + k / width) * pixels;
            T* to = k < firsts ? first + (n * firsts + k) * pixels
                               : rest + (n * (channels - firsts) + k - firsts) * pixels;
            for (Index i = 0; i < pixels; i++) to[i] = from[i];
        }
}

}  // namespace dots
