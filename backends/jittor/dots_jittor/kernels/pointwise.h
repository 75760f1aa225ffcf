// Grouped 1×1 convolution, optionally of every second pixel from an offset on.
//
// x (samples, groups·inputs, height, width), weight (groups·outputs, inputs, 1, 1), y (samples, groups·outputs,
// out_height, out_width), each dense in this order; gradients are shaped like what they are of. Beyond the border of
// the input stand zeros.
// To be included after window.h.
#pragma once

namespace dots {

struct Pixels {
    Index height, width;  // of the input
    Index stride, offset;
    Index out_height, out_width;

    Index inputs() const { return height * width; }
    Index outputs() const { return out_height * out_width; }
    bool all() const { return stride == 1 && offset == 0; }
};

template <class T>
inline void gather(const Pixels& v, const T* plane, T* out, bool rectify) {
    for (Index y = 0; y < v.out_height; y++)
        for (Index x = 0; x < v.out_width; x++) {
            Index h = y * v.stride + v.offset, w = x * v.stride + v.offset;
            T value = h < v.height && w < v.width ? plane[h * v.width + w] : T(0);
            out[y * v.out_width + x] = rectify ? rectified(value) : value;
        }
}

template <class T>
inline const T* gathered(const Pixels& v, const T* planes, Index channels, T* buffer, bool rectify) {
    if (v.all() && !rectify) return planes;
    if (v.all())
        for (Index i = 0; i < channels * v.inputs(); i++) buffer[i] = rectified(planes[i]);
    else
        for (Index c = 0; c < channels; c++) gather(v, planes + c * v.inputs(), buffer + c * v.outputs(), rectify);
    return buffer;
}

// R rows by L columns of the product a·b, kept in registers over the whole sum.
template <int R, int L, class T>
inline void product_tile(const T* a, const T* b, T* out, Index depth, Index columns, Index row, Index column) {
    T sum[R][L];
    for (int r = 0; r < R; r++)
        for (int l = 0; l < L; l++) sum[r][l] = T(0);
    for (Index i = 0; i < depth; i++) {
        const T* from = b + i * columns + column;
        for (int r = 0; r < R; r++) {
            const T factor = a[(row + r) * depth + i];
            for (int l = 0; l < L; l++) sum[r][l] += factor * from[l];
        }
    }
    for (int r = 0; r < R; r++)
        for (int l = 0; l < L; l++) out[(row + r) * columns + column + l] = sum[r][l];
}

template <int L, class T>
inline void product_columns(const T* a, const T* b, T* out, Index rows, Index depth, Index columns, Index column) {
    Index row = 0;
    for (; row + 4 <= rows; row += 4) product_tile<4, L>(a, b, out, depth, columns, row, column);
    for (; row < rows; row++) product_tile<1, L>(a, b, out, depth, columns, row, column);
}

// out (rows, columns) = a (rows, depth) · b (depth, columns)
template <class T>
inline void product(const T* a, const T* b, T* out, Index rows, Index depth, Index columns) {
    Index column = 0;
    for (; column + 32 <= columns; column += 32) product_columns<32>(a, b, out, rows, depth, columns, column);
    for (; column + 16 <= columns; column += 16) product_columns<16>(a, b, out, rows, depth, columns, column);
    for (; column + 4 <= columns; column += 4) product_columns<4>(a, b, out, rows, depth, columns, column);
    for (; column < columns; column++) product_columns<1>(a, b, out, rows, depth, columns, column);
}

template <class T>
void pointwise(const Pixels& v, const T* x, const T* weight, T* y, Index samples, Index groups, Index inputs,
               Index outputs, bool rectify) {
#pragma omp parallel
    {
        std::vector<T> buffer(inputs * v.outputs());
#pragma omp for collapse(2) schedule(static)
        for (Index n = 0; n < samples; n++)
            for (Index g = 0; g < groups; g++) {
                const Index at = n * groups + g;
                const T* in = gathered(v, x + at * inputs * v.inputs(), inputs, buffer.data(), rectify);
                product(weight + g * outputs * inputs, in, y + at * outputs * v.outputs(), outputs, inputs, v.outputs());
            }
    }
}

template <class T>
void pointwise_input_gradient(const Pixels& v, const T* x, const T* weight, const T* dy, T* dx, Index samples,
                              Index groups, Index inputs, Index outputs, bool rectify) {
    std::vector<T> transposed(groups * inputs * outputs);
    for (Index g = 0; g < groups; g++)
        for (Index o = 0; o < outputs; o++)
            for (Index i = 0; i < inputs; i++)
                transposed[(g * inputs + i) * outputs + o] = weight[(g * outputs + o) * inputs + i];
#pragma omp parallel
    {
        std::vector<T> buffer(v.all() ? 0 : inputs * v.outputs());
#pragma omp for collapse(2) schedule(static)
        for (Index n = 0; n < samples; n++)
            for (Index g = 0; g < groups; g++) {
                const Index at = n * groups + g;
                const T* in = x + at * inputs * v.inputs();
                T* out = dx + at * inputs * v.inputs();
                T* found = v.all() ? out : buffer.data();
                product(transposed.data() + g * inputs * outputs, dy + at * outputs * v.outputs(), found, inputs, outputs,
                        v.outputs());
                if (!v.all()) {
                    for (Index i = 0; i < inputs * v.inputs(); i++) out[i] = T(0);
                    for (Index c = 0; c < inputs; c++)
                        for (Index y = 0; y < v.out_height; y++)
                            for (Index k = 0; k < v.out_width; k++) {
                                Index h = y * v.stride + v.offset, w = k * v.stride + v.offset;
                                if (h < v.height && w < v.width)
                                    out[c * v.inputs() + h * v.width + w] =
                                        found[c * v.outputs() + y * v.out_width + k];
                            }
                }
                if (rectify)
                    for (Index i = 0; i < inputs * v.inputs(); i++) out[i] = in[i] > T(0) ? out[i] : T(0);
            }
    }
}

// R × Q entries of a·bᵀ over `depth` columns, added to `out`.
template <int R, int Q, class T>
inline void inner_tile(const T* a, const T* b, Index depth, double* out, Index stride) {
    const int L = 16;
    T sum[R][Q][L];
    for (int r = 0; r < R; r++)
        for (int q = 0; q < Q; q++)
            for (int l = 0; l < L; l++) sum[r][q][l] = T(0);
    Index i = 0;
    for (; i + L <= depth; i += L)
        for (int r = 0; r < R; r++)
            for (int q = 0; q < Q; q++)
                for (int l = 0; l < L; l++) sum[r][q][l] += a[r * depth + i + l] * b[q * depth + i + l];
    for (; i < depth; i++)
        for (int r = 0; r < R; r++)
            for (int q = 0; q < Q; q++) sum[r][q][0] += a[r * depth + i] * b[q * depth + i];
    for (int r = 0; r < R; r++)
        for (int q = 0; q < Q; q++) {
            T total = T(0);
            for (int l = 0; l < L; l++) total += sum[r][q][l];
            out[r * stride + q] += total;
        }
}

template <int R, class T>
inline void inner_rows(const T* a, const T* b, Index depth, Index others, double* out) {
    Index q = 0;
    for (; q + 2 <= others; q += 2) inner_tile<R, 2>(a, b + q * depth, depth, out + q, others);
    for (; q < others; q++) inner_tile<R, 1>(a, b + q * depth, depth, out + q, others);
}

template <class T>
void pointwise_weight_gradient(const Pixels& v, const T* x, const T* dy, T* dw, Index samples, Index groups,
                               Index inputs, Index outputs, bool rectify) {
    const Index block = 8;  // output channels a thread takes at once; it sums them over all samples
    const Index blocks = (outputs + block - 1) / block;
#pragma omp parallel
    {
        std::vector<T> buffer(inputs * v.outputs());
        std::vector<double> sums(block * inputs);
#pragma omp for collapse(2) schedule(static)
        for (Index g = 0; g < groups; g++)
            for (Index k = 0; k < blocks; k++) {
                const Index first = k * block, count = outputs - first < block ? outputs - first : block;
                for (Index i = 0; i < count * inputs; i++) sums[i] = 0;
                for (Index n = 0; n < samples; n++) {
                    const Index at = n * groups + g;
                    const T* in = gathered(v, x + at * inputs * v.inputs(), inputs, buffer.data(), rectify);
                    const T* out = dy + (at * outputs + first) * v.outputs();
                    Index r = 0;
                    for (; r + 4 <= count; r += 4)
                        inner_rows<4>(out + r * v.outputs(), in, v.outputs(), inputs, sums.data() + r * inputs);
                    for (; r < count; r++)
                        inner_rows<1>(out + r * v.outputs(), in, v.outputs(), inputs, sums.data() + r * inputs);
                }
                for (Index i = 0; i < count * inputs; i++) dw[(g * outputs + first) * inputs + i] = T(sums[i]);
            }
    }
}

}  // namespace dots
