"""With which weights a node must have summed its operations, told from the node and the operations' outputs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dots_conformance.rounding import RoundingDraw
from dots_conformance.snapshot import NetworkSnapshot
from dots_core.engine.protocol import Runtime
from dots_core.network.spec import CellLayout, bypass_layers, edge_layers
from dots_core.search_space.layers import Layer, output_shape
from dots_core.search_space.mixing import group_softmax
from dots_core.search_space.operations import NONE

_DOUBTFUL = 3.0
"""A weight is named where it is off by more than so many times what rounding can make of it."""

_UNEXPLAINED = 0.1
"""The weights explain a node if, of what it is off, no more than this share is left."""


@dataclass(frozen=True)
class _Term:
    """Something that is weighed, what it adds, the weight it should have."""

    what: str
    output: NDArray[np.float64]
    weight: float
    verb: str = "weighs"


def operations_into(
    snapshot: NetworkSnapshot, layout: CellLayout, node: int
) -> list[tuple[int, str, tuple[Layer, ...]]]:  # fmt: skip
    """Edge number, operation and its layers, of everything that flows into a node."""
    spec = snapshot.setup.spec
    cell = spec.cell(layout.kind)
    return [
        (number, operation, edge_layers(spec, layout, number, operation))
        for number in cell.incoming(node)
        for operation in cell.edges[number].operations
        if operation != NONE
    ]


def alone_shape(layers: tuple[Layer, ...], x: NDArray[Any]) -> tuple[int, ...]:
    """Shape of what layers make of an input of shape (N, C, H, W)."""
    return output_shape((layers,), x.shape[0], x.shape[1], (x.shape[2], x.shape[3]))


def exact_output(snapshot: NetworkSnapshot, layers: tuple[Layer, ...], x: NDArray[Any]) -> NDArray[np.float64]:
    """What the reference makes of an input of shape (N, C, H, W), in float64 and of `alone_shape`."""
    upstream = np.zeros(alone_shape(layers, x), np.float32)
    return snapshot.found_alone(layers, x, upstream, RoundingDraw(0), Runtime(precision="float64"))["output"]


def edge_weights(snapshot: NetworkSnapshot, layout: CellLayout) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """α of every edge and operation, as a pass uses it, shape (edges, operations), and γ, shape (edges,)."""
    cell, temperature = snapshot.setup.spec.cell(layout.kind), snapshot.temperature

    def architecture(group: str) -> NDArray[np.float64]:
        return np.asarray(snapshot.state[f"architecture/{group}.{layout.kind}"], np.float64)

    alpha, gamma = np.ones((len(cell.edges), len(cell.candidates))), np.ones(len(cell.edges))
    draw = (snapshot.batch.draws or {}).get(layout.kind)
    if cell.mixed:
        noise = None if draw is None else draw.noise
        alpha = group_softmax(architecture("alpha"), cell.operation_groups, temperature.alpha, noise)
    if draw is not None and draw.chosen is not None:
        alpha = draw.chosen.astype(np.float64)
    if cell.matrix is not None and cell.combination_groups is not None:
        chosen = group_softmax(architecture("beta"), cell.combination_groups, temperature.beta)
        gamma = cell.matrix.shares @ chosen
    return alpha, gamma


def unshuffled(snapshot: NetworkSnapshot, layout: CellLayout, value: NDArray[Any]) -> NDArray[Any]:
    """An intermediate node, or its gradient, shape (N, C, H, W), with its channels as before they were shuffled."""
    partial = snapshot.setup.spec.cell(layout.kind).partial
    return value[:, np.arange(layout.channels).reshape(-1, partial).T.ravel()]


def summed_wrongly(
    snapshot: NetworkSnapshot,
    layout: CellLayout,
    node: int,
    exact: dict[str, NDArray[Any]],
    found: NDArray[Any],
    tolerance: float,
) -> str:
    """Say how a node's sum is off, if each operation into it is right.

    Parameters
    ----------
    exact : dict of arrays
        What the reference holds, by the names of `dots_core.network.spec.traced_shapes`.
    found : array, shape (N, C, H, W)
        The node, on the engine that is looked into.
    tolerance : float
        What rounding may move it by, relative to its norm.
    """
    cell = snapshot.setup.spec.cell(layout.kind)
    value, right = np.asarray(found, np.float64), np.asarray(exact[f"{layout.name}.{node}"], np.float64)
    if value.shape != right.shape:
        return f"its shape is {value.shape} and should be {right.shape}"
    if not np.isfinite(value).all():
        return "their sum is not finite"
    if cell.partial > 1:
        if np.allclose(np.sort(value, 1), np.sort(right, 1), 1e-3, 1e-3):
            return "its channels are shuffled in another order"
        value = unshuffled(snapshot, layout, value)
    through = layout.channels // cell.partial
    alpha, gamma = edge_weights(snapshot, layout)

    def output(edge: int, layers: tuple[Layer, ...], channels: slice) -> NDArray[np.float64]:
        return exact_output(snapshot, layers, exact[f"{layout.name}.{cell.edges[edge].source}"][:, channels])

    mixed = [
        (
            number,
            _Term(
                f"edge {cell.edges[number].name}, {operation}",
                output(number, layers, slice(0, through)),
                alpha[number, cell.column(operation)] * gamma[number],
            ),
        )
        for number, operation, layers in operations_into(snapshot, layout, node)
    ]
    past = [
        (
            number,
            _Term(
                f"edge {cell.edges[number].name}, channels that pass by",
                output(number, bypass_layers(layout, cell.edges[number].source), slice(through, None)),
                gamma[number],
                "weigh",
            ),
        )
        for number in cell.incoming(node)
        if cell.partial > 1
    ]
    off: list[tuple[float, str]] = []
    explained = True
    for terms, part in ((mixed, value[:, :through]), (past, value[:, through:])):
        for each, sums in _by_sample(snapshot, layout, terms, part):
            named, left = _weighed_wrongly(each, sums, tolerance)
            off += named
            explained = explained and left
    if not off or not explained:
        return "their sum does not, whatever they are weighed by"
    return "; ".join(text for _, text in sorted(off, reverse=True)[:4])


def _by_sample(
    snapshot: NetworkSnapshot, layout: CellLayout, terms: list[tuple[int, _Term]], value: NDArray[np.float64]
) -> list[tuple[list[_Term], NDArray[np.float64]]]:
    """The terms of one sum over all samples; of one for each sample where drop-path weighs each on its own."""
    drop = snapshot.batch.drop_path
    if drop is None:
        return [([term for _, term in terms], value)]
    return [
        (
            [
                replace(
                    term,
                    what=f"{term.what} in sample {n}",
                    output=term.output[n],
                    weight=term.weight * float(drop[layout.index, edge, n]),
                )
                for edge, term in terms
            ],
            value[n],
        )
        for n in range(len(value))
    ]


def _weighed_wrongly(
    terms: list[_Term], value: NDArray[np.float64], tolerance: float
) -> tuple[list[tuple[float, str]], bool]:
    """Solve for what the weights of a sum are off by.

    The smallest change of the weights that explains the sum is taken, and a weight counts as off only
    beyond what rounding of the sum can move it by: outputs that are nearly alike share their weights
    among themselves, and then none of them is known well.

    Returns
    -------
    Those that are off, with by how much; and whether the change of weights explains the sum.
    """
    terms = [term for term in terms if np.any(term.output)]
    if not terms:
        return [], not np.any(value)
    outputs = np.stack([term.output.ravel() for term in terms], 1)
    weights = np.array([term.weight for term in terms])
    deviation = value.ravel() - outputs @ weights
    noise = tolerance * float(np.linalg.norm(value))
    if np.linalg.norm(deviation) <= noise:
        return [], True
    sizes = np.linalg.norm(outputs, axis=0)
    left, strengths, right = np.linalg.svd(outputs / sizes, full_matrices=False)
    strengths = np.maximum(strengths, 1e-12 * strengths[0])
    told = strengths > tolerance * strengths[0]
    change = right[told].T @ (left[:, told].T @ deviation / strengths[told]) / sizes
    doubt = noise * np.sqrt(np.square(right / strengths[:, None]).sum(0)) / sizes
    off = [
        (abs(by), f"{term.what} {term.verb} {term.weight + by:.4g} and should weigh {term.weight:.4g}")
        for term, by, least in zip(terms, change, _DOUBTFUL * doubt, strict=True)
        if abs(by) > least
    ]
    rest = float(np.linalg.norm(deviation - outputs @ change))
    explained = rest <= max(noise, _UNEXPLAINED * float(np.linalg.norm(deviation)))
    if explained and not off:
        moved = np.abs(change) * sizes
        alike = [term.what for term, by in zip(terms, moved, strict=True) if by > max(moved) / 10]
        off = [
            (float(max(moved)), f"{' and '.join(alike)}, which are nearly alike, weigh too much or too little together")
        ]
    return off, explained
