"""The layers' primitives on the CPU, as compiled C++ (`kernels/`), with their gradients.

Jittor's own operators would be fused, and compiled, anew for every combination; these are a
fixed dozen, each compiled once for each data type. None uses a sum whose order depends on the
number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dots_core.engine.protocol import Optimizers
from dots_core.search_space.layers import NORM_EPSILON
from dots_core.search_space.mixing import SoftmaxGroups
from dots_jittor.arrays import Var, upload
from dots_jittor.startup import jt
from dots_jittor.window import Window

_FOLDER = Path(__file__).parent / "kernels"


def _header(name: str) -> str:
    # Jittor's search for included files does not know that of the file they stand in.
    return "".join(f'#include "{_FOLDER / part}"\n' for part in ("window.h", name))


_DEPTHWISE = _header("depthwise.h")
_POINTWISE = _header("pointwise.h")
_NORM = _header("norm.h")
_POOL = _header("pool.h")
_ELEMENTS = _header("elements.h")
_SOFTMAX = _header("softmax.h")
_UPDATE = _header("update.h")
_MIXTURE = _header("mixture.h")


def _data(window: Window) -> dict[str, float]:
    return {"k": window.kernel, "s": window.stride, "p": window.padding, "d": window.dilation}


_WINDOW = """
    dots::Window v = {{{image}_shape2, {image}_shape3, dots::Index(data["k"]), dots::Index(data["s"]),
                       dots::Index(data["p"]), dots::Index(data["d"]), {out}_shape2, {out}_shape3}};
"""


class _Depthwise(jt.Function):
    """Depthwise convolution of the (rectified) input.

    The weight's shape is (outputs, 1, kernel, kernel), outputs a multiple of the input's
    channels C; output j reads channel j mod C.
    """

    def __init__(self, window: Window, rectify: bool) -> None:
        super().__init__()
        self._window = window
        self._data = {**_data(window), "r": int(rectify)}

    def execute(self, x: Var, weight: Var) -> Var:
        self._x, self._weight = x, weight
        n, _, h, w = x.shape
        shape = (n, weight.shape[0], self._window.output(h), self._window.output(w))
        return jt.code(
            shape,
            x.dtype,
            [x, weight],
            cpu_header=_DEPTHWISE,
            cpu_src=_WINDOW.format(image="in0", out="out0")
            + 'dots::depthwise(v, in0_p, in1_p, out0_p, in0_shape0, in0_shape1, out0_shape1, data["r"] != 0);',
            data=self._data,
        )

    def grad(self, dy: Var) -> tuple[Var, Var]:
        x, weight = self._x, self._weight
        window = _WINDOW.format(image="in0", out="in2")
        dx = jt.code(
            x.shape,
            x.dtype,
            [x, weight, dy],
            cpu_header=_DEPTHWISE,
            cpu_src=window + "dots::depthwise_input_gradient(v, in0_p, in1_p, in2_p, out0_p, in0_shape0, in0_shape1, "
            'in2_shape1, data["r"] != 0);',
            data=self._data,
        )
        dw = jt.code(
            weight.shape,
            x.dtype,
            [x, weight, dy],
            cpu_header=_DEPTHWISE,
            cpu_src=window + "dots::depthwise_weight_gradient(v, in0_p, in2_p, out0_p, in0_shape0, in0_shape1, "
            'in2_shape1, data["r"] != 0);',
            data=self._data,
        )
        return dx, dw


_PIXELS = """
    dots::Pixels v = {{{image}_shape2, {image}_shape3, dots::Index(data["s"]), dots::Index(data["o"]),
                       {out}_shape2, {out}_shape3}};
    dots::Index groups = dots::Index(data["g"]), inputs = {image}_shape1 / groups, outputs = {out}_shape1 / groups;
"""


class _Pointwise(jt.Function):
    """Grouped 1×1 convolution of the (rectified) input, at stride 2 from pixel (offset, offset) on.

    The weight's shape is (outputs, inputs/groups, 1, 1). Beyond the border stand zeros, and the
    output's size is the input's divided by the stride, rounded up.
    """

    def __init__(self, groups: int, rectify: bool, stride: int = 1, offset: int = 0) -> None:
        super().__init__()
        self._stride = stride
        self._data = {"g": groups, "s": stride, "o": offset, "r": int(rectify)}

    def execute(self, x: Var, weight: Var) -> Var:
        self._x, self._weight = x, weight
        n, _, h, w = x.shape
        return jt.code(
            (n, weight.shape[0], -(-h // self._stride), -(-w // self._stride)),
            x.dtype,
            [x, weight],
            cpu_header=_POINTWISE,
            cpu_src=_PIXELS.format(image="in0", out="out0")
            + 'dots::pointwise(v, in0_p, in1_p, out0_p, in0_shape0, groups, inputs, outputs, data["r"] != 0);',
            data=self._data,
        )

    def grad(self, dy: Var) -> tuple[Var, Var]:
        x, weight = self._x, self._weight
        pixels = _PIXELS.format(image="in0", out="in2")
        dx = jt.code(
            x.shape,
            x.dtype,
            [x, weight, dy],
            cpu_header=_POINTWISE,
            cpu_src=pixels + "dots::pointwise_input_gradient(v, in0_p, in1_p, in2_p, out0_p, in0_shape0, groups, "
            'inputs, outputs, data["r"] != 0);',
            data=self._data,
        )
        dw = jt.code(
            weight.shape,
            x.dtype,
            [x, weight, dy],
            cpu_header=_POINTWISE,
            cpu_src=pixels + "dots::pointwise_weight_gradient(v, in0_p, in2_p, out0_p, in0_shape0, groups, inputs, "
            'outputs, data["r"] != 0);',
            data=self._data,
        )
        return dx, dw


class _Normalise(jt.Function):
    """Batch norm by the batch's statistics: returns (y, moments).

    ``scale`` and ``shift`` are vectors whose lengths divide the number of channels, each entry
    for as many neighbouring channels; ``moments``, shape (2, channels), are the mean and the
    unbiased variance, and carry no gradient.
    """

    def execute(self, x: Var, scale: Var, shift: Var) -> tuple[Var, Var]:
        channels = x.shape[1]
        y, moments, saved = jt.code(
            [x.shape, (2, channels), (3, channels)],
            [x.dtype] * 3,
            [x, scale, shift],
            cpu_header=_NORM,
            cpu_src="""
                dots::Normalised v = {in0_shape0, in0_shape1, in0_shape2 * in0_shape3, in1_shape0, in2_shape0};
                dots::normalise(v, in0_p, in1_p, in2_p, out0_p, out1_p, out2_p, data["e"]);
            """,
            data={"e": NORM_EPSILON},
        )
        self._kept = x, scale, shift, saved
        return y, moments.stop_grad()

    def grad(self, dy: Var, _: None) -> tuple[Var, Var, Var]:
        x, scale, shift, saved = self._kept
        dx, dscale, dshift = jt.code(
            [x.shape, scale.shape, shift.shape],
            [x.dtype] * 3,
            [x, scale, shift, saved, dy],
            cpu_header=_NORM,
            cpu_src="""
                dots::Normalised v = {in0_shape0, in0_shape1, in0_shape2 * in0_shape3, in1_shape0, in2_shape0};
                dots::normalise_gradient(v, in0_p, in1_p, in3_p, in4_p, out0_p, out1_p, out2_p);
            """,
        )
        return dx, dscale, dshift


class _MaxPool(jt.Function):
    """Maximum of each window."""

    def __init__(self, window: Window) -> None:
        super().__init__()
        self._window = window

    def execute(self, x: Var) -> Var:
        n, c, h, w = self._shape = x.shape
        shape = (n, c, self._window.output(h), self._window.output(w))
        y, self._winners = jt.code(
            [shape, shape],
            [x.dtype, "uint8"],
            [x],
            cpu_header=_POOL,
            cpu_src=_WINDOW.format(image="in0", out="out0")
            + "dots::max_pool(v, in0_p, out0_p, out1_p, in0_shape0 * in0_shape1);",
            data=_data(self._window),
        )
        return y

    def grad(self, dy: Var) -> Var:
        return jt.code(
            self._shape,
            dy.dtype,
            [self._winners, dy],
            cpu_header=_POOL,
            cpu_src=_WINDOW.format(image="out0", out="in1")
            + "dots::max_pool_gradient(v, in0_p, in1_p, out0_p, in1_shape0 * in1_shape1);",
            data=_data(self._window),
        )


class _AveragePool(jt.Function):
    """Average of what each window holds, padding not counted."""

    def __init__(self, window: Window) -> None:
        super().__init__()
        self._window = window

    def execute(self, x: Var) -> Var:
        n, c, h, w = self._shape = x.shape
        return jt.code(
            (n, c, self._window.output(h), self._window.output(w)),
            x.dtype,
            [x],
            cpu_header=_POOL,
            cpu_src=_WINDOW.format(image="in0", out="out0")
            + "dots::average_pool(v, in0_p, out0_p, in0_shape0 * in0_shape1);",
            data=_data(self._window),
        )

    def grad(self, dy: Var) -> Var:
        return jt.code(
            self._shape,
            dy.dtype,
            [dy],
            cpu_header=_POOL,
            cpu_src=_WINDOW.format(image="out0", out="in0")
            + "dots::average_pool_gradient(v, in0_p, out0_p, in0_shape0 * in0_shape1);",
            data=_data(self._window),
        )


class _Mix(jt.Function):
    """Weighted sums of tensors of one shape (N, C, H, W): (N, edges·C, H, W), edge after edge.

    ``factors`` has shape (edges, tensors).
    """

    def execute(self, factors: Var, *basis: Var) -> Var:
        self._factors, self._basis = factors, basis
        n, c, h, w = basis[0].shape
        return jt.code(
            (n, factors.shape[0] * c, h, w),
            basis[0].dtype,
            [factors, *basis],
            cpu_header=_MIXTURE,
            cpu_src=f"""
                const in0_type* basis[] = {{{", ".join(f"in{i + 1}_p" for i in range(len(basis)))}}};
                dots::mix(basis, in0_p, out0_p, in1_shape0, in0_shape0, in0_shape1,
                          in1_shape1 * in1_shape2 * in1_shape3);
            """,
        )

    def grad(self, dy: Var) -> Sequence[Var]:
        factors, basis = self._factors, self._basis
        count = len(basis)
        *dbasis, dfactors = jt.code(
            [*(b.shape for b in basis), factors.shape],
            [dy.dtype] * (count + 1),
            [factors, *basis, dy],
            cpu_header=_MIXTURE,
            cpu_src=f"""
                const in0_type* basis[] = {{{", ".join(f"in{i + 1}_p" for i in range(count))}}};
                out0_type* dbasis[] = {{{", ".join(f"out{i}_p" for i in range(count))}}};
                dots::mix_gradient(basis, in0_p, in{count + 1}_p, dbasis, out{count}_p, in1_shape0, in0_shape0,
                                   in0_shape1, in1_shape1 * in1_shape2 * in1_shape3);
            """,
        )
        return [dfactors, *dbasis]


class _Rectify(jt.Function):
    def execute(self, x: Var) -> Var:
        self._x = x
        return jt.code(x.shape, x.dtype, [x], cpu_header=_ELEMENTS, cpu_src="dots::rectify(in0_p, out0_p, in0->num);")

    def grad(self, dy: Var) -> Var:
        return jt.code(
            dy.shape,
            dy.dtype,
            [self._x, dy],
            cpu_header=_ELEMENTS,
            cpu_src="dots::rectify_gradient(in0_p, in1_p, out0_p, in0->num);",
        )


class _Add(jt.Function):
    def execute(self, *terms: Var) -> Var:
        self._count = len(terms)
        return jt.code(
            terms[0].shape,
            terms[0].dtype,
            list(terms),
            cpu_header=_ELEMENTS,
            cpu_src=f"""
                const in0_type* terms[] = {{{", ".join(f"in{i}_p" for i in range(len(terms)))}}};
                dots::add(terms, {len(terms)}, out0_p, in0->num);
            """,
        )

    def grad(self, dy: Var) -> Sequence[Var]:
        return [dy] * self._count


class _Interleave(jt.Function):
    """Two tensors side by side along channels, shuffled; see `dots_core.engine.stacking.StackedCell`."""

    def __init__(self, parts: int) -> None:
        super().__init__()
        self._data = {"p": parts}

    def execute(self, first: Var, rest: Var) -> Var:
        self._shapes = first.shape, rest.shape
        n, channels, h, w = first.shape
        return jt.code(
            (n, channels + rest.shape[1], h, w),
            first.dtype,
            [first, rest],
            cpu_header=_ELEMENTS,
            cpu_src="dots::interleave(in0_p, in1_p, out0_p, out0_shape0, out0_shape1, in0_shape1, "
            'dots::Index(data["p"]), out0_shape2 * out0_shape3);',
            data=self._data,
        )

    def grad(self, dy: Var) -> tuple[Var, Var]:
        dfirst, drest = jt.code(
            list(self._shapes),
            [dy.dtype] * 2,
            [dy],
            cpu_header=_ELEMENTS,
            cpu_src="dots::part(in0_p, out0_p, out1_p, in0_shape0, in0_shape1, out0_shape1, "
            'dots::Index(data["p"]), in0_shape2 * in0_shape3);',
            data=self._data,
        )
        return dfirst, drest


class _BlockSoftmax(jt.Function):
    def __init__(self, blocks: SoftmaxGroups, temperature: float) -> None:
        super().__init__()
        self._labels = upload(blocks.labels.ravel().astype(np.int32))
        self._data = {"b": int(blocks.labels.max()) + 1, "t": temperature}

    def execute(self, logits: Var) -> Var:
        self._weights = jt.code(
            logits.shape,
            logits.dtype,
            [logits, self._labels],
            cpu_header=_SOFTMAX,
            cpu_src='dots::block_softmax(in0_p, in1_p, out0_p, in0->num, dots::Index(data["b"]), data["t"]);',
            data=self._data,
        )
        return self._weights

    def grad(self, dweights: Var) -> Var:
        return jt.code(
            dweights.shape,
            dweights.dtype,
            [self._weights, self._labels, dweights],
            cpu_header=_SOFTMAX,
            cpu_src="dots::block_softmax_gradient(in0_p, in1_p, in2_p, out0_p, in0->num, "
            'dots::Index(data["b"]), data["t"]);',
            data=self._data,
        )


class _ShiftedBlockSoftmax(jt.Function):
    """Of free·logits + shifts, both constant."""

    def __init__(self, blocks: SoftmaxGroups, temperature: float, free: Var, shifts: Var) -> None:
        super().__init__()
        self._labels = upload(blocks.labels.ravel().astype(np.int32))
        self._free, self._shifts = free, shifts
        self._data = {"b": int(blocks.labels.max()) + 1, "t": temperature}

    def execute(self, logits: Var) -> Var:
        self._weights = jt.code(
            logits.shape,
            logits.dtype,
            [logits, self._labels, self._free, self._shifts],
            cpu_header=_SOFTMAX,
            cpu_src="""
                const auto sums = dots::shifted(in0_p, in2_p, in3_p, in0->num);
                dots::block_softmax(sums.data(), in1_p, out0_p, in0->num, dots::Index(data["b"]), data["t"]);
            """,
            data=self._data,
        )
        return self._weights

    def grad(self, dweights: Var) -> Var:
        return jt.code(
            dweights.shape,
            dweights.dtype,
            [self._weights, self._labels, dweights, self._free],
            cpu_header=_SOFTMAX,
            cpu_src="""
                dots::block_softmax_gradient(in0_p, in1_p, in2_p, out0_p, in0->num, dots::Index(data["b"]), data["t"]);
                for (dots::Index i = 0; i < in0->num; i++)
                    if (in3_p[i] == 0) out0_p[i] = 0;
            """,
            data=self._data,
        )


class _CrossEntropy(jt.Function):
    def __init__(self, labels: Var, smoothing: float, share: float) -> None:
        super().__init__()
        self._labels = labels
        self._data = {"s": smoothing, "f": share}

    def execute(self, logits: Var) -> tuple[Var, Var]:
        self._logits = logits
        loss, correct = jt.code(
            [(1,), (1,)],
            [logits.dtype] * 2,
            [logits, self._labels],
            cpu_header=_SOFTMAX,
            cpu_src='dots::cross_entropy(in0_p, in1_p, out0_p, out1_p, in0_shape0, in0_shape1, data["s"], data["f"]);',
            data=self._data,
        )
        return loss, correct.stop_grad()

    def grad(self, dloss: Var, _: None) -> Var:
        return jt.code(
            self._logits.shape,
            self._logits.dtype,
            [self._logits, self._labels, dloss],
            cpu_header=_SOFTMAX,
            cpu_src="dots::cross_entropy_gradient(in0_p, in1_p, in2_p, out0_p, in0_shape0, in0_shape1, "
            'data["s"], data["f"]);',
            data=self._data,
        )


def depthwise(x: Var, weight: Var, window: Window, rectify: bool) -> Var:
    return _Depthwise(window, rectify)(x, weight)


def pointwise(x: Var, weight: Var, groups: int, rectify: bool, stride: int = 1, offset: int = 0) -> Var:
    return _Pointwise(groups, rectify, stride, offset)(x, weight)


def normalise(x: Var, scale: Var, shift: Var) -> tuple[Var, Var]:
    y, moments = _Normalise()(x, scale, shift)
    return y, moments


def max_pool(x: Var, window: Window) -> Var:
    return _MaxPool(window)(x)


def average_pool(x: Var, window: Window) -> Var:
    return _AveragePool(window)(x)


def mix(factors: Var, basis: Sequence[Var]) -> Var:
    return _Mix()(factors, *basis)


def rectify(x: Var) -> Var:
    return _Rectify()(x)


def add(terms: Sequence[Var]) -> Var:
    # A kernel is compiled for every number of terms: four at a time keep that small.
    while len(terms) > 1:
        terms = [_Add()(*terms[:4]), *terms[4:]]
    return terms[0]


def interleave(first: Var, rest: Var, parts: int) -> Var:
    return _Interleave(parts)(first, rest)


def _shifting(
    groups: SoftmaxGroups, noise: NDArray[np.floating] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (free, shifts), softmax being taken of free·logits + shifts; each of the logits' shape."""
    free = np.ones(groups.shape) if groups.free is None else groups.free.astype(np.float64)
    return free, replace(groups, free=None).shifted(np.zeros(groups.shape), noise)


def group_softmax(
    logits: Var, blocks: SoftmaxGroups, temperature: float, noise: NDArray[np.floating] | None = None
) -> Var:
    """Softmax within groups of logits of any shape, 0 where masked; differentiable.

    It is `dots_core.search_space.mixing.group_softmax` in one kernel.
    """
    if noise is None and blocks.offsets is None and blocks.free is None:
        return _BlockSoftmax(blocks, temperature)(logits)
    free, shifts = (upload(array.astype(str(logits.dtype))) for array in _shifting(blocks, noise))
    return _ShiftedBlockSoftmax(blocks, temperature, free, shifts)(logits)


def cross_entropy(logits: Var, labels: Var, smoothing: float, share: float) -> tuple[Var, Var]:
    loss, correct = _CrossEntropy(labels, smoothing, share)(logits)
    return loss, correct


def normalise_by(x: Var, scale: Var, shift: Var, mean: Var, variance: Var) -> Var:
    return jt.code(
        x.shape,
        x.dtype,
        [x, scale, shift, mean, variance],
        cpu_header=_NORM,
        cpu_src="""
            dots::Normalised v = {in0_shape0, in0_shape1, in0_shape2 * in0_shape3, in1_shape0, in2_shape0};
            dots::normalise_by(v, in0_p, in1_p, in2_p, in3_p, in4_p, out0_p, data["e"]);
        """,
        data={"e": NORM_EPSILON},
    )


def momentum_sgd(gradient: Var, weights: Var, buffer: Var, settings: Optimizers, rate: float) -> tuple[Var, Var]:
    """Return w and momentum buffer, vectors, after a step of SGD: `Tensors.sgd` in one kernel."""
    new_weights, new_buffer = jt.code(
        [weights.shape] * 2,
        [weights.dtype] * 2,
        [gradient, weights, buffer],
        cpu_header=_UPDATE,
        cpu_src="dots::momentum_sgd(in0_p, in1_p, in2_p, out0_p, out1_p, in0->num, "
        'data["c"], data["d"], data["m"], data["r"]);',
        data={"c": settings.clip, "d": settings.weight_decay, "m": settings.momentum, "r": rate},
    )
    return new_weights, new_buffer


def clipped(gradient: Var, clip: float) -> Var:
    """Return a vector scaled by min(1, clip/(‖g‖₂ + 1e-6))."""
    return jt.code(
        gradient.shape,
        gradient.dtype,
        [gradient],
        cpu_header=_UPDATE,
        cpu_src='dots::clipped(in0_p, out0_p, in0->num, data["c"]);',
        data={"c": clip},
    )


def adam(
    gradient: Var, values: Var, first: Var, second: Var, settings: Optimizers, step: int, rate: float
) -> tuple[Var, Var, Var]:
    """Return values and both moments, of one shape, after a step of Adam: `Tensors.adam` in one kernel."""
    b1, b2 = settings.betas
    new_values, new_first, new_second = jt.code(
        [values.shape] * 3,
        [values.dtype] * 3,
        [gradient, values, first, second],
        cpu_header=_UPDATE,
        cpu_src="dots::adam(in0_p, in1_p, in2_p, in3_p, out0_p, out1_p, out2_p, in0->num, "
        'data["b"], data["c"], data["e"], data["d"], data["f"], data["s"], data["r"]);',
        data={
            "b": b1,
            "c": b2,
            "e": settings.epsilon,
            "d": settings.architecture_weight_decay,
            "f": 1 - b1**step,
            "s": 1 - b2**step,
            "r": rate,
        },
    )
    return new_values, new_first, new_second


def approach(old: Var, target: Var, share: float) -> Var:
    return jt.code(
        old.shape,
        old.dtype,
        [old, target],
        cpu_header=_UPDATE,
        cpu_src='dots::approach(in0_p, in1_p, out0_p, in0->num, data["s"]);',
        data={"s": share},
    )


def approach_some(old: Var, target: Var, moves: Var, share: float) -> Var:
    return jt.code(
        old.shape,
        old.dtype,
        [old, target, moves],
        cpu_header=_UPDATE,
        cpu_src='dots::approach_some(in0_p, in1_p, in2_p, out0_p, in0->num, data["s"]);',
        data={"s": share},
    )


def add_scaled(total: Var, term: Var, factor: float) -> Var:
    """Return total + factor·term, of two Vars of one shape."""
    return jt.code(
        total.shape,
        total.dtype,
        [total, term],
        cpu_header=_UPDATE,
        cpu_src='dots::add_scaled(in0_p, in1_p, out0_p, in0->num, data["f"]);',
        data={"f": factor},
    )


def norm(x: Var) -> Var:
    """Return the Euclidean norm of all elements, shape (1,)."""
    return jt.code((1,), x.dtype, [x], cpu_header=_UPDATE, cpu_src="dots::norm(in0_p, out0_p, in0->num);")


def perturbed(weights: Var, gradient: Var, radius: float) -> Var:
    """Return w + radius·g/‖g‖₂, of two vectors, or w where g is 0."""
    return jt.code(
        weights.shape,
        weights.dtype,
        [weights, gradient],
        cpu_header=_UPDATE,
        cpu_src='dots::perturbed(in0_p, in1_p, out0_p, in0->num, data["r"]);',
        data={"r": radius},
    )
