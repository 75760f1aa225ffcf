"""Named files read into memory from a folder or from an archive, never unpacked to disk."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath

from dots_core.data.messages import reason
from dots_core.errors import CorruptFile, DataMissing, quoted
from dots_core.storage.reading import read_file

SIZE_LIMIT = 512 << 20
SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz", ".zip")

_CHUNK = 1 << 20
_XZ_MEMORY = 256 << 20
"""Bytes an ``.xz`` file may make its reader take; the highest setting of xz takes 65 MiB."""

_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)


def is_archive(path: Path) -> bool:
    """Tell by its name whether a path is an archive read by :func:`read_files`."""
    return path.name.lower().endswith(SUFFIXES)


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
        If the archive is damaged or encrypted, has a member that is a link or reaches outside
        it, has two wanted files of one name, or anything exceeds 512 MiB.

    Notes
    -----
    How an archive is compressed is told by its first bytes, whatever its name says.
    """
    try:
        return _from_archive(path, wanted) if is_archive(path) else _from_folder(path, wanted)
    except CorruptFile:
        raise
    except (
        *(gzip.BadGzipFile, lzma.LZMAError, zlib.error, tarfile.TarError, zipfile.BadZipFile),
        *(EOFError, UnicodeError, ValueError, NotImplementedError, RuntimeError),
    ) as error:
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
            found[name] = read_file(file, SIZE_LIMIT)
    return found


def _from_archive(path: Path, wanted: Collection[str]) -> dict[str, bytes]:
    content = io.BytesIO(read_file(path, SIZE_LIMIT))
    start = content.read(8)
    content.seek(0)
    if start.startswith(b"PK"):
        return _from_zip(path, content, wanted)
    return _from_tar(path, _unpacked(path, content, start), wanted)


def _from_tar(path: Path, content: io.BytesIO, wanted: Collection[str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=content, mode="r:") as archive:
        for member in archive:
            # A sparse file may be far larger than the archive that holds it.
            if not (member.isreg() or member.isdir()) or member.issparse():
                raise _untrusted(path, member.name, "is a link, a device or a sparse file")
            if not _is_wanted(path, member.name, member.size, wanted, found) or not member.isreg():
                continue
            file = archive.extractfile(member)
            _keep(member.name, file.read() if file is not None else b"", member.size, found)
    return found


def _from_zip(path: Path, content: io.BytesIO, wanted: Collection[str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    with zipfile.ZipFile(content) as archive:
        if sum(member.file_size for member in archive.infolist()) > SIZE_LIMIT:
            raise _too_large(f"{path}: decompressed")
        for member in archive.infolist():
            # The upper half holds the file's mode where a Unix system wrote it, or nothing.
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _untrusted(path, member.filename, "is a link or a device")
            if not _is_wanted(path, member.filename, member.file_size, wanted, found) or member.is_dir():
                continue
            if member.flag_bits & 1:
                raise CorruptFile(f"{path}: member {quoted(member.filename)} is encrypted; pack it without a password")
            if member.compress_type not in _ZIP_METHODS:
                raise CorruptFile(
                    f"{path}: member {quoted(member.filename)} is compressed by method {member.compress_type}; "
                    "pack it by the usual one, deflate"
                )
            with archive.open(member) as file:
                # No more than it claims, whatever it unpacks to.
                _keep(member.filename, file.read(member.file_size), member.file_size, found)
    return found


def _is_wanted(path: Path, name: str, size: int, wanted: Collection[str], found: dict[str, bytes]) -> bool:
    """Tell whether to read a member; refuse what no archive of images should hold."""
    location = PurePosixPath(name.replace("\\", "/"))
    if location.is_absolute() or ".." in location.parts:
        raise _untrusted(path, name, "reaches outside the archive")
    if size > SIZE_LIMIT:
        raise _too_large(f"{path}: member {quoted(name)}")
    # Beside every file, macOS packs one of the same name with what else it knows about it.
    if location.name not in wanted or "__MACOSX" in location.parts:
        return False
    if location.name in found:
        raise CorruptFile(f"{path}: has two files named '{location.name}'; keep one of them in the archive")
    return True


def _keep(name: str, content: bytes, size: int, found: dict[str, bytes]) -> None:
    if len(content) != size:
        raise EOFError(f"member {quoted(name)} is cut short")
    found[PurePosixPath(name.replace("\\", "/")).name] = content


def _unpacked(path: Path, packed: io.BytesIO, start: bytes) -> io.BytesIO:
    """Decompress the whole file, so that one limit bounds whatever its headers claim later."""
    if start.startswith(b"\xfd7zXZ"):
        chunks = _unpacked_xz(packed)
    elif start.startswith(b"BZh"):
        chunks = _read_chunks(bz2.BZ2File(packed))
    elif start.startswith(b"\x1f\x8b") or not path.name.lower().endswith(".tar"):
        chunks = _read_chunks(gzip.GzipFile(fileobj=packed))
    else:
        return packed
    content = io.BytesIO()
    for chunk in chunks:
        content.write(chunk)
        if content.tell() > SIZE_LIMIT:
            raise _too_large(f"{path}: decompressed")
    content.seek(0)
    return content


def _read_chunks(file: gzip.GzipFile | bz2.BZ2File) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK):
        yield chunk


def _unpacked_xz(packed: io.BytesIO) -> Iterator[bytes]:
    # The reader of the standard library for files takes no limit of memory, which a file can set to gigabytes.
    rest = packed.read()
    while rest.strip(b"\0"):
        reader = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
        yield reader.decompress(rest, _CHUNK)
        while not reader.eof:
            chunk = reader.decompress(b"", _CHUNK)
            if not chunk and reader.needs_input:
                raise EOFError("the file is cut short")
            yield chunk
        rest = reader.unused_data.lstrip(b"\0")


def _untrusted(path: Path, member: str, why: str) -> CorruptFile:
    return CorruptFile(f"{path}: member '{quoted(member)}' {why}; do not trust this archive, download it again")


def _too_large(what: str) -> CorruptFile:
    return CorruptFile(f"{what} exceeds {SIZE_LIMIT >> 20} MiB, more than any CIFAR file; download the original again")
