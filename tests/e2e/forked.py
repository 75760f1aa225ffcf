"""Running commands in processes forked from one that has loaded what they load (`forking`)."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path


class Processes:
    """Runs commands, each in a process of its own that has loaded engines already.

    Parameters
    ----------
    env : mapping
        Variables with which engines are loaded.
    engines : tuple of str
        Which.
    """

    def __init__(self, env: Mapping[str, str], *engines: str) -> None:
        self._env, self._engines = dict(env), engines
        self._server = self._start()

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("forking.py")), *self._engines],
            env=self._env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, what: Mapping[str, object], stdout: Path, stderr: Path, timeout: float) -> int:
        """Return the exit code; what is said goes to the end of the files, which may be one.

        Parameters
        ----------
        what : mapping
            ``arguments`` or ``python``, ``cwd`` and ``env``, as `forking` reads them.
        """
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        print(json.dumps({"stdout": str(stdout), "stderr": str(stderr), **what}), file=self._server.stdin, flush=True)
        ready, _, _ = select.select([self._server.stdout], [], [], timeout)
        answer = self._server.stdout.readline() if ready else ""
        if not answer:
            os.killpg(self._server.pid, signal.SIGKILL)
            self._server.wait()
            self._server = self._start()
        assert answer, f"no end within {timeout} s: {what}\n{stderr.read_text() if stderr.exists() else ''}"
        return int(answer)

    def close(self) -> None:
        assert self._server.stdin is not None
        self._server.stdin.close()
        try:
            self._server.wait(10)
        except subprocess.TimeoutExpired:
            self._server.kill()
