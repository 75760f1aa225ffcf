"""Which images of a data set are for testing, where that is not settled by the data alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dots_core.errors import DataMissing, UsageError, quoted
from dots_core.random import Stream

SHARE_REMEDY = "hold out a fifth of each class for testing with --set test_share=0.2"


_KINDS = {
    "test_split": "but must be the name of a split; use e.g. --set test_split=val",
    "test_share": "but must lie between 0 and 1; use e.g. --set test_share=0.2",
    "test_seed": "but must be a whole number; use e.g. --set test_seed=1",
}


@dataclass(frozen=True)
class HeldOut:
    """What a user says about the test images; by default nothing.

    Attributes
    ----------
    split : str or None
        Name of the split that is tested on, such as ``"val"``; None takes the first that fits.
    share : float or None
        Share of each class's train images that is held out for testing, where the data has no test split.
    seed : int
        Decides which images that are. It is not the seed of a run, so that a search and the training of
        what it found, whatever their seeds, are tested on the same images.

    Raises
    ------
    UsageError
        If a split is named and a share given, or the share is not between 0 and 1.
    """

    split: str | None = None
    share: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, kinds in (
            ("test_split", self.split, (str, type(None))),
            ("test_share", self.share, (int, float, type(None))),
            ("test_seed", self.seed, (int,)),
        ):
            if not isinstance(value, kinds) or isinstance(value, bool):
                raise UsageError(f"{name} is {quoted(repr(value))}, {_KINDS[name]}")
        if self.split is not None and self.share is not None:
            raise UsageError(
                f"test_split is '{quoted(self.split)}' and test_share {self.share}; set one of them only: "
                "--set test_split=null or --set test_share=null"
            )
        if self.share is not None and not 0 < self.share < 1:
            raise UsageError(f"test_share is {self.share}, but must lie between 0 and 1; use e.g. --set test_share=0.2")

    def mask(self, labels: NDArray[np.int64], where: str) -> NDArray[np.bool_]:
        """Choose the images to hold out: the same share of every class, rounded, but neither none nor all of it.

        Of a class with a single image nothing is held out.

        Parameters
        ----------
        labels : int64 array, shape (N,)
        where : str
            Where the images are from, for messages.

        Returns
        -------
        bool array, shape (N,)
            True for a test image. It depends on the seed, and on how many images a class has and
            in which order.

        Raises
        ------
        DataMissing
            If every class has a single image.
        """
        assert self.share is not None
        chosen = np.zeros(len(labels), bool)
        stream = Stream(self.seed, "test images")
        for label in np.unique(labels).tolist():
            members = np.flatnonzero(labels == label)
            count = min(len(members) - 1, max(1, round(self.share * len(members))))
            chosen[members[stream.permutation(len(members), label)[:count]]] = True
        if not chosen.any():
            raise DataMissing(f"{where}: no class has two images, so none can be held out for testing; add images")
        return chosen

    def told(self, what: str) -> str:
        """Return the note that says what :meth:`mask` did."""
        return f"test images are {self.share:g} of each class of {what}, drawn with test_seed {self.seed}"

    def check_unneeded(self, where: str, test: str) -> None:
        """Raise :class:`UsageError` if a share is to be held out of data that has test images."""
        if self.share is not None:
            raise UsageError(
                f"{where}: has test images already ({quoted(test)}), so nothing is held out; leave out test_share "
                "or set it to null: --set test_share=null"
            )

    def check_split(self, where: str, names: list[str]) -> None:
        """Raise :class:`DataMissing` if the named split is not among those there are."""
        if self.split is not None and self.split.lower() not in [name.lower() for name in names]:
            there = f"there is {', '.join(names)}" if names else "there is none"
            raise DataMissing(
                f"{where}: no split '{quoted(self.split)}' to test on; {there}: "
                "leave out test_split to take the first that fits: --set test_split=null"
            )
