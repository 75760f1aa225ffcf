"""Where a run stands, as a record that survives in checkpoints."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dots_core.errors import CorruptFile, quoted
from dots_core.plan.cell_records import cell_from_record
from dots_core.plan.early_stop import Stability
from dots_core.plan.plan import Plan
from dots_core.search_space.cell import CELL_TYPES, CellSpec


@dataclass
class Sums:
    """Running totals over the steps of an epoch, for updates with w and for those without."""

    steps: int = 0
    loss: float = 0.0
    correct: int = 0
    architecture_steps: int = 0
    architecture_loss: float = 0.0


@dataclass
class Progress:
    """Where a run stands.

    Attributes
    ----------
    stage, phase : int
        Indices into the plan; stage equals the number of stages once the run is finished.
    epoch : int
        Within the phase.
    step : int
        The next step within the epoch.
    global_epoch, global_step : int
        Completed since the run began.
    cells : dict
        Records of the current stage's cells by type.
    metrics_bytes, architecture_bytes : int
        Lengths of the metrics and the architecture file that belong to this point.
    best_accuracy : float
        Best accuracy on the test split so far; −1 before the first evaluation.
    engine : dict
        Name, versions and device that wrote the state.
    data : str
        Fingerprint of the images.
    plan : str
        Digest of the plan.
    stability : Stability
        Of the current phase, for its early stop.
    metrics_sha256, architecture_sha256 : str
        Of those bytes of the two files; empty in checkpoints of releases that kept none.
    """

    cells: dict[str, Any]
    engine: dict[str, Any]
    data: str
    plan: str
    stage: int = 0
    phase: int = 0
    epoch: int = 0
    step: int = 0
    global_epoch: int = 0
    global_step: int = 0
    metrics_bytes: int = 0
    best_accuracy: float = -1.0
    sums: Sums = field(default_factory=Sums)
    architecture_bytes: int = 0
    stability: Stability = field(default_factory=Stability)
    metrics_sha256: str = ""
    architecture_sha256: str = ""

    def to_record(self) -> dict[str, Any]:
        """Return the progress as plain values, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Progress:
        """Read what `to_record` returned; raise `CorruptFile` if it is of another form."""
        try:
            fields = {**record, "sums": Sums(**record["sums"])}
            # Checkpoints of earlier releases have neither early stops nor an architecture file nor sums.
            if "stability" in fields:
                fields["stability"] = Stability.from_record(fields["stability"])
            progress = cls(**fields)
            for part in (progress, progress.sums):
                _check_types(part)
            return progress
        except (TypeError, KeyError, ValueError) as error:
            raise CorruptFile(f"the checkpoint's progress is of another form ({quoted(str(error))})") from None

    def cell_specs(self) -> dict[str, CellSpec]:
        """Return the current stage's cells by type; raise `CorruptFile` if their records are damaged."""
        if self.cells.keys() != set(CELL_TYPES):
            raise CorruptFile("the checkpoint's progress holds other cells than a normal and a reduction cell")
        return {kind: cell_from_record(self.cells[kind]) for kind in CELL_TYPES}

    def check_within(self, plan: Plan, path: Path) -> None:
        """Raise `CorruptFile` unless this is a place that a run of the plan comes to; ``path`` is for the message."""
        finished = self.stage == len(plan.stages)
        if self.stage > len(plan.stages):
            raise CorruptFile(f"{path} stands in stage {self.stage}, which the plan does not have")
        phases = () if finished else plan.stages[self.stage].phases
        if self.phase >= max(len(phases), 1):
            raise CorruptFile(f"{path} stands in phase {self.phase} of its stage, which the plan does not have")
        epochs = 1 if finished else phases[self.phase].epochs
        if self.epoch >= epochs:
            raise CorruptFile(f"{path} stands in epoch {self.epoch} of a phase that has {epochs}, counted from 0")
        if not self.epoch <= self.global_epoch <= plan.epochs or self.step > self.global_step:
            raise CorruptFile(
                f"{path} stands in epoch {self.global_epoch} and at step {self.global_step} of the run, which does not "
                f"go with epoch {self.epoch} and step {self.step} of a phase of this plan"
            )


def _check_types(record: object) -> None:
    """Raise ValueError unless every field holds what its default or its name says: a count, a number, a text, …"""
    for name, value in vars(record).items():
        if name in ("cells", "engine"):
            good = isinstance(value, dict)
        elif name in ("best_accuracy", "loss", "architecture_loss"):
            good = type(value) in (int, float) and math.isfinite(value)
        elif name in ("sums", "stability"):
            good = True  # read by their own classes
        elif name in ("data", "plan") or name.endswith("sha256"):
            good = isinstance(value, str)
        else:
            good = type(value) is int and 0 <= value < 1 << 63
        if not good:
            raise ValueError(f"{name} is {quoted(value)}")
