"""Samplings: what is drawn for the operations of an edge before they are mixed."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from dots_core.search_space.mixing import SoftmaxGroups
from dots_core.search_space.registry import Registry

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


SAMPLINGS: Registry[Sampling] = Registry("sampling", "dots.samplings")
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
