"""Checkpoints: everything a run needs to go on, written atomically and checked when read."""

from __future__ import annotations

import contextlib
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dots_core.errors import CorruptFile, quoted
from dots_core.storage.atomic import read_folder, to_json, write_folder
from dots_core.storage.reading import parse_json

FORMAT = "dots-checkpoint"
VERSION = 2
"""α′ has the columns of its cell's candidates; in version 1, those of all operations of `_COLUMNS`."""

_COLUMNS = (
    *("none", "max_pool_3x3", "avg_pool_3x3", "skip_connect"),
    *("sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5"),
)
KEPT = 2
"""How many of the newest checkpoints are kept."""

_STATE = "state.safetensors"
_PROGRESS = "progress.json"


@dataclass(frozen=True)
class Checkpoint:
    """A network's state and the run's progress.

    Attributes
    ----------
    state : dict of arrays
        As ``Network.export_state`` returned it.
    progress : dict
        Plain records (`dots_core.search.runner`).
    """

    state: dict[str, NDArray[Any]]
    progress: dict[str, Any]


def pack_arrays(arrays: dict[str, NDArray[Any]]) -> bytes:
    """Return arrays of any shape in the safetensors format, in order of their names."""
    from safetensors.numpy import save

    return save({name: np.asarray(arrays[name], order="C") for name in sorted(arrays)})


def unpack_arrays(content: bytes, path: Path) -> dict[str, NDArray[Any]]:
    """Read what `pack_arrays` returned, shapes included; ``path`` is for the message.

    Raises
    ------
    CorruptFile
        If the content is not safetensors.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return load(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise CorruptFile(f"{path} is not a safetensors file ({quoted(str(error))})") from None


def write_checkpoint(folder: Path, number: int, checkpoint: Checkpoint) -> Path:
    """Write checkpoint ``number`` into a folder of checkpoints and drop all but the newest.

    Returns
    -------
    Path
        The new checkpoint's own folder.
    """
    record = {"format": FORMAT, "version": VERSION, **checkpoint.progress}
    target = folder / f"{number:08d}"
    if not target.exists():
        write_folder(target, {_STATE: pack_arrays(dict(checkpoint.state)), _PROGRESS: to_json(record).encode()})
    tidy_checkpoints(folder)
    return target


def tidy_checkpoints(folder: Path) -> None:
    """Drop all but the newest checkpoints, and what a crash left half-written."""
    leftovers = list(folder.glob(".*.new")) if folder.is_dir() else []
    for old in (*checkpoints(folder)[:-KEPT], *leftovers):
        # What cannot be removed now is tried again after the next checkpoint; nothing depends on it.
        shutil.rmtree(old, ignore_errors=True)


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, oldest first; half-written ones are not among them."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.name.isdigit() and path.is_dir())


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint folder.

    Raises
    ------
    CorruptFile
        If anything in it is damaged, or it is of another format or a newer version.
    """
    files = read_folder(path)
    missing = {_STATE, _PROGRESS} - set(files)
    if missing:
        raise CorruptFile(f"{path} is not a checkpoint: it lacks {', '.join(sorted(missing))}")
    try:
        progress = parse_json(files[_PROGRESS].decode())
        kind, version = progress.pop("format"), progress.pop("version")
    except (ValueError, TypeError, KeyError, AttributeError):
        raise CorruptFile(f"{path / _PROGRESS} is not a checkpoint's progress") from None
    if kind != FORMAT or type(version) is not int or not 1 <= version <= VERSION:
        raise CorruptFile(
            f"{path} is of format {quoted(kind)} {quoted(version)}; this release reads {FORMAT} 1 to {VERSION}"
        )
    state = unpack_arrays(files[_STATE], path / _STATE)
    if version == 1:
        try:
            state = _with_candidates_alone(state, progress["cells"])
        except (KeyError, TypeError, ValueError, IndexError, AttributeError):
            raise CorruptFile(f"{path} is damaged: its cells and its arrays do not go together") from None
    return Checkpoint(state, progress)


def _with_candidates_alone(state: dict[str, NDArray[Any]], cells: dict[str, Any]) -> dict[str, NDArray[Any]]:
    """Return a state of version 1 without the columns of operations that no edge of a cell holds."""
    taken = dict(state)
    for kind, cell in cells.items():
        held = {operation for _, _, groups in cell["edges"] for group in groups for operation in group}
        columns = [_COLUMNS.index(operation) for operation in sorted(held, key=_COLUMNS.index)]
        for name in (f"{group}/alpha.{kind}" for group in ("architecture", "adam.first", "adam.second")):
            if name in taken:
                taken[name] = np.ascontiguousarray(taken[name][:, columns])
    return taken


Check = Callable[[Path, Checkpoint], object]
"""Raises `CorruptFile` where a checkpoint that is whole in itself is not as it must be."""


def newest_checkpoint(folder: Path, check: Check | None = None) -> tuple[Path, Checkpoint] | None:
    """Read the newest checkpoint of a folder, or return None if there is none.

    Raises
    ------
    CorruptFile
        If the newest is damaged. An older one is never taken silently: the message names the newest that is whole.
    """
    paths = checkpoints(folder)
    if not paths:
        return None
    try:
        return paths[-1], _whole(paths[-1], check)
    except CorruptFile as error:
        raise CorruptFile(f"{error}; {way_out(folder, check)}") from None


def way_out(folder: Path, check: Check | None = None) -> str:
    """Say what can be done where the newest of a folder's checkpoints is damaged."""
    paths = checkpoints(folder)
    for number in reversed(range(len(paths) - 1)):
        with contextlib.suppress(CorruptFile):
            _whole(paths[number], check)
            damaged = " and ".join(shlex.quote(str(path)) for path in paths[number + 1 :])
            return f"to go on from {paths[number].name} instead, delete {damaged}"
    damaged = " is" if len(paths) == 1 else "s are all"
    return f"its checkpoint{damaged} damaged: put one back from a copy, or start a new run with its settings"


def _whole(path: Path, check: Check | None) -> Checkpoint:
    found = read_checkpoint(path)
    if check is not None:
        check(path, found)
    return found
