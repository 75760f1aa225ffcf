// Depthwise convolution: output channel j reads input channel j modulo their number.
//
// x (samples, inputs, height, width), weight (outputs, 1, kernel, kernel), y (samples, outputs, out_height,
// out_width), each dense in this order; gradients are shaped like what they are of.
// To be included after window.h.
#pragma once

namespace dots {

// Convolve a packed plane with one kernel; the result replaces `out` or is added to it.
template <class T>
inline void convolve(const Window& v, const std::vector<Index>& taps, const T* buffer, const T* weight, T* out,
                     bool replace) {
    const Index count = taps.size(), pitch = v.pitch();
    const Index* tap = taps.data();
    for (Index row = 0; row < v.out_height; row++) {
        const T* from = buffer + row * pitch;
        T* to = out + row * v.out_width;
        runs(v.out_width, [=](auto length, Index at) {
            const int L = decltype(length)::value;
            T sum[L];
            for (int l = 0; l < L; l++) sum[l] = replace ? T(0) : to[at + l];
            for (Index t = 0; t < count; t++) {
                const T* in = from + tap[t] + at;
                const T factor = weight[t];
                for (int l = 0; l < L; l++) sum[l] += factor * in[l];
            }
            for (int l = 0; l < L; l++) to[at + l] = sum[l];
        });
    }
}

template <class T>
void depthwise(const Window& v, const T* x, const T* weight, T* y, Index samples, Index inputs, Index outputs,
               bool rectify) {
    const std::vector<Index> taps = v.taps();
#pragma omp parallel
    {
        std::vector<T> buffer(v.buffer());
#pragma omp for collapse(2) schedule(static)
        for (Index n = 0; n < samples; n++)
            for (Index c = 0; c < inputs; c++) {
                pack(v, x + (n * inputs + c) * v.inputs(), buffer.data(), rectify, T(0));
                for (Index j = c; j < outputs; j += inputs)
                    convolve(v, taps, buffer.data(), weight + j * taps.size(), y + (n * outputs + j) * v.outputs(),
                             true);
            }
    }
}

// At stride 1 the gradient is a convolution of the outputs' gradient with the mirrored kernel.
template <class T>
void depthwise_input_gradient_plain(const Window& v, const T* x, const T* weight, const T* dy, T* dx, Index samples,
                                    Index inputs, Index outputs, bool rectify) {
    const Window back = {v.out_height, v.out_width, v.kernel, 1, v.dilation * (v.kernel - 1) - v.padding,
                         v.dilation,   v.height,    v.width};
    const std::vector<Index> taps = back.taps();
    const Index count = taps.size();
    std::vector<T> mirrored(outputs * count);
    for (Index j = 0; j < outputs; j++)
        for (Index t = 0; t < count; t++) mirrored[j * count + t] = weight[j * count + count - 1 - t];
#pragma omp parallel
    {
        std::vector<T> buffer(back.buffer());
#pragma omp for collapse(2) schedule(static)
        for (Index n = 0; n < samples; n++)
            for (Index c = 0; c < inputs; c++) {
                const T* in = x + (n * inputs + c) * v.inputs();
                T* out = dx + (n * inputs + c) * v.inputs();
                for (Index j = c; j < outputs; j += inputs) {
                    pack(back, dy + (n * outputs + j) * v.outputs(), buffer.data(), false, T(0));
                    convolve(back, taps, buffer.data(), mirrored.data() + j * count, out, j == c);
                }
                if (rectify)
                    for (Index i = 0; i < v.inputs(); i++) out[i] = in[i] > T(0) ? out[i] : T(0);
            }
    }
}

template <class T>
void depthwise_input_gradient(const Window& v, const T* x, const T* weight, const T* dy, T* dx, Index samples,
                              Index inputs, Index outputs, bool rectify) {
    if (v.stride == 1 && v.dilation * (v.kernel - 1) >= v.padding) {
        depthwise_input_gradient_plain(v, x, weight, dy, dx, samples, inputs, outputs, rectify);
        return;
    }
    const std::vector<Index> taps = v.taps();
    const Index count = taps.size(), pitch = v.pitch(), width = v.out_width;
#pragma omp parallel
    {
        std::vector<T> buffer(v.buffer());
#pragma omp for collapse(2) schedule(static)
        for (Index n = 0; n < samples; n++)
            for (Index c = 0; c < inputs; c++) {
                for (T& value : buffer) value = T(0);
                for (Index j = c; j < outputs; j += inputs)
                    for (Index row = 0; row < v.out_height; row++) {
                        const T* from = dy + (n * outputs + j) * v.outputs() + row * width;
                        for (Index t = 0; t < count; t++) {
                            T* to = buffer.data() + row * pitch + taps[t];
                            const T factor = weight[j * count + t];
                            for (Index i = 0; i < width; i++) to[i] += factor * from[i];
                        }
                    }
                const Index plane = (n * inputs + c) * v.inputs();
                unpack(v, buffer.data(), x + plane, dx + plane, rectify);
            }
    }
}

template <class T>
void depthwise_weight_gradient(const Window& v, const T* x, const T* dy, T* dw, Index samples, Index inputs,
                               Index outputs, bool rectify) {
    const std::vector<Index> taps = v.taps();
    const Index count = taps.size(), pitch = v.pitch(), width = v.out_width, height = v.out_height;
    // One thread sums a whole channel, so the result does not depend on the number of threads.
#pragma omp parallel
    {
        std::vector<T> buffer(v.buffer());
        std::vector<double> sums(count);
#pragma omp for schedule(static)
        for (Index j = 0; j < outputs; j++) {
            for (double& sum : sums) sum = 0;
            for (Index n = 0; n < samples; n++) {
                pack(v, x + (n * inputs + j % inputs) * v.inputs(), buffer.data(), rectify, T(0));
                const T* plane = dy + (n * outputs + j) * v.outputs();
                for (Index t = 0; t < count; t++) {
                    const T* from = buffer.data() + taps[t];
                    double& total = sums[t];
                    runs(width, [=, &total](auto length, Index at) {
                        const int L = decltype(length)::value;
                        T sum[L];
                        for (int l = 0; l < L; l++) sum[l] = T(0);
                        for (Index row = 0; row < height; row++) {
                            const T *in = from + row * pitch + at, *out = plane + row * width + at;
                            for (int l = 0; l < L; l++) sum[l] += in[l] * out[l];
                        }
                        T joined = T(0);
                        for (int l = 0; l < L; l++) joined += sum[l];
                        total += joined;
                    });
                }
            }
            for (Index t = 0; t < count; t++) dw[j * count + t] = T(sums[t]);
        }
    }
}

}  // namespace dots
