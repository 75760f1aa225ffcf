"""Where an engine parts from the reference: the first tensor, in execution order, that leaves its budget.

The engine runs a network and shows every tensor between its layers. The first that is off
names a cell and a node. Each operation that leads there is then run alone on the reference's
input; if one is off by itself, so is one of its layers. If none is, the node sums its operations
wrongly, and solving for the weights it must have used says which.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dots_conformance.cases.layers import output_shape
from dots_conformance.closeness import FAIL, TensorVerdict, judge
from dots_conformance.networks import NetworkCase
from dots_conformance.rounding import RoundingDraw, references
from dots_core.backends import load_engine
from dots_core.batch import Batch
from dots_core.engine import GROUPS, Engine, Network, Rates, Runtime, Setup, State, Temperature
from dots_core.layers import Layer
from dots_core.levels import Moment, Stepper
from dots_core.mixing import block_softmax
from dots_core.network import (
    CellLayout,
    NetworkSpec,
    bypass_layers,
    cell_layouts,
    edge_layers,
    stem_layers,
    traced_shapes,
    weight_shapes,
)
from dots_core.operations import NONE, OPERATIONS
from dots_core.plan import Update
from dots_core.stacking import Stacker
from dots_core.state import rounded_state

_RATES = Rates(0.1, 0.01)


@dataclass(frozen=True)
class Situation:
    """A network in a state, and a batch: what is compared.

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

    @classmethod
    def of(cls, case: NetworkCase, steps: int = 2) -> Situation:
        """Return a case after some steps of the reference engine."""
        network = case.build(load_engine("reference"), "float64")
        for number in range(steps):
            network.step(GROUPS, case.batch(number), _RATES, case.temperature)
        state = rounded_state(network.export_state())
        return cls(Setup(case.spec, case.optimizers, case.loss), state, case.batch(steps), case.temperature)

    def build(self, engine: Engine, precision: str, device: str) -> Network:
        """Build the network in its state."""
        runtime = Runtime(device, precision, self.setup.runtime.deterministic)
        weights = {k.removeprefix("weights/"): v for k, v in self.state.items() if k.startswith("weights/")}
        architecture = {
            k.removeprefix("architecture/"): v for k, v in self.state.items() if k.startswith("architecture/")
        }
        setup = Setup(self.setup.spec, self.setup.optimizers, self.setup.loss, runtime)
        network = engine.build(setup, weights, architecture)
        network.import_state(self.state)
        return network


@dataclass(frozen=True)
class Finding:
    """Where an engine parts from the reference.

    Attributes
    ----------
    direction : str
        ``"forward"``, ``"backward"`` or ``"update"``.
    tensor : str
        The first that leaves its budget.
    place : str
        Cell, node, edge, operation and layer, as far as they could be told.
    explanation : str
    verdict : TensorVerdict
    """

    direction: str
    tensor: str
    place: str
    explanation: str
    verdict: TensorVerdict


def locate(engine: Engine, situation: Situation, runtime: Runtime) -> Finding | None:
    """Return the first tensor that leaves its budget, or None if none does."""
    return _Search(engine, situation, runtime).find()


class _Search:
    def __init__(self, engine: Engine, situation: Situation, runtime: Runtime) -> None:
        self._engine, self._situation, self._runtime = engine, situation, runtime
        self._spec: NetworkSpec = situation.setup.spec
        self._layouts = {layout.name: layout for layout in cell_layouts(self._spec)}
        self._weights = {
            key.removeprefix("weights/"): value for key, value in situation.state.items() if key.startswith("weights/")
        }

        def record(other: Engine, precision: str) -> State:
            network = situation.build(other, precision, "cpu")
            return network.gradients(situation.batch, situation.temperature, trace=True)

        self._exact, draws = references(record)
        network = situation.build(engine, runtime.precision, runtime.device)
        self._found = network.gradients(situation.batch, situation.temperature, trace=True)
        verdicts = judge(self._found, self._exact, draws, runtime.precision)
        self._failing = {v.key: v for v in verdicts if v.verdict == FAIL}

    def find(self) -> Finding | None:
        """Look forward, then backward, then at the update."""
        order = list(traced_shapes(self._spec))
        for name in order:
            if f"trace/{name}" in self._failing:
                return self._forward(name)
        for name in ("auxiliary_logits", "logits", "loss"):
            if name in self._failing:
                return self._finding("forward", name, name.replace("_", " "), "everything before it agrees")
        for name in reversed(order):
            if f"trace.gradient/{name}" in self._failing:
                return self._backward(name)
        names = [*weight_shapes(self._spec)][::-1]
        for key in ("gradient/images", *(f"gradient/{name}" for name in names)):
            if key in self._failing:
                return self._finding("backward", key, _place_of_weight(key.partition("/")[2]), "every tensor agrees")
        for key in self._failing:  # what is left: gradients of α and β
            return self._finding(
                "backward", key, key.partition("/")[2], "every tensor and every weight's gradient agree"
            )
        return self._update()

    def _finding(self, direction: str, key: str, place: str, explanation: str) -> Finding:
        return Finding(direction, key, place, explanation, self._failing[key])

    # -- forward

    def _forward(self, name: str) -> Finding:
        key = f"trace/{name}"
        head, _, node = name.rpartition(".")
        if name.startswith("stems."):
            number = int(node)
            source = self._situation.batch.images if number == 0 else self._exact["trace/stems.0"]
            layer = self._first_wrong_layer(stem_layers(self._spec)[number], source)
            return self._finding("forward", key, f"stem {node}{layer}", "its input agrees")
        if name in self._layouts:
            return self._finding("forward", key, f"cell {name.partition('.')[2]}, output", "all its nodes agree")
        layout = self._layouts[head]
        cell = f"cell {layout.index} ({layout.kind})"
        if int(node) < 2:
            source = self._exact[f"trace/{self._before(layout)[int(node)]}"]
            layer = self._first_wrong_layer(layout.preprocess(int(node), self._spec.affine), source)
            return self._finding("forward", key, f"{cell}, preprocessing of input {node}{layer}", "its input agrees")
        through = layout.channels // self._spec.cell(layout.kind).partial
        for edge, operation, layers in self._operations(layout, target=int(node)):
            source = self._exact[f"trace/{head}.{self._spec.cell(layout.kind).edges[edge].source}"][:, :through]
            layer = self._first_wrong_layer(layers, source)
            if layer:
                place = f"{cell}, edge {self._spec.cell(layout.kind).edges[edge].name}, {operation}{layer}"
                return self._finding("forward", key, place, "run alone on the reference's input, it is off too")
        return self._finding("forward", key, f"{cell}, node {node}", self._summed_wrongly(layout, int(node)))

    def _before(self, layout: CellLayout) -> tuple[str, str]:
        """Names of the tensors that a cell reads."""
        stems = [f"stems.{number}" for number in range(len(stem_layers(self._spec)))]
        outputs = [stems[0], stems[-1], *self._layouts]
        return outputs[layout.index], outputs[layout.index + 1]

    def _operations(self, layout: CellLayout, target: int) -> list[tuple[int, str, tuple[Layer, ...]]]:
        cell = self._spec.cell(layout.kind)
        return [
            (number, operation, edge_layers(self._spec, layout, number, operation))
            for number in cell.incoming(target)
            for operation in cell.edges[number].operations
            if operation != NONE
        ]

    def _first_wrong_layer(self, layers: tuple[Layer, ...], source: NDArray[Any], upstream: Any = None) -> str:
        """Return `` (layer …)`` for the first layer after which the engine, run alone, is off; empty if it never is."""
        for count in range(1, len(layers) + 1):
            for verdict in self._alone(layers[:count], source, upstream if count == len(layers) else None):
                if verdict.verdict == FAIL and (verdict.key == "output" or upstream is not None):
                    layer = layers[count - 1]
                    name = getattr(layer, "name", "")
                    return f" (layer {count}, {type(layer).__name__}{f' {name}' if name else ''})"
        return ""

    def _alone(self, layers: tuple[Layer, ...], source: NDArray[Any], upstream: Any) -> list[TensorVerdict]:
        """Run layers on an input on both engines and judge what comes of it."""
        stacker = Stacker()
        stacker.stack((layers,))
        weights = {name: self._weights[name] for name in stacker.weights.shapes}
        x = source.astype(np.float32)

        def record(engine: Engine, runtime: Runtime) -> State:
            gradient = upstream
            if gradient is None:
                gradient = np.ones(self._output_shape(layers, x), np.float32)
            return engine.apply((layers,), weights, x, gradient.astype(np.float32), runtime)

        exact, draws = references(lambda engine, precision: record(engine, Runtime(precision=precision)))
        try:
            found = record(self._engine, self._runtime)
        except Exception as error:  # for example because its output has another shape than the gradient it is given
            return [TensorVerdict("output", FAIL, np.inf, reason=f"{type(error).__name__}: {error}")]
        return judge(found, exact, draws, self._runtime.precision)

    def _output_shape(self, layers: tuple[Layer, ...], x: NDArray[Any]) -> tuple[int, ...]:
        return output_shape((layers,), x.shape[0], x.shape[1], (x.shape[2], x.shape[3]))

    def _summed_wrongly(self, layout: CellLayout, node: int) -> str:
        """Solve for the weights with which the engine must have summed a node's operations."""
        alone = "each operation that leads here agrees when run alone, but "
        cell = self._spec.cell(layout.kind)
        alpha, gamma = self._edge_weights(layout)
        value = np.asarray(self._found[f"trace/{layout.name}.{node}"], np.float64)
        if cell.partial > 1:
            right = np.asarray(self._exact[f"trace/{layout.name}.{node}"], np.float64)
            if np.allclose(np.sort(value, 1), np.sort(right, 1), 1e-3, 1e-3):
                return alone + "its channels are shuffled in another order"
            value = self._unshuffled(layout, value)
        through = layout.channels // cell.partial
        mixed = [
            (
                f"edge {cell.edges[number].name}, {operation} weighs",
                self._output(layout, number, layers, slice(0, through)),
                alpha[number, OPERATIONS.index(operation)] * gamma[number],
            )
            for number, operation, layers in self._operations(layout, node)
        ]
        past = [
            (
                f"edge {cell.edges[number].name}, channels that pass by weigh",
                self._output(
                    layout, number, bypass_layers(layout, cell.edges[number].source), slice(through, layout.channels)
                ),
                gamma[number],
            )
            for number in cell.incoming(node)
            if cell.partial > 1
        ]
        off = _weighed_wrongly(mixed, value[:, :through]) + _weighed_wrongly(past, value[:, through:])
        if not off:
            return alone + "their sum does not"
        return alone + "; ".join(text for _, text in sorted(off, reverse=True)[:4])

    def _output(self, layout: CellLayout, edge: int, layers: tuple[Layer, ...], channels: slice) -> NDArray[np.float64]:
        """What the reference makes of some of an edge's channels, drop-path included."""
        source = self._spec.cell(layout.kind).edges[edge].source
        x = self._exact[f"trace/{layout.name}.{source}"][:, channels]
        stacker = Stacker()
        stacker.stack((layers,))
        weights = {name: self._weights[name] for name in stacker.weights.shapes}
        upstream = np.zeros(self._output_shape(layers, x))
        y = RoundingDraw(0).apply((layers,), weights, x, upstream, Runtime(precision="float64"))["output"]
        drop = self._situation.batch.drop_path
        return y if drop is None else y * drop[layout.index, edge][:, None, None, None]

    def _unshuffled(self, layout: CellLayout, value: NDArray[Any]) -> NDArray[Any]:
        """An intermediate node, or its gradient, with its channels as they were before they were shuffled."""
        partial = self._spec.cell(layout.kind).partial
        return value[:, np.arange(layout.channels).reshape(-1, partial).T.ravel()]

    def _edge_weights(self, layout: CellLayout) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """α of every edge and operation, as a pass uses it, and γ of every edge."""
        cell, temperature = self._spec.cell(layout.kind), self._situation.temperature

        def architecture(group: str) -> NDArray[np.float64]:
            return np.asarray(self._situation.state[f"architecture/{group}.{layout.kind}"], np.float64)

        alpha, gamma = np.ones((len(cell.edges), len(OPERATIONS))), np.ones(len(cell.edges))
        draw = (self._situation.batch.draws or {}).get(layout.kind)
        if cell.mixed:
            noise = None if draw is None else draw.noise
            alpha = block_softmax(architecture("alpha"), cell.operation_blocks, temperature.alpha, noise)
        if draw is not None and draw.chosen is not None:
            alpha = draw.chosen.astype(np.float64)
        if cell.matrix is not None and cell.combination_blocks is not None:
            chosen = block_softmax(architecture("beta"), cell.combination_blocks, temperature.beta)
            gamma = cell.matrix.shares @ chosen
        return alpha, gamma

    # -- backward

    def _backward(self, name: str) -> Finding:
        key = f"trace.gradient/{name}"
        head, _, node = name.rpartition(".")
        if head not in self._layouts or name in self._layouts:
            return self._finding("backward", key, name, "the gradients of all later tensors agree")
        layout = self._layouts[head]
        cell = self._spec.cell(layout.kind)
        alpha, gamma = self._edge_weights(layout)
        through = layout.channels // cell.partial
        source = self._exact[f"trace/{name}"][:, :through]
        for number in cell.outgoing(int(node)):
            edge = cell.edges[number]
            for operation in edge.operations:
                layers = () if operation == NONE else edge_layers(self._spec, layout, number, operation)
                if not layers:
                    continue
                into = self._unshuffled(layout, self._exact[f"trace.gradient/{head}.{edge.target}"])[:, :through]
                upstream = alpha[number, OPERATIONS.index(operation)] * gamma[number] * into
                for verdict in self._alone(layers, source, upstream):
                    if verdict.verdict == FAIL:
                        place = f"cell {layout.index} ({layout.kind}), edge {edge.name}, {operation}"
                        return self._finding("backward", key, place, f"run alone, its {verdict.key} is off too")
        place = f"cell {layout.index} ({layout.kind}), node {node}"
        return self._finding(
            "backward", key, place, "each operation out of it agrees when run alone; their sum does not"
        )

    # -- update

    def _update(self) -> Finding | None:
        """Compare a plain step, and then, where there is an architecture to search, one of second order."""
        situation = self._situation

        def plain(network: Network) -> None:
            network.step(GROUPS, situation.batch, _RATES, situation.temperature)

        def second_order(network: Network) -> None:
            updates = (Update(("alpha", "beta"), "half-b", order=2), Update(("w",), "half-a"))
            stepper = Stepper(network, self._spec, updates, 0, "locate")
            stepper.step(lambda _: situation.batch, _RATES, situation.temperature, Moment(0, 0, 1))

        found = self._after(plain, "outputs and gradients agree, and what is updated before it")
        if found is None and any(self._spec.cell(kind).mixed for kind in self._spec.kinds()):
            found = self._after(second_order, "plain steps agree; it is off after a step of second order")
        return found

    def _after(self, act: Callable[[Network], None], explanation: str) -> Finding | None:
        """Return the first entry of the state that is off after something was done to the network."""
        situation = self._situation

        def record(engine: Engine, precision: str, device: str = "cpu") -> State:
            network = situation.build(engine, precision, device)
            act(network)
            return network.export_state()

        exact, draws = references(record)
        found = record(self._engine, self._runtime.precision, self._runtime.device)
        failing = {v.key: v for v in judge(found, exact, draws, self._runtime.precision) if v.verdict == FAIL}
        sorts = {
            "statistics": "running statistics of a batch norm",
            "momentum": "gradient clipping, weight decay or momentum of SGD",
            "weights": "SGD's update",
            "adam.first": "weight decay or first moment of Adam",
            "adam.second": "second moment of Adam",
            "adam.steps": "step count of Adam",
            "architecture": "Adam's update",
        }
        for sort, rule in sorts.items():
            for key in exact:
                if key.startswith(f"{sort}/") and key in failing:
                    return Finding("update", key, f"{rule}, {key.partition('/')[2]}", explanation, failing[key])
        return None


def _weighed_wrongly(
    terms: list[tuple[str, NDArray[np.float64], float]], value: NDArray[np.float64]
) -> list[tuple[float, str]]:
    """Solve for the weights of a sum; return those that are off, with by how much.

    Parameters
    ----------
    terms : list of (description, what is weighed, the weight it should have)
    """
    if not terms:
        return []
    solved, *_ = np.linalg.lstsq(np.stack([y.ravel() for _, y, _ in terms], 1), value.ravel(), rcond=None)
    return [
        (abs(mine - true), f"{what} {mine:.4g} and should weigh {true:.4g}")
        for (what, _, true), mine in zip(terms, solved, strict=True)
        if abs(mine - true) > 1e-3 * max(abs(true), 0.1)
    ]


def _place_of_weight(name: str) -> str:
    """``cells.2.edges.0-3.sep_conv_3x3.depthwise1.weight`` in words."""
    parts = name.split(".")
    if parts[0] != "cells":
        return name
    if parts[2] != "edges":
        return f"cell {parts[1]}, {'.'.join(parts[2:])}"
    return f"cell {parts[1]}, edge {parts[3]}, {parts[4]}, {'.'.join(parts[5:])}"
