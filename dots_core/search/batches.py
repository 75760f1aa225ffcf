"""Which images each update of a plan learns from, and which each stage is measured on."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
from numpy.typing import NDArray

from dots_core.data import ImageData, Loader, Split, balanced_parts, random_parts
from dots_core.engine.batch import Batch
from dots_core.network.spec import NetworkSpec
from dots_core.plan.plan import Phase, Plan, Stage
from dots_core.random import Stream
from dots_core.search.drop_path import DropPath


class BatchSource:
    """A plan's view of the data."""

    def __init__(self, plan: Plan, data: ImageData) -> None:
        self._plan = plan
        self._data = data
        count, wanted = len(data.train), plan.train_images
        self._drawn: dict[tuple[float, ...], tuple[NDArray[np.int64], ...]] = {}
        self._share = min(wanted / count, 1.0) if wanted else 1.0
        if plan.train_share is not None:
            self._share, wanted = plan.train_share, max(1, round(plan.train_share * count))
        self._train = self._balanced((1.0,))[0] if plan.balanced else _subset(count, wanted, plan.seed, "train")
        self._test = _subset(len(data.test), plan.test_images, plan.seed, "test")

    def check(self) -> None:
        """Raise `UsageError` if a part of the images is too small for the plan."""
        for stage in self._plan.stages:
            for phase in stage.phases:
                for number in range(len(phase.updates)):
                    self.loader(stage, phase, number)

    def loader(self, stage: Stage, phase: Phase, number: int, spec: NetworkSpec | None = None) -> Loader:
        """Return the loader of the phase's update ``number``.

        Parameters
        ----------
        spec : NetworkSpec, optional
            The network the batches are for; needed for drop-path.
        """
        plan, data, update = self._plan, self._data, phase.updates[number]
        drop_path = DropPath(spec, plan.seed, stage.drop_path, plan.epochs) if stage.drop_path and spec else None
        return Loader(
            data.train,
            self._part(update.split),
            plan.batch,
            plan.seed,
            f"{stage.name}/{phase.name}/{number}",
            plan.augmentation,
            data.mean,
            data.std,
            shuffle=update.shuffle,
            decorate=drop_path,
        )

    def validation(self, stage: Stage) -> tuple[Split, NDArray[np.int64]]:
        """Return the split a stage is measured on, and the numbers of its images, a vector."""
        if stage.validation == "test":
            return self._data.test, self._test
        return self._data.train, self._part(stage.validation)

    def _part(self, split: str) -> NDArray[np.int64]:
        if split == "all":
            return self._train
        sort, _, letter = split.partition("-")
        shares = (1 / 3, 1 / 3, 1 / 3) if sort == "third" else (self._plan.split, 1 - self._plan.split)
        number = "abc".index(letter)
        if self._plan.balanced:
            return self._balanced(shares)[number]
        return self._train[random_parts(len(self._train), self._plan.seed, shares)[number]]

    def _balanced(self, shares: tuple[float, ...]) -> tuple[NDArray[np.int64], ...]:
        """Parts of the images used, by class; sorting a million labels is done once."""
        if shares not in self._drawn:
            of_all = tuple(self._share * share for share in shares)
            self._drawn[shares] = balanced_parts(self._data.train.labels, self._plan.seed, of_all)
        return self._drawn[shares]


def endless(loader: Loader, done: int, epoch_offset: int) -> Generator[Batch, None, None]:
    """Yield batches for ever, as if ``done`` of them had been read before.

    Parameters
    ----------
    epoch_offset : int
        Epochs of the run before the loader's first, so that every epoch is augmented anew.
    """
    epoch, start = divmod(done, loader.steps)
    while True:
        yield from loader.batches(epoch_offset + epoch, start)
        epoch, start = epoch + 1, 0


def _subset(count: int, wanted: int, seed: int, name: str) -> NDArray[np.int64]:
    if wanted <= 0 or wanted >= count:
        return np.arange(count)
    return np.sort(Stream(seed, f"subset/{name}").permutation(count)[:wanted])
