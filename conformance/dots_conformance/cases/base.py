"""What a conformance case is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dots_conformance.networks import NetworkCase
from dots_core.engine.protocol import Engine, Runtime, State
from dots_core.random import Stream


@dataclass(frozen=True)
class Recording:
    """What an engine did on a case.

    Attributes
    ----------
    arrays : dict
        By ``<sort>/<name>``; sorts that begin with ``info`` are not judged.
    decisions : tuple of records
        Choices in the order they were made: ``what`` was decided, which was ``chosen``, by what
        ``margin``, and ``by`` which array of ``arrays``.
    """

    arrays: State
    decisions: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class Case:
    """One thing to compare.

    Attributes
    ----------
    name : str
        A path, from the general to the particular: ``"layers/pool-max-stride2/c4-7x9"``.
    record : function of an engine and a runtime
        Returns a `Recording`; the same inputs on every engine.
    quick : bool
        Whether it belongs to the quick set.
    exact : bool
        Whether inputs must not be moved by rounding errors (`dots_conformance.rounding`),
        because the case is about equal values.
    network : NetworkCase or None
        The network it is about, into which `dots_conformance.locate` can look; None where it is a layer or a search.
    """

    name: str
    record: Callable[[Engine, Runtime], Recording] = field(repr=False)
    quick: bool = False
    exact: bool = False
    network: NetworkCase | None = None


def drawn(seed: int, case: str, what: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Draw standard normal numbers of a shape for a case."""
    return Stream(seed, f"conformance/{case}/{what}").normal(shape).astype(np.float32)


def drawn_arrays(seed: int, case: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, NDArray[np.float32]]:
    """Draw weights of the given names and shapes: uniform in ±1/√fan-in, those of batch norms around the identity."""
    arrays = {}
    for name, shape in shapes.items():
        if len(shape) == 1:
            arrays[name] = 0.2 * drawn(seed, case, name, shape) + np.float32(name.endswith(".weight"))
        else:
            uniform = 2.0 * Stream(seed, f"conformance/{case}/{name}").uniform(shape) - 1.0
            arrays[name] = (uniform / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
    return arrays
