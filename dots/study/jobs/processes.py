"""A queue of plain processes: some runs at a time, each the ``dots`` command in a process of its own."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dots.console.signals import ending_by
from dots.run.deaths import run_died_at

_PAUSE = 0.05
"""Seconds between two looks at the processes."""

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Job:
    """A run to be carried out.

    Attributes
    ----------
    arguments : sequence of str
        Of ``dots``.
    run : Path
        The run directory; the run is done when ``summary.json`` stands in it.
    log : Path
        Takes what the process says on stderr.
    """

    name: str
    arguments: Sequence[str]
    run: Path
    log: Path

    @property
    def done(self) -> bool:
        """Whether the run has come to its end."""
        return (self.run / "summary.json").is_file()


def dots_command() -> list[str]:
    """Return the command line that starts the ``dots`` of this interpreter."""
    script = Path(sys.executable).with_name("dots")
    return [str(script)] if script.is_file() else [sys.executable, "-m", "dots"]


def cores() -> int:
    """Return how many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def divided_threads(jobs: int, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of one of several processes: the cores divided, or fewer where it says so already.

    ``OMP_NUM_THREADS`` bounds the others too: a library that follows another variable, as PyTorch
    does ``MKL_NUM_THREADS``, would otherwise go beyond what the user allowed.
    """
    share = _allowed(environment, "OMP_NUM_THREADS", max(1, cores() // jobs))
    return {**environment, **{name: str(_allowed(environment, name, share)) for name in _THREADS}}


def _allowed(environment: Mapping[str, str], name: str, most: int) -> int:
    given = environment.get(name, "")
    return min(most, int(given)) if given.isdigit() and int(given) > 0 else most


def is_held(run: Path) -> bool:
    """Whether another process has a run in hand (`dots.run_directory.layout.owned`)."""
    try:
        with open(run / ".lock", "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no lock file yet, or a file system without locks
        return False
    return False


@dataclass
class _Started:
    job: Job
    process: subprocess.Popen[bytes]
    began: float
    said: int
    """Length of the log before this process wrote to it."""
    told: int = 0
    """Signals passed on to it."""


class ProcessQueue:
    """Carries out jobs, some at a time.

    Parameters
    ----------
    jobs : int
        Processes at the same time.
    report : callable
        Takes a line for the user.
    """

    def __init__(self, jobs: int, report: Callable[[str], None]) -> None:
        self._limit = jobs
        self._report = report
        self._running: list[_Started] = []
        self._held: list[Job] = []
        self.stopped: int | None = None
        """The signal that ended the queue early."""
        self._signalled = 0

    def __call__(self, jobs: Sequence[Job]) -> dict[str, str]:
        """Carry jobs out; return what went wrong, by job.

        A job that another process has in hand, as one begun before this queue's predecessor was
        killed, is waited for. After a signal no job begins, those running are asked to save and
        end, and `stopped` says so.
        """
        waiting = list(jobs)
        problems: dict[str, str] = {}
        self._held = []
        with ending_by(self._told):
            try:
                while ((waiting or self._held) and self.stopped is None) or self._running:
                    while waiting and len(self._running) < self._limit and self.stopped is None:
                        self._begin(waiting.pop(0))
                    self._pass_signals_on()
                    self._look_at_held(waiting)
                    for started in [s for s in self._running if s.process.poll() is not None]:
                        self._running.remove(started)
                        self._end(started, problems)
                    time.sleep(_PAUSE)
            except BaseException:
                for started in self._running:
                    started.process.terminate()
                raise
        return problems

    def _begin(self, job: Job) -> None:
        if is_held(job.run):
            self._hold(job)
            return
        job.log.parent.mkdir(exist_ok=True)
        with open(job.log, "ab") as log:
            said = log.tell()
            process = subprocess.Popen(
                [*dots_command(), *job.arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=divided_threads(self._limit, os.environ),
                # Ctrl-C reaches a terminal's whole process group; ours passes it on once, since a
                # second one would end a run without saving.
                start_new_session=True,
            )
        self._running.append(_Started(job, process, time.monotonic(), said))

    def _hold(self, job: Job) -> None:
        self._report(f"{job.name}: another process has it in hand; waiting for that one")
        self._held.append(job)

    def _look_at_held(self, waiting: list[Job]) -> None:
        for job in [j for j in self._held if not is_held(j.run)]:
            self._held.remove(job)
            if not job.done:
                waiting.insert(0, job)

    def _end(self, started: _Started, problems: dict[str, str]) -> None:
        job, code = started.job, started.process.returncode
        if job.done:
            self._report(f"{job.name}: done in {time.monotonic() - started.began:.0f} s")
        elif is_held(job.run):
            self._hold(job)  # it was refused, because another process was quicker
        elif self.stopped is None:
            problems[job.name] = _problem(started, code)
            self._report(f"{job.name}: {problems[job.name]}")

    def _pass_signals_on(self) -> None:
        for started in self._running:
            if started.told < self._signalled and self.stopped is not None:
                started.process.send_signal(self.stopped)
                started.told = self._signalled

    def _told(self, number: int) -> None:
        """Pass Ctrl-C and SIGTERM on to the processes, which save and end."""
        self.stopped = number
        self._signalled += 1


def _problem(started: _Started, code: int) -> str:
    if code < 0:
        return f"{run_died_at(code, started.job.run)}; what it had saved stands"
    with open(started.job.log, "rb") as log:
        log.seek(started.said)
        said = log.read().decode("utf-8", "replace")
    return problem_in(said) or f"ended with code {code} and said nothing"


def problem_in(said: str) -> str:
    """Return the error that ``dots`` named in what it said, else the last line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line.partition("dots: error: ")[2] for line in lines if "dots: error: " in line]
    return (errors or lines or [""])[-1]
