"""The conformance cases, generated from what `dots_core` describes."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

from dots_conformance.cases.base import Case, Recording
from dots_conformance.cases.layers import layer_cases, operation_cases
from dots_conformance.cases.search import search_cases
from dots_conformance.cases.steps import growth_cases, step_cases
from dots_conformance.cases.supernets import gradient_cases
from dots_core.errors import UsageError

__all__ = ["Case", "Recording", "all_cases", "select"]


def all_cases(seed: int = 0, shared: Path | None = None) -> dict[str, Case]:
    """Return every case by name, in the order they are run.

    Parameters
    ----------
    seed : int
        Of weights and images; another seed makes other cases of the same names.
    shared : Path, optional
        Folder in which processes that run the same cases leave each other what is the same for all.
    """
    every = [
        *layer_cases(seed),
        *operation_cases(seed),
        *gradient_cases(seed),
        *step_cases(seed, shared),
        *growth_cases(seed),
        *search_cases(seed),
    ]
    cases = {case.name: case for case in every}
    assert len(cases) == len(every), "two cases have one name"
    return cases


def select(cases: dict[str, Case], patterns: tuple[str, ...] = (), quick: bool = False) -> dict[str, Case]:
    """Return the cases whose name matches any of the patterns, or all; only the quick ones if asked.

    Parameters
    ----------
    patterns : tuple of str
        Shell patterns; one without ``*`` also matches everything below it: ``layers/norm``.

    Raises
    ------
    UsageError
        If a pattern matches no case.
    """
    for pattern in patterns:
        if not any(_matches(name, pattern) for name in cases):
            groups = sorted({name.rpartition("/")[0] for name in cases})
            raise UsageError(f"no conformance case matches '{pattern}'; there are {', '.join(groups)}")
    return {
        name: case
        for name, case in cases.items()
        if (not quick or case.quick) and (not patterns or any(_matches(name, pattern) for pattern in patterns))
    }


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or name.startswith(pattern.rstrip("/") + "/")
