"""The MindSpore engine keeps the promises every engine makes, and agrees with the reference."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from dots_conformance.engine_suite import RATES, EngineSuite
from dots_conformance.networks import CASES, operation_spec

from dots_core.batch import Batch
from dots_core.engine import GROUPS, Rates, Runtime, Setup, Temperature
from dots_core.errors import CorruptFile, EngineMissing, UsageError
from dots_core.initial import initial_architecture, initial_weights
from dots_core.layers import operation_layers
from dots_core.network import statistics_shapes, weight_shapes
from dots_core.random import Stream
from dots_core.stacking import Stacker

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


@pytest.mark.usefixtures("like_ascend")
class TestMindSporeWithTheChoicesOfAscend(EngineSuite):
    backend = "mindspore"
    precision = "float32"


def built(case, precision="float32"):
    from dots_mindspore.engine import engine

    return case.build(engine, precision)


@pytest.mark.parametrize("shared", [True, False])
def test_a_composed_convolution_is_taken_only_where_the_device_asks_for_it(shared):
    from dots_mindspore.runtime import DEVICES, place
    from dots_mindspore.stack import Stack

    sequences = tuple(operation_layers(f"edge{e}", "sep_conv_3x3", 4, 1, False, True) for e in range(2))
    described = Stacker().stack(sequences)
    here = place(Runtime())
    assert here.choices == DEVICES["cpu"]
    choices = here.choices if shared else replace(here.choices, composed_channels=0)
    count = len(Stack(described, replace(here, choices=choices))._steps)
    # ReLU is left to the source; then depthwise, pointwise, norm, ReLU, depthwise, pointwise, norm.
    assert count == (6 if shared else 7)


@pytest.mark.parametrize("precision", ["float64", "tf32", "float16", "bfloat16"])
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
    from dots_mindspore.differentiate import value_and_gradients

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


@pytest.mark.parametrize("precision", ["float32", "tf32"])
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
    runtime.place(Runtime("Ascend:1", precision)).enter()
    hf32 = precision == "tf32"
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
        runtime.place(Runtime("ascend")).enter()


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
    """Losses stay on the device until `drain`."""
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
    assert network.drain().shape == (3, 2)


def test_steps_do_not_accumulate_memory():
    """Each step's function is a new one to MindSpore; it must not keep the old ones."""
    import resource

    case = CASES["operations"]
    network = built(case)

    def steps(count):
        for _ in range(count):
            network.step(GROUPS, case.batch(), RATES, case.temperature)
            network.drain()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    first = steps(5)
    assert steps(15) - first < 20 * 1024  # KiB


def test_badly_scaled_images_are_normalised():
    """A mean of 100 with a deviation of 0.01: E[x²] − E[x]² would leave nothing of the variance."""
    from dots_mindspore.engine import engine
    from dots_reference.engine import engine as reference

    sequences = (operation_layers("edge", "avg_pool_3x3", 4, 1, True, True),)
    noise = Stream(0, "tests/scaled").normal((4, 4, 8, 8))
    images = (100.0 + 0.01 * noise).astype(np.float32)
    upstream = noise.astype(np.float32)
    found = engine.apply(sequences, {}, images, upstream, Runtime())
    expected = reference.apply(sequences, {}, images, upstream, Runtime(precision="float64"))
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
    assert not np.isfinite(network.drain()[0, 0])
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
        "assert engine.devices() and engine.versions()\n"
        "case = CASES['pairs']\n"
        "network = case.build(engine, 'float32')\n"
        "network.step(('w', 'alpha', 'beta'), case.batch(), __import__('dots_core.engine').engine.Rates(), "
        "case.temperature)\n"
        "network.drain()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert done.stderr == ""
