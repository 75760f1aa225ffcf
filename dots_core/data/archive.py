"""Named files read into memory from a folder or from a ``.tar.gz`` archive, never unpacked to disk."""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from dots_core.data.messages import reason
from dots_core.errors import CorruptFile, DataMissing

SIZE_LIMIT = 512 << 20
_CHUNK = 1 << 20


def is_archive(path: Path) -> bool:
    """Tell by its name whether a path is an archive read by :func:`read_files`."""
    return path.name.lower().endswith((".tar.gz", ".tgz"))


def read_files(path: Path, wanted: Collection[str]) -> dict[str, bytes]:
    """Read those of the wanted files that are there.

    Parameters
    ----------
    path : Path
        A folder that holds the files, or an archive that holds them in any of its folders.
    wanted : collection of str
        File names without folders.

    Returns
    -------
    dict from file name to contents

    Raises
    ------
    DataMissing
        If a file cannot be read.
    CorruptFile
        If the archive is damaged, has a member that is a link or reaches outside it,
        has two wanted files of one name, or anything exceeds 512 MiB.
    """
    try:
        return _from_archive(path, wanted) if is_archive(path) else _from_folder(path, wanted)
    except (gzip.BadGzipFile, tarfile.TarError, zlib.error, EOFError, UnicodeError, ValueError) as error:
        raise CorruptFile(f"{path}: damaged archive ({reason(error)}); download it again") from error
    except OSError as error:
        raise DataMissing(
            f"{error.filename or path}: cannot be read ({reason(error)}); check the file and its permissions"
        ) from error


def _from_folder(path: Path, wanted: Collection[str]) -> dict[str, bytes]:
    found = {}
    for name in sorted(wanted):
        file = path / name
        if file.is_file():
            if file.stat().st_size > SIZE_LIMIT:
                raise _too_large(str(file))
            found[name] = file.read_bytes()
    return found


def _from_archive(path: Path, wanted: Collection[str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=_unzipped(path), mode="r:") as archive:
        for member in archive:
            location = PurePosixPath(member.name.replace("\\", "/"))
            if location.is_absolute() or ".." in location.parts:
                raise _untrusted(path, member.name, "reaches outside the archive")
            # A sparse file may be far larger than the archive that holds it.
            if not (member.isreg() or member.isdir()) or member.issparse():
                raise _untrusted(path, member.name, "is a link, a device or a sparse file")
            if member.size > SIZE_LIMIT:
                raise _too_large(f"{path}: member '{member.name}'")
            if not member.isreg() or location.name not in wanted:
                continue
            if location.name in found:
                raise CorruptFile(f"{path}: has two files named '{location.name}'; keep one of them in the archive")
            file = archive.extractfile(member)
            content = file.read() if file is not None else b""
            if len(content) != member.size:
                raise EOFError(f"member '{member.name}' is cut short")
            found[location.name] = content
    return found


def _unzipped(path: Path) -> io.BytesIO:
    """Decompress the whole file, so that one limit bounds whatever its headers claim later."""
    content = io.BytesIO()
    with gzip.open(path) as file:
        while chunk := file.read(_CHUNK):
            content.write(chunk)
            if content.tell() > SIZE_LIMIT:
                raise _too_large(f"{path}: decompressed")
    content.seek(0)
    return content


def _untrusted(path: Path, member: str, why: str) -> CorruptFile:
    return CorruptFile(f"{path}: member '{member}' {why}; do not trust this archive, download it again")


def _too_large(what: str) -> CorruptFile:
    return CorruptFile(f"{what} exceeds {SIZE_LIMIT >> 20} MiB, more than any CIFAR file; download the original again")
