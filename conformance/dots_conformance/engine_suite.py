"""The tests any engine must pass, as an abstract class; an engine's test file subclasses `EngineSuite`:

    from dots_conformance.engine_suite import EngineSuite

    class TestMyEngine(EngineSuite):
        backend = "myengine"

`pytest --dots-backend myengine` runs it for any installed engine without a test file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
from dots_core.engine.batch import Batch
from dots_core.engine.protocol import GROUPS, PRECISIONS, Device, Engine, Network, Optimizers, Rates, Runtime, State
from dots_core.engine.registry import choose_backend, load_engine
from dots_core.engine.stacking import Stacker
from dots_core.engine.state import rounded_state, state_shapes
from dots_core.errors import CorruptFile, EngineMissing, UsageError
from dots_core.network.spec import architecture_shapes, cell_layouts, traced_shapes, weight_shapes
from dots_core.random import Stream
from dots_core.search_space.operations import NONE, OPERATIONS

RATES = Rates(0.1, 0.01)
SLOW_RATES = Rates(0.01, 0.001)
"""Of runs of many steps: with larger rates rounding errors grow a thousandfold more."""


@cache
def reference_gradients(name: str, judged: str) -> tuple[State, list[State]]:
    """What the reference's ``gradients`` returns on a case, with a trace: exactly, and in draws for a precision."""
    case = CASES[name]

    def record(engine: Engine, precision: str) -> State:
        return case.build(engine, precision).gradients(case.batch(), case.temperature, trace=True)

    return references(record, judged)


@cache
def reference_state(name: str) -> State:
    """The reference's state after four steps on a case, rounded to float32."""
    case = CASES[name]
    network = case.build(load_engine("reference"), "float64")
    for number in range(4):
        network.step(GROUPS, case.batch(number), RATES, case.temperature)
    return rounded_state(network.export_state())


@cache
def reference_step(name: str, judged: str) -> tuple[State, list[State]]:
    """The reference's state one step after `reference_state`: exactly, and in draws for a precision."""
    case = CASES[name]

    def record(engine: Engine, precision: str) -> State:
        network = case.build(engine, precision)
        network.import_state(reference_state(name))
        network.step(GROUPS, case.batch(9), RATES, case.temperature)
        return network.export_state()

    return references(record, judged)


PERTURBED = "one cell"
"""The case on which w is perturbed: no decision of a ReLU or a max-pool is near a tie there either."""


def perturbed(network: Network) -> State:
    """Go through a step of second order on a case, looking at the network wherever w stands.

    Returns
    -------
    dict
        By ``<sort>/<place>/<name>``: the norms of w's gradients, what ``gradients`` returns at each place,
        and the state after everything was restored and updated.
    """
    case = CASES[PERTURBED]
    network.import_state(reference_state(PERTURBED))
    training, validation = case.batch(9), case.batch(8)
    found: State = {}

    def look(place: str, batch: Batch) -> None:
        for key, value in network.gradients(batch, case.temperature).items():
            sort, _, name = key.partition("/")
            found[f"{sort}/{place}/{name}"] = value

    network.accumulate_gradients(("w",), training, case.temperature)
    found["norm/training"] = np.asarray(network.gradient_norm(), np.float64)
    network.virtual_step(RATES.weights)
    look("ahead", validation)
    network.accumulate_gradients(GROUPS, validation, case.temperature)
    found["norm/validation"] = np.asarray(network.gradient_norm(), np.float64)
    for place, radius in (("plus", 0.5), ("minus", -0.5)):
        network.perturb_weights(radius)
        look(place, training)
        network.accumulate_gradients(("alpha", "beta"), training, case.temperature, -radius)
    network.restore_weights()
    network.update(("alpha", "beta"), RATES)
    network.accumulate_gradients(("w",), training, case.temperature)
    network.update(("w",), RATES)
    found["rows/loss"] = network.pop_losses()[:, 0]
    return {**found, **network.export_state()}


@cache
def reference_perturbed(judged: str) -> tuple[State, list[State]]:
    """What `perturbed` returns of the reference: exactly, and in draws for a precision."""
    return references(lambda engine, precision: perturbed(CASES[PERTURBED].build(engine, precision)), judged)


def references_after(name: str, act: Callable[[Network], None], judged: str) -> tuple[State, list[State]]:
    """The reference's state after something was done to it at `reference_state`: exactly, and in draws."""

    def record(engine: Engine, precision: str) -> State:
        network = CASES[name].build(engine, precision)
        network.import_state(reference_state(name))
        act(network)
        return network.export_state()

    return references(record, judged)


def left_out(case: NetworkCase, batch: Batch) -> set[str]:
    """Prefixes of the names of the operations that a batch's hard samples leave out; none without hard samples."""
    prefixes: set[str] = set()
    for layout in cell_layouts(case.spec):
        chosen = batch.draws[layout.kind].chosen if batch.draws else None
        if chosen is None:
            continue
        cell = case.spec.cell(layout.kind)
        for number, edge in enumerate(cell.edges):
            for operation in edge.operations:
                if not chosen[number, cell.column(operation)]:
                    prefixes.add(f"{layout.name}.edges.{edge.name}.{operation}.")
    return prefixes


@cache
def reference_losses(name: str, steps: int) -> NDArray[np.float64]:
    """The reference's losses on a case in float64, step by step: shape (steps,)."""
    return losses(CASES[name], CASES[name].build(load_engine("reference"), "float64"), steps)


def losses(case: NetworkCase, network: Network, steps: int) -> NDArray[np.float64]:
    """Take steps on four batches in turn and return their losses, shape (steps,)."""
    for number in range(steps):
        network.step(GROUPS, case.batch(number % 4), SLOW_RATES, case.temperature)
    return network.pop_losses()[:, 0]


def assert_identical(first: Mapping[str, NDArray[Any]], second: Mapping[str, NDArray[Any]]) -> None:
    """Assert that two sets of arrays are equal to the last bit, names, types and shapes included."""
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

_TINY = 1e-5
"""Radius of the finite differences in float64 that an exact step of second order is compared with."""

_UNROLLED = MappingProxyType(
    {"float32": 1e-3, "float64": 1e-6, "tf32": 5e-2, "hf32": 5e-2, "float16": 5e-2, "bfloat16": 3e-1}
)
"""Relative error of the gradient of an exact step of second order, by precision."""

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
    free_running_tolerance = MappingProxyType(
        {"float32": 1e-2, "float64": 1e-9, "tf32": 5e-2, "hf32": 5e-2, "float16": 5e-2, "bfloat16": 3e-1}
    )

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

    def test_a_device_beyond_those_there_are(self, engine: Engine) -> None:
        with pytest.raises(EngineMissing, match=":99"):
            engine.check(Runtime(f"{self.device.partition(':')[0]}:99", self.precision))

    def test_precisions_that_its_record_does_not_name(self, engine: Engine) -> None:
        named = choose_backend(self.backend).precisions
        for precision in PRECISIONS.names if named else ():
            if precision not in named:
                with pytest.raises(UsageError, match=precision):
                    engine.check(Runtime(self.device, precision))

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

    @pytest.mark.parametrize("name", ["operations", "pairs", "derived", "hard sampling"])
    def test_round_trip(self, engine: Engine, name: str) -> None:
        case = CASES[name]
        network, other = self.build(engine, name), self.build(engine, name)
        for number in range(2):
            network.step(GROUPS, case.batch(number), RATES, case.temperature)
        other.import_state(network.export_state())
        assert_identical(network.export_state(), other.export_state())
        network.pop_losses()
        for each in (network, other):
            each.step(GROUPS, case.batch(2), RATES, case.temperature)
        assert_identical(network.export_state(), other.export_state())
        assert np.array_equal(network.pop_losses(), other.pop_losses())

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

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("weights/classifier.bias", np.zeros(5, np.int64)),
            ("momentum/classifier.bias", np.zeros(5, np.complex64)),
            ("adam.steps/beta.normal", np.array(1.5)),
            ("adam.steps/beta.normal", np.array(-1)),
        ],
        ids=["whole weights", "complex momentum", "half a step", "less than no step"],
    )
    def test_state_with_an_entry_of_the_wrong_kind(self, engine: Engine, key: str, value: NDArray[Any]) -> None:
        network = self.build(engine)
        state = network.export_state()
        with pytest.raises(CorruptFile, match=key):
            network.import_state({**state, key: value})
        assert_identical(state, network.export_state())

    def test_state_in_other_types_and_layouts(self, engine: Engine) -> None:
        """Of another precision, byte order or order in memory, or only to be read; none is written to."""
        case, network, other = CASES["pairs"], self.build(engine), self.build(engine)
        state = reference_state("pairs")
        foreign = {}
        for key, value in state.items():
            kept = np.asarray(value, ">f8" if value.dtype.kind == "f" else ">i4", order="F")
            kept.flags.writeable = False
            foreign[key] = kept
        network.import_state(state)
        other.import_state(foreign)
        for each in (network, other):
            each.step(GROUPS, case.batch(9), RATES, case.temperature)
        assert_identical(network.export_state(), other.export_state())
        for key, value in foreign.items():
            assert np.array_equal(value, state[key])

    def test_importing_a_state_leaves_nothing_of_what_was_begun(self, engine: Engine) -> None:
        """Neither accumulated gradients nor perturbed w: a step that broke off is over."""
        case, network, other = CASES[PERTURBED], self.build(engine, PERTURBED), self.build(engine, PERTURBED)
        network.accumulate_gradients(("w",), case.batch(), case.temperature)
        network.virtual_step(RATES.weights)
        network.accumulate_gradients(GROUPS, case.batch(1), case.temperature)
        network.perturb_weights(0.5)
        network.pop_losses()
        for each in (network, other):
            each.import_state(reference_state(PERTURBED))
            each.step(GROUPS, case.batch(9), RATES, case.temperature)
            each.update(GROUPS, RATES)
        assert_identical(network.export_state(), other.export_state())
        with pytest.raises(UsageError, match="virtual_step comes first"):
            network.restore_weights()

    # Gradients

    @pytest.mark.parametrize("name", CASES)
    def test_gradients_change_nothing(self, engine: Engine, name: str) -> None:
        case, network = CASES[name], self.build(engine, name)
        before = network.export_state()
        first = network.gradients(case.batch(), case.temperature)
        assert_identical(before, network.export_state())
        assert_identical(first, network.gradients(case.batch(), case.temperature))
        assert network.pop_losses().shape == (0, 2)

    @pytest.mark.filterwarnings("error")
    def test_batches_are_only_read(self, engine: Engine) -> None:
        case, network, other = CASES["derived"], self.build(engine, "derived"), self.build(engine, "derived")
        batch, fixed = case.batch(), case.batch()
        assert fixed.drop_path is not None
        for array in (fixed.images, fixed.labels, fixed.drop_path):
            array.flags.writeable = False
        network.step(GROUPS, batch, RATES, case.temperature)
        other.step(GROUPS, fixed, RATES, case.temperature)
        assert network.evaluate(batch, case.temperature) == other.evaluate(fixed, case.temperature)
        assert_identical(network.export_state(), other.export_state())

    @pytest.mark.parametrize("name", CASES)
    def test_gradients_agree_with_the_reference(self, engine: Engine, name: str) -> None:
        case = CASES[name]
        found = self.build(engine, name).gradients(case.batch(), case.temperature)
        names = (*weight_shapes(case.spec), *architecture_shapes(case.spec), "images")
        assert {key for key in found if key.startswith("gradient/")} == {f"gradient/{name}" for name in names}
        ref64, draws = reference_gradients(name, self.precision)
        untraced = {key: value for key, value in ref64.items() if not key.startswith("trace")}
        assert_close(found, untraced, draws, self.precision)

    @pytest.mark.parametrize("name", ["operations", "derived", "imagenet", "hard sampling", "partial channels"])
    def test_traced_tensors_agree_with_the_reference(self, engine: Engine, name: str) -> None:
        case = CASES[name]
        network = self.build(engine, name)
        found = network.gradients(case.batch(), case.temperature, trace=True)
        traced = {
            key.removeprefix("trace/"): value.shape[1:] for key, value in found.items() if key.startswith("trace/")
        }
        assert traced == traced_shapes(case.spec)
        assert_close(found, *reference_gradients(name, self.precision), self.precision)
        plain = network.gradients(case.batch(), case.temperature)
        assert_close({key: found[key] for key in plain}, plain, [plain], self.precision)

    @pytest.mark.parametrize("name", ["hard sampling", "hard partial"])
    def test_what_a_hard_sample_leaves_out_has_no_part(self, engine: Engine, name: str) -> None:
        case, network = CASES[name], self.build(engine, name)
        absent = tuple(left_out(case, case.batch()))
        found = network.gradients(case.batch(), case.temperature)
        weights = [weight for weight in weight_shapes(case.spec) if weight.startswith(absent)]
        assert weights
        assert not [weight for weight in weights if found[f"gradient/{weight}"].any()]
        before = network.export_state()
        network.accumulate_gradients(GROUPS, case.batch(), case.temperature)
        after = network.export_state()
        for key, value in part(before, "statistics/").items():
            stays = key.removeprefix("statistics/").startswith(absent)
            assert np.array_equal(value, after[key]) == stays, f"{key} {'moved' if stays else 'did not move'}"

    @pytest.mark.parametrize("stride", [1, 2])
    @pytest.mark.parametrize("operation", [o for o in OPERATIONS.names if o != NONE])
    def test_run_layers_agrees_with_the_reference(self, engine: Engine, operation: str, stride: int) -> None:
        sequences = tuple(OPERATIONS[operation].layers(f"edge{e}", 4, stride, True, True) for e in range(3))
        if not sequences[0]:
            pytest.skip("the identity has no layers")
        stacker = Stacker()
        stacker.stack(sequences)
        weights = {
            name: Stream(0, name).normal(shape).astype(np.float32) for name, shape in stacker.weights.shapes.items()
        }
        images = Stream(0, "images").normal((3, 4, 7, 8)).astype(np.float32)
        size = (7, 8) if stride == 1 else (4, 4)
        upstream = Stream(0, "upstream").normal((3, 12, *size)).astype(np.float32)
        arguments = (sequences, weights, images, upstream)
        found = engine.run_layers(*arguments, Runtime(self.device, self.precision))
        expected = references(
            lambda other, precision: other.run_layers(*arguments, Runtime(precision=precision)), self.precision
        )
        assert_close(found, *expected, self.precision)

    @pytest.mark.parametrize("verb", ["accumulate_gradients", "gradients", "step"])
    @pytest.mark.parametrize("name", ["pairs", "derived"])
    def test_a_single_value_a_channel_is_refused(self, engine: Engine, name: str, verb: str) -> None:
        """In a cell, or only in the auxiliary head; not in evaluation, which takes no variance."""
        case = CASES[name]
        side = 4 if name == "pairs" else 8
        spec = replace(case.spec, input_shape=(*case.spec.input_shape[:1], side, side))
        assert (cell_layouts(spec)[-1].size == (1, 1)) == (name == "pairs")
        assert spec.auxiliary == (name == "derived")
        network = replace(case, spec=spec).build(engine, self.precision)
        batch = replace(case, spec=spec).batch(samples=1)
        arguments = {
            "accumulate_gradients": (("w",), batch, case.temperature),
            "gradients": (batch, case.temperature),
            "step": (("w",), batch, RATES, case.temperature),
        }
        with pytest.raises(UsageError, match="variance"):
            getattr(network, verb)(*arguments[verb])
        network.evaluate(batch, case.temperature)

    def test_layers_with_a_single_value_a_channel_are_refused(self, engine: Engine) -> None:
        sequences = (OPERATIONS["dil_conv_3x3"].layers("edge", 4, 2, False, True),)
        shapes = {"edge.depthwise.weight": (4, 1, 3, 3), "edge.pointwise.weight": (4, 4, 1, 1)}
        weights = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
        images, upstream = np.ones((1, 4, 2, 2), np.float32), np.ones((1, 4, 1, 1), np.float32)
        with pytest.raises(UsageError, match="variance"):
            engine.run_layers(sequences, weights, images, upstream, Runtime(self.device, self.precision))

    # Steps

    @pytest.mark.parametrize("name", CASES)
    def test_step_agrees_with_the_reference(self, engine: Engine, name: str) -> None:
        case, network = CASES[name], self.build(engine, name)
        network.import_state(reference_state(name))
        network.step(GROUPS, case.batch(9), RATES, case.temperature)
        assert_close(network.export_state(), *reference_step(name, self.precision), self.precision)

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

    def test_pop_losses(self, engine: Engine) -> None:
        case, network = CASES["derived"], self.build(engine, "derived")
        assert network.pop_losses().shape == (0, 2)
        expected = []
        for number in range(3):
            found = network.gradients(case.batch(number), case.temperature)
            correct = int((found["logits"].argmax(axis=1) == case.batch(number).labels).sum())
            expected.append((found["loss"], correct))
            network.step(("w",), case.batch(number), RATES, case.temperature)
        rows = network.pop_losses()
        assert rows.shape == (3, 2)
        assert rows.dtype == np.float64
        assert np.array_equal(rows[:, 1], [correct for _, correct in expected])
        wanted = np.array([float(loss) for loss, _ in expected])
        assert np.abs(rows[:, 0] - wanted).max() <= FLOORS[self.precision][0] * wanted.max()
        assert network.pop_losses().shape == (0, 2)

    @pytest.mark.parametrize("name", ["pairs", "derived"])
    def test_not_a_number_is_reported_not_raised(self, engine: Engine, name: str) -> None:
        case, network = CASES[name], self.build(engine, name)
        batch = case.batch()
        network.step(GROUPS, replace(batch, images=np.full_like(batch.images, np.nan)), RATES, case.temperature)
        assert not np.isfinite(network.pop_losses()[0, 0])

    # What a step is made of

    @pytest.mark.parametrize("name", ["pairs", "derived", "soft sampling", "hard sampling", "partial channels"])
    def test_a_step_is_differentiate_and_update(self, engine: Engine, name: str) -> None:
        case, one, other = CASES[name], self.build(engine, name), self.build(engine, name)
        for number in range(2):
            one.step(GROUPS, case.batch(number), RATES, case.temperature)
            other.accumulate_gradients(GROUPS, case.batch(number), case.temperature)
            other.update(GROUPS, RATES)
        assert_identical(one.export_state(), other.export_state())
        assert np.array_equal(one.pop_losses(), other.pop_losses())

    def test_differentiate_moves_statistics_and_nothing_else(self, engine: Engine) -> None:
        case, network = CASES["pairs"], self.build(engine)
        before = network.export_state()
        network.accumulate_gradients(("alpha",), case.batch(), case.temperature)
        after = network.export_state()
        moved = {key for key in before if not np.array_equal(before[key], after[key])}
        assert moved == set(part(before, "statistics/"))

    @pytest.mark.parametrize("name", ["pairs", "hard sampling"])
    def test_gradients_add_up(self, engine: Engine, name: str) -> None:
        case, network = CASES[name], self.build(engine, name)

        def act(network: Network) -> None:
            network.accumulate_gradients(GROUPS, case.batch(9), case.temperature, 0.75)
            network.accumulate_gradients(GROUPS, case.batch(0), case.temperature, -0.5)
            network.update(GROUPS, RATES)

        network.import_state(reference_state(name))
        act(network)
        assert_close(network.export_state(), *references_after(name, act, self.precision), self.precision)

    def test_groups_are_accumulated_and_updated_apart(self, engine: Engine) -> None:
        case, network = CASES["pairs"], self.build(engine)

        def act(network: Network) -> None:
            network.accumulate_gradients(("alpha", "w"), case.batch(9), case.temperature)
            network.accumulate_gradients(("beta",), case.batch(0), case.temperature)
            network.update(("alpha", "beta"), RATES)
            network.accumulate_gradients(("w",), case.batch(1), case.temperature)
            network.update(("w",), RATES)

        network.import_state(reference_state("pairs"))
        act(network)
        assert_close(network.export_state(), *references_after("pairs", act, self.precision), self.precision)

    def test_an_update_uses_the_gradient_up(self, engine: Engine) -> None:
        case, network, other = CASES["pairs"], self.build(engine), self.build(engine)
        for each in (network, other):
            each.step(GROUPS, case.batch(), RATES, case.temperature)
        network.update(GROUPS, RATES)
        other.accumulate_gradients(GROUPS, case.batch(1), case.temperature, 0.0)
        other.update(GROUPS, RATES)
        one, two = (part(each.export_state(), *chain(*_MOVED_BY.values())) for each in (network, other))
        assert_close(one, two, [two], self.precision)

    def test_an_update_without_a_gradient_takes_it_to_be_nothing(self, engine: Engine) -> None:
        network = self.build(engine)
        network.import_state(reference_state("pairs"))
        network.update(GROUPS, RATES)
        expected = references_after("pairs", lambda each: each.update(GROUPS, RATES), self.precision)
        assert_close(network.export_state(), *expected, self.precision)

    @pytest.mark.parametrize("accumulated", [True, False], ids=["to a gradient", "to nothing"])
    def test_extra_gradients(self, engine: Engine, accumulated: bool) -> None:
        case, network = CASES["pairs"], self.build(engine)
        extra_gradients = {
            name: 0.3 * Stream(0, f"extra_gradients/{name}").normal(shape)
            for name, shape in architecture_shapes(case.spec).items()
            if name != "alpha.reduce"
        }

        def act(network: Network) -> None:
            if accumulated:
                network.accumulate_gradients(("alpha", "beta"), case.batch(9), case.temperature)
            network.update(("alpha", "beta"), RATES, extra_gradients)

        network.import_state(reference_state("pairs"))
        act(network)
        assert_close(network.export_state(), *references_after("pairs", act, self.precision), self.precision)

    @pytest.mark.parametrize(
        ("groups", "name", "shape"),
        [
            (("alpha",), "beta.normal", None),
            (GROUPS, "beta.norml", None),
            (GROUPS, "w", None),
            (("alpha", "beta"), "beta.normal", ()),
        ],
        ids=["another group", "unknown", "w", "another shape"],
    )
    def test_an_extra_gradient_that_would_be_lost_is_refused(
        self, engine: Engine, groups: tuple[str, ...], name: str, shape: tuple[int, ...] | None
    ) -> None:
        case, network = CASES["pairs"], self.build(engine)
        network.accumulate_gradients(GROUPS, case.batch(), case.temperature)
        before = network.export_state()
        extra = np.ones(architecture_shapes(case.spec)["beta.normal"] if shape is None else shape)
        with pytest.raises(UsageError, match=f"extra gradient .*'{name}'"):
            network.update(groups, RATES, {name: extra})
        assert_identical(before, network.export_state())

    @pytest.mark.parametrize("groups", [("alpha", "beta"), ("beta",)], ids="+".join)
    def test_architecture_weights_are_clipped_by_the_norm_of_what_is_updated(
        self, engine: Engine, groups: tuple[str, ...]
    ) -> None:
        case = replace(CASES["pairs"], optimizers=Optimizers(architecture_clip=1e-3))
        shape = architecture_shapes(case.spec)["beta.normal"]

        def act(network: Network) -> None:
            network.import_state(reference_state("pairs"))
            network.accumulate_gradients(GROUPS, case.batch(9), case.temperature)
            network.update(groups, RATES, {"beta.normal": np.full(shape, 0.01)})

        def record(other: Engine, precision: str) -> State:
            network = case.build(other, precision)
            act(network)
            return network.export_state()

        network, unclipped = case.build(engine, self.precision, self.device), self.build(engine)
        act(network)
        act(unclipped)
        found, without = network.export_state(), unclipped.export_state()
        assert_close(found, *references(record, self.precision), self.precision)
        assert not np.allclose(found["adam.first/beta.normal"], without["adam.first/beta.normal"], rtol=1e-3, atol=0)

    def test_clipping_hides_no_number_that_is_not_finite(self, engine: Engine) -> None:
        case = replace(CASES["pairs"], optimizers=Optimizers(architecture_clip=1.0))
        for value in (np.nan, np.inf):
            network = case.build(engine, self.precision, self.device)
            extra = np.zeros(architecture_shapes(case.spec)["beta.normal"])
            extra[0] = value
            network.update(("alpha", "beta"), RATES, {"beta.normal": extra})
            assert not np.isfinite(network.export_state()["architecture/beta.normal"]).all()

    @pytest.mark.parametrize("verb", ["step", "accumulate_gradients", "update"])
    def test_an_unknown_group_is_refused(self, engine: Engine, verb: str) -> None:
        case, network = CASES["pairs"], self.build(engine)
        before = network.export_state()
        arguments: dict[str, tuple[Any, ...]] = {
            "step": (case.batch(), RATES, case.temperature),
            "accumulate_gradients": (case.batch(), case.temperature),
            "update": (RATES,),
        }
        with pytest.raises(UsageError, match="gamma"):
            getattr(network, verb)(("w", "gamma"), *arguments[verb])
        assert_identical(before, network.export_state())
        assert network.pop_losses().shape == (0, 2)

    # Perturbed weights

    def test_perturbing_agrees_with_the_reference(self, engine: Engine) -> None:
        found = perturbed(self.build(engine, PERTURBED))
        assert_close(found, *reference_perturbed(self.precision), self.precision)

    def test_settling_brings_everything_back(self, engine: Engine) -> None:
        case, network, other = CASES[PERTURBED], self.build(engine, PERTURBED), self.build(engine, PERTURBED)
        for each in (network, other):
            each.import_state(reference_state(PERTURBED))
            each.accumulate_gradients(("w",), case.batch(9), case.temperature)
        network.virtual_step(RATES.weights)
        network.accumulate_gradients(("w",), case.batch(8), case.temperature)
        network.perturb_weights(0.5)
        network.accumulate_gradients(("w",), case.batch(7), case.temperature)
        network.restore_weights()
        assert_identical(network.export_state(), other.export_state())
        assert len(network.pop_losses()) == 3
        other.virtual_step(RATES.weights)
        other.restore_weights()
        for each in (network, other):
            each.update(("w",), RATES)
        assert_identical(network.export_state(), other.export_state())
        network.import_state(reference_state(PERTURBED))
        network.update(("w",), RATES)
        assert_identical(
            part(network.export_state(), "weights/", "momentum/"), part(other.export_state(), "weights/", "momentum/")
        )

    def test_what_would_be_lost_while_weights_are_perturbed_is_refused(self, engine: Engine) -> None:
        case, network = CASES[PERTURBED], self.build(engine, PERTURBED)
        with pytest.raises(UsageError, match="virtual_step comes first"):
            network.restore_weights()
        with pytest.raises(UsageError, match="virtual_step comes first"):
            network.perturb_weights(0.5)
        network.accumulate_gradients(("w",), case.batch(), case.temperature)
        network.virtual_step(RATES.weights)
        before = network.export_state()
        refused: dict[str, tuple[Any, ...]] = {
            "virtual_step": (RATES.weights,),
            "update": (("w",), RATES),
            "step": (GROUPS, case.batch(), RATES, case.temperature),
        }
        for verb, arguments in refused.items():
            with pytest.raises(UsageError, match="restore_weights comes first"):
                getattr(network, verb)(*arguments)
        assert_identical(before, network.export_state())
        network.restore_weights()

    def test_statistics_rest_while_weights_are_perturbed(self, engine: Engine) -> None:
        case, network = CASES[PERTURBED], self.build(engine, PERTURBED)
        network.accumulate_gradients(("w",), case.batch(), case.temperature)
        before = part(network.export_state(), "statistics/")
        network.virtual_step(RATES.weights)
        network.accumulate_gradients(GROUPS, case.batch(1), case.temperature)
        network.perturb_weights(0.5)
        network.accumulate_gradients(("alpha",), case.batch(2), case.temperature)
        network.restore_weights()
        assert_identical(before, part(network.export_state(), "statistics/"))
        network.accumulate_gradients(("alpha",), case.batch(2), case.temperature)
        after = network.export_state()
        assert not [key for key, value in before.items() if np.array_equal(value, after[key])]

    def test_architecture_weights_keep_their_gradient_while_weights_are_perturbed(self, engine: Engine) -> None:
        case, network = CASES[PERTURBED], self.build(engine, PERTURBED)

        def act(network: Network) -> None:
            network.accumulate_gradients(("alpha", "beta", "w"), case.batch(9), case.temperature)
            network.virtual_step(0.0)
            network.restore_weights()
            network.update(("alpha", "beta"), RATES)

        network.import_state(reference_state(PERTURBED))
        act(network)
        assert_close(network.export_state(), *references_after(PERTURBED, act, self.precision), self.precision)

    def test_along_no_gradient_weights_are_where_they_stood(self, engine: Engine) -> None:
        case, network = CASES[PERTURBED], self.build(engine, PERTURBED)
        before = network.gradients(case.batch(), case.temperature)
        network.accumulate_gradients(("w",), case.batch(), case.temperature)
        network.virtual_step(RATES.weights)
        network.accumulate_gradients(("w",), case.batch(1), case.temperature, 0.0)
        assert network.gradient_norm() == 0.0
        network.perturb_weights(0.5)
        assert_identical(before, network.gradients(case.batch(), case.temperature))
        network.restore_weights()

    def test_an_exact_step_of_second_order(self, engine: Engine) -> None:
        case, network = CASES[PERTURBED], self.build(engine, PERTURBED)
        if not hasattr(network, "accumulate_unrolled_gradients"):
            pytest.skip("the engine has no accumulate_unrolled_gradients, and need not have it")
        with pytest.raises(UsageError, match="not of w"):
            network.accumulate_unrolled_gradients(GROUPS, case.batch(9), case.batch(8), 0.1, case.temperature)
        groups, rate = ("alpha", "beta"), RATES.weights
        network.import_state(reference_state(PERTURBED))
        network.accumulate_unrolled_gradients(groups, case.batch(9), case.batch(8), rate, case.temperature)
        rows = network.pop_losses()
        network.update(groups, RATES)
        # In float64 finite differences over a tiny radius are as good as exact.
        oracle = case.build(load_engine("reference"), "float64")
        oracle.import_state(reference_state(PERTURBED))
        oracle.accumulate_gradients(("w",), case.batch(9), case.temperature)
        oracle.virtual_step(rate)
        oracle.accumulate_gradients((*groups, "w"), case.batch(8), case.temperature)
        factor = rate * oracle.gradient_norm() / (2 * _TINY)
        for sign in (1.0, -1.0):
            oracle.perturb_weights(sign * _TINY)
            oracle.accumulate_gradients(groups, case.batch(9), case.temperature, -sign * factor)
        oracle.restore_weights()
        oracle.update(groups, RATES)
        assert rows.shape == (1, 2)
        assert np.isclose(rows[0, 0], oracle.pop_losses()[1, 0], rtol=self.free_running_tolerance[self.precision])
        found, expected = network.export_state(), oracle.export_state()
        for key, value in part(expected, "adam.first/").items():
            error = float(np.linalg.norm(found[key] - value) / np.linalg.norm(value))
            assert error < _UNROLLED[self.precision], f"{key} is {error:.3g} away"
        wanted = part(expected, "statistics/", "weights/", "momentum/")
        assert_close(part(found, "statistics/", "weights/", "momentum/"), wanted, [wanted], self.precision)

    # Evaluation

    @pytest.mark.parametrize("name", CASES)
    def test_evaluate(self, engine: Engine, name: str) -> None:
        case, network = CASES[name], self.build(engine, name)
        network.import_state(reference_state(name))
        before = network.export_state()
        batch = case.batch(5, samples=6)
        loss, correct = network.evaluate(batch, case.temperature)
        assert_identical(before, network.export_state())
        assert network.pop_losses().shape == (0, 2)
        assert isinstance(correct, int)
        assert isinstance(loss, float)

        def record(other: Engine, precision: str) -> tuple[State, int]:
            oracle = case.build(other, precision)
            oracle.import_state(reference_state(name))
            value, count = oracle.evaluate(batch, case.temperature)
            return {"loss": np.asarray(value)}, count

        (exact, wanted), draws = references(record, self.precision)
        assert correct == wanted
        assert_close({"loss": np.asarray(loss)}, exact, [draw for draw, _ in draws], self.precision)

        parts = [
            network.evaluate(
                replace(batch, images=batch.images[cut], labels=batch.labels[cut], drop_path=None), case.temperature
            )
            for cut in (slice(0, 1), slice(1, 6))
        ]
        assert sum(count for _, count in parts) == correct
        assert abs(sum(value for value, _ in parts) - loss) <= 10 * FLOORS[self.precision][0] * abs(loss)
