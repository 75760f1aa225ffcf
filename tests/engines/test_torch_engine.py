"""The torch engine keeps the promises every engine makes, and agrees with the reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from dots_conformance.engine_suite import RATES, EngineSuite
from dots_conformance.networks import CASES, NetworkCase, operation_spec
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dots_core.engine.batch import Draw
from dots_core.engine.protocol import Runtime, Setup
from dots_core.engine.registry import load_engine
from dots_core.errors import CorruptFile, UsageError
from dots_core.network.counts import mac_count, parameter_count
from dots_core.network.initialisation import initial_weights
from dots_core.network.spec import NetworkSpec, derived_network
from dots_core.plan.gradients import MixedLevel, SecondOrder
from dots_core.plan.plan import Update
from dots_core.random import Stream
from dots_core.search.sampling import Sampler
from dots_core.search.step import Stepper, StepPosition
from dots_core.search_space.cell import CellSpec, search_cell
from dots_core.search_space.edge import Edge
from dots_core.search_space.mixing import MASKED, SoftmaxGroups, Temperature, group_softmax, group_softmax_gradient
from dots_core.search_space.named_cells import named_cell, named_cells
from dots_core.search_space.topology import Topology

pytestmark = pytest.mark.engine("torch")


class TorchSuite(EngineSuite):
    backend = "torch"


class TestTorchFloat32(TorchSuite):
    precision = "float32"


class TestTorchFloat64(TorchSuite):
    precision = "float64"


def built(case, precision="float32"):
    from dots_torch.engine import engine

    return case.build(engine, precision)


@pytest.mark.parametrize("name", CASES)
def test_bfloat16_stays_near_float32(name):
    case = CASES[name]
    exact, rough = (
        built(case, precision).gradients(case.batch(), case.temperature) for precision in ("float32", "bfloat16")
    )
    distance = np.linalg.norm(rough["logits"] - exact["logits"]) / np.linalg.norm(exact["logits"])
    assert 1e-5 < distance < 0.1  # rounded to 8 bits, through a dozen layers


def test_repeated_gradients_are_byte_equal():
    case = next(iter(CASES.values()))
    network = built(case)
    first, second = (network.gradients(case.batch(), case.temperature) for _ in range(2))
    assert all(first[name].tobytes() == second[name].tobytes() for name in first)


def test_architecture_gradients_do_not_depend_on_whether_weights_are_differentiated():
    """Steps that update α only differentiate less; what they do compute must be the same."""
    case = next(iter(CASES.values()))
    full, alone = built(case), built(case)
    full.step(("w", "alpha", "beta"), case.batch(), RATES, case.temperature)
    alone.step(("alpha", "beta"), case.batch(), RATES, case.temperature)
    for name, value in full.architecture().items():
        np.testing.assert_allclose(alone.architecture()[name], value, rtol=1e-4, atol=1e-6)


def test_gradients_do_not_read_freed_memory():
    """Batch norm's weight must be contiguous where a single edge carries a weight."""
    import torch

    case = next(iter(CASES.values()))
    network = built(case)
    expected = network.gradients(case.batch(), case.temperature)
    for _ in range(5):
        filler = [torch.full((size,), 1e30) for size in (4, 8, 16, 32, 64, 128, 512, 2048)]
        del filler
        found = network.gradients(case.batch(), case.temperature)
        assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_a_step_only_waits_for_the_device_in_pop_losses(monkeypatch):
    """No tensor is read back to the host during a step."""
    import torch

    case = next(iter(CASES.values()))
    network = built(case)
    batch = case.batch()
    network.step(("w", "alpha", "beta"), batch, RATES, case.temperature)  # small index tensors are made once

    def refuse(self, *arguments, **keywords):
        raise AssertionError("a step read a tensor back")

    for name in ("item", "cpu", "numpy", "tolist", "__bool__", "__float__", "__int__"):
        monkeypatch.setattr(torch.Tensor, name, refuse)
    network.step(("alpha", "beta"), batch, RATES, case.temperature)
    network.step(("w",), batch, RATES, case.temperature)
    monkeypatch.undo()
    assert network.pop_losses().shape == (3, 2)


def test_statistics_of_a_shared_pool_that_differ_are_refused():
    network = built(next(iter(CASES.values())))
    state = network.export_state()
    name = next(key for key in state if "max_pool_3x3.norm.running_mean" in key and ".0-3." in key)
    state[name] = state[name] + 1
    with pytest.raises(CorruptFile, match="max_pool_3x3"):
        network.import_state(state)


@pytest.mark.parametrize("precision", ["tf32", "float16"])
def test_precisions_of_cuda_are_refused_on_cpu(precision):
    with pytest.raises(UsageError, match=precision):
        built(next(iter(CASES.values())), precision)


@pytest.mark.parametrize("name", named_cells())
@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
def test_macs_equal_those_counted_in_the_running_network(name, stem):
    """Count the multiply-accumulates of every convolution and product that PyTorch executes."""
    import torch
    from dots_torch.engine import engine
    from torch.utils._python_dispatch import TorchDispatchMode

    from dots_core.engine.batch import Batch

    class Counter(TorchDispatchMode):
        total = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            if function._overloadpacket == torch.ops.aten.convolution:
                self.total += out[0].numel() * args[1][0].numel()  # each output value: one product a weight
            elif function._overloadpacket == torch.ops.aten.addmm:
                self.total += args[1].numel() * args[2].shape[1]
            return out

    size = 32 if stem == "cifar" else 64
    spec = derived_network(named_cell(name), 8, 8, 10, (3, size, size), stem, auxiliary=True)
    network = engine.build(Setup(spec), initial_weights(spec, 0), {})
    batch = Batch(np.zeros((1, 3, size, size), np.float32), np.zeros(1, np.int64))
    with Counter() as counter:
        network.evaluate(batch, Temperature())
    assert counter.total == mac_count(spec)
    weights = {key: value for key, value in network.export_state().items() if key.startswith("weights/")}
    assert sum(value.size for value in weights.values()) == parameter_count(spec)


def test_cuda_is_refused_where_there_is_none():
    import torch
    from dots_torch.engine import engine

    from dots_core.errors import EngineMissing

    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    spec = operation_spec()
    with pytest.raises(EngineMissing, match="CUDA"):
        engine.build(Setup(spec, runtime=Runtime("cuda")), initial_weights(spec, 0), {})


# Against the reference, in float64: every space of topologies with every way of mixing and every kind of step.

SPACES = (
    Topology(),
    Topology("fixed"),
    Topology("k-edges", 2),
    Topology("k-edges", 2, scaled=False),
    Topology("k-edges", 2, side="output"),
    Topology("arbitrary"),
    Topology("arbitrary", side="output"),
    Topology("edge-softmax"),
    Topology("edge-sigmoid"),
)
ATTENTION = (("sep_conv_3x3", 0.4), ("dil_conv_5x5", -0.3))
MIXED = NetworkCase(operation_spec(), Temperature(0.7, 1.5), seed=3)


def composed(topology, sampling, partial):
    """A case whose cells search a topology, sample operations and pass a part of the channels through them."""
    operations = ("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3", "dil_conv_5x5")
    cell = search_cell(2, operations, "group-v2", topology, None, sampling, partial, ATTENTION)
    # Odd sizes, so that the border of a reduction counts.
    spec = replace(operation_spec(input_shape=(2, 7, 6)), normal=cell, reduce=cell)
    return replace(MIXED, spec=spec, drop_path=0.3)


def both(case):
    """The case's network on the reference engine and on this one."""
    from dots_torch.engine import engine

    return case.build(load_engine("reference"), "float64"), case.build(engine, "float64")


def assert_alike(expected, found, tolerance=1e-8):
    assert set(expected) == set(found)
    for name, value in expected.items():
        error = np.linalg.norm(found[name] - value)
        assert error <= tolerance * (1e-3 + np.linalg.norm(value)), f"{name}: {error:.1e}"


def updates_of(kind, groups):
    """The updates of a step: of architecture weights, then of w."""
    kinds = {
        "first order": Update(groups, "half-b"),
        "mixed level": Update(groups, "half-b", gradient=MixedLevel(0.6, 0.8)),
        "second order": Update(groups, "half-b", gradient=SecondOrder()),
    }
    return kinds[kind], Update(("w",), "half-a")


@pytest.mark.parametrize("partial", [1, 2])
@pytest.mark.parametrize("sampling", ["none", "soft", "hard"])
@pytest.mark.parametrize("topology", SPACES, ids=lambda t: f"{t.space}-{t.side}{'' if t.scaled else '-unscaled'}")
def test_steps_of_composed_searches_agree_with_the_reference(topology, sampling, partial):
    case = composed(topology, sampling, partial)
    networks = both(case)
    groups = ("alpha", "beta") if case.spec.normal.matrix is not None else ("alpha",)
    for number, kind in enumerate(("first order", "mixed level", "second order")):
        losses = []
        for network in networks:
            stepper = Stepper(network, case.spec, updates_of(kind, groups), 7, kind)
            batches = [case.batch(2 * number), case.batch(2 * number + 1)]
            rows = stepper.step(batches.__getitem__, RATES, case.temperature, StepPosition(number, 0, 1))
            losses.append(network.pop_losses())
            assert len(losses[-1]) == len(rows)
        np.testing.assert_allclose(losses[1], losses[0], rtol=1e-8)
        expected, found = (network.export_state() for network in networks)
        assert_alike(expected, found)


@pytest.mark.parametrize("partial", [1, 2])
@pytest.mark.parametrize("sampling", ["soft", "hard"])
def test_draws_reach_gradients_and_evaluation(sampling, partial):
    case = composed(Topology("edge-softmax"), sampling, partial)
    reference, network = both(case)
    sampler = Sampler(case.spec, 7, "draws")
    plain = replace(case.batch(), draws=None)
    drawn = replace(plain, draws=sampler.draw(network.architecture(), 0, 0))
    likely = replace(plain, draws=sampler.most_likely(network.architecture()))
    losses = []
    for batch in (plain, drawn, likely):
        expected, found = (each.gradients(batch, case.temperature, trace=True) for each in (reference, network))
        assert_alike(expected, found)
        evaluated, expected_evaluation = (each.evaluate(batch, case.temperature) for each in (network, reference))
        assert evaluated == pytest.approx(expected_evaluation, rel=1e-9)
        losses.append(evaluated[0])
    assert losses[0] != losses[1]
    # Without noise, soft sampling is the plain mixture; a hard sample still leaves all but one out.
    assert (losses[0] == losses[2]) == (sampling == "soft")


@pytest.mark.parametrize("partial", [1, 2])
def test_a_node_that_hears_none_only(partial):
    case = composed(Topology(), "hard", partial)
    reference, network = both(case)
    draws = {}
    for kind in case.spec.kinds():
        chosen = np.zeros(case.spec.cell(kind).operation_groups.shape, bool)
        chosen[:, case.spec.cell(kind).column("none")] = True
        draws[kind] = Draw(np.zeros(chosen.shape, np.float32), chosen)
    batch = replace(case.batch(), draws=draws)
    expected, found = (each.gradients(batch, case.temperature, trace=True) for each in (reference, network))
    assert_alike(expected, found)
    assert found["trace.gradient/cells.2.3"].any()
    assert found["trace/cells.2.3"].any() == (partial > 1)
    assert not found["gradient/alpha.normal"].any()
    for each in (reference, network):
        each.step(("w", "alpha"), batch, RATES, case.temperature)
        each.step(("alpha",), batch, RATES, case.temperature)
    assert_alike(reference.export_state(), network.export_state())


def test_a_chosen_operation_weighs_exactly_one():
    """1 on the way forward, to the last bit, however the softmax weight rounds; the others exactly 0."""
    import torch
    from dots_torch.runtime import device_context
    from dots_torch.tensors import TorchTensors

    from dots_core.engine.mixture import Mixture

    cell = search_cell(3, sampling="hard")
    noise = Stream(0, "noise").normal(cell.operation_groups.shape).astype(np.float32)
    chosen = cell.operation_groups.largest(noise)
    mixture = Mixture("normal", cell, TorchTensors(device_context(Runtime())))
    alpha = torch.zeros(noise.shape, requires_grad=True)
    edge_weights = mixture({"alpha.normal": alpha}, Temperature(0.3), Draw(noise, chosen))
    table = torch.stack([edge_weights.column(o, tuple(range(len(cell.edges)))) for o in range(len(cell.candidates))], 1)
    assert np.array_equal(table.detach().numpy(), chosen.astype(np.float32))
    upstream = Stream(0, "upstream").normal(noise.shape).astype(np.float32)
    (found,) = torch.autograd.grad(table, alpha, torch.from_numpy(upstream))
    weights = group_softmax(noise.astype(np.float64), cell.operation_groups, 0.3)
    expected = group_softmax_gradient(weights, upstream * chosen, cell.operation_groups, 0.3)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_block_softmax_and_its_gradient_agree_with_the_core(data):
    import torch
    from dots_torch.runtime import device_context
    from dots_torch.tensors import TorchTensors

    from dots_core.engine.mixture import GroupSoftmax

    shape = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 5)))
    numbers = st.floats(-5, 5, width=32)
    labels = data.draw(arrays(np.int64, shape, elements=st.integers(MASKED, 3)))
    if (labels == MASKED).all():
        labels[0, 0] = 0
    offsets = data.draw(st.none() | arrays(np.float64, shape, elements=numbers))
    free = data.draw(st.none() | arrays(np.bool_, shape))
    noise = data.draw(st.none() | arrays(np.float64, shape, elements=numbers))
    logits, upstream = (data.draw(arrays(np.float64, shape, elements=numbers)) for _ in range(2))
    temperature = data.draw(st.floats(0.1, 10))
    blocks = SoftmaxGroups(labels, offsets, free)
    leaf = torch.from_numpy(logits).requires_grad_()
    softmax = GroupSoftmax(blocks, TorchTensors(device_context(Runtime(precision="float64"))))
    weights = softmax(leaf, temperature, noise)
    (gradient,) = torch.autograd.grad(weights, leaf, torch.from_numpy(upstream))
    expected = group_softmax(logits, blocks, temperature, noise)
    np.testing.assert_allclose(weights.detach().numpy(), expected, atol=1e-12)
    np.testing.assert_allclose(
        gradient.numpy(), group_softmax_gradient(expected, upstream, blocks, temperature), atol=1e-11
    )


def test_a_hard_sample_makes_leaves_of_what_it_evaluates_only(monkeypatch):
    from dots_torch import network as module

    case = composed(Topology(), "hard", 1)
    _, network = both(case)
    made = []

    class Counted(module.Leaves):
        def __init__(self, weights):
            super().__init__(weights)
            made.append((self, len(weights)))

    monkeypatch.setattr(module, "Leaves", Counted)
    draws = Sampler(case.spec, 7, "leaves").draw(network.architecture(), 0, 0)
    network.accumulate_gradients(("w",), replace(case.batch(), draws=draws), case.temperature)
    leaves, every = made[0]
    assert 0 < len(leaves.read) < every


def test_every_verb_but_the_norm_leaves_the_host_free(monkeypatch):
    import torch

    case = composed(Topology("edge-sigmoid"), "hard", 2)
    _, network = both(case)
    batch = replace(case.batch(), draws=Sampler(case.spec, 7, "free").draw(network.architecture(), 0, 0))
    extra_gradients = {name: np.ones_like(value) for name, value in network.architecture().items()}
    groups = ("alpha", "beta")

    def verbs():
        network.accumulate_gradients(("w",), batch, case.temperature)
        network.virtual_step(0.1)
        network.accumulate_gradients((*groups, "w"), batch, case.temperature, 0.5)
        network.perturb_weights(0.01)
        network.accumulate_gradients(groups, batch, case.temperature, 2.0)
        network.restore_weights()
        network.accumulate_unrolled_gradients(groups, batch, batch, 0.1, case.temperature)
        network.update(groups, RATES, extra_gradients)

    verbs()  # small index tensors are made once

    def refuse(self, *arguments, **keywords):
        raise AssertionError("a verb read a tensor back")

    for name in ("item", "cpu", "numpy", "tolist", "__bool__", "__float__", "__int__"):
        monkeypatch.setattr(torch.Tensor, name, refuse)
    verbs()
    monkeypatch.undo()
    assert network.pop_losses().shape == (8, 2)


def test_a_single_value_a_channel_is_refused_with_a_remedy():
    spec = operation_spec(input_shape=(2, 1, 1))
    _, network = both(replace(MIXED, spec=spec))
    batch = replace(MIXED, spec=spec).batch(samples=1)
    with pytest.raises(UsageError, match="larger batches"):
        network.accumulate_gradients(("w",), batch, Temperature())


def test_a_lower_precision_leaves_the_weights_of_operations_and_edges_alone(monkeypatch):
    """α and γ are computed in float32 though the network is in bfloat16, to the last bit."""
    from dots_torch.cell import TorchMaps

    case, seen = CASES["pairs"], []

    def listening(self, weights, operation, channels):
        found = weights.column(operation.operation, operation.edges)
        seen.append((found.dtype, found.detach().numpy().copy()))
        return found

    monkeypatch.setattr(TorchMaps, "column", listening)
    for precision in ("float32", "bfloat16"):
        case.build(load_engine("torch"), precision).gradients(case.batch(), case.temperature)
    half = len(seen) // 2
    assert half
    for (dtype, exact), (low, found) in zip(seen[:half], seen[half:], strict=True):
        assert str(dtype) == str(low) == "torch.float32"
        assert np.array_equal(exact, found)


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("channels", [(4, 4), (2, 6), (2, 2, 4)])
def test_parts_that_stacks_read_are_dense_and_of_the_layout_of_the_whole(channels, last):
    import torch
    from dots_torch.cell import TorchMaps

    layout = torch.channels_last if last else torch.contiguous_format
    x = torch.randn(3, 8, 5, 6).contiguous(memory_format=layout)
    parts = TorchMaps().parted(x, channels)
    assert all(part.is_contiguous(memory_format=layout) for part in parts)
    assert torch.equal(torch.cat(list(parts), 1), x)


@pytest.mark.parametrize("mixed", [True, False])
def test_stacks_read_no_part_of_a_map_where_a_lone_edge_makes_a_node(mixed, monkeypatch):
    """Edges out of a node share calls, whose outputs are cut up; a sum of one such part would be that part."""
    import torch
    import torch.nn.functional as F

    held = {(0, 2): "sep_conv_3x3", (0, 3): "sep_conv_3x3", (2, 4): "max_pool_3x3", (3, 5): "avg_pool_3x3"}
    edges = tuple(Edge(*place, ((operation,),)) for place, operation in held.items())
    cell = CellSpec(4, edges, (2, 3, 4, 5), mixed=mixed)
    spec = NetworkSpec(cell, cell, layers=3, channels=4, classes=5, input_shape=(2, 8, 8), affine=not mixed)
    case, parts = NetworkCase(spec), []

    def listening(call):
        def called(x, *arguments, **keywords):
            if not (x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last)):
                parts.append(call.__name__)
            return call(x, *arguments, **keywords)

        return called

    for name in ("max_pool2d", "avg_pool2d", "batch_norm"):
        monkeypatch.setattr(F, name, listening(getattr(F, name)))
    reference, network = both(case)
    assert_alike(*(each.gradients(case.batch(), case.temperature) for each in (reference, network)))
    assert parts == []


@pytest.mark.parametrize("switch", ["no_grad", "inference_mode", "autocast"])
def test_what_a_caller_has_switched_off_is_on_within_and_off_again_after(switch):
    """Without gradients a search would run to its end and learn nothing."""
    import torch

    case, contexts = CASES["pairs"], {"autocast": lambda: torch.autocast("cpu", torch.bfloat16)}
    network, other = built(case), built(case)
    network.step(("w", "alpha", "beta"), case.batch(), RATES, case.temperature)
    with contexts.get(switch, getattr(torch, switch))():
        other.step(("w", "alpha", "beta"), case.batch(), RATES, case.temperature)
        found = other.evaluate(case.batch(1), case.temperature)
        fresh = built(case)
        assert torch.is_autocast_enabled("cpu") == (switch == "autocast")
        assert torch.is_grad_enabled() == (switch == "autocast")
        assert torch.is_inference_mode_enabled() == (switch == "inference_mode")
    assert found == network.evaluate(case.batch(1), case.temperature)
    fresh.step(("w", "alpha", "beta"), case.batch(), RATES, case.temperature)
    for name, value in network.export_state().items():
        assert value.tobytes() == other.export_state()[name].tobytes() == fresh.export_state()[name].tobytes()
