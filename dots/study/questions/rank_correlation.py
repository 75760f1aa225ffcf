"""Do operation weights or edge-combination weights rank a node's pairs of edges as stand-alone training does?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np

from dots.config.schema import SearchConfig
from dots.pages.table import Table
from dots.study.archive import Archive, Searched
from dots.study.pictures import Panel, scatter
from dots.study.questions.correlation import RankCorrelation, need_scipy, rank_correlation
from dots.study.scale import Scale, Settings, StudyRun, write_cell
from dots.study.study import Published, Row, Summary, Wave
from dots_core.errors import UsageError
from dots_core.search_space.derivation import best_operation, operation_scores
from dots_core.search_space.genotype import Genotype
from dots_core.search_space.mixing import SoftmaxGroups, group_softmax
from dots_core.search_space.operations import NONE

Pair = tuple[int, int]

DARTS: dict[str, Any] = {
    "space.groups": "single",
    "operation.level": "bi",
    "operation.warmup": 0,
    "operation.temperature.schedule": "constant",
    "operation.temperature.start": 1.0,
    "topology.epochs": 0,
    "topology.warmup": 0,
}
"""What makes a search that of DARTS: one softmax, first order, α from the first epoch on, no topology search."""

IMPORTANCES = {
    "largest": "DARTS: largest operation weight without none, summed over the pair",
    "total": "DARTS: all operation weights without none, summed over the pair",
    "beta": "DOTS: edge-combination weight of the pair",
}
PRINTED = {"CIFAR-10": 0.73, "CIFAR-100": 0.71}
"""τ of β in DOTS §3.2. That of operation weights stands in the figure only: "no clear ranking correlation"."""


def last_edges(searched: Searched) -> dict[int, int]:
    """Return the edges into the normal cell's last node: source node and edge number."""
    cell = searched.cells["normal"]
    return {cell.edges[number].source: number for number in cell.incoming(cell.nodes + 1)}


def pairs_of(nodes: int) -> tuple[Pair, ...]:
    """Return all pairs of sources of the last of some intermediate nodes: 10 for 4 nodes."""
    return tuple(combinations(range(nodes + 1), 2))


def with_pair(searched: Searched, pair: Pair) -> Genotype:
    """Return the found cell with another pair of edges into the normal cell's last node.

    Each edge holds its best operation other than ``none``, operation attention counted as the search
    counts it; all other nodes stay as found.
    """
    edges, cell = last_edges(searched), searched.cells["normal"]
    scores = operation_scores(cell, searched.architecture["alpha.normal"])
    node = [(best_operation(cell, edges[source], scores), source) for source in pair]
    found = searched.genotype
    return replace(found, normal=(*found.normal[:-1], tuple(node)))


def operation_importance(searched: Searched, of: str) -> dict[Pair, float]:
    """Return each pair's importance by operation weights.

    Parameters
    ----------
    of : str
        ``"largest"``: the sum over both edges of the largest softmax(α′) other than that of ``none``
        (DOTS §3.2; its earlier version, appendix A.1). ``"total"``: of all but that of ``none``.
    """
    cell = searched.cells["normal"]
    weights = group_softmax(np.asarray(searched.architecture["alpha.normal"], np.float64), cell.operation_groups)
    others = [number for number, operation in enumerate(cell.candidates) if operation != NONE]
    edges = last_edges(searched)
    reduce = np.max if of == "largest" else np.sum
    strength = {source: float(reduce(weights[number, others])) for source, number in edges.items()}
    return {(a, b): strength[a] + strength[b] for a, b in combinations(sorted(edges), 2)}


def combination_importance(searched: Searched) -> dict[Pair, float]:
    """Return each pair's softmax(β′) at temperature 1, whose order is that at any temperature (DOTS eq. 6)."""
    cell = searched.cells["normal"]
    matrix = cell.matrix
    assert matrix is not None, "a search with a topology has its matrix"
    beta = group_softmax(np.asarray(searched.architecture["beta.normal"], np.float64), SoftmaxGroups(matrix.groups))
    found = {}
    for number, chosen in enumerate(matrix.combinations):
        if matrix.groups[number] == cell.nodes + 1:
            a, b = sorted(cell.edges[edge].source for edge in chosen)
            found[a, b] = float(beta[number])
    return found


@dataclass(frozen=True)
class RankCorrelationStudy:
    """Two searches, then every pair of the last node's edges of both cells, each trained over all seeds.

    Attributes
    ----------
    darts_settings : mapping
        Overrides of the DARTS search alone.
    """

    scale: Scale
    darts_settings: Settings = field(default_factory=dict)

    title = "Rank correlation of edge importance and accuracy"
    source = "DOTS (Gu et al., CVPR 2021), fig. 1 and §3.2; its earlier version (arXiv:2010.00969), appendix A.1"
    protocol = (
        "one search a method; every pair of edges into the last node of its normal cell, other nodes as found, "
        "trained from scratch over all seeds; Kendall's τ-b between the pair's importance and its mean accuracy, "
        "95 % interval of a bootstrap over pairs and seeds"
    )
    paper_protocol = "one search a method, every pair trained once for 300 epochs"

    def check(self) -> None:
        """Refuse settings that leave no pairs to rank, and a missing SciPy."""
        need_scipy()
        for run in self._searches():
            config = run.config()
            assert isinstance(config, SearchConfig)
            topology = config.topology
            if run.name == "dots-search" and not (
                topology.epochs and topology.space == "k-edges" and topology.edges_per_node == 2
            ):
                raise UsageError(
                    "the rank correlation compares pairs: topology.space must be k-edges, topology.edges_per_node 2 "
                    f"and topology.epochs above 0, not {topology.space}, {topology.edges_per_node}, {topology.epochs}"
                )
            if config.space.edges is not None or config.space.nodes < 2:
                raise UsageError("the rank correlation needs a cell with all its edges and two nodes or more")
        self.scale.train("check", 0, "", "").config()

    def _searches(self) -> tuple[StudyRun, StudyRun]:
        darts = self.scale.search("darts-search", self.scale.seed, {**DARTS, **self.darts_settings})
        return darts, self.scale.search("dots-search", self.scale.seed)

    def waves(self) -> int:
        """The searches, then the trainings."""
        return 2

    def wave(self, number: int, archive: Archive) -> Wave:
        """Plan the searches, or the trainings of the pairs of those that are done."""
        if number == 0:
            return Wave(self._searches())
        runs: list[StudyRun] = []
        waiting: list[str] = []
        for method in ("darts", "dots"):
            if not archive.done(f"{method}-search"):
                waiting.append(f"the pairs of {method}-search")
                continue
            searched = archive.searched(f"{method}-search")
            for pair in pairs_of(searched.cells["normal"].nodes):
                name = f"{method}-pair-{pair[0]}-{pair[1]}"
                members = {seed: f"{name}-seed-{seed}" for seed in self.scale.all_seeds}
                cell = write_cell(archive.study, name, with_pair(searched, pair), members.values())
                row = f"{method} {pair[0]}, {pair[1]}"
                runs += [self.scale.train(member, seed, row, cell) for seed, member in members.items()]
        return Wave(tuple(runs), tuple(waiting))

    def published(self) -> Mapping[str, tuple[Published, ...]]:
        """The paper prints no accuracy of a pair."""
        return {}

    def summarise(self, rows: Mapping[str, Row], archive: Archive) -> Summary:
        """Correlate every importance with the accuracies of both cells' pairs."""
        if not all(archive.done(f"{method}-search") for method in ("darts", "dots")):
            return Summary()
        darts, dots = archive.searched("darts-search"), archive.searched("dots-search")
        importances = {
            "largest": operation_importance(darts, "largest"),
            "total": operation_importance(darts, "total"),
            "beta": combination_importance(dots),
        }
        findings: dict[str, Any] = {}
        taus: dict[tuple[str, str], RankCorrelation] = {}
        for method in ("darts", "dots"):
            trained = {pair: rows[f"{method} {pair[0]}, {pair[1]}"] for pair in importances["largest"]}
            if not all(row.accuracies for row in trained.values()):
                continue
            for name, importance in importances.items():
                tau = rank_correlation([importance[p] for p in trained], [row.accuracies for row in trained.values()])
                taus[method, name] = tau
                findings[f"{name} on the pairs of the {method} cell"] = {
                    "tau": tau.tau,
                    "p_value": tau.p_value,
                    "interval": [tau.low, tau.high],
                    "importance": [[list(pair), importance[pair]] for pair in trained],
                }
        return Summary(findings, _table(taus), _NOTE, _picture(rows, importances, taus))


def _table(taus: Mapping[tuple[str, str], RankCorrelation]) -> Table | None:
    if not taus:
        return None
    printed = ", ".join(f"{tau:.2f} ({data})" for data, tau in PRINTED.items())
    lines = []
    for name, about in IMPORTANCES.items():
        own = [taus[method, name].text() if (method, name) in taus else "–" for method in ("darts", "dots")]
        paper = {"largest": "no clear correlation (value in the figure only)", "beta": printed}.get(name, "–")
        lines.append([about, *own, paper])
    return Table(["importance", "τ, pairs of the DARTS cell", "τ, pairs of the DOTS cell", "paper"], lines, "llll")


_NOTE = "In brackets: 95 % interval of a bootstrap over pairs and seeds."


def _picture(
    rows: Mapping[str, Row],
    importances: Mapping[str, Mapping[Pair, float]],
    taus: Mapping[tuple[str, str], RankCorrelation],
) -> dict[str, str]:
    axes = {"largest": "importance by operation weights", "beta": "edge-combination weight, softmax(β′)"}
    panels = [
        Panel(
            f"{method.upper()}: τ = {taus[method, name].text()}",
            axes[name],
            tuple((f"{a}, {b}", x, rows[f"{method} {a}, {b}"]) for (a, b), x in importances[name].items()),
        )
        for method, name in (("darts", "largest"), ("dots", "beta"))
        if (method, name) in taus
    ]
    return {"rank-correlation.svg": scatter(panels)} if panels else {}
