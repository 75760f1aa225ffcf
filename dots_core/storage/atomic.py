"""Writing files so that a crash leaves either the old content or the new."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dots_core.bounds import CHECKPOINT_BYTES
from dots_core.errors import CorruptFile, DotsError, quoted
from dots_core.storage.reading import read_file, read_json

MANIFEST = "manifest.json"

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""How a system says that there is no room."""

RESUME = "run the same command with --resume"


def to_json(record: Any) -> str:
    """Return deterministic JSON text; non-finite numbers are refused."""
    return json.dumps(record, indent=2, allow_nan=False) + "\n"


def sync_directory(path: Path) -> None:
    """Make names created or removed in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_synced(path: Path, content: bytes) -> None:
    """Write a file and wait until it is on the disk."""
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def write_atomic(path: Path, content: bytes | str, remedy: str = RESUME) -> None:
    """Replace a file's content in one step: write beside, sync, rename.

    Parameters
    ----------
    remedy : str
        What to do once there is room.

    Raises
    ------
    DotsError
        If the disk is full or the file cannot be written; the old content stands.
    """
    beside = path.with_name(f".{path.name}.new")
    with writing(path, remedy):
        try:
            write_synced(beside, content.encode() if isinstance(content, str) else content)
            os.replace(beside, path)
            sync_directory(path.parent)
        except OSError:
            with contextlib.suppress(OSError):
                beside.unlink()
            raise


@contextlib.contextmanager
def writing(path: Path, remedy: str = RESUME) -> Iterator[None]:
    """Turn the failure of a write into an error that names the file and the remedy.

    Raises
    ------
    DotsError
        See `cannot_write`.
    """
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error, remedy) from None


def cannot_write(path: Path, error: OSError, remedy: str = RESUME) -> DotsError:
    """Return the error for a failed write, saying that nothing was lost."""
    reason = error.strerror or str(error)
    return DotsError(
        f"cannot write {quoted(str(path))}: {reason}; what was saved before stands. Make room or check the "
        f"permissions, then {remedy}"
    )


def write_folder(folder: Path, files: dict[str, bytes]) -> None:
    """Create or replace a folder of files in one step, its manifest of sha256 sums written last.

    Raises
    ------
    DotsError
        If it cannot be written; what stood there before stands.
    """
    beside, old = (folder.with_name(f".{folder.name}.{which}") for which in ("new", "old"))
    try:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        sums = {}
        for name, content in files.items():
            write_synced(beside / name, content)
            sums[name] = hashlib.sha256(content).hexdigest()
        write_synced(beside / MANIFEST, to_json({"sha256": sums}).encode())
        sync_directory(beside)
        if folder.exists():
            # A folder cannot be replaced by rename; a crash between the two leaves the old one under
            # its second name, which `recover_folder` puts back.
            shutil.rmtree(old, ignore_errors=True)
            os.rename(folder, old)
            os.rename(beside, folder)
            sync_directory(folder.parent)
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.rename(beside, folder)
            sync_directory(folder.parent)
    except OSError as error:
        recover_folder(folder)
        raise cannot_write(folder, error) from None


def recover_folder(folder: Path) -> None:
    """Finish or undo a replacement by `write_folder` that a crash cut short."""
    old = folder.with_name(f".{folder.name}.old")
    if old.exists() and not folder.exists():
        os.rename(old, folder)
    for leftover in (old, folder.with_name(f".{folder.name}.new")):
        shutil.rmtree(leftover, ignore_errors=True)


def read_folder(folder: Path) -> dict[str, bytes]:
    """Read a folder that `write_folder` wrote, checking every file against the manifest.

    Raises
    ------
    CorruptFile
        If a file is missing, damaged or not listed, or the manifest itself is unreadable.
    """
    try:
        sums = read_json(folder / MANIFEST)["sha256"]
        names = sorted(sums)
        plain = all(n == os.path.basename(n) and n not in ("", ".", "..") and n.isprintable() for n in names)
        well_formed = all(isinstance(total, str) for total in sums.values())
    except OSError as error:
        raise CorruptFile(f"{folder}: the manifest cannot be read ({error.strerror})") from None
    except (TypeError, KeyError, AttributeError):
        well_formed = plain = False
        names, sums = [], {}
    if not well_formed:
        raise CorruptFile(f"{folder / MANIFEST} is not a manifest of sha256 sums")
    if not plain:
        raise CorruptFile(f"{folder / MANIFEST} names a file outside its folder")
    unlisted = sorted({path.name for path in folder.iterdir()} - {*names, MANIFEST})
    if unlisted:
        raise CorruptFile(f"{quoted(str(folder / unlisted[0]))} is not listed in {MANIFEST}; it does not belong there")
    files: dict[str, bytes] = {}
    for name in names:
        try:
            content = read_file(folder / name, CHECKPOINT_BYTES)
        except OSError as error:
            raise CorruptFile(f"{folder / name} cannot be read ({error.strerror})") from None
        if hashlib.sha256(content).hexdigest() != sums[name]:
            raise CorruptFile(f"{folder / name} is damaged: its sha256 is not the one in {MANIFEST}")
        files[name] = content
    return files
