"""What an ablation is: a record of the settings its variants change and of what a paper prints for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dots.study.study import Published


@dataclass(frozen=True)
class Variant:
    """One row of an ablation: a search, the training of its cell, and the figures printed for them.

    Attributes
    ----------
    settings : mapping
        What the variant changes in the search; dotted keys.
    paper : tuple of Published
    small : mapping
        Values in place of those of ``settings`` at the small scale the study has without a preset.
    preset, train_preset : str
        The presets the variant's search and training stand on; empty for those of the ablation.
    train, train_small : mapping
        The same as ``settings`` and ``small`` for the training.
    search : str
        Name of the search, where several variants train the cell of one; empty for the variant's own.
    epoch, epoch_small : int
        The epoch of the search after which the cell is derived; 0 for the last.
    skips : tuple of two int, or None
        Skip connections a paper counts in the normal and in the reduction cells of all its runs.
    """

    settings: Mapping[str, Any]
    paper: tuple[Published, ...] = ()
    small: Mapping[str, Any] = field(default_factory=dict)
    preset: str = ""
    train_preset: str = ""
    train: Mapping[str, Any] = field(default_factory=dict)
    train_small: Mapping[str, Any] = field(default_factory=dict)
    search: str = ""
    epoch: int = 0
    epoch_small: int = 0
    skips: tuple[int, int] | None = None


@dataclass(frozen=True)
class Ablation:
    """A table of variants.

    Attributes
    ----------
    source : str
        Paper and table, and how the paper's setting differs from ours where it does.
    preset, train_preset : str
        The presets the paper's figures belong to.
    protocol : str
        What a printed figure is made of: searches, trainings, and which of them count.
    small : mapping
        Search settings of the small scale, on top of `dots.study.small`.
    """

    title: str
    source: str
    preset: str
    variants: Mapping[str, Variant]
    protocol: str
    small: Mapping[str, Any] = field(default_factory=dict)
    train_preset: str = "cifar"


def error(value: float, spread: float | None = None, *, parameters: float | None = None) -> Published:
    """Return a printed test error on CIFAR-10 in percent, with the parameters in millions."""
    return Published(value, spread, "error", parameters=parameters)


def both(ten: float, spread: float, hundred: float) -> tuple[Published, ...]:
    """Return printed accuracies in percent: on CIFAR-10, a mean with its deviation, and on CIFAR-100."""
    return Published(ten, spread), Published(hundred, data="CIFAR-100")
