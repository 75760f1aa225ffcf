from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import genotypes, quick

from dots_core.network.counts import activation_count, mac_count, parameter_count
from dots_core.network.spec import NetworkSpec, cell_layouts, derived_network
from dots_core.search_space.cell import CellSpec, search_cell
from dots_core.search_space.edge import Edge
from dots_core.search_space.genotype import Genotype
from dots_core.search_space.named_cells import named_cell
from dots_core.search_space.topology import Topology


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("DARTS_V1", 3169414), ("DARTS_V2", 3349342), ("PDARTS", 3433798), ("PC_DARTS_cifar", 3634678)],
)
def test_published_parameter_counts(name, parameters):
    """20 cells, 36 channels, CIFAR-10, without the auxiliary head."""
    assert parameter_count(derived_network(named_cell(name))) == parameters


def test_a_tiny_network_by_hand():
    """One cell of one node: 0 → 2 separable, 1 → 2 identity; 2 channels, 3 classes, 8×8 images."""
    genotype = Genotype((((("sep_conv_3x3"), 0), ("skip_connect", 1)),), (2,), ((("max_pool_3x3", 0),),), (2,))
    spec = derived_network(genotype, layers=1, channels=2, classes=3, input_shape=(3, 8, 8))
    pixels = 8 * 8
    stem = 3 * 6 * 3 * 3
    preprocess = 6 * 2
    separable = 2 * (2 * 3 * 3 + 2 * 2)
    assert mac_count(spec) == pixels * (stem + 2 * preprocess + separable) + 2 * 3 == 14726
    norms = 2 * 6 + 2 * (2 * 2) + 2 * (2 * 2)
    assert parameter_count(spec) == stem + 2 * preprocess + separable + norms + 2 * 3 + 3 == 267


def half(size: int) -> int:
    return -(-size // 2)


def literal_counts(genotype: Genotype, layers: int, c: int, classes: int, shape, imagenet: bool):
    """Parameters and MACs of the DARTS evaluation network, counted as its published code builds it."""
    colours, height, width = shape
    parameters = macs = 0

    def convolution(weights: int, h: int, w: int, norm: int = 0) -> None:
        nonlocal parameters, macs
        parameters += weights + 2 * norm
        macs += weights * h * w

    if imagenet:
        h1, w1 = half(height), half(width)
        convolution(colours * c // 2 * 9, h1, w1, c // 2)
        h2, w2 = half(h1), half(w1)
        convolution(c // 2 * c * 9, h2, w2, c)
        h3, w3 = half(h2), half(w2)
        convolution(c * c * 9, h3, w3, c)
        before, last = (c, h2, w2), (c, h3, w3)
    else:
        convolution(colours * 3 * c * 9, height, width, 3 * c)
        before = last = (3 * c, height, width)
    reduced = imagenet
    for index in range(layers):
        reduce = layers > 1 and index in (layers // 3, 2 * layers // 3)
        c *= 2 if reduce else 1
        _, h, w = last
        oh, ow = (half(h), half(w)) if reduce else (h, w)
        convolution(before[0] * c, h, w, c)  # at half the size of its input where the cell before reduced
        assert (before[1:] != last[1:]) <= reduced
        convolution(last[0] * c, h, w, c)
        nodes, concat = (
            (genotype.reduce, genotype.reduce_concat) if reduce else (genotype.normal, genotype.normal_concat)
        )
        for node in nodes:
            for operation, source in node:
                kind, size = operation[:3], operation[-1]
                if kind == "sep":
                    for _ in range(2):
                        convolution(int(size) ** 2 * c, oh, ow)
                        convolution(c * c, oh, ow, c)
                elif kind == "dil":
                    convolution(int(size) ** 2 * c, oh, ow)
                    convolution(c * c, oh, ow, c)
                elif kind == "ski" and reduce and source < 2:
                    convolution(c * c, oh, ow, c)
        before, last = last, (c * len(concat), oh, ow)
        reduced = reduce
    return parameters + (last[0] + 1) * classes, macs + last[0] * classes


@quick
@given(
    genotypes(),
    st.integers(1, 7),
    st.sampled_from([2, 4, 10]),
    st.integers(2, 9),
    st.tuples(st.integers(1, 3), st.integers(5, 40), st.integers(5, 40)),
    st.booleans(),
)
def test_counts_are_those_of_the_darts_network(genotype, layers, channels, classes, shape, imagenet):
    stem = "imagenet" if imagenet else "cifar"
    spec = derived_network(genotype, layers, channels, classes, shape, stem)
    expected = literal_counts(genotype, layers, channels, classes, shape, imagenet)
    assert (parameter_count(spec), mac_count(spec)) == expected


def test_the_literal_count_agrees_with_the_papers():
    assert literal_counts(named_cell("DARTS_V2"), 20, 36, 10, (3, 32, 32), False)[0] == 3349342


@quick
@given(genotypes(), st.integers(2, 6), st.sampled_from([(3, 8, 8), (1, 9, 7), (3, 32, 32), (3, 1, 1)]))
def test_the_auxiliary_head_adds_parameters_but_no_macs(genotype, layers, shape):
    plain = derived_network(genotype, layers, 4, 5, shape)
    headed = dataclasses.replace(plain, auxiliary=True)
    assert mac_count(headed) == mac_count(plain)
    extra = parameter_count(headed) - parameter_count(plain)
    width = 4 * 2 ** len(plain.reductions) * len(genotype.reduce_concat)
    rest = 128 * width + 2 * 128 + 2 * 768 + 769 * 5
    assert (extra - rest) / (768 * 128) in (1, 4)


def test_the_auxiliary_head_of_the_papers():
    """DARTS: 5×5 pooling of 8×8 pixels, 1×1 to 128, 2×2 to 768, linear."""
    plain = derived_network(named_cell("DARTS_V2"))
    headed = dataclasses.replace(plain, auxiliary=True)
    head = 576 * 128 + 2 * 128 + 128 * 768 * 4 + 2 * 768 + 768 * 10 + 10
    assert parameter_count(headed) - parameter_count(plain) == head


def test_the_auxiliary_head_of_imagenet():
    """DARTS and DOTS: no batch norm after the second convolution. At 48 channels the head reads 768."""
    plain = derived_network(named_cell("DOTS_ImageNet"), 14, 48, 1000, (3, 224, 224), "imagenet")
    headed = dataclasses.replace(plain, auxiliary=True)
    head = 768 * 128 + 2 * 128 + 128 * 768 * 4 + 768 * 1000 + 1000
    assert parameter_count(headed) - parameter_count(plain) == head
    assert parameter_count(headed) == 6_608_808


def test_a_supernet_counts_every_candidate_and_no_architecture_weights():
    """One edge of each kind, one cell: pools have norms without parameters, `none` has nothing."""
    groups = (("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3"), ("dil_conv_5x5",))
    cell = CellSpec(1, (Edge(0, 2, groups), Edge(1, 2, (("avg_pool_3x3",),))), (2,), Topology("k-edges"))
    spec = NetworkSpec(cell, cell, 1, 4, 2, (3, 6, 6))
    stem = 3 * 12 * 9
    weights = 2 * (12 * 4) + 2 * (4 * 9 + 16) + (4 * 25 + 16)
    assert parameter_count(spec) == stem + 2 * 12 + weights + 4 * 2 + 2
    assert mac_count(spec) == 36 * (stem + weights) + 4 * 2


def test_topology_and_grouping_do_not_change_the_weights():
    counts = {
        parameter_count(NetworkSpec(cell, cell, 3, 4, 10, (3, 8, 8)))
        for cell in (search_cell(2), search_cell(2, groups="group-v2", topology=Topology("arbitrary")))
    }
    assert len(counts) == 1


def test_activations_of_a_tiny_network_by_hand():
    """One cell of 2 channels on 8×8 images: stem 6 channels; 0 → 2 dilated, 1 → 2 average pool."""
    genotype = Genotype(((("dil_conv_3x3", 0), ("avg_pool_3x3", 1)),), (2,), ((("max_pool_3x3", 0),),), (2,))
    spec = derived_network(genotype, layers=1, channels=2, classes=3, input_shape=(3, 8, 8))
    stem = 6 + 6  # convolution, norm
    preprocess = 6 + 2 + 2  # ReLU, convolution, norm
    dilated = 4 * 2  # ReLU, depthwise, pointwise, norm
    pool = 2
    head = 2 + 3  # mean, classifier: one number a channel and class
    assert activation_count(spec) == 64 * (stem + 2 * preprocess + dilated + pool) + head


def test_activations_grow_with_the_pixels_and_the_candidates():
    small, large = (derived_network(named_cell("DARTS_V2"), 3, 4, 10, (3, size, size)) for size in (16, 32))
    assert activation_count(large) == pytest.approx(4 * activation_count(small), rel=0.01)
    one, two = (
        NetworkSpec(cell, cell, 3, 4, 10, (3, 16, 16))
        for cell in (search_cell(2, ("sep_conv_3x3",)), search_cell(2, ("sep_conv_3x3", "sep_conv_5x5")))
    )
    edges = 8 * sum(x.channels * x.size[0] * x.size[1] for x in cell_layouts(one)) * 5
    reduced = [x for x in cell_layouts(one) if x.kind == "reduce"]
    # The first ReLU of an edge of stride 2 still sees four times as many pixels.
    edges += 4 * 3 * sum(x.channels * x.size[0] * x.size[1] for x in reduced)
    assert activation_count(two) - activation_count(one) == edges
