"""One cell, edge by edge."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dots_core.network.spec import CellLayout, NetworkSpec, bypass_layers, edge_layers
from dots_core.search_space.operations import NONE
from dots_reference.layers import ForwardContext, sequence
from dots_reference.mixture import Mixture
from dots_reference.pooling import Pull
from dots_reference.windows import Array

PullCell = Callable[[Array], tuple[Array, Array]]


class Cell:
    """A cell at its place in a network.

    Node j is x_j = Σ_i γ(i,j) · ō(i,j)(x_i), where ō(x) = Σ_o α_o · o(x) (DOTS eq. 1-2 and 5). With
    partial channels, ō is of the first 1/K of the channels; `dots_core.engine.stacking.StackedCell` says the rest.
    The cell's output is the concatenation of some nodes' channels.
    """

    def __init__(self, spec: NetworkSpec, layout: CellLayout) -> None:
        self._layout = layout
        self._cell = spec.cell(layout.kind)
        self._preprocess = tuple(layout.preprocess(number, spec.affine) for number in (0, 1))
        # Of each edge, each operation's column in α and its layers; `none` contributes nothing.
        self._operations = tuple(
            tuple(
                (self._cell.column(operation), edge_layers(spec, layout, number, operation))
                for operation in edge.operations
                if operation != NONE
            )
            for number, edge in enumerate(self._cell.edges)
        )
        # Shuffling: channel (g, c) of (K, channels/K) goes to (c, g); without partial channels nowhere.
        self._order = np.arange(layout.channels).reshape(self._cell.partial, -1).T.ravel()
        self._place = np.argsort(self._order)

    def forward(
        self, inputs: tuple[Array, Array], mixture: Mixture, factors: Array | None, context: ForwardContext
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
        cell, layout, stored = self._cell, self._layout, context.precision.stored
        nodes: list[Array] = []
        pull_inputs: list[Pull] = []
        for layers, x in zip(self._preprocess, inputs, strict=True):
            node, pull_input = sequence(layers, x, context)
            nodes.append(node)
            pull_inputs.append(pull_input)
        shape = (len(inputs[0]), layout.channels, *layout.size)
        sums = [np.zeros(shape, inputs[0].dtype) for _ in range(cell.nodes)]
        through = layout.channels // cell.partial

        def factor(edge: int) -> Array | None:
            return None if factors is None else factors[edge][:, None, None, None]

        # Edges are sorted by target, so a node is complete before an edge out of it is reached.
        # Of each edge: (column in α, output where a gradient of α or γ needs it, pull), and likewise
        # (output, pull) of the channels that pass by.
        passed: list[list[tuple[int, Array | None, Pull]]] = []
        passed_by: list[tuple[Array, Pull]] = []
        for number, edge in enumerate(cell.edges):
            while len(nodes) <= edge.source:
                nodes.append(sums[len(nodes) - 2][:, self._order])
            source = nodes[edge.source]
            passed.append([])
            mixed = np.zeros((shape[0], through, *layout.size), inputs[0].dtype)
            for column, layers in self._operations[number]:
                if not mixture.evaluated[number, column]:
                    continue
                output, pull_operation = sequence(layers, source[:, :through], context)
                mixed += mixture.alpha[number, column] * output
                mixed = stored(mixed)
                passed[number].append((column, output if mixture.searched else None, pull_operation))
            passed_by.append(sequence(bypass_layers(layout, edge.source), source[:, through:], context))
            weighted = mixture.gamma[number] * np.concatenate([mixed, passed_by[number][0]], axis=1)
            kept = factor(number)
            sums[edge.target - 2] += weighted if kept is None else kept * weighted
            sums[edge.target - 2] = stored(sums[edge.target - 2])
        nodes += [sums[node - 2][:, self._order] for node in range(len(nodes), cell.nodes + 2)]

        node_shapes = [node.shape for node in nodes]
        names = [f"{layout.name}.{node}" for node in range(len(nodes))]
        context.traced.update(zip(names, nodes, strict=True))

        def pull(gradient: Array) -> tuple[Array, Array]:
            gradients = [np.zeros(node_shape, gradient.dtype) for node_shape in node_shapes]
            for place, node in enumerate(cell.concat):
                gradients[node] += gradient[:, place * layout.channels : (place + 1) * layout.channels]
                gradients[node] = stored(gradients[node])
            for number, edge in reversed(tuple(enumerate(cell.edges))):
                kept = factor(number)
                upstream = gradients[edge.target][:, self._place]
                if kept is not None:
                    upstream = stored(kept * upstream)
                upper, rest = upstream[:, :through], upstream[:, through:]
                gamma = mixture.gamma[number]
                for column, output, pull_operation in passed[number]:
                    alpha = mixture.alpha[number, column]
                    if output is not None:
                        inner = stored(np.vdot(upper, output))
                        mixture.alpha_gradient[number, column] += gamma * inner
                        mixture.gamma_gradient[number] += alpha * inner
                    gradients[edge.source][:, :through] += pull_operation(stored(gamma * alpha * upper))
                    gradients[edge.source] = stored(gradients[edge.source])
                if cell.partial > 1:
                    output, pull_bypass = passed_by[number]
                    mixture.gamma_gradient[number] += np.vdot(rest, output)
                    gradients[edge.source][:, through:] += pull_bypass(stored(gamma * rest))
                    gradients[edge.source] = stored(gradients[edge.source])
            context.traced_gradients.update(zip(names, gradients, strict=True))
            return pull_inputs[0](gradients[0]), pull_inputs[1](gradients[1])

        return np.concatenate([nodes[node] for node in cell.concat], axis=1), pull
