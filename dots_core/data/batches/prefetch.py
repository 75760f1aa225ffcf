"""Preparing the next items in a thread while the present one is in use."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from queue import Empty, Queue
from typing import TypeVar

Item = TypeVar("Item")

_DEPTH = 3


class _Failure:
    def __init__(self, error: BaseException) -> None:
        self.error = error


class _End:
    pass


def prefetched(make: Callable[[int], Item], start: int, stop: int) -> Iterator[Item]:
    """Yield ``make(start)`` … ``make(stop - 1)``, made up to a few ahead by one background thread.

    An exception in the thread is raised here, in its turn. The thread starts with the first
    item asked for and has ended when the iterator is exhausted or closed.
    """
    ready: Queue[Item | _Failure | _End] = Queue(_DEPTH)
    closing = threading.Event()

    def work() -> None:
        try:
            for number in range(start, stop):
                if closing.is_set():
                    return
                ready.put(make(number))
            ready.put(_End())
        except BaseException as error:
            ready.put(_Failure(error))

    thread = threading.Thread(target=work, name="dots-prefetch", daemon=True)
    thread.start()
    try:
        while True:
            item = ready.get()
            if isinstance(item, _Failure):
                raise item.error
            if isinstance(item, _End):
                return
            yield item
    finally:
        closing.set()
        # Room for the item the thread may be waiting to hand over and for its last word.
        while True:
            try:
                ready.get_nowait()
            except Empty:
                break
        thread.join()
