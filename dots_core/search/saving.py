"""What a run leaves in its folder while it goes on, and what is taken up when it is resumed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from dots_core.data import ImageData
from dots_core.errors import CorruptFile
from dots_core.plan.plan import Plan
from dots_core.search.progress import Progress
from dots_core.storage.atomic import recover_folder, sync_directory, to_json, write_folder
from dots_core.storage.checkpoint import (
    Checkpoint,
    newest_checkpoint,
    pack_arrays,
    tidy_checkpoints,
    way_out,
    write_checkpoint,
)
from dots_core.storage.metrics import MetricsFile

METRICS = "metrics.jsonl"
ARCHITECTURE = "architecture.jsonl"
"""Files of a run: a row of metrics an epoch, and the architecture weights after it."""

_CHECKPOINTS = "checkpoints"
_WEIGHTS = ("best", "last")
_WRITTEN_LATER = (METRICS, ARCHITECTURE, *_WEIGHTS, "genotype.json", "summary.json")
"""What stands in a run's folder only after its first checkpoint."""


class Saving:
    """A run's checkpoints, its two files of rows, and a training's weights.

    Parameters
    ----------
    folder : Path
        An existing folder.
    """

    def __init__(self, folder: Path, plan: Plan, data: ImageData) -> None:
        self.folder, self._plan, self._data = folder, plan, data
        self._metrics = MetricsFile(folder / METRICS)
        self._architecture = MetricsFile(folder / ARCHITECTURE)

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.folder / _CHECKPOINTS

    def newest(self) -> tuple[Path, Checkpoint] | None:
        """Return the newest checkpoint and where it is; None if there is none."""
        return newest_checkpoint(self.checkpoints, self._check_progress)

    def way_out(self) -> str:
        """Say what can be done where the newest checkpoint is damaged."""
        return way_out(self.checkpoints, self._check_progress)

    def take_up(self) -> tuple[Path, Checkpoint, Progress] | None:
        """Return the newest checkpoint, what is unfinished beside it cleared away, and check all it vouches for.

        Returns
        -------
        (path, checkpoint, progress) or None
            None if the run is to begin.

        Raises
        ------
        CorruptFile
            If it is damaged or belongs to other data or another plan, the files beside it are not those
            it was written with, or there is none though the run has had one.
        """
        tidy_checkpoints(self.checkpoints)
        for name in _WEIGHTS:
            recover_folder(self.folder / name)
        found = self.newest()
        if found is None:
            self._check_unbegun()
            self.checkpoints.mkdir(exist_ok=True)
            sync_directory(self.folder)
            return None
        path, checkpoint = found
        progress = Progress.from_record(checkpoint.progress)
        self._check(path, progress)
        return path, checkpoint, progress

    def cut(self, progress: Progress) -> None:
        """Drop the rows that were written after a checkpoint: they will be written again."""
        self._metrics.cut(progress.metrics_bytes)
        self._architecture.cut(progress.architecture_bytes)

    def begin_files(self, progress: Progress) -> None:
        """Begin the files that hold no rows yet; only now, so that where they stand there was a checkpoint."""
        begun = [self._metrics] if not progress.metrics_bytes else []
        if self._plan.derive and not progress.architecture_bytes:
            begun.append(self._architecture)
        for file in begun:
            file.begin()
        if begun:
            sync_directory(self.folder)

    def save(self, progress: Progress, state: Mapping[str, NDArray[Any]]) -> None:
        """Write a checkpoint of a state, whose shapes ``Network.export_state`` says."""
        number = progress.global_step + progress.stage
        write_checkpoint(self.checkpoints, number, Checkpoint(dict(state), progress.to_record()))

    def append(self, progress: Progress, row: dict[str, Any], architecture: dict[str, Any] | None) -> None:
        """Add an epoch's row, and the record of its architecture weights; note in the progress how far they reach."""
        progress.metrics_bytes, progress.metrics_sha256 = self._metrics.append(row), self._metrics.sha256
        if architecture is not None:
            place = {key: row[key] for key in ("epoch", "stage", "phase")}
            progress.architecture_bytes = self._architecture.append({**place, **architecture})
            progress.architecture_sha256 = self._architecture.sha256

    def last_row(self) -> dict[str, Any]:
        """Return the last epoch's row."""
        return self._metrics.last()

    def write_weights(self, state: Mapping[str, NDArray[Any]], row: dict[str, Any], best: bool) -> None:
        """Write a training's weights after an epoch: the last ones, and the best if they are.

        Of ``state``, whose shapes ``Network.export_state`` says, weights and statistics are written.
        """
        arrays = {k: v for k, v in state.items() if k.startswith(("weights/", "statistics/"))}
        files = {"weights.safetensors": pack_arrays(arrays), "metrics.json": to_json(row).encode()}
        for name in ("last", *(("best",) if best else ())):
            write_folder(self.folder / name, files)

    def _check(self, path: Path, progress: Progress) -> None:
        if progress.data != self._data.fingerprint:
            raise CorruptFile(
                f"{path} was written on other images than those of {self._data.origin or self._data.name} "
                f"(fingerprint {progress.data[:12]}, now {self._data.fingerprint[:12]}); give the images of that "
                "run, wherever they are now, by --data"
            )
        if progress.plan != self._plan.digest:
            raise CorruptFile(
                f"{path} was written under other settings than {self.folder / 'config.yaml'} now describes; "
                "restore that file, or start a new run"
            )
        self._metrics.check(progress.metrics_bytes, progress.metrics_sha256)
        self._architecture.check(progress.architecture_bytes, progress.architecture_sha256)

    def _check_progress(self, path: Path, checkpoint: Checkpoint) -> None:
        """Refuse a progress that is none, or none of the plan it says it is of."""
        progress = Progress.from_record(checkpoint.progress)
        progress.cell_specs()
        if progress.plan == self._plan.digest:
            progress.check_within(self._plan, path)

    def _check_unbegun(self) -> None:
        """Refuse to begin where a run has been: its results would be written over."""
        left = [name for name in _WRITTEN_LATER if (self.folder / name).exists()]
        if left:
            raise CorruptFile(
                f"{self.checkpoints} holds no checkpoint, but the run has had one ({', '.join(left)} "
                "stand beside it); what it found stands. To go on, put the checkpoints back; to begin anew, start "
                f"a new run with {self.folder / 'config.yaml'} as the preset"
            )
