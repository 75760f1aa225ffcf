"""What an operation must be, so that every engine can run it, alone and beside any other."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import product

from dots_core.errors import UsageError, quoted
from dots_core.search_space.layers import (
    Convolution,
    Layer,
    MaxPool2x2,
    Norm,
    Pool,
    ReLU,
    ShiftedPair,
    output_size,
)
from dots_core.search_space.operations.operation import Operation

_WORD = re.compile(r"[a-z][a-z0-9_]*")
_SUFFIX = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)*")
_CHANNELS = (2, 4, 6, 16)
_SIZES = tuple((side, side + 1) for side in range(1, 10))


class _Illegal(Exception):
    """What is wrong with an operation, and what to do about it."""


def check_operation(operation: Operation, taken: Mapping[str, str]) -> None:
    """Raise `UsageError` unless an operation is one that every engine can run.

    Parameters
    ----------
    taken : mapping of str to str
        The names and spellings there are, each with the operation that has it.
    """
    try:
        _check_names(operation, taken)
        if operation.name != "none":
            for channels, stride, affine, pool_norm in product(_CHANNELS, (1, 2), (False, True), (False, True)):
                _check_layers(operation, channels, stride, affine, pool_norm)
    except _Illegal as error:
        name = getattr(operation, "name", type(operation).__name__)
        raise UsageError(f"the operation '{quoted(str(name))}' {error}") from None


def _check_names(operation: Operation, taken: Mapping[str, str]) -> None:
    for attribute in ("name", "family"):
        value = getattr(operation, attribute, None)
        if not isinstance(value, str) or not _WORD.fullmatch(value):
            raise _Illegal(
                f"has the {attribute} {quoted(repr(value))}; give it one of lower case letters, digits and underscores"
            )
    spellings: object = operation.spellings
    if not isinstance(spellings, tuple) or not all(isinstance(each, str) for each in spellings):
        raise _Illegal(f"has the spellings {quoted(repr(spellings))}; give it a tuple of texts")
    for name in (operation.name, *operation.spellings):
        if name in taken:
            raise _Illegal(f"takes the name '{quoted(name)}', which {taken[name]} has; choose another")


def _check_layers(operation: Operation, channels: int, stride: int, affine: bool, pool_norm: bool) -> None:
    """Walk through the layers at one number of channels."""
    given = f"at {channels} channels and stride {stride}"
    layers, others = (_layers(operation, edge, channels, stride, affine, pool_norm) for edge in ("edge", "other"))
    if _nameless(layers) != _nameless(others):
        raise _Illegal(f"has other layers on another edge {given}; make them the same but for their names' prefix")
    width, stacked = channels, False
    for layer in layers:
        width = _check_layer(layer, width, stacked, affine, given)
        stacked = stacked or isinstance(layer, (Convolution, ShiftedPair))
    if width != channels:
        raise _Illegal(f"puts out {width} channels {given}; let it put out as many as it reads")
    names, elsewhere = ([each.name for each in _named(found)] for found in (layers, others))
    for name, other in zip(names, elsewhere, strict=True):
        suffix = name.removeprefix("edge.")
        if not _SUFFIX.fullmatch(suffix) or (name, other) != (f"edge.{suffix}", f"other.{suffix}"):
            raise _Illegal(f"calls weights '{quoted(name)}'; begin their names with the given one and a full stop")
        if names.count(name) > 1:
            raise _Illegal(f"calls two layers '{quoted(name)}'; tell them apart")
    for size in _SIZES:
        after = size
        for layer in layers:
            after = output_size(layer, after)
            if min(after) < 1:
                break
        wanted = tuple(-(-side // stride) for side in size)
        if after != wanted:
            raise _Illegal(
                f"makes {after[0]}×{after[1]} pixels of {size[0]}×{size[1]} at stride {stride}, not "
                f"{wanted[0]}×{wanted[1]}; pad its windows, and give stride {stride} to one layer"
            )


def _layers(
    operation: Operation, edge: str, channels: int, stride: int, affine: bool, pool_norm: bool
) -> tuple[Layer, ...]:
    try:
        return tuple(operation.layers(edge, channels, stride, affine, pool_norm))
    except Exception as error:
        raise _Illegal(
            f"has no layers at {channels} channels and stride {stride} ({type(error).__name__}: "
            f"{quoted(str(error))}); return some for every even number of channels, and strides 1 and 2"
        ) from None


def _check_layer(layer: Layer, width: int, stacked: bool, affine: bool, given: str) -> int:
    """Check a layer that reads so many channels; return how many it puts out."""
    if isinstance(layer, Convolution):
        _check_convolution(layer, width, given)
        return layer.outputs
    if isinstance(layer, ShiftedPair):
        for half in (layer.first, layer.second):
            _check_convolution(half, width, given)
        plain = all((h.kernel, h.stride, h.groups) == (1, 2, 1) for h in (layer.first, layer.second))
        if stacked or not plain or layer.first.outputs != layer.second.outputs:
            raise _Illegal(
                f"holds a shifted pair {given} that is not its first convolution, or not of two equal 1×1 ones at "
                "stride 2; make it so (dots_core.search_space.layers.factorized_reduce)"
            )
        return layer.first.outputs + layer.second.outputs
    if isinstance(layer, Norm):
        if layer.channels != width:
            raise _Illegal(f"normalises {layer.channels} channels of {width} {given}; give the norm {width}")
        if layer.affine and not (affine and stacked):
            raise _Illegal(
                f"holds a batch norm with a learned gain {given}, affine={affine}, which is asked for in derived "
                "networks only and needs a convolution before it; make it affine where both hold"
            )
        return width
    if isinstance(layer, Pool) and (layer.kind not in ("max", "avg") or layer.stride not in (1, 2)):
        raise _Illegal(f"holds {layer} {given}; pools are max or avg, at stride 1 or 2")
    if not isinstance(layer, (ReLU, Pool, MaxPool2x2)):
        raise _Illegal(
            f"holds {quoted(type(layer).__name__)}, which cells are not made of; take ReLU, Convolution, ShiftedPair, "
            "Norm, Pool or MaxPool2x2 of dots_core.search_space.layers"
        )
    return width


def _check_convolution(layer: Convolution, width: int, given: str) -> None:
    said = f"a convolution '{quoted(layer.name)}' {given}"
    if layer.inputs != width:
        raise _Illegal(f"has {said} of {layer.inputs} inputs that reads {width}; give it {width}")
    if layer.outputs < 1:
        raise _Illegal(f"has {said} of {layer.outputs} outputs; leave it one at least: max(1, …)")
    if layer.groups != 1 and not layer.groups == layer.inputs == layer.outputs:
        raise _Illegal(f"has {said} of {layer.groups} groups; make it dense (1) or depthwise (groups=inputs=outputs)")
    if layer.kernel < 1 or layer.kernel % 2 == 0 or layer.stride not in (1, 2) or layer.dilation < 1:
        raise _Illegal(
            f"has {said} of kernel {layer.kernel}, stride {layer.stride} and dilation {layer.dilation}; take an odd "
            "kernel, stride 1 or 2 and dilation 1 or more"
        )
    if not 0 <= layer.padding <= layer.dilation * (layer.kernel - 1):
        raise _Illegal(
            f"has {said} of padding {layer.padding}, wider than its kernel; pad by dilation·(kernel−1)/2 on a side"
        )


def _named(layers: tuple[Layer, ...]) -> list[Convolution | Norm]:
    pairs = [half for layer in layers if isinstance(layer, ShiftedPair) for half in (layer.first, layer.second)]
    return [*pairs, *(layer for layer in layers if isinstance(layer, (Convolution, Norm)))]


def _nameless(layers: tuple[Layer, ...]) -> list[str]:
    return [re.sub(r"name='(edge|other)", "name='", repr(layer)) for layer in layers]
