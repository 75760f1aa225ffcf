"""Where an engine parts from the reference: the first tensor, in execution order, that leaves its budget.

The engine runs a network and shows every tensor between its layers. The first that is off
names a cell and a node. Each operation that leads there is then run alone on the reference's
input; if one is off by itself, so is one of its layers. If none is, the node sums its operations
wrongly, and solving for the weights it must have used says which (`dots_conformance.sums`).
Where all tensors agree, the loss in evaluation is looked at, then the state after a step, after the
first step of a new network, whose optimisers are empty, and after one of second order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dots_conformance.closeness import FAIL, TensorVerdict, floor_of, judge
from dots_conformance.snapshot import (
    EVALUATION,
    EXCHANGE,
    FIRST_STEP,
    PASS,
    SECOND_ORDER,
    STEP,
    Act,
    NetworkSnapshot,
)
from dots_conformance.sums import alone_shape, edge_weights, exact_output, operations_into, summed_wrongly, unshuffled
from dots_core.engine.protocol import Engine, Runtime, State
from dots_core.errors import DotsError
from dots_core.network.spec import (
    CellLayout,
    NetworkSpec,
    cell_layouts,
    edge_layers,
    stem_layers,
    traced_shapes,
    weight_shapes,
)
from dots_core.search_space.layers import Layer
from dots_core.search_space.operations import NONE

_SORTS = {
    "statistics": "running statistics of a batch norm",
    "momentum": "gradient clipping, weight decay or momentum of SGD",
    "weights": "SGD's update",
    "adam.first": "weight decay or first moment of Adam",
    "adam.second": "second moment of Adam",
    "adam.steps": "step count of Adam",
    "architecture": "Adam's update",
}
"""What moves each sort of a state, in the order in which a step moves them."""


@dataclass(frozen=True)
class Finding:
    """Where an engine parts from the reference.

    Attributes
    ----------
    direction : str
        ``"exchange"`` of a state, ``"forward"``, ``"backward"``, ``"evaluation"``, ``"update"``, or
        ``"raised"`` where the engine came to no result.
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


class _Raised(Exception):
    """The engine came to no result of an act."""

    def __init__(self, act: Act, error: Exception) -> None:
        super().__init__(act, error)
        self.act, self.error = act, error


def locate(engine: Engine, snapshot: NetworkSnapshot, runtime: Runtime) -> Finding | None:
    """Return the first tensor that leaves its budget, or None if none does.

    Raises
    ------
    DotsError
        If the engine refuses the network.
    """
    search = _Search(engine, snapshot, runtime)
    try:
        return search.find()
    except _Raised as raised:
        return search.raised(raised.act, raised.error)


class _Search:
    def __init__(self, engine: Engine, snapshot: NetworkSnapshot, runtime: Runtime) -> None:
        self._engine, self._snapshot, self._runtime = engine, snapshot, runtime
        self._spec: NetworkSpec = snapshot.setup.spec
        self._layouts = {layout.name: layout for layout in cell_layouts(self._spec)}
        self._tolerance = floor_of("trace/", runtime.precision)
        self._found: State = {}
        self._failing: dict[str, TensorVerdict] = {}

    def find(self) -> Finding | None:
        """Look at the exchange of a state, forward, backward, at evaluation, and then at updates."""
        return self._exchange() or self._pass() or self._evaluation() or self._updates()

    def raised(self, act: Act, error: Exception) -> Finding:
        """Look for a layer that raises alone."""
        exact = self._exact()
        said = f"{type(error).__name__}: {error}"
        verdict = TensorVerdict("", FAIL, np.inf, np.inf, reason=said)
        for number, layers in enumerate(stem_layers(self._spec)):
            source = self._snapshot.batch.images if number == 0 else exact["stems.0"]
            if layer := self._first_wrong_layer(layers, source):
                return Finding("raised", "", f"stem {number}{layer}", "run alone, it is off too", verdict)
        for layout in self._layouts.values():
            for name, number in ((f"{layout.name}.{number}", number) for number in (0, 1)):
                source = exact[self._before(layout)[number]]
                if layer := self._first_wrong_layer(layout.preprocess(number, self._spec.affine), source):
                    place = f"{_cell(layout)}, preprocessing of input {number}{layer}"
                    return Finding("raised", name, place, "run alone on the reference's input, it is off too", verdict)
            for node in range(2, self._spec.cell(layout.kind).nodes + 2):
                if place := self._wrong_operation(layout, node):
                    return Finding(
                        "raised",
                        f"{layout.name}.{node}",
                        place,
                        "run alone on the reference's input, it is off too",
                        verdict,
                    )
        return Finding("raised", "", act.what, "each layer before the head agrees when run alone", verdict)

    def _verdicts(self, act: Act) -> dict[str, TensorVerdict]:
        """What of an act leaves its budget."""
        try:
            self._found = self._snapshot.found(act, self._engine, self._runtime)
        except DotsError:
            raise
        except Exception as error:
            raise _Raised(act, error) from error
        exact, draws = self._snapshot.expected(act, self._runtime.precision)
        verdicts = judge(self._found, exact, draws, self._runtime.precision)
        return {v.key: v for v in verdicts if v.verdict == FAIL}

    def _exact(self) -> State:
        """What the reference holds between layers, by the names of `traced_shapes`."""
        exact, _ = self._snapshot.expected(PASS, self._runtime.precision)
        return {key.removeprefix("trace/"): value for key, value in exact.items() if key.startswith("trace/")}

    def _finding(self, direction: str, key: str, place: str, explanation: str) -> Finding:
        return Finding(direction, key, place, explanation, self._failing[key])

    # -- a state, in and out

    def _exchange(self) -> Finding | None:
        self._failing = self._verdicts(EXCHANGE)
        for key in self._failing:
            return self._finding("exchange", key, key, "imported and exported, and nothing done in between")
        return None

    # -- forward

    def _pass(self) -> Finding | None:
        self._failing = self._verdicts(PASS)
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
        return None

    def _forward(self, name: str) -> Finding:
        key = f"trace/{name}"
        if key not in self._found:
            return self._finding("forward", key, name, "the engine does not show this tensor")
        exact = self._exact()
        head, _, node = name.rpartition(".")
        if name.startswith("stems."):
            number = int(node)
            source = self._snapshot.batch.images if number == 0 else exact["stems.0"]
            layer = self._first_wrong_layer(stem_layers(self._spec)[number], source)
            return self._finding("forward", key, f"stem {node}{layer}", "its input agrees")
        if name in self._layouts:
            return self._finding("forward", key, f"cell {name.partition('.')[2]}, output", "all its nodes agree")
        layout = self._layouts[head]
        if int(node) < 2:
            return self._preprocessing(key, layout, int(node))
        if place := self._wrong_operation(layout, int(node)):
            return self._finding("forward", key, place, "run alone on the reference's input, it is off too")
        explanation = "each operation that leads here agrees when run alone, but " + summed_wrongly(
            self._snapshot, layout, int(node), exact, self._found[key], self._tolerance
        )
        return self._finding("forward", key, f"{_cell(layout)}, node {node}", explanation)

    def _preprocessing(self, key: str, layout: CellLayout, number: int) -> Finding:
        place = f"{_cell(layout)}, preprocessing of input {number}"
        source = self._exact()[self._before(layout)[number]]
        if layer := self._first_wrong_layer(layout.preprocess(number, self._spec.affine), source):
            return self._finding("forward", key, place + layer, "its input agrees")
        return self._finding("forward", key, place, self._read_wrongly(layout, number))

    def _read_wrongly(self, layout: CellLayout, number: int) -> str:
        """Say what a preprocessing must have read, if its layers are right."""
        right = self._before(layout)
        read = self._read(layout, 0), self._read(layout, 1)
        if read == right[::-1]:
            return f"the cell's inputs are exchanged: it reads {right[1]} where it should read {right[0]}"
        if all(self._is(layout, node, self._exact()[f"{layout.name}.{1 - node}"]) for node in (0, 1)):
            return "the cell's inputs are exchanged: each goes, preprocessed, where the other should"
        if read[number] not in (None, right[number]):
            return f"it reads {read[number]} where it should read {right[number]}"
        return "its input agrees, and its layers, run alone, agree too"

    def _read(self, layout: CellLayout, number: int) -> str | None:
        """Name the tensor that a preprocessing must have read; None if there is none."""
        layers, exact = layout.preprocess(number, self._spec.affine), self._exact()
        for name in dict.fromkeys((self._before(layout)[number], *self._outputs()[: layout.index + 2])):
            x = exact[name]
            fits = (x.shape[1], x.shape[2:]) == (layout.inputs[number], layout.input_sizes[number])
            if fits and self._is(layout, number, exact_output(self._snapshot, layers, x)):
                return name
        return None

    def _is(self, layout: CellLayout, node: int, value: NDArray[Any]) -> bool:
        """Whether the engine's node is another tensor than it should be, within rounding errors many times over."""
        found = np.asarray(self._found[f"trace/{layout.name}.{node}"], np.float64)
        return found.shape == value.shape and bool(
            np.linalg.norm(found - value) <= 100 * self._tolerance * np.linalg.norm(value)
        )

    def _outputs(self) -> list[str]:
        """Names of the tensors that cells read: cell k reads numbers k and k + 1."""
        stems = [f"stems.{number}" for number in range(len(stem_layers(self._spec)))]
        return [stems[0], stems[-1], *self._layouts]

    def _before(self, layout: CellLayout) -> tuple[str, str]:
        """Names of the tensors that a cell reads."""
        outputs = self._outputs()
        return outputs[layout.index], outputs[layout.index + 1]

    def _wrong_operation(self, layout: CellLayout, node: int) -> str:
        """Edge, operation and layer of the first operation into a node that is off when run alone; empty if none is."""
        cell, exact = self._spec.cell(layout.kind), self._exact()
        through = layout.channels // cell.partial
        for edge, operation, layers in operations_into(self._snapshot, layout, node):
            source = exact[f"{layout.name}.{cell.edges[edge].source}"][:, :through]
            if layer := self._first_wrong_layer(layers, source):
                return f"{_cell(layout)}, edge {cell.edges[edge].name}, {operation}{layer}"
        return ""

    def _first_wrong_layer(self, layers: tuple[Layer, ...], source: NDArray[Any]) -> str:
        """Return `` (layer …)`` for the first layer after which the engine is off; empty if in the end it is not."""

        def off(count: int) -> bool:
            upstream = np.ones(alone_shape(layers[:count], source), np.float32)
            verdicts = self._alone(layers[:count], source, upstream)
            return any(verdict.verdict == FAIL and verdict.key == "output" for verdict in verdicts)

        if not off(len(layers)):
            return ""
        count = next(count for count in range(1, len(layers) + 1) if off(count))
        layer = layers[count - 1]
        name = getattr(layer, "name", "")
        return f" (layer {count}, {type(layer).__name__}{f' {name}' if name else ''})"

    def _alone(self, layers: tuple[Layer, ...], x: NDArray[Any], upstream: NDArray[Any]) -> list[TensorVerdict]:
        """Run layers on an input on both engines and judge what comes of it."""
        exact, draws = self._snapshot.expected_alone(layers, x, upstream, self._runtime.precision)
        try:
            found = self._snapshot.found_alone(layers, x, upstream, self._engine, self._runtime)
        except Exception as error:  # for example because its output has another shape than the gradient it is given
            return [TensorVerdict("output", FAIL, np.inf, reason=f"{type(error).__name__}: {error}")]
        return judge(found, exact, draws, self._runtime.precision)

    # -- backward

    def _backward(self, name: str) -> Finding:
        key = f"trace.gradient/{name}"
        head, _, node = name.rpartition(".")
        if head not in self._layouts or name in self._layouts:
            return self._finding("backward", key, name, "the gradients of all later tensors agree")
        layout = self._layouts[head]
        cell = self._spec.cell(layout.kind)
        alpha, gamma = edge_weights(self._snapshot, layout)
        through = layout.channels // cell.partial
        exact, _ = self._snapshot.expected(PASS, self._runtime.precision)
        source = exact[f"trace/{name}"][:, :through]
        for number in cell.outgoing(int(node)):
            edge = cell.edges[number]
            for operation in edge.operations:
                layers = () if operation == NONE else edge_layers(self._spec, layout, number, operation)
                if not layers:
                    continue
                into = unshuffled(self._snapshot, layout, exact[f"trace.gradient/{head}.{edge.target}"])[:, :through]
                upstream = alpha[number, cell.column(operation)] * gamma[number] * into
                for verdict in self._alone(layers, source, upstream):
                    if verdict.verdict == FAIL:
                        place = f"{_cell(layout)}, edge {edge.name}, {operation}"
                        return self._finding("backward", key, place, f"run alone, its {verdict.key} is off too")
        return self._finding(
            "backward",
            key,
            f"{_cell(layout)}, node {node}",
            "each operation out of it agrees when run alone; their sum does not",
        )

    # -- evaluation

    def _evaluation(self) -> Finding | None:
        self._failing = self._verdicts(EVALUATION)
        for key in self._failing:
            explanation = (
                "in training all agrees: what differs is what evaluation does otherwise, by running statistics, "
                "and without label smoothing, auxiliary head and drop-path"
            )
            return self._finding("evaluation", key, "loss in evaluation", explanation)
        return None

    # -- update

    def _updates(self) -> Finding | None:
        """Compare a plain step, the first step, and, where there is an architecture to search, one of second order."""
        found = self._after(STEP, "", "outputs and gradients agree, and what is updated before it")
        found = found or self._after(
            FIRST_STEP,
            ", in the first step",
            "later steps agree; it is off only where momentum and Adam's moments are still empty",
        )
        if found is None and any(self._spec.cell(kind).mixed for kind in self._spec.kinds()):
            found = self._after(SECOND_ORDER, "", "plain steps agree; it is off after a step of second order")
        return found

    def _after(self, act: Act, when: str, explanation: str) -> Finding | None:
        """Return the first entry of the state that is off after an act, in the order in which a step moves them."""
        self._failing = self._verdicts(act)
        exact, _ = self._snapshot.expected(act, self._runtime.precision)
        for sort, rule in _SORTS.items():
            for key in exact:
                if key.startswith(f"{sort}/") and key in self._failing:
                    return self._finding("update", key, f"{rule}, {key.partition('/')[2]}{when}", explanation)
        for key in self._failing:  # what an engine exports beyond the state
            return self._finding("update", key, f"{key}{when}", explanation)
        return None


def _cell(layout: CellLayout) -> str:
    return f"cell {layout.index} ({layout.kind})"


def _place_of_weight(name: str) -> str:
    """``cells.2.edges.0-3.sep_conv_3x3.depthwise1.weight`` in words."""
    parts = name.split(".")
    if parts[0] != "cells":
        return name
    if parts[2] != "edges":
        return f"cell {parts[1]}, {'.'.join(parts[2:])}"
    return f"cell {parts[1]}, edge {parts[3]}, {parts[4]}, {'.'.join(parts[5:])}"
