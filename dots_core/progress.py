"""Where a run stands, as a record that survives in checkpoints."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from dots_core.early_stop import Stability
from dots_core.errors import CorruptFile


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

    def to_record(self) -> dict[str, Any]:
        """Return the progress as plain values, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Progress:
        """Read what `to_record` returned; raise `CorruptFile` if it is of another form."""
        try:
            fields = {**record, "sums": Sums(**record["sums"])}
            # Checkpoints of earlier releases have neither early stops nor an architecture file.
            if "stability" in fields:
                fields["stability"] = Stability.from_record(fields["stability"])
            return cls(**fields)
        except (TypeError, KeyError, ValueError) as error:
            raise CorruptFile(f"the checkpoint's progress is of another form ({error})") from None
