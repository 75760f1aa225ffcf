"""What a run's files say, finished or not, in one place."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dots.config.plan import plan_of
from dots.config.schema import Config, SearchConfig
from dots.report.rows import check_alike, check_architecture, check_metrics, checked_rows
from dots.run_directory.layout import read_run_config
from dots_core.plan.plan import Plan
from dots_core.search.diagnostics import unusable, warnings
from dots_core.search.saving import ARCHITECTURE, METRICS
from dots_core.search_space.genotype import Genotype
from dots_core.search_space.genotype_text import load_genotype
from dots_core.storage.metrics import read_metrics

Row = dict[str, Any]


@dataclass(frozen=True)
class RunRecord:
    """A run as its files tell it; times and paths are no part of it.

    Attributes
    ----------
    config : SearchConfig or TrainConfig
    rows : list of dict
        Metrics, a row an epoch.
    evolution : list of dict
        Architecture weights, a row an epoch; empty for a training and for epochs run by releases
        that did not keep them.
    genotype : Genotype or None
        Found, or what would be derived now, or trained; None before a search's first epoch.
    """

    config: Config
    rows: list[Row]
    evolution: list[Row]
    genotype: Genotype | None

    @property
    def searches(self) -> bool:
        """Whether the run is a search, not a training."""
        return isinstance(self.config, SearchConfig)

    @cached_property
    def plan(self) -> Plan:
        """What the run was asked to do."""
        return plan_of(self.config)

    @property
    def finished(self) -> bool:
        """Whether the last epoch of the last phase was run, or was not needed any more."""
        stage = self.plan.stages[-1]
        phase = stage.phases[-1]
        mine = [row for row in self.rows if (row["stage"], row["phase"]) == (stage.name, phase.name)]
        return bool(mine) and (len(mine) == phase.epochs or "stopped_early" in mine[-1])

    @property
    def warnings(self) -> list[str]:
        """What makes a search's result doubtful, in plain words."""
        return warnings(self.genotype, self.rows) if self.searches and self.genotype is not None else []

    @property
    def unusable(self) -> str:
        """Why the found cell is not to be used, in a few words; empty if nothing speaks against it."""
        return unusable(self.genotype, self.rows) if self.searches and self.genotype is not None else ""

    @property
    def early_stops(self) -> list[str]:
        """Which phases ended early, when and why."""
        return [
            f"{row['stage']}/{row['phase']} ended after epoch {row['epoch']}: {row['stopped_early']}"
            for row in self.rows
            if "stopped_early" in row
        ]

    def last_of_stages(self) -> list[Row]:
        """The last row of every stage so far."""
        return list({row["stage"]: row for row in self.rows}.values())


def read_run(run: Path) -> RunRecord:
    """Read a run, which another process may be writing.

    Raises
    ------
    UsageError
        If it is no run.
    CorruptFile
        If a file of it is damaged.
    """
    config = read_run_config(run)
    rows, evolution = (
        checked_rows(read_metrics(run / name, growing=True), run / name, check) if (run / name).exists() else []
        for name, check in ((METRICS, check_metrics), (ARCHITECTURE, check_architecture))
    )
    check_alike(evolution, run / ARCHITECTURE)
    # A process killed between the two appends leaves an architecture row less, or a metrics row too many.
    epochs = {row["epoch"] for row in rows}
    return RunRecord(
        config, rows, [row for row in evolution if row["epoch"] in epochs], _genotype(run, config, evolution)
    )


def _genotype(run: Path, config: Config, evolution: list[Row]) -> Genotype | None:
    if not isinstance(config, SearchConfig):
        return None if config.cell is None else Genotype.from_record(config.cell)
    if evolution:
        return Genotype.from_record(evolution[-1]["genotype"])
    path = run / "genotype.json"
    if not path.exists():
        return None
    return load_genotype(path)
