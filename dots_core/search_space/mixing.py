"""Masked group softmax, the one rule behind operation weights and edge-combination weights, and what is sampled.

Logits are laid out in any shape; each entry belongs to one group or is masked. Softmax runs
within each group at a temperature, and masked entries get weight 0 (DOTS eq. 2 and its
grouped form, arXiv version eq. 4; edge combinations: eq. 6).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dots_core.search_space.registry import Registry

MASKED = -1


@dataclass(frozen=True)
class Temperature:
    """Softmax temperatures of α′ and β′."""

    alpha: float = 1.0
    beta: float = 1.0


@dataclass(frozen=True, eq=False)
class SoftmaxGroups:
    """Which group each logit belongs to.

    Attributes
    ----------
    labels : int64 array of the logits' shape
        Group number of each entry, or ``MASKED``.
    offsets : float64 array of that shape, optional
        Constants added to the logits (operation attention: eDARTS §III-A).
    free : bool array of that shape, optional
        False where the logit is its offset alone and nothing is learned; None where all are free.
        The softmax of a free logit beside a fixed 0 is a sigmoid.
    """

    labels: NDArray[np.int64]
    offsets: NDArray[np.float64] | None = None
    free: NDArray[np.bool_] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the logits: (edges, operations) of α′, (combinations,) of β′."""
        return self.labels.shape

    @property
    def mask(self) -> NDArray[np.bool_]:
        """True where an entry takes part, of the groups' shape."""
        return self.labels != MASKED

    @cached_property
    def members(self) -> tuple[NDArray[np.int64], ...]:
        """Flat indices of the entries of each group, a vector each, ascending."""
        flat = self.labels.ravel()
        return tuple(np.flatnonzero(flat == b) for b in np.unique(flat[flat != MASKED]))

    @cached_property
    def gather(self) -> NDArray[np.int64]:
        """Flat indices as a rectangle, shape (groups, widest group), short rows repeating their first member.

        With :attr:`padding` it lets an engine take every group's softmax in one call.
        """
        width = max(len(m) for m in self.members)
        return np.stack([np.concatenate([m, np.repeat(m[:1], width - len(m))]) for m in self.members])

    @cached_property
    def padding(self) -> NDArray[np.bool_]:
        """True where :attr:`gather` only fills a row up; shape (groups, widest group)."""
        width = self.gather.shape[1]
        return np.stack([np.arange(width) >= len(m) for m in self.members])

    @cached_property
    def scatter(self) -> NDArray[np.int64]:
        """For each entry, in flat order, its place in the flattened rectangle; 0 where masked."""
        places = np.zeros(self.labels.size, np.int64)
        width = self.gather.shape[1]
        for row, members in enumerate(self.members):
            places[members] = row * width + np.arange(len(members))
        return places

    def shifted(self, logits: NDArray[np.floating], noise: NDArray[np.floating] | None = None) -> NDArray[np.floating]:
        """Return what softmax is taken of, before the temperature: free·logits + offsets + noise, all of one shape."""
        if self.free is not None:
            logits = logits * self.free.astype(logits.dtype)
        if self.offsets is not None:
            logits = logits + self.offsets.astype(logits.dtype)
        return logits if noise is None else logits + noise.astype(logits.dtype)

    def largest(self, logits: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Return a mask, of the logits' shape, of each group's largest entry, the first where several are equal."""
        chosen = np.zeros(self.labels.size, bool)
        flat = np.asarray(logits).ravel()
        for members in self.members:
            chosen[members[np.argmax(flat[members])]] = True
        return chosen.reshape(self.shape)


def group_softmax(
    logits: NDArray[np.floating],
    groups: SoftmaxGroups,
    temperature: float = 1.0,
    noise: NDArray[np.floating] | None = None,
) -> NDArray[np.floating]:
    """Softmax of ``(free·logits + offsets + noise) / temperature`` within each group.

    Parameters
    ----------
    logits : array of any shape
    noise : array of that shape, optional
        Gumbel noise (`dots_core.search.sampling`).

    Returns
    -------
    array of the logits' shape and dtype, 0 where masked
    """
    out = np.zeros_like(logits).ravel()
    flat = groups.shifted(logits, noise).ravel()
    for members in groups.members:
        scaled = flat[members] / flat.dtype.type(temperature)
        weights = np.exp(scaled - scaled.max())
        out[members] = weights / weights.sum()
    return out.reshape(logits.shape)


def group_scores(logits: NDArray[np.floating], groups: SoftmaxGroups, temperature: float = 1.0) -> NDArray[np.float64]:
    """Return temperature · ln of `group_softmax`: what entries of different groups can be compared by.

    Logits of different groups cannot: each softmax takes a constant of its own away. Within a group
    the scores differ as the logits do, at any temperature, also where weights would fall to 0.

    Returns
    -------
    float64 array of the logits' shape, −inf where masked
    """
    flat = groups.shifted(np.asarray(logits, np.float64)).ravel()
    below = np.where(groups.padding, -np.inf, flat[groups.gather])
    below -= below.max(axis=1, keepdims=True)
    # Summed in ascending order, so that groups of equal entries tie in whatever order they hold them.
    below -= temperature * np.log(np.sort(np.exp(below / temperature)).sum(axis=1, keepdims=True))
    return np.where(groups.mask, below.ravel()[groups.scatter].reshape(logits.shape), -np.inf)


def group_softmax_gradient(
    weights: NDArray[np.floating], gradient: NDArray[np.floating], groups: SoftmaxGroups, temperature: float = 1.0
) -> NDArray[np.floating]:
    """Gradient with respect to the logits, given the weights and the gradient by them: all of one shape."""
    out = np.zeros_like(weights).ravel()
    w, g = weights.ravel(), gradient.ravel()
    for members in groups.members:
        inner = np.dot(w[members], g[members])
        out[members] = w[members] * (g[members] - inner) / w.dtype.type(temperature)
    if groups.free is not None:
        out[~groups.free.ravel()] = 0
    return out.reshape(weights.shape)


def entropy(weights: NDArray[np.floating], groups: SoftmaxGroups) -> float:
    """Mean over groups of a group's entropy divided by its largest possible value: 1 uniform, 0 decided.

    ``weights`` have the groups' shape. Groups of one entry have nothing to decide and are left out; 0 if
    there are no others.
    """
    flat = weights.astype(np.float64).ravel()
    values = []
    for members in groups.members:
        if len(members) > 1:
            p = flat[members]
            p = p[p > 0]
            values.append(float(-(p * np.log(p)).sum() / np.log(len(members))))
    return float(np.mean(values)) if values else 0.0


# Samplings: what is drawn for the operations of an edge before they are mixed

_SMALLEST = 2.0**-53
"""Uniform numbers are multiples of it; in place of 0, whose Gumbel value is infinite."""


def gumbel(uniform: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return standard Gumbel numbers −log(−log u), of the shape of u, uniform numbers in [0, 1)."""
    return -np.log(-np.log(np.maximum(uniform, _SMALLEST)))


class Sampling(ABC):
    """One way to draw. Engines know of none: they are handed the noise, and what was chosen.

    Attributes
    ----------
    name : str
    about : str
        What it is and where it comes from.
    draws : bool
        Whether anything is drawn.
    chooses : bool
        Whether one operation of each group is chosen and evaluated alone, with the gradient of its softmax weight.
    """

    name: str
    about: str
    draws: bool = True
    chooses: bool = False

    @abstractmethod
    def noise(self, uniform: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what is added to α′ before the temperature, given uniform numbers in [0, 1); of their shape."""

    def chosen(
        self, groups: SoftmaxGroups, alpha: NDArray[np.float32], noise: NDArray[np.float32]
    ) -> NDArray[np.bool_]:
        """Return a mask of one operation of each group: that of the largest α′ with the noise.

        Parameters
        ----------
        alpha, noise : float32 arrays α′ and what `noise` gave, shape (edges, operations)
            Noise is 0 in evaluation.
        """
        return groups.largest(groups.shifted(alpha, noise))


SAMPLINGS: Registry[Sampling] = Registry("sampling", "dots.samplings", Sampling)
"""All samplings; a package adds its own by an entry point of the group ``dots.samplings``."""


class _None(Sampling):
    name = "none"
    about = "nothing is drawn: α is a softmax (DARTS)"
    draws = False

    def noise(self, uniform: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.zeros_like(uniform)


class _Soft(Sampling):
    name = "soft"
    about = "Gumbel noise is added to α′ (SNAS: the concrete distribution)"

    def noise(self, uniform: NDArray[np.float64]) -> NDArray[np.float64]:
        return gumbel(uniform)


class _Hard(_Soft):
    name = "hard"
    about = (
        "only the operation with the largest noisy α′ of each group is evaluated, with the gradient of its softmax "
        "weight (GDAS: straight-through)"
    )
    chooses = True


for _sampling in (_None(), _Soft(), _Hard()):
    SAMPLINGS.register(_sampling)
