"""Every layer form that the engines can be asked for, taken from the functions that describe networks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

from dots_core.engine.crashes.forms import Form, network_forms
from dots_core.network.spec import CellLayout, NetworkSpec
from dots_core.network.stems import STEMS
from dots_core.search_space.cell import CellSpec, search_cell
from dots_core.search_space.edge import Edge
from dots_core.search_space.layers import Convolution, Layer, ReLU, ShiftedPair
from dots_core.search_space.operations import DARTS, NONE, OPERATIONS

CHANNELS = (*range(1, 10), 12, 16)
SIDES = (*range(1, 10), 16, 17)
WIDTHS = (1, 2, 3, 4)
STRIDES = (1, 2)
KINDS_OF_NETWORK = ((False, True), (True, False))
"""Of a supernet and a derived network: whether batch norms are affine, and whether pools have one."""


def edge_forms() -> Iterator[Form]:
    """Every operation on edges of every number of channels and size, for one edge or several."""
    for operation in DARTS:
        if operation == NONE:
            continue
        for stride in STRIDES:
            for affine, pool_norm in KINDS_OF_NETWORK:
                for channels in CHANNELS:
                    layers = OPERATIONS[operation].layers("edge", channels, stride, affine, pool_norm)
                    for side in SIDES if layers else ():
                        for width in WIDTHS:
                            if _possible(layers, width):
                                yield Form.of((layers,) * width, channels, (side, side))


def preprocessing_forms() -> Iterator[Form]:
    """How cells read the two before them: every number of channels to every other. The core stacks none of these."""
    for inputs in CHANNELS:
        for outputs in CHANNELS:
            for side in SIDES:
                size = (side, side)
                layout = CellLayout(0, "normal", outputs, (inputs, inputs), (size, size), size, after_reduction=True)
                for number in (0, 1):
                    for affine in (False, True):
                        layers = layout.preprocess(number, affine)
                        if _possible(layers):
                            yield Form.of((layers,), inputs, size)


def _possible(layers: tuple[Layer, ...], width: int = 1) -> bool:
    """Whether a factorised reduce has something to halve, and equal halves where several are stacked.

    Networks have even numbers of channels for its sake, `dots_core.network.spec.NetworkSpec` refuses others.
    """
    pairs = [(layer.first.outputs, layer.second.outputs) for layer in layers if isinstance(layer, ShiftedPair)]
    return all(first > 0 and (first == second or width == 1) for first, second in pairs)


def stem_and_head_forms() -> Iterator[Form]:
    """Stems, heads, auxiliary heads and channels that pass by, of the smallest networks that have them."""
    for stem in STEMS.names:
        for channels in CHANNELS:
            for side in SIDES:
                for spec in _specs(stem, 2 * channels, side):
                    for form in network_forms(spec):
                        if form.sequences[0] and max(form.size) <= SIDES[-1]:
                            yield form


SHRINKING = (1, 4, 32)
"""By how much stems and cells shrink an image before what is to see it: not, or by two or five halvings."""


def _specs(stem: str, channels: int, side: int) -> Iterator[NetworkSpec]:
    cell = search_cell(1, ("skip_connect",))
    derived = CellSpec(1, (Edge(0, 2, (("skip_connect",),)),), (2,), mixed=False)
    plain = NetworkSpec(cell, cell, 1, channels, 5, (3, side, side), stem, stem_multiplier=1)
    for colours in CHANNELS:
        yield replace(plain, input_shape=(colours, side, side))
    yield replace(plain, head_norm=True)
    for factor in SHRINKING:
        seen = replace(plain, input_shape=(3, factor * side, factor * side))
        yield seen
        yield replace(seen, normal=derived, reduce=derived, layers=2, affine=True, pool_norm=False, auxiliary=True)
    for partial in WIDTHS[1:]:
        passing = replace(cell, partial=partial)
        # The fewest channels, of those the core allows, are wider than the sweep's; any do for a pool.
        yield replace(plain, normal=passing, reduce=passing, layers=2, channels=2 * partial * channels)


def registrable_forms() -> Iterator[Form]:
    """Convolutions that operations of other packages may hold, first and after another, without a norm behind them."""
    for channels in (2, 4, 7, 8, 16):
        for kernel in (1, 3, 7):
            for stride in STRIDES:
                for dilation in (1, 2) if kernel > 1 else (1,):
                    for groups in (1, channels):
                        padding = dilation * (kernel - 1) // 2
                        conv = Convolution("edge.conv", channels, channels, kernel, stride, padding, dilation, groups)
                        first = Convolution("edge.first", channels, channels, 1)
                        for layers in ((conv,), (ReLU(), first, ReLU(), conv)):
                            for side in (1, 2, 7, 8, 17):
                                for width in (1, 3):
                                    yield Form.of((layers,) * width, channels, (side, side))


SOURCES = (edge_forms, preprocessing_forms, stem_and_head_forms)


@cache
def whole() -> tuple[Form, ...]:
    """Return all forms, each once."""
    return tuple(dict.fromkeys(form for source in SOURCES for form in source()))


def kind(form: Form) -> tuple[object, ...]:
    """Return what a form computes, whatever the channels."""

    def shape(layer: Layer) -> tuple[object, ...]:
        if isinstance(layer, Convolution):
            return ("convolution", layer.kernel, layer.stride, layer.dilation, layer.padding, layer.groups > 1)
        return (type(layer).__name__, *(getattr(layer, name, None) for name in ("kind", "kernel", "stride", "affine")))

    return tuple(shape(layer) for layer in form.sequences[0])


@cache
def by_kind() -> dict[tuple[object, ...], dict[int, list[Form]]]:
    """Return all forms by what they compute, and then by channels."""
    found: dict[tuple[object, ...], dict[int, list[Form]]] = {}
    for form in whole():
        found.setdefault(kind(form), {}).setdefault(form.channels, []).append(form)
    return found


def sampled(per_kind: int) -> tuple[Form, ...]:
    """Return, of every kind, some forms: of one number of channels after the other, at sizes and widths spread evenly.

    Of the kinds that come with the same numbers of channels each begins with another, so that few forms of each
    go through them all.
    """
    chosen: list[Form] = []
    begun: Counter[tuple[int, ...]] = Counter()
    for channels in by_kind().values():
        numbers = tuple(sorted(channels))
        first = begun[numbers]
        begun[numbers] += 1
        for number in range(per_kind):
            forms = channels[numbers[(first + number) % len(numbers)]]
            # Steps of the golden section spread evenly, however many they are.
            chosen.append(forms[int((first + number) * 0.6180339887 % 1 * len(forms))])
    return tuple(dict.fromkeys(chosen))
