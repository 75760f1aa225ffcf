// Pooling: the maximum, or the average of what a window holds besides padding.
//
// x (planes, height, width), y and winners (planes, out_height, out_width), a plane being a channel of a sample.
// To be included after window.h.
#pragma once
#include <cmath>

namespace dots {

// winners: the number of the tap that holds a window's maximum, the first if there are several.
template <class T>
void max_pool(const Window& v, const T* x, T* y, unsigned char* winners, Index planes) {
    const std::vector<Index> taps = v.taps();
    const Index* tap = taps.data();
    const int count = taps.size();
    const Index pitch = v.pitch();
#pragma omp parallel
    {
        std::vector<T> buffer(v.buffer());
#pragma omp for schedule(static)
        for (Index p = 0; p < planes; p++) {
            pack(v, x + p * v.inputs(), buffer.data(), false, T(-INFINITY));
            for (Index row = 0; row < v.out_height; row++) {
                const T* from = buffer.data() + row * pitch;
                T* to = y + p * v.outputs() + row * v.out_width;
                unsigned char* winner = winners + p * v.outputs() + row * v.out_width;
                runs(v.out_width, [=](auto length, Index at) {
                    const int L = decltype(length)::value;
                    T best[L];
                    int first[L];
                    for (int l = 0; l < L; l++) best[l] = T(-INFINITY), first[l] = 0;
                    for (int t = 0; t < count; t++) {
                        const T* in = from + tap[t] + at;
                        for (int l = 0; l < L; l++) {
                            // A NaN beats every number and is beaten by none.
                            const bool better = (best[l] == best[l]) & !(in[l] <= best[l]);
                            first[l] = better ? t : first[l];
                            best[l] = better ? in[l] : best[l];
                        }
                    }
                    for (int l = 0; l < L; l++) to[at + l] = best[l], winner[at + l] = (unsigned char)first[l];
                });
            }
        }
    }
}

template <class T>
void max_pool_gradient(const Window& v, const unsigned char* winners, const T* dy, T* dx, Index planes) {
    const std::vector<Index> taps = v.taps();
    const int count = taps.size();
    const Index pitch = v.pitch(), width = v.out_width;
#pragma omp parallel
    {
        std::vector<T> buffer(v.buffer());
        std::vector<int> winner(width);
#pragma omp for schedule(static)
        for (Index p = 0; p < planes; p++) {
            for (T& value : buffer) value = T(0);
            for (Index row = 0; row < v.out_height; row++) {
                const Index first = p * v.outputs() + row * width;
                const T* from = dy + first;
                for (Index i = 0; i < width; i++) winner[i] = winners[first + i];
                for (int t = 0; t < count; t++) {
                    T* to = buffer.data() + row * pitch + taps[t];
                    for (Index i = 0; i < width; i++) to[i] += winner[i] == t ? from[i] : T(0);
                }
            }
            unpack(v, buffer.data(), dx + p * v.inputs(), dx + p * v.inputs(), false);
        }
    }
}

// How many of a window's taps lie inside, along one axis.
inline Index inside(Index at, Index size, const Window& v) {
    Index first = at * v.stride - v.padding, last = first + v.kernel;
    return (last < size ? last : size) - (first > 0 ? first : 0);
}

template <class T>
void average_pool(const Window& v, const T* x, T* y, Index planes) {
    const std::vector<Index> taps = v.taps();
#pragma omp parallel
    {
        std::vector<T> buffer(v.buffer());
#pragma omp for schedule(static)
        for (Index p = 0; p < planes; p++) {
            pack(v, x + p * v.inputs(), buffer.data(), false, T(0));
            for (Index row = 0; row < v.out_height; row++) {
                T* out = y + p * v.outputs() + row * v.out_width;
                for (Index i = 0; i < v.out_width; i++) out[i] = T(0);
                for (const Index tap : taps) {
                    const T* in = buffer.data() + row * v.pitch() + tap;
                    for (Index i = 0; i < v.out_width; i++) out[i] += in[i];
                }
                const Index rows = inside(row, v.height, v);
                for (Index i = 0; i < v.out_width; i++) out[i] /= T(rows * inside(i, v.width, v));
            }
        }
    }
}

template <class T>
void average_pool_gradient(const Window& v, const T* dy, T* dx, Index planes) {
    const std::vector<Index> taps = v.taps();
#pragma omp parallel
    {
        std::vector<T> buffer(v.buffer()), shares(v.out_width);
#pragma omp for schedule(static)
        for (Index p = 0; p < planes; p++) {
            for (Index i = 0; i < v.buffer(); i++) buffer[i] = T(0);
            for (Index row = 0; row < v.out_height; row++) {
                const T* from = dy + p * v.outputs() + row * v.out_width;
                const Index rows = inside(row, v.height, v);
                for (Index i = 0; i < v.out_width; i++) shares[i] = from[i] / T(rows * inside(i, v.width, v));
                for (const Index tap : taps) {
                    T* to = buffer.data() + row * v.pitch() + tap;
                    for (Index i = 0; i < v.out_width; i++) to[i] += shares[i];
                }
            }
            unpack(v, buffer.data(), dx + p * v.inputs(), dx + p * v.inputs(), false);
        }
    }
}

}  // namespace dots
