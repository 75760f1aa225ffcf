"""What is refused as an operation, because some engine could not run it; each remedy is tried."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dots_core.errors import UsageError
from dots_core.search_space import operations
from dots_core.search_space.layers import (
    Convolution,
    GlobalAverage,
    MaxPool2x2,
    Norm,
    Pool,
    ReLU,
    ShiftedPair,
    factorized_reduce,
    relu_conv_norm,
)
from dots_core.search_space.operations import OPERATIONS, Operation
from dots_core.search_space.operations.darts import DilatedConvolution, SeparableConvolution
from dots_core.search_space.operations.legality import check_operation


class Made(Operation):
    """An operation of given layers."""

    name, about, family = "made", "of given layers", "made"

    def __init__(self, layers, **changes):
        self._layers = layers
        for name, value in changes.items():
            setattr(self, name, value)

    def layers(self, name, channels, stride, affine, pool_norm):
        return self._layers(name, channels, stride, affine)


def pool(name, c, stride, affine):
    return (Pool("max", stride),)


def convolution(**changes):
    """One 3×3 convolution, changed."""

    def layers(name, c, stride, affine):
        fields = {key: value(c) if callable(value) else value for key, value in changes.items()}
        return (replace(Convolution(f"{name}.conv", c, c, 3, stride, 1), **fields),)

    return layers


def normed(channels=lambda c: c, affine=lambda a: a):
    return lambda n, c, s, a: (
        Convolution(f"{n}.conv", c, c, 1, s),
        Norm(f"{n}.norm", channels(c), affine(a)),
    )


def pair(first, second):
    def layers(name, c, stride, affine):
        if stride == 1:
            return ()
        halves = [Convolution(f"{name}.{n}", c, size(c), 1, 2) for n, size in (("a", first), ("b", second))]
        return (ShiftedPair(*halves),)

    return layers


@pytest.mark.parametrize(
    "operation",
    [
        SeparableConvolution(7),
        DilatedConvolution(7),
        Made(pool),
        Made(convolution()),
        Made(convolution(groups=lambda c: c)),
        Made(convolution(kernel=1, padding=0)),
        Made(convolution(kernel=3, padding=2, dilation=2)),
        Made(normed()),
        Made(lambda n, c, s, a: relu_conv_norm(n, c, c, a) if s == 1 else factorized_reduce(n, c, c, a)),
        Made(lambda n, c, s, a: (Norm(f"{n}.before", c, False), Convolution(f"{n}.conv", c, c, 1, s), ReLU())),
        Made(lambda n, c, s, a: () if s == 1 else (MaxPool2x2(),)),
        Made(lambda n, c, s, a: (ReLU(), Pool("avg", s))),
        Made(pair(lambda c: c // 2, lambda c: c // 2)),
    ],
)
def test_what_every_engine_can_run_is_taken(operation):
    check_operation(operation, {})


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        (Made(pool, name="Made Up"), "has the name 'Made Up'; give it one of lower case letters"),
        (Made(pool, name="a.b"), "has the name 'a.b'"),
        (Made(pool, family=""), "has the family ''; give it one of lower case"),
        (Made(pool, spellings="made"), "has the spellings 'made'; give it a tuple of texts"),
        (Made(pool, name="none_"), None),
        (
            Made(convolution(inputs=3)),
            r"a convolution 'edge.conv' at 2 channels .* of 3 inputs that reads 2; give it 2",
        ),
        (Made(convolution(outputs=lambda c: 2 * c)), "puts out 4 channels at 2 channels .*; let it put out as many"),
        (Made(convolution(outputs=lambda c: c // 4)), r"of 0 outputs; leave it one at least: max\(1, …\)"),
        (Made(convolution(groups=2)), "of 2 groups; make it dense"),
        (Made(convolution(kernel=2)), "of kernel 2, stride 1 and dilation 1; take an odd kernel"),
        (Made(convolution(stride=3)), "stride 3 and dilation 1; take an odd kernel, stride 1 or 2"),
        (Made(convolution(dilation=0)), "dilation 0; take"),
        (Made(convolution(kernel=1)), "of padding 1, wider than its kernel; pad by"),
        (Made(convolution(padding=-1)), "of padding -1"),
        (Made(convolution(padding=0)), "makes .* pixels of 1×2 at stride 1, not 1×2; pad its windows"),
        (Made(convolution(stride=1)), "makes 1×2 pixels of 1×2 at stride 2, not 1×1; .* give stride 2 to one layer"),
        (Made(convolution(name="conv")), "calls weights 'conv'; begin their names with the given one"),
        (Made(convolution(name="edge.Conv 1")), "calls weights 'edge.Conv 1'"),
        (Made(convolution(name="edge.conv")), "calls weights 'edge.conv'"),
        (
            Made(lambda n, c, s, a: 2 * convolution()(n, c, s, a)[:1] if s == 1 else pool(n, c, s, a)),
            "two layers 'edge",
        ),
        (Made(normed(channels=lambda c: 2 * c)), "normalises 4 channels of 2 .*; give the norm 2"),
        (Made(normed(affine=lambda a: True)), "a learned gain .* affine=False, .*; make it affine where both hold"),
        (Made(lambda n, c, s, a: (Pool("max", s), Norm(f"{n}.norm", c, a))), "learned gain .* affine=True"),
        (Made(lambda n, c, s, a: (Pool("mean", s),)), "pools are max or avg, at stride 1 or 2"),
        (Made(lambda n, c, s, a: (GlobalAverage(),)), "holds GlobalAverage, which cells are not made of; take ReLU"),
        (Made(pair(lambda c: c - 1, lambda c: 1)), "holds a shifted pair at 4 channels .*two equal 1×1 ones"),
        (
            Made(lambda n, c, s, a: (Convolution(f"{n}.c", c, c, 1), *factorized_reduce(n, c, c, a)) if s == 2 else ()),
            "a shifted pair .* that is not its first convolution",
        ),
        (Made(lambda n, c, s, a: [][s]), r"has no layers at 2 channels and stride 1 \(IndexError: .*; return some for"),
        (Made(lambda n, c, s, a: (Pool("max", s), *((ReLU(),) if n == "edge" else ()))), "has other layers on another"),
    ],
)
def test_what_some_engine_could_not_run_is_refused(operation, message):
    if message is None:
        return check_operation(operation, {})
    with pytest.raises(UsageError, match=message):
        check_operation(operation, {})


def test_no_two_are_called_alike():
    registry = operations._Operations("dots.no_such_group")
    first = registry.register(Made(pool, spellings=("mp",)))
    assert registry.register(first) is first
    for taken, other in (
        ("made", Made(pool)),
        ("made", Made(pool, name="other", spellings=("made",))),
        ("mp", Made(pool, name="mp")),
        ("mp", Made(pool, name="other", spellings=("mp",))),
    ):
        with pytest.raises(UsageError, match=f"takes the name '{taken}', which made has; choose another"):
            registry.register(other)
    assert registry.register(Made(pool, name="other", spellings=("mp2",))).name == "other"
    assert registry.spellings == {"mp": "made", "mp2": "other"}


def test_those_of_darts_are_legal_and_stand_first():
    registry = operations._Operations("dots.no_such_group")
    registry.register(Made(pool, name="a_pool"))
    for operation in OPERATIONS:
        registry.register(operation)
    assert registry.names == (*operations.DARTS, "a_pool")


def test_only_what_has_weights_at_stride_1_is_learnable():
    assert [o.name for o in OPERATIONS if o.learnable] == list(operations.DARTS[4:])
    assert Made(convolution()).learnable
    assert not Made(pool).learnable
