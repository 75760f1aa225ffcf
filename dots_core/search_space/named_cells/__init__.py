"""The cells the papers published, by name."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from dots_core.errors import UsageError, nearest, quoted
from dots_core.search_space.genotype import Genotype
from dots_core.search_space.genotype_text.edges import FIELDS, genotype_of


@cache
def _published() -> dict[str, dict[str, Any]]:
    return json.loads(Path(__file__).with_name("published_cells.json").read_text("utf-8"))


def named_cells() -> tuple[str, ...]:
    """Return the names of the published cells."""
    return tuple(_published())


def cell_source(name: str) -> str:
    """Return where a published cell was printed."""
    return _published()[name]["source"]


def named_cell(name: str) -> Genotype:
    """Return a published cell, for example ``named_cell("DOTS_C10")``.

    Raises
    ------
    UsageError
        If there is no cell of that name.
    """
    cells = _published()
    if not isinstance(name, str) or name not in cells:
        shown = quoted(name)
        raise UsageError(
            f"unknown cell '{shown}'{nearest(shown, list(cells))}; `dots cells` lists the published ones: "
            f"{', '.join(cells)}; or give a genotype's file or text, or a search's run directory"
        )
    return genotype_of({field: cells[name][field] for field in FIELDS}).genotype
