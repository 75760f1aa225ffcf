"""A disk that fails at any chosen call, with or without taking the process along."""

from __future__ import annotations

import builtins
import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dots_core.storage import atomic as files
from dots_core.storage import metrics

CALLS = ("mkdir", "rename", "replace", "unlink", "remove", "rmdir", "truncate")


class PowerCut(BaseException):
    """Ends a process where it stands: nothing may catch it."""


class Disk:
    """Counts the calls that change the disk and fails at one of them.

    Attributes
    ----------
    trace : list
        ``("fsync", inode)``, ``("rename", inode of the target's folder)`` and the names of other calls.
    unsynced : set
        Inodes of files that were written and not synced since.
    """

    def __init__(self, fail_at: int = 0, failure: type[BaseException] = PowerCut) -> None:
        self.calls = 0
        self.trace: list[tuple[str, Any]] = []
        self.unsynced: set[int] = set()
        self.buffered: set[int] = set()
        self._fail_at = fail_at
        self._failure = failure

    @property
    def failed(self) -> bool:
        return 0 < self._fail_at <= self.calls

    def call(self) -> None:
        """Count a call; raise if it is the one that fails."""
        self.calls += 1
        if self.calls == self._fail_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) if self._failure is OSError else self._failure()

    def install(self, patch: pytest.MonkeyPatch) -> None:
        for name in CALLS:
            patch.setattr(os, name, self._wrapped(name, getattr(os, name)))
        patch.setattr(os, "fsync", self._fsync)
        for module in (files, metrics):
            patch.setattr(module, "open", self._open, raising=False)

    def _wrapped(self, name: str, real: Callable) -> Callable:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.call()
            result = real(*args, **kwargs)
            folder = os.stat(Path(args[1]).parent).st_ino if name in ("rename", "replace") else None
            self.trace.append(("rename" if folder else name, folder))
            return result

        return call

    def _fsync(self, descriptor: int) -> None:
        self.call()
        inode = os.fstat(descriptor).st_ino
        if inode not in self.buffered:
            self.unsynced.discard(inode)
        self.trace.append(("fsync", inode))

    def _open(self, path: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if mode.startswith("r"):
            return builtins.open(path, mode, *args, **kwargs)
        self.call()
        file = builtins.open(path, mode, *args, **kwargs)  # noqa: SIM115
        self.unsynced.add(os.fstat(file.fileno()).st_ino)
        return _File(file, self)


class _File:
    """An open file whose writing may fail half-way."""

    def __init__(self, file: Any, disk: Disk) -> None:
        self._file = file
        self._disk = disk

    def write(self, content: bytes) -> int:
        try:
            self._disk.call()
        except BaseException:
            self._file.write(content[: len(content) // 2])
            raise
        self._disk.buffered.add(os.fstat(self._file.fileno()).st_ino)
        return self._file.write(content)

    def flush(self) -> None:
        self._file.flush()
        self._disk.buffered.discard(os.fstat(self._file.fileno()).st_ino)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *_: Any) -> None:
        self._file.close()


def contents(root: Path) -> dict[str, bytes | None]:
    """Every file and folder (None) below a root."""
    return {str(p.relative_to(root)): p.read_bytes() if p.is_file() else None for p in sorted(root.rglob("*"))}


def run(action: Callable[[], Any], root: Path, fail_at: int = 0, failure: type[BaseException] = PowerCut) -> Disk:
    """Run an action on a disk that fails at a call; a power cut also loses half of what was not synced."""
    disk = Disk(fail_at, failure)
    with pytest.MonkeyPatch.context() as patch:
        disk.install(patch)
        with contextlib.suppress(PowerCut):
            action()
    if failure is PowerCut and disk.failed:
        for path in root.rglob("*"):
            if path.is_file() and path.stat().st_ino in disk.unsynced:
                os.truncate(path, path.stat().st_size // 2)
    return disk
