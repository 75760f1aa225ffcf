"""The signals by which a command is asked to end."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def ending_by(handle: Callable[[int], None]) -> Iterator[None]:
    """Have Ctrl-C (SIGINT) and SIGTERM call a function with their number, in the main thread.

    What the process was begun to ignore stays ignored: a shell has what it puts into the background ignore Ctrl-C,
    which is meant for what stands before it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, lambda number, _: handle(number)) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
