"""Arrays that several processes need and one of them works out: the states from which single steps begin."""

from __future__ import annotations

import fcntl
import re
from collections.abc import Callable
from pathlib import Path

from dots_core.engine.protocol import State
from dots_core.storage.atomic import write_atomic
from dots_core.storage.checkpoint import pack_arrays, unpack_arrays


def handed(folder: Path | None, name: str, work_out: Callable[[], State]) -> State:
    """Return what was worked out under a name, by this process or another; the second waits for the first.

    Parameters
    ----------
    folder : Path or None
        Where processes leave it for each other; None: nobody else needs it.
    """
    if folder is None:
        return work_out()
    path = folder / (re.sub(r"[^A-Za-z0-9._-]+", "__", name) + ".safetensors")
    # The lock goes with the process that holds it, however that ends.
    with open(path.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            write_atomic(path, pack_arrays(work_out()))
        return unpack_arrays(path.read_bytes(), path)
