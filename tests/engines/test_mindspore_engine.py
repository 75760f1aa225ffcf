"""The MindSpore engine keeps the promises every engine makes, and agrees with the reference."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from dots_conformance.engine_suite import RATES, EngineSuite, left_out
from dots_conformance.networks import CASES, operation_spec
from hypothesis import given
from hypothesis import strategies as st

from dots_core.engine.batch import Batch
from dots_core.engine.protocol import GROUPS, Rates, Runtime, Setup
from dots_core.engine.stacking import StackedNetwork, Stacker
from dots_core.errors import CorruptFile, EngineMissing, UsageError
from dots_core.network.initialisation import initial_architecture, initial_weights
from dots_core.network.spec import statistics_shapes, weight_shapes
from dots_core.random import Stream
from dots_core.search_space.layers import MaxPool2x2
from dots_core.search_space.mixing import Temperature
from dots_core.search_space.operations import OPERATIONS

pytestmark = pytest.mark.engine("mindspore")


class TestMindSporeFloat32(EngineSuite):
    backend = "mindspore"
    precision = "float32"


@pytest.fixture
def like_ascend(monkeypatch):
    """The CPU, making an Ascend device's choices."""
    from dots_mindspore import runtime

    cpu, ascend = runtime.DEVICES["cpu"], runtime.DEVICES["ascend"]
    monkeypatch.setitem(runtime.DEVICES, "cpu", replace(ascend, target=cpu.target, precisions=cpu.precisions))


@pytest.mark.release(
    but=(
        "test_gradients_agree_with_the_reference",
        "test_step_agrees_with_the_reference",
        "test_run_layers_agrees_with_the_reference",
    )
)
@pytest.mark.usefixtures("like_ascend")
class TestMindSporeWithTheChoicesOfAscend(EngineSuite):
    backend = "mindspore"
    precision = "float32"


def built(case, precision="float32"):
    from dots_mindspore.engine import engine

    return case.build(engine, precision)


@pytest.mark.parametrize("shared", [True, False])
def test_a_composed_convolution_is_taken_only_where_the_device_asks_for_it(shared):
    from dots_mindspore.runtime import DEVICES, device_context
    from dots_mindspore.stack import Stack

    sequences = tuple(OPERATIONS["sep_conv_3x3"].layers(f"edge{e}", 4, 1, False, True) for e in range(2))
    described = Stacker().stack(sequences)
    here = device_context(Runtime())
    assert here.choices == DEVICES["cpu"]
    choices = here.choices if shared else replace(here.choices, composed_channels=0)
    count = len(Stack(described, replace(here, choices=choices))._steps)
    # ReLU is left to the source; then depthwise, pointwise, norm, ReLU, depthwise, pointwise, norm.
    assert count == (6 if shared else 7)


@pytest.mark.parametrize("precision", ["float64", "tf32", "hf32", "float16", "bfloat16"])
def test_precisions_the_cpu_lacks_are_refused(precision):
    with pytest.raises(UsageError, match=f"{precision}.*float32"):
        built(next(iter(CASES.values())), precision)


@pytest.mark.parametrize("name", ["operations", "pairs", "derived"])
def test_float16_stays_near_float32(name, monkeypatch):
    """The way of an Ascend device, on the CPU, where it is too slow to be offered."""
    from dots_mindspore import runtime

    cpu = runtime.DEVICES["cpu"]
    monkeypatch.setitem(runtime.DEVICES, "cpu", replace(cpu, precisions=("float32", "float16")))
    case = CASES[name]
    exact, rough = (
        built(case, precision).gradients(case.batch(), case.temperature) for precision in ("float32", "float16")
    )
    for key in ("logits", "gradient/stem.conv.weight", "gradient/classifier.weight"):
        distance = np.linalg.norm(rough[key] - exact[key]) / np.linalg.norm(exact[key])
        assert 1e-5 < distance < 0.2, key


def test_gradients_that_overflow_float16_are_dropped():
    import mindspore
    from dots_mindspore.tensors import value_and_gradients

    one, two = (mindspore.Tensor(np.full(3, value, np.float32)) for value in (1.0, 2.0))

    def finite(a, b):
        return ((a * b).sum(), a)

    def overflowing(a, b):
        return ((a * b * 3e38).sum(), a)

    (value, first), gradients = value_and_gradients(finite, (one, two), 1024.0)
    assert float(value.asnumpy()) == 6.0
    assert np.array_equal(first.asnumpy(), one.asnumpy())
    assert [gradient.asnumpy().tolist() for gradient in gradients] == [[2.0] * 3, [1.0] * 3]
    _, gradients = value_and_gradients(overflowing, (one, two), 1024.0)
    assert not any(gradient.asnumpy().any() for gradient in gradients)


def test_ascend_is_refused_where_there_is_none():
    from dots_mindspore.engine import engine
    from dots_mindspore.runtime import ascend_count

    if ascend_count():
        pytest.skip("this machine has an Ascend device")
    for device in ("Ascend", "ascend:1"):
        with pytest.raises(EngineMissing, match="Ascend"):
            engine.check(Runtime(device))
    with pytest.raises(EngineMissing, match="no device"):
        engine.check(Runtime("cpu:3"))


@pytest.mark.parametrize("precision", ["float32", "hf32"])
def test_an_ascend_device_is_told_about_hf32(precision, monkeypatch):
    """What MindSpore is asked for; whether a device heeds it, no machine without one can tell."""
    import mindspore
    from dots_mindspore import runtime

    asked = {}
    options = mindspore.device_context.ascend.op_precision
    monkeypatch.setattr(runtime, "_process", runtime._Process())
    monkeypatch.setattr(runtime, "ascend_count", lambda: 2)
    monkeypatch.setattr(mindspore, "set_device", lambda *where: asked.update(device=where))
    monkeypatch.setattr(mindspore, "set_deterministic", lambda on: asked.update(deterministic=on))
    for name in ("precision_mode", "conv_allow_hf32", "matmul_allow_hf32"):
        monkeypatch.setattr(options, name, lambda value, name=name: asked.update({name: value}))
    runtime.device_context(Runtime("Ascend:1", precision)).enter()
    hf32 = precision == "hf32"
    assert asked == {
        "device": ("Ascend", 1),
        "deterministic": True,
        "precision_mode": "must_keep_origin_dtype",
        "conv_allow_hf32": hf32,
        "matmul_allow_hf32": hf32,
    }


def test_a_second_device_in_one_process_is_refused(monkeypatch):
    import mindspore
    from dots_mindspore import runtime

    def refuse(*where):
        raise RuntimeError("the device is set already")

    monkeypatch.setattr(runtime, "_process", runtime._Process())
    monkeypatch.setattr(runtime, "ascend_count", lambda: 1)
    monkeypatch.setattr(mindspore, "set_device", refuse)
    with pytest.raises(EngineMissing, match="device is set already"):
        runtime.device_context(Runtime("ascend")).enter()


def test_repeated_gradients_are_byte_equal():
    case = next(iter(CASES.values()))
    network = built(case)
    first, second = (network.gradients(case.batch(), case.temperature) for _ in range(2))
    assert all(first[name].tobytes() == second[name].tobytes() for name in first)


def test_architecture_gradients_do_not_depend_on_whether_weights_are_differentiated():
    """Steps that update α only differentiate less; what they do compute must be the same."""
    case = next(iter(CASES.values()))
    full, alone = built(case), built(case)
    full.step(GROUPS, case.batch(), RATES, case.temperature)
    alone.step(("alpha", "beta"), case.batch(), RATES, case.temperature)
    for name, value in full.architecture().items():
        np.testing.assert_allclose(alone.architecture()[name], value, rtol=1e-4, atol=1e-6)


def test_a_step_reads_no_tensor_back(monkeypatch):
    """Losses stay on the device until `pop_losses`."""
    import mindspore

    case = next(iter(CASES.values()))
    network = built(case)
    batch = case.batch()
    network.step(GROUPS, batch, RATES, case.temperature)

    def refuse(self, *arguments, **keywords):
        raise AssertionError("a step read a tensor back")

    for name in ("item", "asnumpy", "tolist", "__float__"):
        monkeypatch.setattr(mindspore.Tensor, name, refuse)
    network.step(("alpha", "beta"), batch, RATES, case.temperature)
    network.step(("w",), batch, RATES, case.temperature)
    monkeypatch.undo()
    assert network.pop_losses().shape == (3, 2)


def test_a_perturbed_step_reads_no_tensor_back(monkeypatch):
    """Accumulated gradients, and what they perturb w by, stay on the device."""
    import mindspore

    case = CASES["hard partial"]
    network = built(case)
    batch, other = case.batch(), case.batch(1)
    extra_gradients = {name: np.ones_like(value) for name, value in network.architecture().items()}

    def refuse(self, *arguments, **keywords):
        raise AssertionError("a step read a tensor back")

    for name in ("item", "asnumpy", "tolist", "__float__"):
        monkeypatch.setattr(mindspore.Tensor, name, refuse)
    network.accumulate_gradients(("w",), batch, case.temperature)
    network.virtual_step(RATES.weights)
    network.accumulate_gradients(GROUPS, other, case.temperature)
    network.perturb_weights(0.01)
    network.accumulate_gradients(("alpha", "beta"), batch, case.temperature, -0.5)
    network.restore_weights()
    network.update(("alpha", "beta"), RATES, extra_gradients)
    monkeypatch.undo()
    assert network.pop_losses().shape == (3, 2)


def test_a_hard_sample_differentiates_only_by_the_weights_it_reads():
    from dots_core.engine.stacking import everything, reads

    case = CASES["hard sampling"]
    network, batch = StackedNetwork(case.spec), case.batch()
    absent = tuple(left_out(case, batch))
    read = reads(network, batch.draws)
    for layout, numbers in ((network.weights, read.weights), (network.statistics, read.statistics)):
        mask = np.zeros(layout.size)
        for number in numbers:
            start, shape = layout.stacks[number]
            mask[start : start + int(np.prod(shape))] = 1
        for name, values in layout.split(mask).items():
            assert np.all(values == (not name.startswith(absent))), name
    soft = {kind: replace(draw, chosen=None) for kind, draw in batch.draws.items()}
    assert reads(network, None) == reads(network, soft) == everything(network)


@given(st.data())
def test_joining_is_the_inverse_of_cutting(data):
    """What was not cut out comes back as 0."""
    import mindspore
    from dots_mindspore.tensors import joined, parts

    from dots_core.engine.flat_layout import FlatLayout

    layout = FlatLayout()
    shapes = data.draw(st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=3), min_size=1, max_size=6))
    for number, shape in enumerate(shapes):
        layout.stack((f"{number}.a", f"{number}.b"), tuple(shape))
    numbers = sorted(data.draw(st.sets(st.integers(0, len(shapes) - 1), min_size=1)))
    flat = np.arange(1, layout.size + 1, dtype=np.float32)
    cut = parts(layout, mindspore.Tensor(flat), numbers)
    expected = np.zeros_like(flat)
    for number in numbers:
        start, shape = layout.stacks[number]
        size = int(np.prod(shape))
        expected[start : start + size] = flat[start : start + size]
        assert np.array_equal(cut[number].asnumpy(), flat[start : start + size].reshape(shape))
    assert list(cut) == numbers
    assert np.array_equal(joined(layout, cut).asnumpy(), expected)


@pytest.mark.parametrize("size", [(6, 8), (7, 8), (5, 9), (1, 1)])
def test_halving_takes_the_maximum_of_what_is_there(size):
    """Below 0 everywhere, so that padding with 0 would show, and in whole numbers, so that maxima tie."""
    from dots_mindspore.engine import engine
    from dots_reference.engine import engine as reference

    images = -1.0 - np.floor(3 * Stream(0, "tests/halving").uniform((2, 3, *size))).astype(np.float32)
    upstream = Stream(0, "tests/upstream").normal((2, 3, (size[0] + 1) // 2, (size[1] + 1) // 2)).astype(np.float32)
    arguments = (((MaxPool2x2(),),), {}, images, upstream)
    found, expected = (each.run_layers(*arguments, Runtime()) for each in (engine, reference))
    for key in ("output", "gradient/images"):
        assert np.array_equal(found[key], expected[key]), key


@pytest.mark.parametrize("by_convolution", [True, False])
@pytest.mark.parametrize("partial", [1, 2, 4])
def test_channels_are_split_and_shuffled_exactly(partial, by_convolution):
    import mindspore
    from dots_mindspore.channels import shuffler, splitter
    from dots_mindspore.runtime import device_context

    here = device_context(Runtime())
    here = replace(here, choices=replace(here.choices, split_by_convolution=by_convolution))
    here.enter()
    x = Stream(0, "tests/channels").normal((3, 8, 5, 4)).astype(np.float32)
    moved = shuffler(8, partial, here)(mindspore.Tensor(x)).asnumpy()
    for group in range(partial):
        for channel in range(8 // partial):
            assert np.array_equal(moved[:, channel * partial + group], x[:, group * (8 // partial) + channel])
    for sizes in ((3, 5), (1, 3), (4,), (8,)):
        found = [part.asnumpy() for part in splitter(sizes, here)(mindspore.Tensor(x))]
        assert [part.shape[1] for part in found] == list(sizes) * (8 // sum(sizes))
        assert np.array_equal(np.concatenate(found, 1), x)


def test_a_chosen_operation_weighs_exactly_one():
    """1 + p − p is 1 only if the subtraction is done first."""
    import mindspore
    from dots_mindspore.tensors import MindSporeTensors

    from dots_core.engine.mixture import Mixture

    case = CASES["hard sampling"]
    cell, draw = case.spec.normal, case.batch().draws["normal"]
    architecture = {name: mindspore.Tensor(value) for name, value in case.architecture().items()}
    edge_weights = Mixture("normal", cell, MindSporeTensors())(architecture, case.temperature, draw)
    table = edge_weights.block(tuple(range(draw.chosen.shape[1])), tuple(range(len(cell.edges)))).asnumpy()
    assert np.array_equal(table, draw.chosen.astype(np.float32))


def test_what_overflows_while_weights_are_perturbed_is_reported_once():
    """Statistics that are thrown away still tell that their pass was not finite, and no other's."""
    case = CASES["one cell"]
    network = built(case)
    batch = case.batch()
    network.accumulate_gradients(("w",), batch, case.temperature)
    network.virtual_step(RATES.weights)
    huge = replace(batch, images=np.full_like(batch.images, np.nan))
    network.accumulate_gradients(("alpha",), huge, case.temperature)
    network.accumulate_gradients(("alpha",), batch, case.temperature)
    network.restore_weights()
    network.accumulate_gradients(("alpha",), batch, case.temperature)
    assert np.isfinite(network.pop_losses()[:, 0]).tolist() == [True, False, True, True]


@pytest.mark.parametrize("name", ["operations", "hard sampling"])
def test_steps_do_not_accumulate_memory(name):
    """Each step's function is a new one to MindSpore; it must not keep the old ones."""
    import resource

    case = CASES[name]
    network = built(case)

    def steps(count):
        for number in range(count):
            network.step(GROUPS, case.batch(number), RATES, case.temperature)
            network.pop_losses()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    first = steps(5)
    assert steps(15) - first < 20 * 1024  # KiB


def test_badly_scaled_images_are_normalised():
    """A mean of 100 with a deviation of 0.01: E[x²] − E[x]² would leave nothing of the variance."""
    from dots_mindspore.engine import engine
    from dots_reference.engine import engine as reference

    sequences = (OPERATIONS["avg_pool_3x3"].layers("edge", 4, 1, True, True),)
    noise = Stream(0, "tests/scaled").normal((4, 4, 8, 8))
    images = (100.0 + 0.01 * noise).astype(np.float32)
    upstream = noise.astype(np.float32)
    found = engine.run_layers(sequences, {}, images, upstream, Runtime())
    expected = reference.run_layers(sequences, {}, images, upstream, Runtime(precision="float64"))
    error = np.linalg.norm(found["output"] - expected["output"]) / np.linalg.norm(expected["output"])
    assert error < 5e-3


def test_a_batch_norm_of_single_values_is_refused():
    from dots_mindspore.engine import engine

    spec = operation_spec(input_shape=(2, 4, 4))
    network = engine.build(Setup(spec), initial_weights(spec, 0), initial_architecture(spec, 0))
    batch = Batch(np.zeros((1, 2, 4, 4), np.float32), np.zeros(1, np.int64))
    with pytest.raises(UsageError, match="variance"):
        network.step(("w",), batch, Rates(), Temperature())


def test_a_weight_that_is_not_a_number_is_reported():
    case = CASES["derived"]
    network = built(case)
    state = network.export_state()
    state["weights/stem.conv.weight"] = np.full_like(state["weights/stem.conv.weight"], np.nan)
    network.import_state(state)
    network.step(("w",), case.batch(), RATES, case.temperature)
    assert not np.isfinite(network.pop_losses()[0, 0])
    assert not np.isfinite(network.evaluate(case.batch(), case.temperature)[0])


def test_checkpoints_under_mindspores_names(tmp_path):
    from dots_mindspore.checkpoint_names import read_checkpoint, write_checkpoint

    case = CASES["derived"]
    network, other = built(case), built(case)
    for number in range(2):
        network.step(GROUPS, case.batch(number), RATES, case.temperature)
    path = tmp_path / "weights.safetensors"
    state = network.export_state()
    write_checkpoint(path, state)
    read = read_checkpoint(path)
    assert {key for key in state if key.startswith(("weights/", "statistics/"))} == set(read)
    other.import_state({**other.export_state(), **read})
    first, second = (n.evaluate(case.batch(5), case.temperature) for n in (network, other))
    assert first == second


def test_mindspore_reads_a_batch_norm_from_a_checkpoint(tmp_path):
    """The names are those of `mindspore.nn`: a layer of the framework takes the file's arrays over."""
    import mindspore
    from dots_mindspore.checkpoint_names import write_checkpoint
    from mindspore import nn

    case = CASES["derived"]
    network = built(case)
    network.step(("w",), case.batch(), RATES, case.temperature)
    state = network.export_state()
    path = tmp_path / "weights.safetensors"
    write_checkpoint(path, state)

    class Stem(nn.Cell):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(2, 12, 3, pad_mode="pad", padding=1)
            self.norm = nn.BatchNorm2d(12)

    class Network(nn.Cell):
        def __init__(self):
            super().__init__()
            self.stem = Stem()

    theirs = Network()
    missing, _ = mindspore.load_param_into_net(theirs, mindspore.load_checkpoint(str(path), format="safetensors"))
    assert not missing
    assert np.array_equal(theirs.stem.conv.weight.asnumpy(), state["weights/stem.conv.weight"])
    norm = theirs.stem.norm
    for array, key in (
        (norm.gamma, "weights/stem.norm.weight"),
        (norm.beta, "weights/stem.norm.bias"),
        (norm.moving_mean, "statistics/stem.norm.running_mean"),
        (norm.moving_variance, "statistics/stem.norm.running_var"),
    ):
        assert np.array_equal(array.asnumpy(), state[key])


def test_names_map_both_ways():
    from dots_mindspore.checkpoint_names import canonical_name, mindspore_name

    for case in CASES.values():
        names = {*weight_shapes(case.spec), *statistics_shapes(case.spec)}
        mapped = {mindspore_name(name) for name in names}
        assert len(mapped) == len(names)
        assert {canonical_name(name) for name in mapped} == names
        assert not any(name.endswith(("running_mean", "running_var")) for name in mapped)
    assert mindspore_name("stem.norm.running_var") == "stem.norm.moving_variance"
    assert mindspore_name("auxiliary.norm1.weight") == "auxiliary.norm1.gamma"
    assert mindspore_name("classifier.weight") == "classifier.weight"


def test_a_damaged_checkpoint_is_refused(tmp_path):
    from dots_mindspore.checkpoint_names import read_checkpoint, write_checkpoint

    path = tmp_path / "weights.safetensors"
    with pytest.raises(CorruptFile, match=r"weights\.safetensors"):
        read_checkpoint(path)
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(CorruptFile, match=r"weights\.safetensors"):
        read_checkpoint(path)
    with pytest.raises(UsageError, match=r"\.safetensors"):
        write_checkpoint(tmp_path / "weights.ckpt", {})


def test_standard_output_stays_clean():
    """Listing devices, building and stepping print nothing, on either stream."""
    code = (
        "from dots_mindspore.engine import engine\n"
        "from dots_conformance.networks import CASES\n"
        "from dots_core.engine.protocol import Rates\n"
        "assert engine.devices() and engine.versions()\n"
        "case = CASES['pairs']\n"
        "network = case.build(engine, 'float32')\n"
        "network.step(('w', 'alpha', 'beta'), case.batch(), Rates(), case.temperature)\n"
        "network.pop_losses()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert done.stderr == ""


SOFTMAX = """
import mindspore as ms
import numpy as np
from dots_mindspore.engine import engine
from dots_mindspore.tensors import MindSporeTensors
from dots_core.engine.protocol import Runtime

engine.device(Runtime()).enter()
tensors, drawn = MindSporeTensors(), np.random.default_rng(0)
for shape in ((2, 1), (1, 3), (14, 4), (3, 1), (6, 2), (1, 28)):
    rows, upstream = (drawn.normal(size=shape).astype(np.float32) for _ in range(2))
    rows[:, shape[1] // 2 + 1 :] = -np.inf
    factor = tensors.upload(upstream)
    found = ms.value_and_grad(lambda x: (tensors.softmax(x) * factor).sum(), 0)(tensors.upload(rows))[1]
    powers = np.exp(rows - rows.max(1, keepdims=True))
    weights = powers / powers.sum(1, keepdims=True)
    expected = weights * (upstream - (weights * upstream).sum(1, keepdims=True))
    assert np.allclose(found.asnumpy(), expected, rtol=1e-5, atol=1e-6), (shape, found.asnumpy(), expected)
"""


def test_the_gradient_of_a_softmax_does_not_depend_on_those_before():
    """In a process of its own: which shape comes first there decides."""
    done = subprocess.run([sys.executable, "-c", SOFTMAX], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
