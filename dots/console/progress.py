"""Telling a person how a run goes: a bar with the time left on a terminal, a line an epoch elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO, cast

from dots.console.streams import Guarded
from dots.console.summary import DECIDERS
from dots.run_directory.layout import log_event
from dots_core.data import ImageData
from dots_core.errors import printable
from dots_core.plan.plan import Phase, Plan, Stage
from dots_core.search.progress import Progress
from dots_core.search_space.cell import CELL_TYPES
from dots_core.search_space.mixing import Temperature


class NoProgress:
    """Says nothing but warnings, and logs what ended early.

    Parameters
    ----------
    run : Path
        The run directory.
    """

    def __init__(self, run: Path) -> None:
        self._run = run

    def images(self, data: ImageData) -> None:
        """Pass on what makes the images doubtful."""
        for warning in data.warnings:
            self.warned(warning)

    def started(self, plan: Plan, progress: Progress, resumed_from: Path | None) -> None:
        """Ignore."""

    def warned(self, message: str) -> None:
        """Pass a warning on to stderr."""
        print(f"dots: warning: {printable(message)}", file=Guarded(sys.stderr))

    def stepped(self, stage: Stage, phase: Phase, progress: Progress, steps: int, temperature: Temperature) -> None:
        """Ignore."""

    def epoch(self, row: dict[str, Any]) -> None:
        """Log an early stop."""
        if "stopped_early" in row:
            place = {key: row[key] for key in ("epoch", "stage", "phase")}
            log_event(self._run, "stopped early", **place, reason=row["stopped_early"])

    def close(self) -> None:
        """Nothing is open."""


class ConsoleProgress(NoProgress):
    """A line an epoch on stderr, and on a terminal a bar below them."""

    def __init__(self, run: Path) -> None:
        super().__init__(run)
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._console = Console(file=cast(TextIO, Guarded(sys.stderr)), highlight=False)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%  {task.fields[left]}  {task.fields[note]}"),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", total=1.0, left="", note="")

    def images(self, data: ImageData) -> None:
        """Say what was loaded and what was passed over."""
        self._say(data.summary)
        super().images(data)

    def started(self, plan: Plan, progress: Progress, resumed_from: Path | None) -> None:
        """Show where the run stands."""
        self._plan, self._epochs, self._standing = plan, planned_epochs(plan, progress), ""
        self._begin, self._begin_epoch = time.monotonic(), progress.global_epoch
        if resumed_from is not None:
            self._say(f"going on from {resumed_from} (epoch {progress.global_epoch}, step {progress.global_step})")
        self._bar.start()

    def warned(self, message: str) -> None:
        """Print a warning."""
        self._say(f"warning: {message}")

    def stepped(self, stage: Stage, phase: Phase, progress: Progress, steps: int, temperature: Temperature) -> None:
        """Move the bar."""
        self._epochs = planned_epochs(self._plan, progress)
        epochs = progress.global_epoch + progress.step / steps
        share = epochs / self._epochs
        spent, done = time.monotonic() - self._begin, epochs - self._begin_epoch
        left = _span(spent * (self._epochs - epochs) / done) + " left" if done > 0 else ""
        mean = progress.sums.loss / max(progress.sums.steps, 1)
        searches_edges = any("beta" in update.groups for update in phase.updates)
        note = f"loss {mean:.3f}  T {temperature.beta:.3g}" if searches_edges else f"loss {mean:.3f}"
        note += f"  {self._standing}" if self._standing else ""
        description = f"{stage.name}/{phase.name} {progress.global_epoch + 1}/{self._epochs}"
        self._bar.update(self._task, completed=share, description=description, left=left, note=note)

    def epoch(self, row: dict[str, Any]) -> None:
        """Print the epoch's line."""
        super().epoch(row)
        parts = [
            f"epoch {row['epoch']}/{self._epochs}",
            f"{row['stage']}/{row['phase']}",
            f"loss {row['train_loss']:.3f}",
            f"train {row['train_accuracy']:.1%}",
        ]
        if "validation_accuracy" in row:
            parts.append(f"{row['validation_split']} {row['validation_accuracy']:.1%}")
        if "beta_temperature" in row:
            parts.append(f"T {row['beta_temperature']:.3g}")
        self._standing = standing_text(row)
        if self._standing:
            parts.append(self._standing)
        if "discretisation_gap" in row:
            parts.append(f"gap {100 * row['discretisation_gap']:+.1f}")
        self._say("  ".join(parts))
        if "stopped_early" in row:
            self._say(f"{row['stage']}/{row['phase']} ends early: {row['stopped_early']}")

    def close(self) -> None:
        """Remove the bar."""
        self._bar.stop()

    def _say(self, text: str) -> None:
        self._console.print(printable(text), markup=False, soft_wrap=True)


def standing_text(row: Mapping[str, Any]) -> str:
    """Return a search's entropies, skip counts and closest decision in few characters; empty for a row of a training.

    Entropies are means over the cell types; skip counts are those of the normal and the reduction
    cell, as far as the network holds them; the margin is the smallest of all decisions.
    """
    parts = []
    for group, symbol in (("alpha", "α"), ("beta", "β")):
        values = [row[key] for key in row if key.startswith(f"{group}_entropy")]
        if values:
            parts.append(f"H({symbol}) {sum(values) / len(values):.2f}")
    skips = [str(row[key]) for kind in CELL_TYPES if (key := f"skip_count_{kind}") in row]
    if skips:
        parts.append(f"skips {'/'.join(skips)}")
    margins = [row[f"{by}_margin_{kind}"] for by in DECIDERS for kind in CELL_TYPES if f"{by}_margin_{kind}" in row]
    if margins:
        parts.append(f"margin {min(margins):.2g}")
    return "  ".join(parts)


def planned_epochs(plan: Plan, progress: Progress) -> int:
    """Return how many epochs the run will have had if no further phase ends early."""
    left = -progress.epoch
    for number, stage in enumerate(plan.stages):
        phases = stage.phases if number > progress.stage else stage.phases[progress.phase :]
        left += sum(phase.epochs for phase in phases) if number >= progress.stage else 0
    return progress.global_epoch + left


def _span(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
