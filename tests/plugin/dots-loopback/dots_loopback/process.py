"""The other process, as seen from this one."""

from __future__ import annotations

import atexit
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from numpy.typing import NDArray

from dots_core import errors
from dots_loopback.wire import Arrays, Record, receive, send


class Process:
    """A process that answers for the reference engine. It starts with the first question and ends with this process.

    Attributes
    ----------
    forgotten : list of int
        Networks that nobody holds any more; the next question tells the other side.
    """

    def __init__(self) -> None:
        self.forgotten: list[int] = []
        self._popen: subprocess.Popen[bytes] | None = None

    def ask(
        self, verb: str, record: Mapping[str, Any] = {}, arrays: Mapping[str, NDArray[Any]] = {}
    ) -> tuple[Record, Arrays]:
        """Send a question and wait for the answer.

        Raises
        ------
        DotsError
            Of the class that the other side raised; or if the other side has ended.
        """
        popen = self._popen = self._popen or self._start()
        assert popen.stdin
        assert popen.stdout
        # One by one: another network may be dropped in between.
        forgotten = [self.forgotten.pop() for _ in range(len(self.forgotten))]
        try:
            send(popen.stdin, {**record, "verb": verb, "forgotten": forgotten}, arrays)
            answer, found = receive(popen.stdout)
        except (EOFError, BrokenPipeError):
            raise errors.DotsError(
                f"the process of the loopback engine ended with code {popen.wait()} while '{verb}' was asked of it; "
                "what it wrote before stands above; resume the run in a new process"
            ) from None
        except BaseException:
            popen.kill()  # interrupted in between, it would answer the next question with this one's answer
            raise
        if "error" in answer:
            raise getattr(errors, answer["error"])(answer["message"])
        return answer, found

    def _start(self) -> subprocess.Popen[bytes]:
        # The same path: whatever this process can import, the other can.
        code = f"import sys; sys.path = {sys.path!r}; from dots_loopback.far_side import main; main()"
        # A session of its own: Ctrl-C is for this process, which may want a few more answers before it ends.
        popen = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        atexit.register(_end, popen)
        return popen


def _end(popen: subprocess.Popen[bytes]) -> None:
    assert popen.stdin
    with suppress(BrokenPipeError):
        popen.stdin.close()  # which the other side takes as its end
    popen.wait()
