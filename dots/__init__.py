"""Differentiable neural architecture search with topology search, on several frameworks.

>>> import dots
>>> result = dots.search(backend="torch")  # doctest: +SKIP
>>> dots.train(result.genotype)  # doctest: +SKIP
"""

# What is imported here is seen by who completes `dots.` on a keyboard: hence the underscores.
import importlib as _importlib
import typing as _typing

if _typing.TYPE_CHECKING:
    from dots.runs import SearchResult, TrainResult, search, train
    from dots_core.backends import backends
    from dots_core.data import from_arrays
    from dots_core.errors import DotsError
    from dots_core.genotype import Genotype
    from dots_core.named_cells import named_cell, named_cells

__version__ = "0.1.0"

_HOMES = {
    "DotsError": "dots_core.errors",
    "Genotype": "dots_core.genotype",
    "SearchResult": "dots.runs",
    "TrainResult": "dots.runs",
    "backends": "dots_core.backends",
    "from_arrays": "dots_core.data",
    "named_cell": "dots_core.named_cells",
    "named_cells": "dots_core.named_cells",
    "search": "dots.runs",
    "train": "dots.runs",
}

__all__ = [
    "DotsError",
    "Genotype",
    "SearchResult",
    "TrainResult",
    "backends",
    "from_arrays",
    "named_cell",
    "named_cells",
    "search",
    "train",
]


def __getattr__(name: str) -> _typing.Any:
    # Resolved on first use, so that importing dots costs next to nothing.
    if name not in _HOMES:
        raise AttributeError(f"module 'dots' has no attribute '{name}'")
    return getattr(_importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])
