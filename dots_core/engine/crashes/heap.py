"""Malloc checking: writing outside a block of memory ends the process at once, not sometime later."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache

_LIBRARY = "libc_malloc_debug.so.0"
"""Part of the GNU C library since its version 2.34; without it the tunable does nothing there."""

_TUNABLE = "glibc.malloc.check=3"


CHECKING = ("LD_PRELOAD", "GLIBC_TUNABLES")
"""Environment variables that turn it on, when a process starts."""


def malloc_checking() -> dict[str, str] | None:
    """Return the environment of a process whose memory is checked; None where the C library cannot.

    What a framework takes from a pool of its own is checked where the pool's blocks end, not between tensors.
    """
    return _checking(dict(os.environ)) if _works() else None


def _checking(environment: dict[str, str]) -> dict[str, str]:
    preloaded = [part for part in environment.get("LD_PRELOAD", "").split(":") if part]
    tunables = [part for part in environment.get("GLIBC_TUNABLES", "").split(":") if part]
    return {
        **environment,
        "LD_PRELOAD": ":".join(dict.fromkeys([_LIBRARY, *preloaded])),
        "GLIBC_TUNABLES": ":".join(dict.fromkeys([*tunables, _TUNABLE])),
    }


@cache
def _works() -> bool:
    loaded = f"import sys; sys.exit({_LIBRARY!r} not in open('/proc/self/maps').read())"
    line, environment = [sys.executable, "-S", "-c", loaded], _checking(dict(os.environ))
    return subprocess.run(line, env=environment, stderr=subprocess.DEVNULL).returncode == 0
