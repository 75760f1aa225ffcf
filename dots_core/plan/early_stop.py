"""Ending an operation search before it collapses: the two criteria of DARTS+."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dots_core.errors import UsageError
from dots_core.search_space.cell import CellSpec
from dots_core.search_space.derivation import operation_scores, ranked_operations
from dots_core.search_space.genotype import Genotype
from dots_core.search_space.mixing import Temperature
from dots_core.search_space.operations import OPERATIONS
from dots_core.search_space.registry import Registry


class EarlyStopRule(ABC):
    """One criterion for ending a phase early.

    Attributes
    ----------
    name : str
    about : str
        What it is and where it comes from.
    """

    name: str
    about: str

    @abstractmethod
    def reason(self, limits: EarlyStop, genotype: Genotype, stability: Stability) -> str | None:
        """Say why the phase ends now, or return None if it goes on (`EarlyStop.reason`)."""

    def refusal(self, candidates: Collection[str]) -> str | None:
        """Say what it lacks among a space's operations and what to do, to go on after its name; None if nothing."""
        return None


def _check_name(rule: EarlyStopRule) -> None:
    if rule.name == "none":
        raise UsageError("an early stop is called 'none', which settings say where there is none; give it another name")


EARLY_STOPS: Registry[EarlyStopRule] = Registry("early stop", "dots.early_stops", EarlyStopRule, _check_name)
"""All criteria; a package adds its own by an entry point of the group ``dots.early_stops``."""


class _Skips(EarlyStopRule):
    name = "skips"
    about = "the normal cell that would be derived now holds so many skip connections or more (DARTS+)"

    def reason(self, limits: EarlyStop, genotype: Genotype, stability: Stability) -> str | None:
        count, edges = genotype.skip_count("normal"), len(genotype.cell("normal").edges)
        return f"the normal cell holds {count} skip connections of {edges} edges" if count >= limits.skips else None

    def refusal(self, candidates: Collection[str]) -> str | None:
        if any(OPERATIONS[o].family == "skip" for o in candidates):
            return None
        return "counts skip connections, of which space.operations has none; add skip_connect"


class _StableRanking(EarlyStopRule):
    name = "stable-ranking"
    about = (
        "on every edge of the normal cell the learnable operations (the convolutions) have stood in the same order "
        "of α for so many epochs (DARTS+)"
    )

    def reason(self, limits: EarlyStop, genotype: Genotype, stability: Stability) -> str | None:
        if stability.epochs < limits.epochs:
            return None
        return f"the ranking of the convolutions in the normal cell was stable for {stability.epochs} epochs"

    def refusal(self, candidates: Collection[str]) -> str | None:
        if sum(OPERATIONS[o].learnable for o in candidates) >= 2:
            return None
        return "ranks convolutions, of which space.operations has fewer than 2; add some"


for _rule in (_Skips(), _StableRanking()):
    EARLY_STOPS.register(_rule)


@dataclass(frozen=True)
class EarlyStop:
    """When to end a phase early (Liang et al., DARTS+, arXiv:1909.06035).

    Attributes
    ----------
    rule : str
        The name of one of `EARLY_STOPS`.
    skips : int
    epochs : int
        Epochs in which the order was that of the epoch before.
    """

    rule: str
    skips: int = 2
    epochs: int = 10

    def __post_init__(self) -> None:
        EARLY_STOPS[self.rule]
        if self.skips < 1 or self.epochs < 1:
            raise UsageError(f"an early stop needs at least 1 skip and 1 epoch, not {self.skips} and {self.epochs}")

    def reason(self, genotype: Genotype, stability: Stability) -> str | None:
        """Say why the phase ends now, or return None if it goes on.

        Parameters
        ----------
        genotype : Genotype
            What would be derived now.
        stability : Stability
            With this epoch's ranking counted.
        """
        return EARLY_STOPS[self.rule].reason(self, genotype, stability)


@dataclass
class Stability:
    """For how long the ranking of an edge's learnable operations has not changed.

    Attributes
    ----------
    ranking : list of lists of str
        For each edge its convolutions, the largest α first; empty before the first epoch.
    epochs : int
        Epochs in a row in which it was that of the epoch before.
    """

    ranking: list[list[str]] = field(default_factory=list)
    epochs: int = 0

    def count(self, ranking: list[list[str]]) -> None:
        """Take an epoch's ranking in."""
        self.epochs = self.epochs + 1 if ranking == self.ranking else 0
        self.ranking = ranking

    @classmethod
    def from_record(cls, record: Any) -> Stability:
        """Read what `dataclasses.asdict` made; TypeError, KeyError or ValueError if it is of another form."""
        epochs = record["epochs"]
        if type(epochs) is not int or epochs < 0:
            raise ValueError("the epochs of a stable ranking are no count")
        return cls([[str(name) for name in edge] for edge in record["ranking"]], epochs)


def convolution_ranking(
    cell: CellSpec, alpha: NDArray[np.floating], temperature: Temperature | None = None
) -> list[list[str]]:
    """Return each edge's convolutions, the largest α first; ties in canonical order.

    Parameters
    ----------
    alpha : array α′, shape (edges, candidates)
    temperature : Temperature, optional
        As in `dots_core.search_space.derivation.operation_scores`.
    """
    scores = operation_scores(cell, alpha, temperature)
    return [
        [o for o in ranked_operations(cell, edge, scores) if OPERATIONS[o].learnable] for edge in range(len(cell.edges))
    ]
