"""Where a new run can go, and making a directory one: claimed by one process or thread, nothing of others touched.

A directory becomes a run in place, its marker last, so that one that is there already will do: the
current one, a mount point, the target of a link. What a crash leaves before that is not taken for
anything of a user's, and the next run that is begun there takes it up.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from dots.config.schema import Config
from dots.run_directory.layout import CONFIG, FORMAT, LOCK, MARKER, VERSION, RunExists, config_text, is_run, lock
from dots_core.errors import DotsError, UsageError, quoted
from dots_core.storage.atomic import cannot_write, sync_directory, to_json, write_atomic, write_synced

_NEW_MARKER = f".{MARKER}.new"
_LEFT = {LOCK, _NEW_MARKER, f".{CONFIG}.new"}
"""What stands in a directory that is being made a run; beside the new marker the settings, too."""

_OF_THE_FILE_SYSTEM = {"lost+found"}
_SHOWN = 3
_AGAIN = "run the same command again, or give another --out"


def unused_directories(kind: str, preset: str) -> Iterator[Path]:
    """Yield names for a run that no other has, ``runs/<kind>-<preset>-<number>``, the lowest number first.

    Where a run was about to be made is among them; whether that was given up shows when it is claimed.
    """
    number = 0
    while True:
        number += 1
        path = Path("runs") / f"{kind}-{Path(preset).stem}-{number}"
        if not os.path.lexists(path) or _half_made(path):
            yield path


def check_place(path: Path) -> None:
    """Check that a run can be begun at a path; writes nothing.

    Raises
    ------
    RunExists
        If a run stands there.
    UsageError
        If something else does, or no directory can be made or written to there.
    """
    try:
        if os.path.lexists(path):
            _check_free(path)
        else:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                os.lstat(path)  # says so where the name is too long
            _check_directory(next(above for above in path.absolute().parents if os.path.lexists(above)))
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"{quoted(str(path))} cannot be a run's directory: {reason}; give another --out") from None


def _check_free(path: Path) -> None:
    _check_directory(path)
    strangers = _strangers(path)
    if is_run(path):  # asked last: it may become one in between
        raise RunExists(f"{quoted(str(path))} is a run already; go on with it by --resume, or give another --out")
    if strangers:
        held = quoted(", ".join(strangers[:_SHOWN]))
        more = f" and {len(strangers) - _SHOWN} more" if len(strangers) > _SHOWN else ""
        raise UsageError(
            f"{quoted(str(path))} exists and is not a run of dots: it holds {held}{more}; "
            "give an empty directory, or one that does not exist yet, as --out"
        )


def _check_directory(path: Path) -> None:
    """Check that a path is a directory that can be written to."""
    if path.is_symlink() and not os.path.exists(path):
        target = os.path.join(path.parent, os.readlink(path))
        raise UsageError(
            f"{quoted(str(path))} is a link to {quoted(target)}, which does not exist; make that directory, "
            "or give another --out"
        )
    if not os.path.isdir(path):
        raise UsageError(f"{quoted(str(path))} is a file, which cannot hold a run; give another --out")
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise UsageError(
            f"{quoted(str(path))} is a directory that may not be written to; change its permissions, "
            "or give another --out"
        )


def _strangers(path: Path) -> list[str]:
    """Return what a directory holds that the making of a run does not leave."""
    names = set(os.listdir(path))
    ours = _LEFT | ({CONFIG} if _NEW_MARKER in names else set())
    return sorted(names - ours - _OF_THE_FILE_SYSTEM)


def _half_made(path: Path) -> bool:
    """Whether a directory holds what the making of a run leaves before its end, and nothing else."""
    try:
        return LOCK in os.listdir(path) and not _strangers(path)
    except OSError:
        return False


def create_run(path: Path, config: Config, alone: bool = False) -> IO[bytes]:
    """Make a directory a run with its settings, and return the lock it is held by.

    Parameters
    ----------
    alone : bool
        Whether the place may be taken only if certainly nobody else is taking it, which on a file
        system without locks is one that does not exist.

    Raises
    ------
    RunExists
        If a run stands there, or another process or thread is about to make one.
    UsageError
        If something else stands there; see `check_place`.
    DotsError
        If it cannot be written; everything is then as it was.
    """
    check_place(path)
    made: list[Path] = []
    try:
        _make_directories(path, made)
        held, locked = lock(path)
    except (OSError, DotsError) as error:
        _remove(made)
        raise (cannot_write(path, error, _AGAIN) if isinstance(error, OSError) else error) from None
    with contextlib.ExitStack() as stack:
        stack.enter_context(held)
        if alone and not locked and path not in made:
            raise RunExists(f"{quoted(str(path))} may be about to become another's run; give another --out")
        check_place(path)
        try:
            _write(path, config)
            for directory in made:
                sync_directory(directory.parent)
        except (OSError, DotsError) as error:
            if not is_run(path):
                for name in (CONFIG, _NEW_MARKER, LOCK):
                    with contextlib.suppress(OSError):
                        (path / name).unlink()
                _remove(made)
            raise (cannot_write(path, error, _AGAIN) if isinstance(error, OSError) else error) from None
        stack.pop_all()
    return held


def create_unnamed_run(preset: str, config: Config) -> tuple[Path, IO[bytes]]:
    """Make a run in the first unused directory; one that others are making a run gives way to the next.

    Raises
    ------
    DotsError
        If it cannot be written.
    """
    for path in unused_directories(config.kind, preset):
        with contextlib.suppress(RunExists):
            return path, create_run(path, config, alone=True)
    raise AssertionError("there are numbers without end")


def _make_directories(path: Path, made: list[Path]) -> None:
    """Make a directory and those above it, and note which were not there."""
    for directory in (*reversed(path.parents), path):
        if not os.path.isdir(directory):
            with contextlib.suppress(FileExistsError):
                directory.mkdir()
                made.append(directory)


def _remove(made: list[Path]) -> None:
    for directory in reversed(made):
        with contextlib.suppress(OSError):
            directory.rmdir()


def _write(path: Path, config: Config) -> None:
    # The new marker is there before the settings, so that settings are known to be ours, and is put
    # into its place after them.
    write_synced(path / _NEW_MARKER, to_json({"format": FORMAT, "version": VERSION, "kind": config.kind}).encode())
    write_atomic(path / CONFIG, config_text(config))
    os.replace(path / _NEW_MARKER, path / MARKER)
    sync_directory(path)
