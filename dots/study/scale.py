"""At what scale a study runs: presets, settings, images, seeds and engine, and the runs they give."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dots.config.plan import plan_of
from dots.config.presets import merged, nested, preset_values, setting_text
from dots.config.schema import CONFIGS, Config, parse_config
from dots_core.errors import CorruptFile, DataMissing, UsageError
from dots_core.search_space.genotype import Genotype
from dots_core.search_space.genotype_text import load_genotype
from dots_core.search_space.named_cells import named_cell
from dots_core.storage.atomic import write_atomic

Settings = Mapping[str, Any]
"""Dotted keys and their values."""


@dataclass(frozen=True)
class StudyRun:
    """One ``dots search`` or ``dots train`` of a study.

    Attributes
    ----------
    name : str
        Its directory below ``runs/`` of the study; the same in every repetition.
    row : str
        The row of the results table it belongs to; empty for a run that is only a step to others.
    settings : mapping
        Overrides of the preset, dotted keys.
    cell : str
        For a training: the genotype file, relative to the study's directory.
    """

    name: str
    kind: str
    preset: str
    seed: int
    settings: Settings = field(default_factory=dict)
    row: str = ""
    cell: str = ""
    data: str | None = None
    backend: str | None = None
    device: str | None = None

    def arguments(self, study: Path) -> list[str]:
        """Return the arguments of ``dots`` that begin this run or go on with it."""
        given: list[tuple[str, str | None]] = [
            ("--preset", self.preset),
            ("--backend", self.backend),
            ("--device", self.device),
            ("--data", self.data),
            ("--seed", str(self.seed)),
            ("--cell", str(study / self.cell) if self.cell else None),
            *(("--set", f"{key}={setting_text(value)}") for key, value in self.settings.items()),
            ("--out", str(study / "runs" / self.name)),
        ]
        options = [part for option, value in given if value is not None for part in (option, value)]
        return [self.kind, *options, "--resume", "--quiet"]

    def config(self) -> Config:
        """Return the run's settings, checked; for a training, with a published cell in place of its own.

        Raises
        ------
        DotsError
            If a setting is unknown or impossible, or no images are named.
        """
        model = CONFIGS[self.kind]
        values = merged(preset_values(self.kind, self.preset), nested(self.settings))
        if self.data is not None:
            values["data"] = self.data
        if self.kind == "train":
            values["cell"] = named_cell("DARTS_V2").to_record()
        config = parse_config(model, values, f"{self.kind} preset {self.preset} with the settings given")
        plan_of(config)
        if config.data is None:
            raise DataMissing(
                f"the {self.kind} preset '{self.preset}' brings no images: give --data with an image folder, "
                "a CIFAR archive or folder, or digits"
            )
        return config


@dataclass(frozen=True)
class Scale:
    """What all runs of a study have in common.

    Attributes
    ----------
    preset, train_preset : str
        Presets of the searches and of the trainings.
    settings, train_settings : mapping
        Overrides of them, dotted keys.
    data : str or None
        Images of every run; None for those the presets name.
    seeds : int
        How many seeds each row is averaged over: ``seed``, ``seed`` + 1, …
    """

    preset: str
    train_preset: str
    settings: Settings = field(default_factory=dict)
    train_settings: Settings = field(default_factory=dict)
    data: str | None = None
    backend: str | None = None
    device: str | None = None
    seeds: int = 1
    seed: int = 0

    @property
    def all_seeds(self) -> range:
        """The seeds, in order."""
        return range(self.seed, self.seed + self.seeds)

    def search(self, name: str, seed: int, settings: Settings | None = None) -> StudyRun:
        """Return a search; the study's own settings stand above those the user gave."""
        over = {**self.settings, **(settings or {})}
        return self._run(StudyRun(name, "search", self.preset, seed, over))

    def train(self, name: str, seed: int, row: str, cell: str, settings: Settings | None = None) -> StudyRun:
        """Return a training of the cell in a file of the study's directory."""
        over = {**self.train_settings, **(settings or {})}
        return self._run(StudyRun(name, "train", self.train_preset, seed, over, row, cell))

    def _run(self, run: StudyRun) -> StudyRun:
        return replace(run, data=self.data, backend=self.backend, device=self.device)


def write_cell(study: Path, name: str, genotype: Genotype, trainings: Iterable[str]) -> str:
    """Write a cell of the study and return its path relative to the study.

    Parameters
    ----------
    trainings : iterable of str
        The runs that train it. None of them has begun with another cell.

    Raises
    ------
    UsageError
        If the file holds another cell and a training of that one has begun; the message names both.
    """
    path = study / "cells" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    if not _holds(path, genotype):
        begun = [str(run) for run in (study / "runs" / training for training in trainings) if run.exists()]
        if path.exists() and begun:
            raise UsageError(
                f"{path} is not the cell that the study finds now, and {', '.join(begun)} began with it; "
                f"delete {'both' if len(begun) == 1 else 'all of them'} to train the new cell, or start a new study"
            )
        write_atomic(path, genotype.to_json())
    return str(path.relative_to(study))


def _holds(path: Path, genotype: Genotype) -> bool:
    try:
        return path.exists() and load_genotype(path) == genotype
    except CorruptFile:
        return False
