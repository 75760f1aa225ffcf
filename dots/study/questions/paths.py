"""Which paths through a cell lead to good networks: every topology, with the operations fixed (eDARTS §IV-D)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations, product

from dots.pages.table import Table
from dots.study.archive import Archive
from dots.study.pictures import ranked
from dots.study.scale import Scale, write_cell
from dots.study.study import Published, Row, Summary, Wave
from dots_core.errors import UsageError
from dots_core.search_space.genotype import Genotype, Node

Path = tuple[tuple[int, int], ...]
"""For each intermediate node, the two nodes it takes its inputs from."""

NODES = 4
CONCAT = tuple(range(2, NODES + 2))
FIXED: Path = ((0, 1),) * NODES
"""The path of the reduction cell in phase 1. The paper does not say which; in ours every node hears the inputs."""


def all_paths() -> tuple[Path, ...]:
    """Return every topology of the default cell: 1 · 3 · 6 · 10 = 180, in lexicographic order."""
    return tuple(product(*(combinations(range(node), 2) for node in CONCAT)))


def path_name(path: Path) -> str:
    """Return a path's name, for example ``01-02-13-24``: the sources of each node."""
    return "-".join(f"{a}{b}" for a, b in path)


def along(path: Path, operation: str) -> tuple[Node, ...]:
    """Return a cell's nodes that hear a path, every edge with the same operation."""
    return tuple(tuple((operation, source) for source in sources) for sources in path)


def first_cell(path: Path) -> Genotype:
    """Return phase 1's cell: separable convolutions along the path, a reduction cell of max pooling."""
    return Genotype(along(path, "sep_conv_3x3"), CONCAT, along(FIXED, "max_pool_3x3"), CONCAT)


def unified_cell(path: Path) -> Genotype:
    """Return phase 2's cell: the path in both cells, separable convolutions in both."""
    nodes = along(path, "sep_conv_3x3")
    return Genotype(nodes, CONCAT, nodes, CONCAT)


@dataclass(frozen=True)
class PathStudy:
    """Trains every topology over all seeds, then the best in both cells.

    Attributes
    ----------
    topologies : int
        How many of the topologies phase 1 trains, the first in lexicographic order.
    best : int
        How many of them phase 2 takes.
    """

    scale: Scale
    topologies: int = 180
    best: int = 20

    title = "Paths through the cell"
    source = "eDARTS, §III-B and §IV-D"
    protocol = (
        "phase 1: each topology in the normal cell, all sep_conv_3x3, reduction cell fixed, all max_pool_3x3; "
        "phase 2: the best topologies in both cells, all sep_conv_3x3; each trained over all seeds"
    )
    paper_protocol = "the same phases; how often a topology is trained is not printed"

    def check(self) -> None:
        """Refuse counts that do not fit."""
        if not 1 <= self.topologies <= len(all_paths()):
            raise UsageError(f"--topologies is 1 to {len(all_paths())}, not {self.topologies}")
        if not 0 <= self.best <= self.topologies:
            raise UsageError(f"--best is 0 to the number of topologies, {self.topologies}, not {self.best}")
        self.scale.train("check", 0, "", "").config()

    def waves(self) -> int:
        """Both phases."""
        return 2

    def _first_phase(self) -> tuple[Path, ...]:
        return all_paths()[: self.topologies]

    def wave(self, number: int, archive: Archive) -> Wave:
        """Plan a phase; the second needs all of the first."""
        if number == 0:
            return self._wave("path", self._first_phase(), archive)
        scores = {}
        for path in self._first_phase():
            names = [f"path-{path_name(path)}-seed-{seed}" for seed in self.scale.all_seeds]
            if not all(archive.done(name) for name in names):
                waiting = (f"phase 2, the best {self.best}, which needs all of phase 1",) if self.best else ()
                return Wave((), waiting)
            scores[path] = round(sum(archive.accuracy(name) for name in names), 12)
        order = sorted(scores, key=lambda path: -scores[path])  # stable: ties stay in lexicographic order
        return self._wave("unified", tuple(order[: self.best]), archive)

    def _wave(self, phase: str, paths: tuple[Path, ...], archive: Archive) -> Wave:
        build = first_cell if phase == "path" else unified_cell
        runs = []
        for path in paths:
            name = f"{phase}-{path_name(path)}"
            members = {seed: f"{name}-seed-{seed}" for seed in self.scale.all_seeds}
            cell = write_cell(archive.study, name, build(path), members.values())
            runs += [self.scale.train(member, seed, name, cell) for seed, member in members.items()]
        return Wave(tuple(runs))

    def published(self) -> Mapping[str, tuple[Published, ...]]:
        """The paper prints bounds of a phase, no topology's own figure."""
        return {}

    def summarise(self, rows: Mapping[str, Row], archive: Archive) -> Summary:
        """Name the best and the worst of both phases."""
        printed = {
            "path": "best 92.44, worst 91.24 (CIFAR-10, 180 topologies)",
            "unified": "one of the best 93.66 (CIFAR-10)",
        }
        findings, lines, pictures = {}, [], {}
        for phase, number in (("path", 1), ("unified", 2)):
            found = [row for name, row in rows.items() if name.startswith(f"{phase}-") and row.accuracies]
            if not found:
                continue
            best, worst = max(found, key=lambda row: row.mean), min(found, key=lambda row: row.mean)
            findings[f"phase {number}"] = {
                "best": best.name,
                "best_mean": best.mean,
                "worst": worst.name,
                "worst_mean": worst.mean,
                "topologies": len(found),
            }
            ends = (f"{100 * row.mean:.2f}: {row.name.removeprefix(f'{phase}-')}" for row in (best, worst))
            lines.append([str(number), *ends, str(len(found)), printed[phase]])
            pictures[f"phase-{number}.svg"] = ranked(found, f"Phase {number}: {len(found)} topologies")
        table = Table(["phase", "best (%)", "worst (%)", "trained", "paper"], lines, "lllrl") if lines else None
        return Summary(findings, table, pictures=pictures)
