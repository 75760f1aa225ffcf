"""What the finished runs of a study left, read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dots.config.plan import plan_of
from dots.run_directory.images import DATA, images_of
from dots.run_directory.layout import read_run_config
from dots_core.errors import CorruptFile, UsageError, quoted
from dots_core.network.counts import mac_count, parameter_count
from dots_core.search.progress import Progress
from dots_core.search.saving import ARCHITECTURE
from dots_core.search_space.cell import CellSpec
from dots_core.search_space.genotype import Genotype
from dots_core.search_space.genotype_text import load_genotype
from dots_core.storage.checkpoint import newest_checkpoint
from dots_core.storage.metrics import read_metrics
from dots_core.storage.reading import read_json


@dataclass(frozen=True)
class Searched:
    """How a search ended.

    Attributes
    ----------
    cells : mapping of cell type to CellSpec
        Of its last stage.
    architecture : mapping
        ``alpha.<cell type>`` (α′) and, where a topology was searched, ``beta.<cell type>`` (β′).
    """

    genotype: Genotype
    cells: Mapping[str, CellSpec]
    architecture: Mapping[str, NDArray[np.floating]]


class Archive:
    """Read access to the runs of a study's directory."""

    def __init__(self, study: Path) -> None:
        self.study = study

    def path(self, name: str) -> Path:
        """Return the directory of a run."""
        return self.study / "runs" / name

    def done(self, name: str) -> bool:
        """Whether a run has come to its end; its summary is the last file it writes."""
        return (self.path(name) / "summary.json").is_file()

    def accuracy(self, name: str) -> float:
        """Return a finished training's accuracy on the test split after the last epoch."""
        path = self.path(name) / "summary.json"
        try:
            accuracy = read_json(path)["accuracy"]
            if type(accuracy) not in (int, float) or not 0 <= accuracy <= 1:
                raise ValueError
            return float(accuracy)
        except (CorruptFile, ValueError, KeyError, TypeError):
            raise CorruptFile(f"{path} is damaged; delete {path.parent} and run the study again") from None

    def genotype(self, name: str) -> Genotype:
        """Return a finished search's cell."""
        return load_genotype(self.path(name) / "genotype.json")

    def genotype_after(self, name: str, epoch: int) -> Genotype:
        """Return the cell that a finished search would have derived after an epoch, counted from 1 over its stages.

        Raises
        ------
        CorruptFile
            If the search has no record of that epoch.
        """
        path = self.path(name) / ARCHITECTURE
        for row in read_metrics(path) if path.exists() else []:
            if row["epoch"] == epoch:
                return Genotype.from_record(row["genotype"])
        raise CorruptFile(f"{path} holds no epoch {epoch}; delete {path.parent} and run the study again")

    def searched(self, name: str) -> Searched:
        """Return a finished search's cells and architecture weights, from its last checkpoint."""
        found = newest_checkpoint(self.path(name) / "checkpoints")
        if found is None:
            raise CorruptFile(f"{self.path(name)} has lost its checkpoints; delete it and run the study again")
        progress = Progress.from_record(found[1].progress)
        state: dict[str, Any] = dict(found[1].state)
        prefix = "architecture/"
        architecture = {key.removeprefix(prefix): state[key] for key in state if key.startswith(prefix)}
        return Searched(self.genotype(name), progress.cell_specs(), architecture)

    def check_images(self, source: str | None) -> None:
        """Check that images are those the runs have begun with, wherever they lie now.

        Raises
        ------
        UsageError
            If they are others.
        """
        for path in sorted((self.study / "runs").glob("*")):
            if source is None or not (path / "checkpoints").is_dir():
                continue
            config = read_run_config(path)
            found = None if source == config.data else newest_checkpoint(path / "checkpoints")
            if found is None:
                continue
            now = images_of(config.model_copy(update={"data": source}))
            if now.fingerprint != Progress.from_record(found[1].progress).data:
                raise UsageError(
                    f"{quoted(str(source))} holds other images than {quoted(str(config.data))}, with which "
                    f"{quoted(str(path))} was begun; give a copy of those, or start a new study with another --out"
                )
            return

    def size(self, name: str) -> tuple[int, int]:
        """Return parameters and MACs of a training's network, the auxiliary head left out of both."""
        plan = plan_of(read_run_config(self.path(name)))
        classes, shape = self._image_form(name)
        stage = plan.stages[0]
        spec = replace(stage.network(plan, stage.cells_by_type(), classes, shape), auxiliary=False)
        return parameter_count(spec), mac_count(spec)

    def _image_form(self, name: str) -> tuple[int, tuple[int, int, int]]:
        """Return how many classes a run's images have, and their channels, height and width."""
        path = self.path(name) / DATA
        if not path.exists():  # a run of a version that did not write it
            images = images_of(read_run_config(path.parent))
            return len(images.classes), images.shape
        try:
            record = read_json(path)
            shape = (int(record["channels"]), int(record["height"]), int(record["width"]))
            return len(record["classes"]), shape
        except (CorruptFile, ValueError, KeyError, TypeError):
            raise CorruptFile(f"{path} is damaged; delete {path.parent} and run the study again") from None
