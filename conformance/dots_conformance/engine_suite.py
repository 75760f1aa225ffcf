"""The tests any engine must pass, as an abstract class; an engine's test file subclasses `EngineSuite`:

    from dots_conformance.engine_suite import EngineSuite

    class TestMyEngine(EngineSuite):
        backend = "myengine"

`pytest --dots-backend myengine` runs it for any installed engine without a test file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from itertools import chain, combinations
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dots_conformance.closeness import assert_close
from dots_conformance.networks import CASES, NetworkCase, drawn_weights
from dots_conformance.rounding import references
from dots_conformance.thresholds import FLOORS
from dots_core.backends import load_engine
from dots_core.batch import Batch
from dots_core.engine import GROUPS, Device, Engine, Network, Rates, Runtime, State
from dots_core.errors import CorruptFile, EngineMissing, UsageError
from dots_core.layers import operation_layers
from dots_core.network import architecture_shapes, traced_shapes, weight_shapes
from dots_core.operations import NONE, OPERATIONS, SKIP
from dots_core.random import Stream
from dots_core.stacking import Stacker
from dots_core.state import rounded_state, state_shapes

RATES = Rates(0.1, 0.01)
SLOW_RATES = Rates(0.01, 0.001)
"""Of runs of many steps: with larger rates rounding errors grow a thousandfold more."""


@cache
def reference_gradients(name: str) -> tuple[State, list[State]]:
    """What the reference's ``gradients`` returns on a case, with a trace: exactly, and in draws."""
    case = CASES[name]

    def record(engine: Engine, precision: str) -> State:
        return case.build(engine, precision).gradients(case.batch(), case.temperature, trace=True)

    return references(record)


@cache
def reference_state(name: str) -> State:
    """The reference's state after four steps on a case, rounded to float32."""
    case = CASES[name]
    network = case.build(load_engine("reference"), "float64")
    for number in range(4):
        network.step(GROUPS, case.batch(number), RATES, case.temperature)
    return rounded_state(network.export_state())


@cache
def reference_step(name: str) -> tuple[State, list[State]]:
    """The reference's state one step after `reference_state`: exactly, and in draws."""
    case = CASES[name]

    def record(engine: Engine, precision: str) -> State:
        network = case.build(engine, precision)
        network.import_state(reference_state(name))
        network.step(GROUPS, case.batch(9), RATES, case.temperature)
        return network.export_state()

    return references(record)


@cache
def reference_losses(name: str, steps: int) -> NDArray[np.float64]:
    """The reference's losses on a case in float64, step by step."""
    return losses(CASES[name], CASES[name].build(load_engine("reference"), "float64"), steps)


def losses(case: NetworkCase, network: Network, steps: int) -> NDArray[np.float64]:
    """Take steps on four batches in turn and return their losses."""
    for number in range(steps):
        network.step(GROUPS, case.batch(number % 4), SLOW_RATES, case.temperature)
    return network.drain()[:, 0]


def assert_identical(first: Mapping[str, NDArray[Any]], second: Mapping[str, NDArray[Any]]) -> None:
    """Assert that two sets of arrays are equal to the last bit."""
    assert set(first) == set(second)
    different = [
        key
        for key in first
        if first[key].dtype != second[key].dtype
        or first[key].shape != second[key].shape
        or first[key].tobytes() != second[key].tobytes()
    ]
    assert not different


def part(state: State, *prefixes: str) -> State:
    """The entries of a state whose key starts with one of the prefixes."""
    return {key: value for key, value in state.items() if key.startswith(prefixes)}


_MOVED_BY = {
    "w": ("weights/", "momentum/"),
    "alpha": tuple(f"{sort}/alpha." for sort in ("architecture", "adam.first", "adam.second", "adam.steps")),
    "beta": tuple(f"{sort}/beta." for sort in ("architecture", "adam.first", "adam.second", "adam.steps")),
}
"""Prefixes of the entries that an update of a group moves."""

SUBSETS = tuple(chain.from_iterable(combinations(GROUPS, size) for size in range(len(GROUPS) + 1)))


class EngineSuite:
    """Subclass it, name the engine, and set the other attributes where the defaults do not fit.

    Attributes
    ----------
    backend : str
        The engine's entry point in the group ``dots.backends``.
    precision : str
        A key of `closeness.FLOORS`.
    device : str
    unsupported_precision : str
        One the engine must refuse.
    free_running_tolerance : dict
        Relative error of the loss within twenty steps, by precision. Rounding errors grow with
        every step, so it tells a wrong update rule from a right one, and no more.
    """

    backend: str
    precision = "float32"
    device = "cpu"
    unsupported_precision = "float8"
    free_running_tolerance = MappingProxyType({"float32": 1e-2, "float64": 1e-9})

    @pytest.fixture
    def engine(self) -> Engine:
        """The engine under test."""
        return load_engine(self.backend)

    def build(self, engine: Engine, name: str = "pairs") -> Network:
        """Build a case's network at the suite's precision and device."""
        return CASES[name].build(engine, self.precision, self.device)

    # What an engine says of itself

    def test_versions(self, engine: Engine) -> None:
        versions = engine.versions()
        assert versions
        assert all(isinstance(key, str) and isinstance(value, str) for key, value in versions.items())

    def test_devices(self, engine: Engine) -> None:
        devices = engine.devices()
        assert devices
        assert all(isinstance(device, Device) for device in devices)
        kinds = {device.name.partition(":")[0] for device in devices}
        assert self.device.partition(":")[0] in kinds

    def test_unknown_device(self, engine: Engine) -> None:
        with pytest.raises(EngineMissing, match="abacus"):
            CASES["pairs"].build(engine, self.precision, "abacus")

    def test_unsupported_precision(self, engine: Engine) -> None:
        with pytest.raises(UsageError, match=self.unsupported_precision):
            CASES["pairs"].build(engine, self.unsupported_precision, self.device)

    # State

    @pytest.mark.parametrize("name", CASES)
    def test_fresh_state(self, engine: Engine, name: str) -> None:
        case = CASES[name]
        state = self.build(engine, name).export_state()
        assert {key: value.shape for key, value in state.items()} == state_shapes(case.spec)
        for weight, value in drawn_weights(case.spec, case.seed).items():
            assert np.array_equal(state[f"weights/{weight}"], value)
        for key, value in state.items():
            assert value.dtype.kind == ("i" if key.startswith("adam.steps/") else "f")
            if key.startswith(("momentum/", "adam.")) or key.endswith("running_mean"):
                assert not value.any()
            if key.endswith("running_var"):
                assert np.array_equal(value, np.ones_like(value))

    def test_architecture_is_the_state_s(self, engine: Engine) -> None:
        network = self.build(engine)
        architecture = network.architecture()
        assert {name: value.shape for name, value in architecture.items()} == architecture_shapes(CASES["pairs"].spec)
        state = network.export_state()
        assert_identical({f"architecture/{name}": v for name, v in architecture.items()}, part(state, "architecture/"))

    def test_exported_arrays_are_copies(self, engine: Engine) -> None:
        network = self.build(engine)
        before = network.export_state()
        for array in (*network.export_state().values(), *network.architecture().values()):
            array[...] = 7
        assert_identical(before, network.export_state())

    def test_imported_arrays_are_copied(self, engine: Engine) -> None:
        case, network = CASES["pairs"], self.build(engine)
        state = network.export_state()
        network.import_state(state)
        kept = {key: value.copy() for key, value in state.items()}
        network.step(GROUPS, case.batch(), RATES, case.temperature)
        assert_identical(kept, state)

    @pytest.mark.parametrize("name", ["operations", "pairs", "derived"])
    def test_round_trip(self, engine: Engine, name: str) -> None:
        case = CASES[name]
        network, other = self.build(engine, name), self.build(engine, name)
        for number in range(2):
            network.step(GROUPS, case.batch(number), RATES, case.temperature)
        other.import_state(network.export_state())
        assert_identical(network.export_state(), other.export_state())
        network.drain()
        for each in (network, other):
            each.step(GROUPS, case.batch(2), RATES, case.temperature)
        assert_identical(network.export_state(), other.export_state())
        assert np.array_equal(network.drain(), other.drain())

    @pytest.mark.parametrize(
        "key", ["weights/stem.conv.weight", "adam.steps/beta.normal", "statistics/stem.norm.running_var"]
    )
    def test_state_with_an_entry_missing(self, engine: Engine, key: str) -> None:
        network = self.build(engine)
        state = network.export_state()
        del state[key]
        with pytest.raises(CorruptFile, match=key):
            network.import_state(state)

    def test_state_with_an_unknown_entry(self, engine: Engine) -> None:
        network = self.build(engine)
        state = {**network.export_state(), "weights/stem.conv.colour": np.zeros(1, np.float32)}
        with pytest.raises(CorruptFile, match=r"weights/stem\.conv\.colour"):
            network.import_state(state)

    @pytest.mark.parametrize("key", ["weights/classifier.bias", "architecture/alpha.reduce"])
    def test_state_with_an_entry_of_the_wrong_shape(self, engine: Engine, key: str) -> None:
        network = self.build(engine)
        state = network.export_state()
        before = dict(state)
        state[key] = np.zeros((2, 2), np.float32)
        with pytest.raises(CorruptFile, match=key):
            network.import_state(state)
        assert_identical(before, network.export_state())

    # Gradients

    @pytest.mark.parametrize("name", CASES)
    def test_gradients_change_nothing(self, engine: Engine, name: str) -> None:
        case, network = CASES[name], self.build(engine, name)
        before = network.export_state()
        first = network.gradients(case.batch(), case.temperature)
        assert_identical(before, network.export_state())
        assert_identical(first, network.gradients(case.batch(), case.temperature))
        assert network.drain().shape == (0, 2)

    @pytest.mark.parametrize("name", CASES)
    def test_gradients_agree_with_the_reference(self, engine: Engine, name: str) -> None:
        case = CASES[name]
        found = self.build(engine, name).gradients(case.batch(), case.temperature)
        names = (*weight_shapes(case.spec), *architecture_shapes(case.spec), "images")
        assert {key for key in found if key.startswith("gradient/")} == {f"gradient/{name}" for name in names}
        ref64, draws = reference_gradients(name)
        untraced = {key: value for key, value in ref64.items() if not key.startswith("trace")}
        assert_close(found, untraced, draws, self.precision)

    @pytest.mark.parametrize("name", ["operations", "derived", "imagenet"])
    def test_traced_tensors_agree_with_the_reference(self, engine: Engine, name: str) -> None:
        case = CASES[name]
        network = self.build(engine, name)
        found = network.gradients(case.batch(), case.temperature, trace=True)
        traced = {
            key.removeprefix("trace/"): value.shape[1:] for key, value in found.items() if key.startswith("trace/")
        }
        assert traced == traced_shapes(case.spec)
        assert_close(found, *reference_gradients(name), self.precision)
        plain = network.gradients(case.batch(), case.temperature)
        assert_close({key: found[key] for key in plain}, plain, [plain], self.precision)

    @pytest.mark.parametrize("stride", [1, 2])
    @pytest.mark.parametrize("operation", [o for o in OPERATIONS if o != NONE])
    def test_apply_agrees_with_the_reference(self, engine: Engine, operation: str, stride: int) -> None:
        if operation == SKIP and stride == 1:
            pytest.skip("the identity has no layers")
        sequences = tuple(operation_layers(f"edge{e}", operation, 4, stride, True, True) for e in range(3))
        stacker = Stacker()
        stacker.stack(sequences)
        weights = {
            name: Stream(0, name).normal(shape).astype(np.float32) for name, shape in stacker.weights.shapes.items()
        }
        images = Stream(0, "images").normal((3, 4, 7, 8)).astype(np.float32)
        size = (7, 8) if stride == 1 else (4, 4)
        upstream = Stream(0, "upstream").normal((3, 12, *size)).astype(np.float32)
        arguments = (sequences, weights, images, upstream)
        found = engine.apply(*arguments, Runtime(self.device, self.precision))
        expected = references(lambda other, precision: other.apply(*arguments, Runtime(precision=precision)))
        assert_close(found, *expected, self.precision)

    # Steps

    @pytest.mark.parametrize("name", CASES)
    def test_step_agrees_with_the_reference(self, engine: Engine, name: str) -> None:
        case, network = CASES[name], self.build(engine, name)
        network.import_state(reference_state(name))
        network.step(GROUPS, case.batch(9), RATES, case.temperature)
        assert_close(network.export_state(), *reference_step(name), self.precision)

    @pytest.mark.parametrize("name", ["operations", "pairs", "derived"])
    def test_twenty_steps(self, engine: Engine, name: str) -> None:
        found = losses(CASES[name], self.build(engine, name), 20)
        expected = reference_losses(name, 20)
        error = np.abs(found - expected) / expected
        assert error.max() < self.free_running_tolerance[self.precision], error

    @pytest.mark.parametrize("groups", SUBSETS, ids=lambda groups: "+".join(groups) or "nothing")
    def test_step_moves_only_the_named_groups(self, engine: Engine, groups: tuple[str, ...]) -> None:
        case, network = CASES["pairs"], self.build(engine)
        before = network.export_state()
        network.step(groups, case.batch(), RATES, case.temperature)
        after = network.export_state()
        for group, prefixes in _MOVED_BY.items():
            if group not in groups:
                assert_identical(part(before, *prefixes), part(after, *prefixes))
            for key in part(before, *prefixes) if group in groups else ():
                assert not np.array_equal(before[key], after[key]), f"{key} did not move"
        for key, value in part(before, "statistics/").items():
            assert not np.array_equal(value, after[key]), f"{key} did not move"

    def test_one_level_step_takes_every_gradient_at_the_old_point(self, engine: Engine) -> None:
        case, network = CASES["pairs"], self.build(engine)
        start = network.export_state()
        network.step(GROUPS, case.batch(), RATES, case.temperature)
        together = network.export_state()
        for group, prefixes in _MOVED_BY.items():
            network.import_state(start)
            network.step((group,), case.batch(), RATES, case.temperature)
            alone = part(network.export_state(), *prefixes, "statistics/")
            assert_close(part(together, *prefixes, "statistics/"), alone, [alone], self.precision)

    def test_order_of_groups_does_not_matter(self, engine: Engine) -> None:
        case, network = CASES["pairs"], self.build(engine)
        start = network.export_state()
        network.step(GROUPS, case.batch(), RATES, case.temperature)
        one = network.export_state()
        network.import_state(start)
        network.step(GROUPS[::-1], case.batch(), RATES, case.temperature)
        assert_identical(one, network.export_state())

    def test_groups_without_parameters_do_nothing(self, engine: Engine) -> None:
        case, network = CASES["derived"], self.build(engine, "derived")
        before = network.export_state()
        network.step(("alpha", "beta"), case.batch(), RATES, case.temperature)
        after = network.export_state()
        assert_identical(part(before, "weights/", "momentum/"), part(after, "weights/", "momentum/"))

    def test_drain(self, engine: Engine) -> None:
        case, network = CASES["derived"], self.build(engine, "derived")
        assert network.drain().shape == (0, 2)
        expected = []
        for number in range(3):
            found = network.gradients(case.batch(number), case.temperature)
            correct = int((found["logits"].argmax(axis=1) == case.batch(number).labels).sum())
            expected.append((found["loss"], correct))
            network.step(("w",), case.batch(number), RATES, case.temperature)
        rows = network.drain()
        assert rows.shape == (3, 2)
        assert rows.dtype == np.float64
        assert np.array_equal(rows[:, 1], [correct for _, correct in expected])
        wanted = np.array([float(loss) for loss, _ in expected])
        assert np.abs(rows[:, 0] - wanted).max() <= FLOORS[self.precision][0] * wanted.max()
        assert network.drain().shape == (0, 2)

    @pytest.mark.parametrize("name", ["pairs", "derived"])
    def test_not_a_number_is_reported_not_raised(self, engine: Engine, name: str) -> None:
        case, network = CASES[name], self.build(engine, name)
        batch = case.batch()
        network.step(GROUPS, replace(batch, images=np.full_like(batch.images, np.nan)), RATES, case.temperature)
        assert not np.isfinite(network.drain()[0, 0])

    # Evaluation

    @pytest.mark.parametrize("name", CASES)
    def test_evaluate(self, engine: Engine, name: str) -> None:
        case, network = CASES[name], self.build(engine, name)
        network.import_state(reference_state(name))
        before = network.export_state()
        batch = case.batch(5, samples=6)
        loss, correct = network.evaluate(batch, case.temperature)
        assert_identical(before, network.export_state())
        assert network.drain().shape == (0, 2)
        assert isinstance(correct, int)
        assert isinstance(loss, float)

        def record(other: Engine, precision: str) -> tuple[State, int]:
            oracle = case.build(other, precision)
            oracle.import_state(reference_state(name))
            value, count = oracle.evaluate(batch, case.temperature)
            return {"loss": np.asarray(value)}, count

        (exact, wanted), draws = references(record)
        assert correct == wanted
        assert_close({"loss": np.asarray(loss)}, exact, [draw for draw, _ in draws], self.precision)

        parts = [
            network.evaluate(Batch(batch.images[cut], batch.labels[cut]), case.temperature)
            for cut in (slice(0, 1), slice(1, 6))
        ]
        assert sum(count for _, count in parts) == correct
        assert abs(sum(value for value, _ in parts) - loss) <= 10 * FLOORS[self.precision][0] * abs(loss)
