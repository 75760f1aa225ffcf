// A plane with a border, its columns sorted by their remainder modulo the stride.
//
// Every kernel that slides a window reads planes in this form: whatever the stride and dilation,
// the values one tap contributes to a row of outputs are then contiguous.
#pragma once
#include <vector>

namespace dots {

typedef long Index;

struct Window {
    Index height, width;          // of the input
    Index kernel, stride, padding, dilation;
    Index out_height, out_width;

    // A last window that reaches over the border sees it continued.
    Index reach(Index out, Index size) const {
        const Index last = (out - 1) * stride + dilation * (kernel - 1) + 1, padded = size + 2 * padding;
        return last > padded ? last : padded;
    }
    Index rows() const { return reach(out_height, height); }
    Index columns() const { return (reach(out_width, width) + stride - 1) / stride; }  // of one remainder
    Index buffer() const { return rows() * stride * columns(); }
    Index inputs() const { return height * width; }
    Index outputs() const { return out_height * out_width; }
    // Where the inputs of each tap for the first row of outputs start in the buffer, and how far
    // apart they are from row to row of outputs.
    std::vector<Index> taps() const {
        std::vector<Index> found;
        for (Index ky = 0; ky < kernel; ky++)
            for (Index kx = 0; kx < kernel; kx++) {
                const Index y = ky * dilation, x = kx * dilation;
                found.push_back((y * stride + x % stride) * columns() + x / stride);
            }
        return found;
    }
    Index pitch() const { return stride * stride * columns(); }
};

template <class T>
inline T rectified(T x) {
    return x < T(0) ? T(0) : x;  // a NaN stays
}

template <class T>
inline void pack(const Window& v, const T* plane, T* buffer, bool rectify, T border) {
    const Index size = v.buffer(), columns = v.columns();
    for (Index i = 0; i < size; i++) buffer[i] = border;
    for (Index y = 0; y < v.height; y++) {
        const T* from = plane + y * v.width;
        T* row = buffer + (y + v.padding) * v.stride * columns;
        if (v.stride == 1) {
            T* to = row + v.padding;
            if (rectify)
                for (Index x = 0; x < v.width; x++) to[x] = rectified(from[x]);
            else
                for (Index x = 0; x < v.width; x++) to[x] = from[x];
            continue;
        }
        for (Index x = 0; x < v.width; x++) {
            Index place = x + v.padding;
            row[place % v.stride * columns + place / v.stride] = rectify ? rectified(from[x]) : from[x];
        }
    }
}

// Cut a row into runs whose length is known when the kernel is compiled, so that they fit registers.
// `work` is called with the length, as a type, and the first column.
template <int L>
struct Length {
    static const int value = L;
};

template <class Work>
inline void runs(Index width, Work work) {
    Index at = 0;
    for (; at + 32 <= width; at += 32) work(Length<32>(), at);
    for (; at + 16 <= width; at += 16) work(Length<16>(), at);
    for (; at + 8 <= width; at += 8) work(Length<8>(), at);
    for (; at + 4 <= width; at += 4) work(Length<4>(), at);
    for (; at < width; at++) work(Length<1>(), at);
}

// The inverse of `pack`, for gradients: where the input was rectified to 0, the gradient is 0.
template <class T>
inline void unpack(const Window& v, const T* buffer, const T* plane, T* gradient, bool rectify) {
    const Index columns = v.columns();
    for (Index y = 0; y < v.height; y++) {
        const T* row = buffer + (y + v.padding) * v.stride * columns;
        for (Index x = 0; x < v.width; x++) {
            Index place = x + v.padding;
            const T g = row[v.stride == 1 ? place : place % v.stride * columns + place / v.stride];
            gradient[y * v.width + x] = rectify && !(plane[y * v.width + x] > T(0)) ? T(0) : g;
        }
    }
}

}  // namespace dots
