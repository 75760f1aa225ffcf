"""The torch engine keeps the promises every engine makes, and agrees with the reference."""

from __future__ import annotations

import numpy as np
import pytest
from dots_conformance.engine_suite import RATES, EngineSuite
from dots_conformance.networks import CASES, operation_spec

from dots_core.counts import mac_count, parameter_count
from dots_core.engine import Runtime, Setup, Temperature
from dots_core.errors import CorruptFile, UsageError
from dots_core.initial import initial_weights
from dots_core.named_cells import named_cell, named_cells
from dots_core.network import derived_network

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
    """Batch norm's weight must be contiguous where a single edge carries a gain."""
    import torch

    case = next(iter(CASES.values()))
    network = built(case)
    expected = network.gradients(case.batch(), case.temperature)
    for _ in range(5):
        filler = [torch.full((size,), 1e30) for size in (4, 8, 16, 32, 64, 128, 512, 2048)]
        del filler
        found = network.gradients(case.batch(), case.temperature)
        assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_a_step_only_waits_for_the_device_in_drain(monkeypatch):
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
    assert network.drain().shape == (3, 2)


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

    from dots_core.batch import Batch

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
