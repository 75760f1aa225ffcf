"""An ablation as a study: each variant searched and its cell trained, over seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from dots.config.schema import SearchConfig
from dots.pages.table import Table
from dots.study.archive import Archive
from dots.study.pictures import compared
from dots.study.questions.ablation_record import Ablation, Variant
from dots.study.scale import Scale, Settings, StudyRun, write_cell
from dots.study.small import small_settings
from dots.study.study import Published, Row, Summary, Wave
from dots_core.errors import UsageError
from dots_core.search_space.cell import CELL_TYPES
from dots_core.search_space.genotype import Genotype

PAPER = "paper"
"""In place of a preset: those the printed figures belong to."""
SMALL = ""
"""In place of a preset: the small scale on the embedded digits."""


@dataclass(frozen=True)
class AblationStudy:
    """Searches every variant with every seed and trains the found cells with the same seed.

    The presets of the scale are names, `PAPER` or `SMALL`.
    """

    ablation: Ablation
    scale: Scale

    protocol = (
        "for each seed one search (shared by the variants that differ in the training alone) and one training of its "
        "cell with that seed"
    )

    @property
    def title(self) -> str:
        """The ablation's."""
        return self.ablation.title

    @property
    def source(self) -> str:
        """The ablation's."""
        return self.ablation.source

    @property
    def paper_protocol(self) -> str:
        """The ablation's."""
        return self.ablation.protocol

    def _search(self, name: str, variant: Variant, seed: int) -> StudyRun:
        preset, below, over = self.scale.preset, {}, dict(variant.settings)
        if preset in (PAPER, SMALL):
            preset = variant.preset or self.ablation.preset
        if self.scale.preset == SMALL:
            below, over = {**small_settings(preset), **self.ablation.small}, {**over, **variant.small}
            if self.scale.data is not None:
                del below["data"]
        scale = replace(self.scale, preset=preset, settings={**below, **self.scale.settings})
        return scale.search(f"{variant.search or name}-search-seed-{seed}", seed, over)

    def _train(self, name: str, variant: Variant, seed: int, cell: str) -> StudyRun:
        preset, over = self.scale.train_preset, variant.train
        if preset == PAPER:
            preset = variant.train_preset or self.ablation.train_preset
        elif preset == SMALL:
            preset, over = "smoke", {**over, **variant.train_small}
        scale = replace(self.scale, train_preset=preset)
        return scale.train(f"{name}-train-seed-{seed}", seed, name, cell, over)

    def _epoch(self, variant: Variant) -> int:
        return variant.epoch_small if self.scale.preset == SMALL else variant.epoch

    def _members(self) -> Iterator[tuple[str, Variant, int, StudyRun]]:
        """Every variant with every seed, and its search."""
        for name, variant in self.ablation.variants.items():
            for seed in self.scale.all_seeds:
                yield name, variant, seed, self._search(name, variant, seed)

    def check(self) -> None:
        """Refuse settings that the variants change, and variants that do not differ on the preset."""
        variants = self.ablation.variants
        self._refuse("--set", self.scale.settings, {key for v in variants.values() for key in v.settings})
        self._refuse("--train-set", self.scale.train_settings, {key for v in variants.values() for key in v.train})
        if self.scale.preset not in (PAPER, SMALL) and any(variant.preset for variant in variants.values()):
            raise UsageError(
                f"--preset {self.scale.preset}: the variants of this ablation stand on different presets; give "
                "--preset paper for those its figures belong to, and change them by --set"
            )
        seen: dict[tuple[str, str, int], str] = {}
        for name, variant, seed, run in self._members():
            if seed != self.scale.seed:
                continue
            config, epoch = run.config(), self._epoch(variant)
            assert isinstance(config, SearchConfig)
            last = config.operation.epochs + config.topology.epochs
            if epoch > last:
                raise UsageError(
                    f"the variant '{name}' derives after epoch {epoch}, but its search has {last}; raise "
                    "operation.epochs by --set"
                )
            training = self._train(name, variant, seed, "").config()
            same = (config.model_dump_json(), training.model_dump_json(), epoch)
            if same in seen:
                raise UsageError(
                    f"with the preset '{run.preset}' the variants '{seen[same]}' and '{name}' are the same search; "
                    f"the ablation is made for presets like '{self.ablation.preset}'"
                )
            seen[same] = name

    @staticmethod
    def _refuse(option: str, given: Settings, changed: set[str]) -> None:
        for key in given:
            if key in changed:
                raise UsageError(f"{option} {key}: this ablation is about {key} and sets it in its variants")

    def waves(self) -> int:
        """The searches, then the trainings."""
        return 2

    def wave(self, number: int, archive: Archive) -> Wave:
        """Plan the searches, or the trainings of the cells that were found."""
        if number == 0:
            return Wave(tuple({run.name: run for _, _, _, run in self._members()}.values()))
        runs, waiting = [], []
        for name, variant, seed, search in self._members():
            if archive.done(search.name):
                runs.append(self._train(name, variant, seed, self._cell(name, variant, seed, search, archive)))
            else:
                waiting.append(f"{name}-train-seed-{seed}, the training of {search.name}")
        return Wave(tuple(runs), tuple(waiting))

    def _cell(self, name: str, variant: Variant, seed: int, search: StudyRun, archive: Archive) -> str:
        epoch = self._epoch(variant)
        if not epoch:
            return f"runs/{search.name}/genotype.json"
        found = archive.genotype_after(search.name, epoch)
        return write_cell(archive.study, f"{name}-seed-{seed}", found, [f"{name}-train-seed-{seed}"])

    def published(self) -> Mapping[str, tuple[Published, ...]]:
        """The figures of the ablation's record."""
        return {name: variant.paper for name, variant in self.ablation.variants.items()}

    def summarise(self, rows: Mapping[str, Row], archive: Archive) -> Summary:
        """Draw the variants beside each other and count the skip connections of their cells."""
        found = [row for row in rows.values() if row.accuracies]
        if not found:
            return Summary()
        skips: dict[str, dict[str, int]] = {}
        heads = [
            "",
            "skip connections, normal cells",
            "reduction cells",
            "cells of each",
            "paper, normal and reduction",
        ]
        lines = []
        for name, cells in self._cells(archive).items():
            normal, reduce = (sum(cell.skip_count(kind) for cell in cells) for kind in CELL_TYPES)
            skips[name] = {"normal": normal, "reduce": reduce, "cells": len(cells)}
            printed = self.ablation.variants[name].skips
            paper = f"{printed[0]} and {printed[1]} in five runs" if printed else "–"
            lines.append([name, *map(str, (normal, reduce, len(cells))), paper])
        pictures = {"ablation.svg": compared(found, self.title)}
        return Summary({"skip connections": skips}, Table(heads, lines, "lrrrl"), pictures=pictures)

    def _cells(self, archive: Archive) -> dict[str, list[Genotype]]:
        """The found cells of every variant that has any."""
        cells: dict[str, list[Genotype]] = {}
        for name, variant, _, search in self._members():
            if archive.done(search.name):
                epoch = self._epoch(variant)
                found = archive.genotype_after(search.name, epoch) if epoch else archive.genotype(search.name)
                cells.setdefault(name, []).append(found)
        return cells
