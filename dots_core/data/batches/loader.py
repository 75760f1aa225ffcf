"""Turning splits into the batches an engine sees, in an order anyone can recompute."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dots_core.bounds import SMALLEST_BATCH
from dots_core.data.batches.augment import Augmentation, normalise
from dots_core.data.batches.prefetch import prefetched
from dots_core.data.files import threads
from dots_core.data.images import Split
from dots_core.data.on_demand import OnDemand
from dots_core.engine.batch import Batch
from dots_core.errors import UsageError
from dots_core.random import Stream

Decorate = Callable[[Batch, int, int], Batch]

# Below these a batch or a part of it is changed sooner than it is shared out.
_BYTES_WORTH_THREADS = 4 << 20
_FEWEST_PER_TASK = 8


class Loader:
    """Training batches of a part of a split, all of one size.

    Parameters
    ----------
    split : Split
    indices : int64 array, shape (n,)
        The samples of the split to use. A sample's augmentation depends on its number in the
        split, so it does not change with the part it belongs to.
    batch : int
        Samples per batch. What is left over at the end of an epoch is dropped, so that every
        batch has this size.
    seed : int
    stream : str
        Names the order of the samples; loaders of different names are shuffled independently.
    augmentation : Augmentation or None
        None for normalisation only.
    mean, std : float32 array, shape (C,)
        On the scale [0, 1].
    shuffle : bool
        False for the order of ``indices`` in every epoch.
    decorate : callable (batch, epoch, step) -> batch, optional
        Applied to each batch in the background thread.

    Raises
    ------
    UsageError
        If there are fewer samples than one batch takes, or an index lies outside the split.
    """

    def __init__(
        self,
        split: Split,
        indices: NDArray[np.int64],
        batch: int,
        seed: int,
        stream: str,
        augmentation: Augmentation | None,
        mean: NDArray[np.float32],
        std: NDArray[np.float32],
        shuffle: bool = True,
        decorate: Decorate | None = None,
    ) -> None:
        _check_batch(batch)
        _check_indices(indices, len(split))
        if len(indices) < batch:
            few = len(indices)
            remedy = (
                f"make it smaller, e.g. with --set batch={few}"
                if few >= SMALLEST_BATCH
                else "give more images, or hold fewer of them out (test_share, split, train_share, train_images)"
            )
            raise UsageError(
                f"batches '{stream}': {few} {'image is' if few == 1 else 'images are'} fewer than one batch of "
                f"{batch}; {remedy}"
            )
        self._split = split
        self._indices = indices
        self._batch = batch
        self._seed = seed
        self._order = Stream(seed, f"order/{stream}") if shuffle else None
        self._augmentation = augmentation
        self._mean = mean
        self._std = std
        self._decorate = decorate

    @property
    def steps(self) -> int:
        """Batches per epoch."""
        return len(self._indices) // self._batch

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from step ``start`` on, prepared ahead in a thread.

        Close the iterator (or let it go out of scope) to stop early.

        Parameters
        ----------
        epoch : int
        start : int
            From 0 to ``steps``; the batches are the same as those of a run from the beginning.

        Yields
        ------
        Batch

        Raises
        ------
        UsageError
            If ``start`` is out of range.
        """
        if not 0 <= start <= self.steps:
            raise UsageError(f"step {start} is not in an epoch of {self.steps} steps; start from 0 to {self.steps}")
        order = self._indices
        if self._order is not None:
            order = order[self._order.permutation(len(order), epoch)]
        return prefetched(lambda step: self._make(order, epoch, step), start, self.steps)

    def _make(self, order: NDArray[np.int64], epoch: int, step: int) -> Batch:
        samples = order[step * self._batch : (step + 1) * self._batch]
        batch = Batch(self._ready(samples, epoch), self._split.labels[samples])
        return batch if self._decorate is None else self._decorate(batch, epoch, step)

    def _ready(self, samples: NDArray[np.int64], epoch: int) -> NDArray[np.float32]:
        images = self._split.images[samples]
        if not isinstance(self._split.images, OnDemand) or images.nbytes < _BYTES_WORTH_THREADS:
            return self._augmented(images, samples, epoch)
        # Changing the images in one thread would take longer than decoding them in many. What changes an
        # image depends on its number and the epoch only, so it makes no difference how the batch is cut.
        count = threads.workers()
        per_task = max(_FEWEST_PER_TASK, -(-len(samples) // (2 * count)))
        ready = np.empty((len(samples), images.shape[3], *images.shape[1:3]), np.float32)

        def work(start: int) -> None:
            part = slice(start, start + per_task)
            ready[part] = self._augmented(images[part], samples[part], epoch)

        threads.run_all(work, range(0, len(samples), per_task), count)
        return ready

    def _augmented(self, images: NDArray[np.uint8], samples: NDArray[np.int64], epoch: int) -> NDArray[np.float32]:
        if self._augmentation is None:
            return normalise(images, self._mean, self._std)
        return self._augmentation.apply(images, samples, epoch, self._seed, self._mean, self._std)


def evaluation_batches(
    split: Split,
    indices: NDArray[np.int64] | None,
    batch: int,
    mean: NDArray[np.float32],
    std: NDArray[np.float32],
) -> Iterator[Batch]:
    """Yield normalised batches of all samples in order; the last one may be smaller.

    Parameters
    ----------
    split : Split
    indices : int64 array, shape (n,), or None
        The samples to use; None for all.
    batch : int
        Samples per batch.
    mean, std : float32 array, shape (C,)
        On the scale [0, 1].

    Yields
    ------
    Batch

    Raises
    ------
    UsageError
        If ``batch`` is not positive or an index lies outside the split.
    """
    _check_batch(batch)
    samples = np.arange(len(split)) if indices is None else indices
    _check_indices(samples, len(split))

    def make(step: int) -> Batch:
        some = samples[step * batch : (step + 1) * batch]
        return Batch(normalise(split.images[some], mean, std), split.labels[some])

    return prefetched(make, 0, -(-len(samples) // batch))


def random_parts(n: int, seed: int, shares: tuple[float, ...]) -> tuple[NDArray[np.int64], ...]:
    """Divide the samples 0 … n−1 at random into parts.

    Parameters
    ----------
    n : int
    seed : int
    shares : tuple of float
        Of each part, together 1. Part i ends before sample ⌊n·(shares[0] + … + shares[i])⌋ of a
        random order, the last with the last sample.

    Returns
    -------
    tuple of int64 vectors, each ascending

    Raises
    ------
    UsageError
        If a part would be empty.
    """
    ends = [int(n * sum(shares[: number + 1])) for number in range(len(shares) - 1)]
    bounds = [0, *ends, n]
    if any(start >= end for start, end in pairwise(bounds)):
        listed = ", ".join(f"{share:.3g}" for share in shares)
        raise UsageError(
            f"{n} images divided at shares {listed} leave an empty part; give shares above 0 and more images"
        )
    order = Stream(seed, "split").permutation(n)
    return tuple(np.sort(order[start:end]) for start, end in pairwise(bounds))


def balanced_parts(labels: NDArray[np.int64], seed: int, shares: tuple[float, ...]) -> tuple[NDArray[np.int64], ...]:
    """Choose disjoint parts of the samples at random, each with the same share of every class.

    Parameters
    ----------
    labels : int64 array, shape (n,)
    seed : int
    shares : tuple of float
        Of each part, together at most 1. Of a class of m samples in a random order, part i ends before
        sample m·(shares[0] + … + shares[i]), rounded to the nearest.

    Returns
    -------
    tuple of int64 vectors, each ascending

    Raises
    ------
    UsageError
        If a part would hold nothing of a class.
    """
    order = Stream(seed, "balanced").permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    classes, counts = np.unique(labels, return_counts=True)
    # Shares of a share are products, and a sum of them need not be exact to the last bit.
    bounds = [np.rint(np.round(counts * sum(shares[:number]), 6)).astype(int) for number in range(len(shares) + 1)]
    starts = np.cumsum(counts) - counts
    parts = []
    for start, end in pairwise(bounds):
        empty = np.flatnonzero(start >= end)
        if len(empty):
            listed = ", ".join(f"{share:.3g}" for share in shares)
            raise UsageError(
                f"class number {classes[empty[0]]} has {counts[empty[0]]} images; divided at shares {listed} they "
                "leave a part without it; use more images, or divide them regardless of class with balanced=false"
            )
        pieces = [by_class[s:e] for s, e in zip(starts + start, starts + end, strict=True)]
        parts.append(np.sort(np.concatenate(pieces)))
    return tuple(parts)


def _check_batch(batch: int) -> None:
    if batch < 1:
        raise UsageError(f"a batch of {batch} images is impossible; give at least one, e.g. with --set batch=64")


def _check_indices(indices: NDArray[np.int64], count: int) -> None:
    if len(indices) and (indices.min() < 0 or indices.max() >= count):
        raise UsageError(f"indices reach outside the split; give numbers from 0 to {count - 1}")
