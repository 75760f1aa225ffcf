"""What the finished runs of a study left, read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dots.plans import plan_of
from dots.rundir import read_run_config
from dots_core.checkpoint import newest_checkpoint
from dots_core.counts import mac_count, parameter_count
from dots_core.data import load
from dots_core.driver import ARCHITECTURE
from dots_core.errors import CorruptFile
from dots_core.genotype import Genotype
from dots_core.metrics import read_metrics
from dots_core.progress import Progress
from dots_core.reading import read_json
from dots_core.space import CellSpec


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
        return Genotype.load(self.path(name) / "genotype.json")

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

    def size(self, name: str) -> tuple[int, int]:
        """Return parameters and MACs of a training's network, the auxiliary head left out of both."""
        config = read_run_config(self.path(name))
        assert config.data is not None, "a study names its images"
        form = (config.data, config.image_size, config.test_split, config.test_share, config.test_seed)
        classes, shape = _image_form(*form)
        plan = plan_of(config)
        stage = plan.stages[0]
        cells = stage.fixed_cells()
        assert cells is not None, "a training's cells are given"
        spec = replace(stage.network(plan, cells, classes, shape), auxiliary=False)
        return parameter_count(spec), mac_count(spec)


@cache
def _image_form(
    data: str, image_size: int | None, test_split: str | None, test_share: float | None, test_seed: int
) -> tuple[int, tuple[int, int, int]]:
    images = load(data, image_size, test_split=test_split, test_share=test_share, test_seed=test_seed)
    return len(images.classes), images.shape
