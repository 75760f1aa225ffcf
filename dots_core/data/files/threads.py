"""Sharing work that lets go of the interpreter lock, as decoding does, among a few threads."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

_MOST = 16


def workers() -> int:
    """Return how many threads are worth having on this machine."""
    return min(_MOST, os.cpu_count() or 1)


def run_all(work: Callable[[int], None], starts: range, count: int) -> None:
    """Run ``work`` from each start and return when all have ended.

    Parameters
    ----------
    work : callable (start) -> None
    starts : range
    count : int
        Threads; 1 for none.

    Raises
    ------
    Exception
        What ``work`` raised. Of several failures the first in the order of ``starts``, whatever
        ran first.
    """
    if count == 1 or len(starts) <= 1:
        for start in starts:
            work(start)
        return
    with ThreadPoolExecutor(min(count, len(starts)), thread_name_prefix="dots-data") as pool:
        futures = [pool.submit(work, start) for start in starts]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
