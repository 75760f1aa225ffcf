"""An ablation as a study: each variant searched and its cell trained, over seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dots.study.ablations import Ablation
from dots.study.archive import Archive
from dots.study.pictures import compared
from dots.study.scale import Scale, StudyRun
from dots.study.study import Published, Row, Summary, Wave
from dots_core.errors import UsageError


@dataclass(frozen=True)
class AblationStudy:
    """Searches every variant with every seed and trains the found cells with the same seed.

    Attributes
    ----------
    small : bool
        Whether the variants take their values of the small scale.
    given : tuple of str
        The search settings the user gave, which no variant may change again.
    """

    ablation: Ablation
    scale: Scale
    small: bool = False
    given: tuple[str, ...] = ()

    protocol = "for each seed one search and one training of its cell with that seed"

    @property
    def title(self) -> str:
        """The ablation's."""
        return self.ablation.title

    @property
    def source(self) -> str:
        """The ablation's."""
        return self.ablation.source

    def _searches(self) -> list[tuple[str, StudyRun]]:
        return [
            (
                name,
                self.scale.search(
                    f"{name}-search-seed-{seed}", seed, {**variant.settings, **(variant.small if self.small else {})}
                ),
            )
            for name, variant in self.ablation.variants.items()
            for seed in self.scale.all_seeds
        ]

    def check(self) -> None:
        """Refuse settings that the variants change, and variants that do not differ on the preset."""
        changed = {key for variant in self.ablation.variants.values() for key in variant.settings}
        for key in self.given:
            if key in changed:
                raise UsageError(f"--set {key}: this ablation is about {key} and sets it in its variants")
        seen: dict[str, str] = {}
        for name, run in self._searches():
            if run.seed != self.scale.seed:
                continue
            settings = run.config().model_dump_json()
            if settings in seen:
                raise UsageError(
                    f"with the preset '{run.preset}' the variants '{seen[settings]}' and '{name}' are the same search; "
                    f"the ablation is made for presets like '{self.ablation.preset}'"
                )
            seen[settings] = name
        self.scale.train("check", 0, "", "").config()

    def waves(self) -> int:
        """The searches, then the trainings."""
        return 2

    def wave(self, number: int, archive: Archive) -> Wave:
        """Plan the searches, or the trainings of the cells that were found."""
        searches = self._searches()
        if number == 0:
            return Wave(tuple(run for _, run in searches))
        runs = [
            self.scale.train(f"{name}-train-seed-{run.seed}", run.seed, name, f"runs/{run.name}/genotype.json")
            for name, run in searches
            if archive.done(run.name)
        ]
        waiting = tuple(f"the training of {run.name}" for _, run in searches if not archive.done(run.name))
        return Wave(tuple(runs), waiting)

    def published(self) -> Mapping[str, tuple[Published, ...]]:
        """The figures of the ablation's record."""
        return {name: variant.paper for name, variant in self.ablation.variants.items()}

    def summarise(self, rows: Mapping[str, Row], archive: Archive) -> Summary:
        """Draw the variants beside each other."""
        found = [row for row in rows.values() if row.accuracies]
        return Summary(pictures={"ablation.svg": compared(found, self.title)} if found else {})
