"""Differentiable neural architecture search with topology search, on several frameworks.

>>> import dots
>>> result = dots.search(backend="torch")  # doctest: +SKIP
>>> dots.train(result.genotype)  # doctest: +SKIP
"""

# What is imported here is seen by who completes `dots.` on a keyboard: hence the underscores.
import importlib as _importlib
import typing as _typing

if _typing.TYPE_CHECKING:
    from dots.run.api import SearchResult, TrainResult, search, train
    from dots_core.data import from_arrays
    from dots_core.engine.registry import backends
    from dots_core.errors import DotsError
    from dots_core.search_space.genotype import Genotype
    from dots_core.search_space.genotype_text import load_genotype, parse_genotype
    from dots_core.search_space.named_cells import named_cell, named_cells

__version__ = "0.1.0"

_HOMES = {
    "DotsError": "dots_core.errors",
    "Genotype": "dots_core.search_space.genotype",
    "SearchResult": "dots.run.api",
    "TrainResult": "dots.run.api",
    "backends": "dots_core.engine.registry",
    "from_arrays": "dots_core.data",
    "load_genotype": "dots_core.search_space.genotype_text",
    "named_cell": "dots_core.search_space.named_cells",
    "named_cells": "dots_core.search_space.named_cells",
    "parse_genotype": "dots_core.search_space.genotype_text",
    "search": "dots.run.api",
    "train": "dots.run.api",
}

__all__ = [
    "DotsError",
    "Genotype",
    "SearchResult",
    "TrainResult",
    "backends",
    "from_arrays",
    "load_genotype",
    "named_cell",
    "named_cells",
    "parse_genotype",
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
