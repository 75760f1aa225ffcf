"""The derived sub-network of a supernet, with the supernet's own weights: what a search's decisions cost at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dots_core.engine.protocol import State
from dots_core.engine.state import state_shapes
from dots_core.network.spec import NetworkSpec
from dots_core.search_space.cell import CellSpec
from dots_core.search_space.edge import Edge
from dots_core.search_space.genotype import Genotype
from dots_core.search_space.mixing import Temperature
from dots_core.search_space.operations import NONE

TEMPERATURE = Temperature(1.0, 1.0)
"""At which discretised architecture weights choose exactly one candidate of each group."""

_CHOSEN = 1000.0
"""A logit beside which e^0 is nothing, in every precision."""


def discretised(spec: NetworkSpec, genotype: Genotype, state: Mapping[str, NDArray[Any]]) -> State | None:
    """Return a supernet's state with its architecture weights decided as the genotype is.

    A kept edge has its operation's weight 1 and the share γ that its node's combination gives it;
    every other edge has γ = 0. This is where the softmax goes as temperatures fall to 0, except that
    ``none`` is never chosen.

    Parameters
    ----------
    state : mapping
        As ``Network.export_state`` returned it; not changed.

    Returns
    -------
    dict or None
        Of the same names and shapes. None where no architecture weights say what the genotype says: where
        edges are not chosen by combinations, where a cell had to be repaired
        (`dots_core.search_space.derivation.derive`), and where a group of operations holds neither the chosen
        one nor ``none``.
    """
    hard = dict(state)
    for kind in spec.kinds():
        cell = spec.cell(kind)
        if not cell.topology.kind.chooses or cell.matrix is None or cell.combination_groups is None:
            return None
        chosen = {(edge.source, edge.target): edge.operations[0] for edge in genotype.cell(kind).edges}
        alpha = np.zeros_like(state[f"architecture/alpha.{kind}"])
        for number, edge in enumerate(cell.edges):
            operation = chosen.get((edge.source, edge.target))
            for group in edge.groups if operation is not None else ():
                if operation not in group and NONE not in group:
                    return None
                alpha[number, cell.column(operation if operation in group else NONE)] = _CHOSEN
        beta = np.zeros_like(state[f"architecture/beta.{kind}"])
        for members in cell.combination_groups.members:
            group_edges = {n for m in members for n in cell.matrix.combinations[m]}
            kept = {n for n in group_edges if (cell.edges[n].source, cell.edges[n].target) in chosen}
            same = [m for m in members if set(cell.matrix.combinations[m]) == kept]
            if not same:
                return None
            beta[same[0]] = _CHOSEN
        hard[f"architecture/alpha.{kind}"], hard[f"architecture/beta.{kind}"] = alpha, beta
    return hard


def sub_network(spec: NetworkSpec, genotype: Genotype) -> NetworkSpec:
    """Return the network of a supernet's kept edges and operations alone, each edge with γ = 1.

    It is built as the supernet is, so that the supernet's weights fit (`sub_state`); only for
    supernets that search no topology.
    """
    return replace(spec, normal=_kept(spec.normal, genotype, "normal"), reduce=_kept(spec.reduce, genotype, "reduce"))


def _kept(cell: CellSpec, genotype: Genotype, kind: str) -> CellSpec:
    edges = tuple(Edge(e.source, e.target, (e.operations,)) for e in genotype.cell(kind).edges)
    return replace(cell, edges=edges)


def sub_state(sub: NetworkSpec, state: Mapping[str, NDArray[Any]]) -> State:
    """Return what a sub-network takes over of a supernet's state; its optimisers start afresh.

    Names and shapes are those of `dots_core.engine.state.state_shapes`.
    """
    taken: State = {}
    for key, shape in state_shapes(sub).items():
        if key.startswith("adam.steps/"):
            taken[key] = np.zeros(shape, np.int64)
        elif key.startswith(("architecture/", "adam.")):
            taken[key] = np.zeros(shape, state[key].dtype)
        else:
            taken[key] = state[key]
    return taken
