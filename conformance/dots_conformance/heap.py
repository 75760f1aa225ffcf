"""Malloc checking: writing outside a block of memory ends the process at once, not sometime later."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache

_LIBRARY = "libc_malloc_debug.so.0"
"""Part of the GNU C library since its version 2.34; without it the tunable does nothing there."""

_TUNABLE = "glibc.malloc.check=3"


@cache
def malloc_checking() -> dict[str, str] | None:
    """Return the environment of a process whose memory is checked; None where the C library cannot.

    What a framework takes from a pool of its own is checked where the pool's blocks end, not between tensors.
    """
    preloaded = [part for part in os.environ.get("LD_PRELOAD", "").split(":") if part]
    tunables = [part for part in os.environ.get("GLIBC_TUNABLES", "").split(":") if part]
    environment = {
        **os.environ,
        "LD_PRELOAD": ":".join(dict.fromkeys([_LIBRARY, *preloaded])),
        "GLIBC_TUNABLES": ":".join(dict.fromkeys([*tunables, _TUNABLE])),
    }
    loaded = f"import sys; sys.exit({_LIBRARY!r} not in open('/proc/self/maps').read())"
    try:
        tried = subprocess.run([sys.executable, "-S", "-c", loaded], env=environment, stderr=subprocess.DEVNULL)
    except OSError:
        return None
    return environment if tried.returncode == 0 else None
