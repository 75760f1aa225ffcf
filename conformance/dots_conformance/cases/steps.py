"""Training steps: one at a time from the reference's state, and many on end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from dots_conformance.cases.base import Case, Recording
from dots_conformance.cases.handed import handed
from dots_conformance.networks import CASES, NetworkCase
from dots_core.engine.protocol import GROUPS, Engine, Loss, Network, Optimizers, Rates, Runtime, State
from dots_core.engine.registry import load_engine
from dots_core.engine.state import rounded_state
from dots_core.plan.gradients import MixedLevel, SecondOrder
from dots_core.plan.levels import ARCHITECTURE, LEVELS, StepSettings
from dots_core.plan.plan import Update
from dots_core.search.step import Stepper, StepPosition

RATES = Rates(0.1, 0.01)
_WEIGHTS = Update(("w",), "half-a")
_THIRDS = (
    Update(("alpha",), "third-b", gradient=MixedLevel(), joint=True),
    Update(("beta",), "third-c", gradient=MixedLevel(), joint=True),
)
STEPS = {
    # The updates of one step.
    "one-level": (Update(GROUPS, "all"),),
    "bi-level": (Update(ARCHITECTURE, "half-b"), _WEIGHTS),
    "weights": (Update(("w",), "all"),),
    # MiLeNAS
    "mixed-level": (Update(ARCHITECTURE, "half-b", gradient=MixedLevel(0.8, 0.5)), _WEIGHTS),
    # DARTS eq. 5-8, by finite differences
    "second-order": (Update(ARCHITECTURE, "half-b", gradient=SecondOrder()), _WEIGHTS),
    # TopoNAS: all gradients at the old point, each of another third of the images
    "three-splits": (*_THIRDS, Update(("w",), "third-a")),
    "regularised": (_THIRDS[0], replace(_THIRDS[1], regularisation=0.1), Update(("w",), "third-a")),
}
OPTIMIZERS = {
    "defaults": Optimizers(),
    "clipped": Optimizers(clip=0.05),
    "unclipped": Optimizers(clip=0.0),
    "clipped-architecture": Optimizers(architecture_clip=1e-3),
    "no-momentum": Optimizers(momentum=0.0, weight_decay=0.0),
    "large-epsilon": Optimizers(epsilon=1e-3, betas=(0.9, 0.99)),
    "large-decay": Optimizers(weight_decay=0.05, architecture_weight_decay=0.1),
}
FORCED_AT = (0, 1, 5)
"""Numbers of steps the reference takes before a state is handed over."""

GROWTH = (("operations", 50, False), ("pairs", 50, False), ("pairs", 20, True))
"""Network, number of steps, whether it belongs to the quick set: an engine's step costs most there."""

SNAPSHOTS = (1, 2, 3, 5, 8, 12, 20, 35, 50)
GROWTH_RATES = Rates(0.01, 0.001)


def _updates(level: str) -> tuple[Update, ...]:
    """The updates of one of `STEPS`, or of a level that is not among them, all its settings at their defaults."""
    return (
        STEPS[level] if level in STEPS else LEVELS[level.removesuffix("-level")].updates(StepSettings(), ARCHITECTURE)
    )


def step_cases(seed: int, shared: Path | None = None) -> Iterator[Case]:
    """Steps from the reference's state: optimisers, levels, running statistics, label smoothing."""

    def forced(name: str, network: NetworkCase, level: str, quick: bool) -> Case:
        return _forced(name, network, level, quick, shared)

    for level in ("one-level", "bi-level", "weights"):
        for stage in ("operations", "pairs", "arbitrary"):
            yield forced(f"levels/{level}/{stage}", replace(CASES[stage], seed=seed), level, quick=stage != "arbitrary")
    for level in ("mixed-level", "second-order", "three-splits"):
        for stage in ("pairs", "one cell"):
            label = stage.replace(" ", "-")
            yield forced(f"levels/{level}/{label}", replace(CASES[stage], seed=seed), level, quick=stage == "one cell")
    for level in (f"{each.name}-level" for each in LEVELS if f"{each.name}-level" not in STEPS):
        yield forced(f"levels/{level}/one-cell", replace(CASES["one cell"], seed=seed), level, quick=True)
    for level, stages in {
        "bi-level": ("soft sampling", "hard sampling", "hard partial"),
        "second-order": ("hard sampling", "partial channels"),
        "three-splits": ("hard partial",),
        "regularised": ("output pairs",),
    }.items():
        for stage in stages:
            label = stage.replace(" ", "-")
            quick = level == "bi-level" and stage != "hard partial"
            yield forced(f"levels/{level}/{label}", replace(CASES[stage], seed=seed), level, quick)
    # With constants that make every term of a virtual step count.
    decayed = replace(CASES["one cell"], optimizers=OPTIMIZERS["large-decay"], seed=seed)
    yield forced("levels/second-order/large-decay", decayed, "second-order", quick=True)
    # Where w stands shows at once what gradients taken there show only beyond their own rounding errors.
    heavy = replace(CASES["one cell"], optimizers=Optimizers(weight_decay=0.5), seed=seed)
    yield _perturbed("perturbed/weight-decay", heavy, shared)
    # Each of two updates is clipped for itself, the second with its regularisation.
    apart = replace(CASES["output pairs"], optimizers=OPTIMIZERS["clipped-architecture"], seed=seed)
    yield forced("levels/regularised/clipped-architecture", apart, "regularised", quick=False)
    for label, optimizers in OPTIMIZERS.items():
        network = replace(CASES["pairs"], optimizers=optimizers, seed=seed)
        yield forced(f"optimizers/{label}", network, "one-level", quick=True)
    for smoothing in (0.0, 0.1):
        network = replace(CASES["derived"], loss=Loss(smoothing, 0.4), seed=seed)
        yield forced(f"derived/smoothing-{smoothing}", network, "weights", quick=smoothing > 0)


def growth_cases(seed: int) -> Iterator[Case]:
    """Many steps on end: how far trajectories drift apart."""
    for stage, steps, quick in GROWTH:
        yield _growth(f"{stage}/{steps}-steps", replace(CASES[stage], seed=seed), steps, quick)


@cache
def _reference_states(name: str, network: NetworkCase, level: str, shared: Path | None) -> tuple[State, ...]:
    """The reference's states, rounded to float32, after the numbers of steps of `FORCED_AT`."""

    def walk() -> State:
        oracle = network.build(load_engine("reference"), "float64")
        found: State = {}
        for number in range(max(FORCED_AT) + 1):
            if number in FORCED_AT:
                state = rounded_state(oracle.export_state())
                found.update({f"{number}/{key}": value for key, value in state.items()})
            if number < max(FORCED_AT):
                _step(oracle, network, level, number, (number,) * len(_updates(level)))
        return found

    found = handed(shared, name, walk)
    return tuple(
        {key.removeprefix(f"{number}/"): value for key, value in found.items() if key.startswith(f"{number}/")}
        for number in FORCED_AT
    )


def _step(built: Network, network: NetworkCase, level: str, step: int, batches: tuple[int, ...]) -> None:
    """Make one step of a level, its samples drawn by the architecture weights as they are.

    Parameters
    ----------
    batches : tuple of int
        Numbers of the updates' batches.
    """
    updates = _updates(level)
    stepper = Stepper(built, network.spec, updates, network.seed, level)
    stepper.step(
        lambda number: network.batch(batches[number]), RATES, network.temperature, StepPosition(0, step, step + 1)
    )


def _forced(name: str, network: NetworkCase, level: str, quick: bool, shared: Path | None) -> Case:
    def record(engine: Engine, runtime: Runtime) -> Recording:
        arrays: State = {}
        states = _reference_states(name, network, level, shared)
        for taken, state in zip(FORCED_AT, states, strict=True):
            built = network.build(engine, runtime.precision, runtime.device)
            built.import_state(state)
            _step(built, network, level, taken, tuple(range(10 * taken, 10 * taken + len(_updates(level)))))
            arrays[f"loss/after-{taken}"] = built.pop_losses()[:, 0]
            for key, value in built.export_state().items():
                sort, _, tensor = key.partition("/")
                arrays[f"{sort}/after-{taken}/{tensor}"] = value
            # A factor of all is told by their norm, in which rounding errors average out.
            moments = [value for key, value in built.export_state().items() if key.startswith("momentum/")]
            arrays[f"norm/momentum/after-{taken}"] = np.sqrt(
                sum(np.sum(np.square(each, dtype=np.float64)) for each in moments)
            )
        return Recording(arrays)

    return Case(f"steps/{name}", record, quick, network=network)


def _perturbed(name: str, network: NetworkCase, shared: Path | None) -> Case:
    """Where w stands in a step of second order: after the virtual step, perturbed, and restored."""

    def record(engine: Engine, runtime: Runtime) -> Recording:
        arrays: State = {}
        built = network.build(engine, runtime.precision, runtime.device)
        built.import_state(_reference_states(name, network, "weights", shared)[-1])

        def look(place: str) -> None:
            for key, value in built.export_state().items():
                if key.startswith("weights/"):
                    arrays[f"weights/{place}/{key.removeprefix('weights/')}"] = value

        built.accumulate_gradients(("w",), network.batch(50), network.temperature)
        built.virtual_step(RATES.weights)
        look("ahead")
        built.accumulate_gradients(("w",), network.batch(51), network.temperature)
        built.perturb_weights(0.5)
        look("perturbed")
        built.restore_weights()
        look("restored")
        return Recording(arrays)

    return Case(f"steps/{name}", record, quick=True, network=network)


def _growth(name: str, network: NetworkCase, steps: int, quick: bool) -> Case:
    def record(engine: Engine, runtime: Runtime) -> Recording:
        built = network.build(engine, runtime.precision, runtime.device)
        arrays: State = {}
        for number in range(1, steps + 1):
            built.step(GROUPS, network.batch(number % 8), GROWTH_RATES, network.temperature)
            if number in SNAPSHOTS:
                state = built.export_state()
                for sort in ("weights", "architecture", "statistics"):
                    flat = [value.ravel() for key, value in sorted(state.items()) if key.startswith(f"{sort}/")]
                    arrays[f"growth.{sort}/{number:03}"] = np.concatenate(flat)
        for number, loss in enumerate(built.pop_losses()[:, 0], start=1):
            arrays[f"growth.loss/{number:03}"] = np.asarray(loss)
        return Recording(arrays)

    return Case(f"growth/{name}", record, quick, network=network)
