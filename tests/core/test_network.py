from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import genotypes, quick, search_cells, small_network, sparse_cells

from dots_core.errors import UsageError
from dots_core.network.spec import (
    NetworkSpec,
    architecture_shapes,
    auxiliary_layers,
    cell_layouts,
    derived_network,
    head_layers,
    sequences,
    statistics_shapes,
    stem_layers,
    weight_shapes,
)
from dots_core.search_space.cell import CellSpec, search_cell
from dots_core.search_space.edge import Edge
from dots_core.search_space.layers import Convolution, Linear, Norm, ShiftedPair, output_size
from dots_core.search_space.topology import Topology

shapes = st.tuples(st.integers(1, 3), st.integers(4, 33), st.integers(4, 33))


@st.composite
def networks(draw: st.DrawFn) -> NetworkSpec:
    """A supernet or derived network."""
    layers, stem = draw(st.integers(1, 7)), draw(st.sampled_from(["cifar", "imagenet"]))
    auxiliary = layers > 1 and draw(st.booleans())
    if draw(st.booleans()):
        return derived_network(draw(genotypes()), layers, 4, 3, draw(shapes), stem, auxiliary)
    normal, reduce = draw(search_cells()), draw(sparse_cells())
    head_norm = draw(st.booleans())
    return NetworkSpec(normal, reduce, layers, 4, 3, draw(shapes), stem, auxiliary=auxiliary, head_norm=head_norm)


def named_layers(spec: NetworkSpec) -> list[Convolution | Norm | Linear]:
    found = []
    for layers, _, _ in sequences(spec):
        for layer in layers:
            found += [layer.first, layer.second] if isinstance(layer, ShiftedPair) else [layer]
    return [layer for layer in found if isinstance(layer, (Convolution, Norm, Linear))]


@quick
@given(networks())
def test_every_weight_appears_once_under_its_own_name(spec):
    layers = named_layers(spec)
    names = [layer.name for layer in layers]
    assert len(set(names)) == len(names)
    weights, statistics = {}, {}
    for layer in layers:
        if isinstance(layer, Convolution):
            weights[f"{layer.name}.weight"] = layer.weight_shape
        elif isinstance(layer, Linear):
            weights[f"{layer.name}.weight"] = (layer.outputs, layer.inputs)
            weights[f"{layer.name}.bias"] = (layer.outputs,)
        else:
            statistics[f"{layer.name}.running_mean"] = statistics[f"{layer.name}.running_var"] = (layer.channels,)
            if layer.affine:
                weights[f"{layer.name}.weight"] = weights[f"{layer.name}.bias"] = (layer.channels,)
    assert weight_shapes(spec) == weights
    assert statistics_shapes(spec) == statistics


@quick
@given(networks())
def test_channels_and_sizes_fit_together(spec):
    """Every sequence reads the channels that are there, and all edges into a node bring the same size."""
    for layers, size, _ in sequences(spec):
        channels = None
        for layer in layers:
            if isinstance(layer, Convolution):
                assert channels in (None, layer.inputs)
                channels = layer.outputs
            elif isinstance(layer, ShiftedPair):
                assert layer.first.inputs == layer.second.inputs
                assert channels in (None, layer.first.inputs)
                channels = layer.first.outputs + layer.second.outputs
            elif isinstance(layer, Norm):
                assert channels in (None, layer.channels)
            elif isinstance(layer, Linear):
                assert channels in (None, layer.inputs)
                assert size == (1, 1)
            size = output_size(layer, size)
            assert min(size) >= 1
    widths = [layers[-1].channels for layers in stem_layers(spec)]
    before, last = (widths * 2)[:2]
    for layout in cell_layouts(spec):
        assert layout.inputs == (before, last)
        sizes = []
        for number in (0, 1):
            size = layout.input_sizes[number]
            for layer in layout.preprocess(number, spec.affine):
                size = output_size(layer, size)
            sizes.append(size)
        assert sizes[0] == sizes[1]
        steps = 2 if layout.kind == "reduce" else 1
        assert layout.size == tuple(-(-s // steps) for s in sizes[1])
        before, last = last, layout.channels * len(spec.cell(layout.kind).concat)
    assert head_layers(spec)[-1].inputs == last


@pytest.mark.parametrize(
    ("layers", "reductions"),
    [(1, ()), (2, (0, 1)), (3, (1, 2)), (4, (1, 2)), (5, (1, 3)), (8, (2, 5)), (14, (4, 9)), (20, (6, 13))],
)
def test_reductions_stand_at_one_and_two_thirds(layers, reductions):
    spec = small_network(layers=layers)
    assert spec.reductions == reductions
    assert tuple(x.index for x in cell_layouts(spec) if x.kind == "reduce") == reductions
    assert [x.after_reduction for x in cell_layouts(spec)] == [i - 1 in reductions for i in range(layers)]
    assert spec.kinds() == (("normal",) if not reductions else ("reduce",) if layers == 2 else ("normal", "reduce"))


def test_sizes_and_channels_of_the_cifar_network():
    spec = small_network(layers=8, channels=16, input_shape=(3, 32, 32))
    layouts = cell_layouts(spec)
    assert [x.size for x in layouts] == [(32, 32)] * 2 + [(16, 16)] * 3 + [(8, 8)] * 3
    assert [x.channels for x in layouts] == [16] * 2 + [32] * 3 + [64] * 3
    assert layouts[0].inputs == (48, 48)
    assert layouts[0].input_sizes == ((32, 32), (32, 32))
    assert [x.inputs for x in layouts[1:4]] == [(48, 32), (32, 32), (32, 64)]
    assert layouts[3].input_sizes == ((32, 32), (16, 16))
    assert [x.name for x in layouts[:2]] == ["cells.0", "cells.1"]


def test_odd_sizes_round_up():
    spec = small_network(layers=3, input_shape=(3, 13, 7))
    assert [x.size for x in cell_layouts(spec)] == [(13, 7), (7, 4), (4, 2)]


def test_only_edges_out_of_a_reduction_cells_inputs_have_stride_two():
    normal, reduce = cell_layouts(small_network(layers=3))[:2]
    assert (normal.kind, reduce.kind) == ("normal", "reduce")
    assert [normal.stride(node) for node in range(4)] == [1, 1, 1, 1]
    assert [reduce.stride(node) for node in range(4)] == [2, 2, 1, 1]


def test_the_imagenet_stem():
    spec = small_network(layers=3, channels=8, input_shape=(3, 224, 224), stem="imagenet")
    first, second = stem_layers(spec)
    assert [x.weight_shape for x in (*first, *second) if isinstance(x, Convolution)] == [
        (4, 3, 3, 3),
        (8, 4, 3, 3),
        (8, 8, 3, 3),
    ]
    assert all(x.stride == 2 for x in (*first, *second) if isinstance(x, Convolution))
    layouts = cell_layouts(spec)
    assert layouts[0].input_sizes == ((56, 56), (28, 28))
    assert layouts[0].after_reduction
    assert [x.size for x in layouts] == [(28, 28), (14, 14), (7, 7)]
    assert weight_shapes(spec)["cells.0.preprocess0.conv1.weight"] == (4, 8, 1, 1)


def test_canonical_names_are_pinned():
    """Weights saved by any release stay readable."""
    cell = CellSpec(1, (Edge(0, 2, (("sep_conv_3x3", "dil_conv_5x5"),)), Edge(1, 2, (("none", "skip_connect"),))), (2,))
    spec = NetworkSpec(cell, cell, 2, 2, 3, (1, 8, 8), auxiliary=True, head_norm=True, affine=True)
    edges = "cells.1.edges"
    expected = {
        "stem.conv.weight": (6, 1, 3, 3),
        "stem.norm.weight": (6,),
        "cells.0.preprocess0.conv.weight": (4, 6, 1, 1),
        "cells.1.preprocess0.conv1.weight": (4, 6, 1, 1),
        "cells.1.preprocess0.conv2.weight": (4, 6, 1, 1),
        "cells.1.preprocess0.norm.bias": (8,),
        "cells.1.preprocess1.conv.weight": (8, 4, 1, 1),
        f"{edges}.0-2.sep_conv_3x3.depthwise1.weight": (8, 1, 3, 3),
        f"{edges}.0-2.sep_conv_3x3.pointwise2.weight": (8, 8, 1, 1),
        f"{edges}.0-2.sep_conv_3x3.norm2.weight": (8,),
        f"{edges}.0-2.dil_conv_5x5.depthwise.weight": (8, 1, 5, 5),
        f"{edges}.1-2.skip_connect.conv2.weight": (4, 8, 1, 1),
        "auxiliary.conv1.weight": (128, 8, 1, 1),
        "auxiliary.norm1.weight": (128,),
        "auxiliary.conv2.weight": (768, 128, 1, 1),
        "auxiliary.classifier.weight": (3, 768),
        "head.norm.weight": (8,),
        "classifier.weight": (3, 8),
        "classifier.bias": (3,),
    }
    assert {name: weight_shapes(spec).get(name) for name in expected} == expected
    assert not any("none" in name for name in weight_shapes(spec))


def test_architecture_weights():
    topology = Topology("k-edges")
    cell = search_cell(4, topology=topology)
    spec = small_network(cell)
    assert architecture_shapes(spec) == {
        "alpha.normal": (14, 8),
        "alpha.reduce": (14, 8),
        "beta.normal": (1 + 3 + 6 + 10,),
        "beta.reduce": (20,),
    }
    assert list(architecture_shapes(dataclasses.replace(spec, layers=1))) == ["alpha.normal", "beta.normal"]
    assert list(architecture_shapes(small_network(search_cell(2)))) == ["alpha.normal", "alpha.reduce"]


@quick
@given(genotypes())
def test_a_derived_network_has_nothing_to_search(genotype):
    spec = derived_network(genotype, layers=3, channels=4, input_shape=(3, 8, 8))
    assert architecture_shapes(spec) == {}
    assert all(layer.affine for layer in named_layers(spec) if isinstance(layer, Norm))
    assert not any("pool" in name for name in statistics_shapes(spec))


def test_a_supernets_cells_have_no_affine_norms():
    spec = small_network()
    affine = {layer.name for layer in named_layers(spec) if isinstance(layer, Norm) and layer.affine}
    assert affine == {"stem.norm"}
    assert any("max_pool_3x3.norm" in name for name in statistics_shapes(spec))


def test_the_auxiliary_head_reads_the_second_reduction():
    spec = small_network(layers=8, channels=16, input_shape=(3, 32, 32), auxiliary=True)
    index, layers = auxiliary_layers(spec)
    assert index == 5
    assert (layers[1].kernel, layers[1].stride) == (5, 3)
    assert [x.weight_shape for x in layers if isinstance(x, Convolution)] == [(128, 128, 1, 1), (768, 128, 2, 2)]
    assert [x.name for x in layers if isinstance(x, Norm)] == ["auxiliary.norm1", "auxiliary.norm2"]
    tiny = small_network(layers=3, input_shape=(1, 2, 2), auxiliary=True)
    assert auxiliary_layers(tiny)[1][1].kernel == 1
    assert auxiliary_layers(small_network()) is None


def test_the_auxiliary_head_of_imagenet_has_stride_2_and_no_second_norm():
    """DARTS' code and the released code of DOTS: 7×7 pixels are pooled to 2×2."""
    spec = small_network(layers=8, input_shape=(3, 224, 224), stem="imagenet", auxiliary=True)
    _, layers = auxiliary_layers(spec)
    assert (layers[1].kernel, layers[1].stride) == (5, 2)
    assert [x.name for x in layers if isinstance(x, Norm)] == ["auxiliary.norm1"]
    assert [x.weight_shape[2:] for x in layers if isinstance(x, Convolution)] == [(1, 1), (2, 2)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": 5}, "channels is 5; it must be even"),
        ({"layers": 0}, "at least 1 cell"),
        ({"layers": -1}, "at least 1 cell"),
        ({"channels": 0}, "1 channel"),
        ({"classes": 1}, "2 classes"),
        ({"stem": "cifer"}, "unknown stem 'cifer'"),
        ({"layers": 1, "auxiliary": True}, "auxiliary head needs a reduction cell"),
    ],
)
def test_impossible_networks_are_refused(changes, message):
    with pytest.raises(UsageError, match=message):
        small_network(**changes)


def test_sequences_come_in_execution_order():
    names = [layer.name for layer in named_layers(small_network(layers=3, auxiliary=True))]
    cells = [int(name.split(".")[1]) for name in names if name.startswith("cells.")]
    assert cells == sorted(cells)
    assert names[0] == "stem.conv"
    assert names[-1] == "classifier"
    assert np.flatnonzero([n.startswith("auxiliary") for n in names]).min() > names.index("cells.2.preprocess1.conv")
