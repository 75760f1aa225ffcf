"""What a study is: waves of runs, each planned from what the waves before it found, and a summary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from dots.pages.table import Table
from dots.study.archive import Archive
from dots.study.scale import StudyRun


@dataclass(frozen=True)
class Wave:
    """Runs that do not depend on each other.

    Attributes
    ----------
    waiting : tuple of str
        What cannot be planned yet, in words, because a run before it has no result.
    """

    runs: tuple[StudyRun, ...]
    waiting: tuple[str, ...] = ()


@dataclass(frozen=True)
class Published:
    """A figure that a paper prints.

    Attributes
    ----------
    value, spread : float
        Accuracy or error in percent, and its standard deviation if that is printed.
    measure : str
        ``"accuracy"`` or ``"error"``, as printed.
    data : str
        The images it was measured on.
    parameters : float
        Of the network, in millions, if printed.
    runs : tuple of float
        The printed figures of single runs, in ``measure``, where ``value`` and ``spread`` are their mean and
        standard deviation and not printed themselves.
    """

    value: float
    spread: float | None = None
    measure: str = "accuracy"
    data: str = "CIFAR-10"
    parameters: float | None = None
    runs: tuple[float, ...] = ()

    @property
    def accuracy(self) -> float:
        """In percent."""
        return self.value if self.measure == "accuracy" else round(100 - self.value, 6)

    def text(self) -> str:
        """Return it as accuracy, with what is printed where that is an error."""
        spread = f" ± {self.spread:.2f}" if self.spread is not None else ""
        figures = ", ".join(f"{figure:.2f}" for figure in self.runs or (self.value,))
        printed = f" (printed: {self.measure} {figures})" if self.runs or self.measure == "error" else ""
        size = f", {self.parameters:g} M" if self.parameters is not None else ""
        return f"{self.accuracy:.2f}{spread}{printed}, {self.data}{size}"


@dataclass(frozen=True)
class Summary:
    """What a study adds to the table of its rows.

    Attributes
    ----------
    findings : dict
        Plain values for ``results.json``.
    table : Table, optional
        The same as rows.
    note : str
        What is to be known about the table.
    pictures : dict
        File names and SVG texts.
    """

    findings: dict[str, Any] = field(default_factory=dict)
    table: Table | None = None
    note: str = ""
    pictures: dict[str, str] = field(default_factory=dict)


class Study(Protocol):
    """A study at some scale."""

    @property
    def title(self) -> str:
        """What it asks."""
        ...

    @property
    def source(self) -> str:
        """Where it comes from."""
        ...

    @property
    def protocol(self) -> str:
        """What a row of its table is made of."""
        ...

    @property
    def paper_protocol(self) -> str:
        """What a figure that the paper prints is made of."""
        ...

    def check(self) -> None:
        """Raise a `DotsError` if the study cannot run as it was asked."""
        ...

    def waves(self) -> int:
        """Return the number of waves."""
        ...

    def wave(self, number: int, archive: Archive) -> Wave:
        """Plan a wave; called when the waves before it have ended, some of their runs perhaps in failure."""
        ...

    def published(self) -> Mapping[str, tuple[Published, ...]]:
        """Return the papers' figures by row."""
        ...

    def summarise(self, rows: Mapping[str, Row], archive: Archive) -> Summary:
        """Answer the study's question from the rows there are."""
        ...


@dataclass(frozen=True)
class Row:
    """Trainings that differ in nothing but the seed (and, in an ablation, the cell their search found).

    Attributes
    ----------
    accuracies : tuple of float
        On the test split after the last epoch, one a finished run, in [0, 1].
    parameters, macs : float or None
        Means over the runs; None if none has finished.
    planned : int
        Number of runs the row is to have.
    """

    name: str
    runs: tuple[str, ...]
    accuracies: tuple[float, ...]
    parameters: float | None
    macs: float | None
    planned: int

    @property
    def mean(self) -> float:
        """Of the accuracies."""
        return sum(self.accuracies) / len(self.accuracies)

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation of the accuracies; None for fewer than two."""
        if len(self.accuracies) < 2:
            return None
        mean = self.mean
        return float((sum((a - mean) ** 2 for a in self.accuracies) / (len(self.accuracies) - 1)) ** 0.5)
