"""A network in a state, what it can be made to do there, and what the reference engine makes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dots_conformance.networks import NetworkCase
from dots_conformance.rounding import references
from dots_conformance.thresholds import DRAWN
from dots_core.engine.batch import Batch
from dots_core.engine.protocol import GROUPS, Engine, Network, Rates, Runtime, Setup, State
from dots_core.engine.registry import load_engine
from dots_core.engine.stacking import Stacker
from dots_core.engine.state import rounded_state
from dots_core.plan.gradients import SecondOrder
from dots_core.plan.plan import Update
from dots_core.search.step import Stepper, StepPosition
from dots_core.search_space.layers import Layer
from dots_core.search_space.mixing import Temperature

_RATES = Rates(0.1, 0.01)

Expected = tuple[State, list[State]]
"""The reference in float64, and its draws at a precision."""


@dataclass(frozen=True, eq=False)
class NetworkSnapshot:
    """A network in a state, and a batch: where engines are compared.

    What the reference makes of it is computed once, however many engines are compared with it.

    Attributes
    ----------
    setup : Setup
    state : dict
        As ``Network.export_state`` returns it, floating arrays rounded to float32.
    batch : Batch
    temperature : Temperature
    """

    setup: Setup
    state: Mapping[str, NDArray[Any]]
    batch: Batch
    temperature: Temperature
    _expected: dict[Any, Expected] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def of(cls, case: NetworkCase, steps: int = 2) -> NetworkSnapshot:
        """Return a case after some steps of the reference engine."""
        network = case.build(load_engine("reference"), "float64")
        for number in range(steps):
            network.step(GROUPS, case.batch(number), _RATES, case.temperature)
        state = rounded_state(network.export_state())
        return cls(Setup(case.spec, case.optimizers, case.loss), state, case.batch(steps), case.temperature)

    def part(self, prefix: str) -> dict[str, NDArray[Any]]:
        """The entries of the state of one sort, by canonical name and in its shapes."""
        return {k.removeprefix(f"{prefix}/"): v for k, v in self.state.items() if k.startswith(f"{prefix}/")}

    def build(self, engine: Engine, precision: str, device: str, fresh: bool = False) -> Network:
        """Build the network in its state; a fresh one keeps the weights alone, its optimisers begin."""
        setup = self.setup
        runtime = Runtime(device, precision, setup.runtime.deterministic)
        network = engine.build(
            Setup(setup.spec, setup.optimizers, setup.loss, runtime), self.part("weights"), self.part("architecture")
        )
        if not fresh:
            network.import_state(self.state)
        return network

    def found(self, act: Act, engine: Engine, runtime: Runtime) -> State:
        """What comes of an act on an engine: arrays by canonical name, in the shapes the act says."""
        return act.do(self, self.build(engine, runtime.precision, runtime.device, act.fresh))

    def expected(self, act: Act, precision: str) -> Expected:
        """What comes of an act on the reference engine, to judge an engine at a precision by."""
        key = (act, DRAWN[precision])
        if key not in self._expected:
            self._expected[key] = references(
                lambda engine, drawn: self.found(act, engine, Runtime(precision=drawn)), precision
            )
        return self._expected[key]

    def found_alone(
        self, layers: tuple[Layer, ...], x: NDArray[Any], upstream: NDArray[Any], engine: Engine, runtime: Runtime
    ) -> State:
        """What layers make of an input, shape (N, C, H, W), when an engine runs them alone.

        ``upstream`` is the gradient of their output, of its shape: see `dots_core.engine.protocol.Engine.run_layers`.
        """
        stacker = Stacker()
        stacker.stack((layers,))
        weights = {name: self.state[f"weights/{name}"] for name in stacker.weights.shapes}
        return engine.run_layers((layers,), weights, x.astype(np.float32), upstream.astype(np.float32), runtime)

    def expected_alone(
        self, layers: tuple[Layer, ...], x: NDArray[Any], upstream: NDArray[Any], precision: str
    ) -> Expected:
        """What `found_alone` is, shapes included, on the reference engine, to judge an engine at a precision by."""
        key = (layers, x.tobytes(), upstream.tobytes(), DRAWN[precision])
        if key not in self._expected:
            self._expected[key] = references(
                lambda engine, drawn: self.found_alone(layers, x, upstream, engine, Runtime(precision=drawn)), precision
            )
        return self._expected[key]


@dataclass(frozen=True)
class Act:
    """Something a network is made to do.

    Attributes
    ----------
    what : str
        In words.
    do : function of a snapshot and a network built for it
        Returns what is compared.
    fresh : bool
        Whether the network is as ``Engine.build`` makes it, without a state to go on from.
    """

    what: str
    do: Callable[[NetworkSnapshot, Network], State] = field(repr=False)
    fresh: bool = False


def _step(snapshot: NetworkSnapshot, network: Network) -> State:
    network.step(GROUPS, snapshot.batch, _RATES, snapshot.temperature)
    return network.export_state()


def _second_order(snapshot: NetworkSnapshot, network: Network) -> State:
    updates = (Update(("alpha", "beta"), "half-b", gradient=SecondOrder()), Update(("w",), "half-a"))
    stepper = Stepper(network, snapshot.setup.spec, updates, 0, "locate")
    stepper.step(lambda _: snapshot.batch, _RATES, snapshot.temperature, StepPosition(0, 0, 1))
    return network.export_state()


def _evaluate(snapshot: NetworkSnapshot, network: Network) -> State:
    loss, _ = network.evaluate(snapshot.batch, snapshot.temperature)
    return {"evaluation/loss": np.asarray(loss, np.float64)}


EXCHANGE = Act("the state, imported and exported", lambda _, network: network.export_state())
PASS = Act(
    "every tensor, forward and backward",
    lambda snapshot, network: network.gradients(snapshot.batch, snapshot.temperature, trace=True),
)
EVALUATION = Act("the loss in evaluation", _evaluate)
STEP = Act("a step from the state of two steps", _step)
FIRST_STEP = Act("the first step, from empty optimisers", _step, fresh=True)
SECOND_ORDER = Act("a step of second order", _second_order)
ACTS = (EXCHANGE, PASS, EVALUATION, STEP, FIRST_STEP, SECOND_ORDER)
