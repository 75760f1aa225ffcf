"""One cell, edge by edge."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dots_core.network import CellLayout, NetworkSpec, edge_layers
from dots_core.operations import NONE, OPERATIONS
from dots_reference.layers import Pass, sequence
from dots_reference.mixture import Mixture
from dots_reference.pooling import Pull
from dots_reference.windows import Array

PullCell = Callable[[Array], tuple[Array, Array]]


class Cell:
    """A cell at its place in a network.

    Node j is x_j = Σ_i γ(i,j) · ō(i,j)(x_i), where ō(x) = Σ_o α_o · o(x) (DOTS eq. 1-2 and 5).
    The cell's output is the concatenation of some nodes' channels.
    """

    def __init__(self, spec: NetworkSpec, layout: CellLayout) -> None:
        self._layout = layout
        self._cell = spec.cell(layout.kind)
        self._preprocess = tuple(layout.preprocess(number, spec.affine) for number in (0, 1))
        # Of each edge, each operation's column in α and its layers; `none` contributes nothing.
        self._operations = tuple(
            tuple(
                (OPERATIONS.index(operation), edge_layers(spec, layout, number, operation))
                for operation in edge.operations
                if operation != NONE
            )
            for number, edge in enumerate(self._cell.edges)
        )

    def forward(
        self, inputs: tuple[Array, Array], mixture: Mixture, factors: Array | None, run: Pass
    ) -> tuple[Array, PullCell]:
        """Run the cell.

        Parameters
        ----------
        inputs : the outputs of the two cells before, (N, C₀, H₀, W₀) and (N, C₁, H₁, W₁)
        mixture : α and γ; pulling adds this cell's part to its gradients
        factors : (edges, N), or None
            Drop-path: multiplies each edge's output for each sample.

        Returns
        -------
        (N, len(concat)·C, H, W) and a pull to the gradients of the two inputs
        """
        cell, layout = self._cell, self._layout
        nodes: list[Array] = []
        pull_inputs: list[Pull] = []
        for layers, x in zip(self._preprocess, inputs, strict=True):
            node, pull_input = sequence(layers, x, run)
            nodes.append(node)
            pull_inputs.append(pull_input)
        shape = (len(inputs[0]), layout.channels, *layout.size)
        nodes += [np.zeros(shape, inputs[0].dtype) for _ in range(cell.nodes)]

        def factor(edge: int) -> Array | None:
            return None if factors is None else factors[edge][:, None, None, None]

        # Edges are sorted by target, so a node is complete before an edge out of it is reached.
        # Of each edge: (column in α, output where a gradient of α or γ needs it, pull).
        passed: list[list[tuple[int, Array | None, Pull]]] = []
        for number, edge in enumerate(cell.edges):
            passed.append([])
            mixed = np.zeros(shape, inputs[0].dtype)
            for column, layers in self._operations[number]:
                output, pull_operation = sequence(layers, nodes[edge.source], run)
                mixed += mixture.alpha[number, column] * output
                passed[number].append((column, output if mixture.searched else None, pull_operation))
            weighted = mixture.gamma[number] * mixed
            kept = factor(number)
            nodes[edge.target] += weighted if kept is None else kept * weighted

        node_shapes = [node.shape for node in nodes]
        names = [f"{layout.name}.{node}" for node in range(len(nodes))]
        run.traced.update(zip(names, nodes, strict=True))

        def pull(gradient: Array) -> tuple[Array, Array]:
            gradients = [np.zeros(node_shape, gradient.dtype) for node_shape in node_shapes]
            for place, node in enumerate(cell.concat):
                gradients[node] += gradient[:, place * layout.channels : (place + 1) * layout.channels]
            for number, edge in reversed(tuple(enumerate(cell.edges))):
                kept = factor(number)
                upstream = gradients[edge.target] if kept is None else kept * gradients[edge.target]
                gamma = mixture.gamma[number]
                for column, output, pull_operation in passed[number]:
                    alpha = mixture.alpha[number, column]
                    if output is not None:
                        inner = np.vdot(upstream, output)
                        mixture.alpha_gradient[number, column] += gamma * inner
                        mixture.gamma_gradient[number] += alpha * inner
                    gradients[edge.source] += pull_operation(gamma * alpha * upstream)
            run.traced_gradients.update(zip(names, gradients, strict=True))
            return pull_inputs[0](gradients[0]), pull_inputs[1](gradients[1])

        return np.concatenate([nodes[node] for node in cell.concat], axis=1), pull
