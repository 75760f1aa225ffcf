"""Finding the cell that a user means: a run, a file, a text or a published name."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from os import PathLike
from pathlib import Path

from dots.run_directory.layout import is_run
from dots_core.errors import UsageError, quoted
from dots_core.search_space.genotype import Genotype
from dots_core.search_space.genotype_text import Reading, SeveralGenotypes, read_genotype, read_text
from dots_core.search_space.named_cells import named_cell, named_cells

Cell = str | PathLike[str] | Genotype


def find_cell(cell: Cell, say: Callable[[str], None] = warnings.warn) -> Genotype:
    """Return a cell.

    Parameters
    ----------
    cell : str, path or Genotype
        A genotype; a finished search's run directory; a genotype's file, or ``FILE:NAME`` for one of
        several in it; a genotype's text; or a published name.
    say : callable
        What is told that the file or text says more than a genotype.

    Raises
    ------
    DotsError
        If there is no such cell, or it cannot be read.
    """
    if isinstance(cell, Genotype):
        return cell
    if not isinstance(cell, (str, PathLike)):
        raise UsageError(
            f"a cell is a name, a path, a text or a Genotype, not {quoted(type(cell).__name__)}; "
            "of another library's genotype give the text, str(genotype)"
        )
    reading = _read(os.path.expanduser(cell), isinstance(cell, str))
    for remark in reading.remarks:
        say(remark)
    return reading.genotype


def one_cell(argument: str | None, option: str | None, say: Callable[[str], None]) -> Genotype | None:
    """Return the cell that a command's argument or ``--cell`` gives.

    Raises
    ------
    UsageError
        If both are given and differ.
    """
    given = [find_cell(cell, say) for cell in dict.fromkeys((argument, option)) if cell is not None]
    if len(set(given)) > 1:
        raise UsageError(
            f"two cells are given, {quoted(argument)} and --cell {quoted(option)}, and they differ; give one of them"
        )
    return given[0] if given else None


def _read(cell: str, may_be_text: bool) -> Reading:
    if not cell:
        raise UsageError("the name of the cell is empty; `dots cells` lists the published ones")
    if os.path.lexists(cell) and not (cell in named_cells() and os.path.isdir(cell) and not is_run(Path(cell))):
        return read_genotype(_genotype_of_run(Path(cell)))
    if may_be_text and _is_text(cell):
        try:
            return read_text(cell)
        except SeveralGenotypes as error:
            how = ": give that one alone, or save the text and give FILE:NAME" if error.pick else ""
            raise UsageError(f"the text {error}{how}") from None
    if not may_be_text or Path(cell).suffix or "/" in cell or os.path.lexists(cell.rpartition(":")[0]):
        return read_genotype(cell)  # picks FILE:NAME, or says that there is no such file
    return Reading(named_cell(cell))


def _is_text(cell: str) -> bool:
    """Whether what is no file is meant as a genotype's text rather than as a path or a name."""
    return (
        cell.lstrip()[:1] in ("(", "[", "{", "|")
        or "\n" in cell
        or "Genotype(" in cell
        or ("(" in cell and "=" in cell)
    )


def _genotype_of_run(path: Path) -> Path:
    """Return a run's genotype; the path itself if it is no directory."""
    if not path.is_dir():
        return path
    if not is_run(path):
        raise UsageError(f"{quoted(str(path))} is a directory but no run of dots; give a run's, or a genotype's file")
    found = path / "genotype.json"
    if not found.exists():
        raise UsageError(f"{quoted(str(path))} holds no genotype: it is no search, or one to go on with by --resume")
    return found
