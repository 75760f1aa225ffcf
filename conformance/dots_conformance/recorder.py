"""Records bundles: one engine, many cases, in processes that may crash or hang."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from dots_conformance.bundle import CRASHED, MANIFEST, TIMED_OUT, Bundle, Ending, Manifest
from dots_conformance.case_forms import case_forms
from dots_conformance.cases import all_cases, select
from dots_conformance.thresholds import check_precision
from dots_core.engine.crashes.diagnosis import death, died_at
from dots_core.engine.protocol import Runtime
from dots_core.errors import EngineMissing, UsageError

TIME_LIMIT = 300.0
"""Seconds a case may take, compiling included."""

START_LIMIT = 900.0
"""Seconds an engine may take to load: Jittor compiles itself the first time."""

_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES",
    "ASCEND_RT_VISIBLE_DEVICES",
)

Watch = Callable[[str, int, int], None]
"""Told, before each case, its name, its number from 0 and how many there are."""


@dataclass(frozen=True)
class Job:
    """What to record.

    Attributes
    ----------
    device : str or None
        None for the engine's preferred one.
    cases : tuple of str
        Patterns (`dots_conformance.cases.select`).
    time_limit : float
        Seconds for each case.
    shared : Path or None
        Folder of what processes that record the same cases work out for each other.
    """

    backend: str
    device: str | None = None
    precision: str = "float32"
    seed: int = 0
    draw: int = 0
    cases: tuple[str, ...] = ()
    quick: bool = False
    time_limit: float = TIME_LIMIT
    shared: Path | None = None


def record(job: Job, folder: Path, watch: Watch = lambda *_: None) -> Bundle:
    """Record a bundle in a new or empty folder.

    Raises
    ------
    EngineMissing
        If the engine does not load; the message holds its last words.
    UsageError
        If it cannot compute at the precision, or the folder is not empty.
    """
    check_precision(job.precision)
    if folder.exists() and any(folder.iterdir()):
        held = "a bundle" if (folder / MANIFEST).exists() else "other files"
        raise UsageError(f"{folder} holds {held} already; give another --out")
    folder.mkdir(parents=True, exist_ok=True)
    names = list(select(all_cases(job.seed), job.cases, job.quick))
    manifest = Manifest(
        job.backend, job.device or "", job.precision, job.seed, job.draw, suite_version(), environment=_environment()
    )
    remaining = list(names)
    while remaining:
        done = _Worker(job, remaining, folder, manifest).run(lambda name: watch(name, names.index(name), len(names)))
        manifest.cases.update(done)
        remaining = [name for name in remaining if name not in done]
    manifest.cases = {name: manifest.cases[name] for name in names}
    bundle = Bundle(folder, manifest)
    bundle.write_manifest()
    return bundle


def suite_version() -> str:
    """Version of dots, which decides what the cases are."""
    try:
        return version("dots-nas")
    except PackageNotFoundError:
        return "unknown"


def _environment() -> dict[str, str]:
    found = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cpus": str(os.cpu_count()),
    }
    found.update({name: os.environ[name] for name in _VARIABLES if name in os.environ})
    return found


class _Worker:
    """One worker process, from its start to its end, whichever that is."""

    def __init__(self, job: Job, cases: list[str], folder: Path, manifest: Manifest) -> None:
        self._job, self._cases, self._folder, self._manifest = job, cases, folder, manifest
        self._done: dict[str, Ending] = {}
        self._ready = False
        self._current: str | None = None
        self._began = time.monotonic()

    def run(self, watch: Callable[[str], None]) -> dict[str, Ending]:
        """Return how the cases ended that were begun: all, or those up to the one that killed the process."""
        reader, writer = os.pipe()
        log = self._folder / "worker.log"
        with open(log, "ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "dots_conformance.worker"],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                pass_fds=(writer,),
                start_new_session=True,  # so that what it starts dies with it
            )
        os.close(writer)
        assert process.stdin is not None
        request = {
            "backend": self._job.backend,
            "device": self._job.device,
            "precision": self._job.precision,
            "seed": self._job.seed,
            "draw": self._job.draw,
            "cases": self._cases,
            "folder": str(self._folder),
            "shared": None if self._job.shared is None else str(self._job.shared),
            "report_to": writer,
        }
        with contextlib.suppress(BrokenPipeError), process.stdin as stdin:  # one that died at once is noticed below
            stdin.write(json.dumps(request).encode())
        timed_out = True
        try:
            timed_out = self._listen(reader, watch)
        finally:
            os.close(reader)
            _end(process, patience=0.0 if timed_out else 5.0)
        if not self._ready:
            how = "took too long" if timed_out else death(process.returncode)
            raise EngineMissing(
                f"the {self._job.backend} engine does not start: it {how}; its last words: {_tail(log)}"
            )
        if self._current is not None:
            seconds = round(time.monotonic() - self._began, 1)
            if timed_out:
                limit = self._job.time_limit
                self._done[self._current] = Ending(TIMED_OUT, seconds, f"it took more than {limit:g} s and was stopped")
            else:
                message = f"the process {self._end_of(process)}; its last words: {_tail(log)}"
                self._done[self._current] = Ending(CRASHED, seconds, message)
        elif not timed_out and len(self._done) < len(self._cases):
            raise EngineMissing(f"the {self._job.backend} engine's process {death(process.returncode)} between cases")
        return self._done

    def _end_of(self, process: subprocess.Popen[bytes]) -> str:
        """How a process ended in a case, with the layer it died of."""
        assert self._current is not None
        runtime = Runtime(self._manifest.device, self._job.precision)
        forms = case_forms(all_cases(self._job.seed)[self._current], runtime)
        return died_at(process.returncode, forms, self._job.backend, runtime)

    def _listen(self, reader: int, watch: Callable[[str], None]) -> bool:
        """Follow the reports to their end; return whether it was cut short by the time limit."""
        held = b""
        with selectors.DefaultSelector() as selector:
            selector.register(reader, selectors.EVENT_READ)
            while True:
                limit = self._job.time_limit if self._ready else START_LIMIT
                left = self._began + limit - time.monotonic()
                if left <= 0:
                    return True
                if not selector.select(left):
                    continue
                content = os.read(reader, 1 << 16)
                if not content:
                    return False
                *lines, held = (held + content).split(b"\n")
                for line in lines:
                    self._take(json.loads(line), watch)
                if self._ready and len(self._done) == len(self._cases):
                    return False  # without waiting for what a framework may have left running

    def _take(self, report: dict[str, Any], watch: Callable[[str], None]) -> None:
        self._began = time.monotonic()
        if "failed" in report:
            kind = EngineMissing if report["code"] == EngineMissing.exit_code else UsageError
            raise kind(report["failed"])
        if "ready" in report:
            self._ready = True
            self._manifest.versions, self._manifest.device = report["ready"], report["device"]
        elif "begin" in report:
            self._current = report["begin"]
            watch(report["begin"])
        else:
            name = report.pop("end")
            self._done[name] = Ending.of(report)
            self._current = None


def _end(process: subprocess.Popen[bytes], patience: float) -> None:
    """Make sure a process and what it started are gone; it has some seconds to leave by itself."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(patience)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _tail(log: Path) -> str:
    lines = log.read_text("utf-8", "replace").splitlines() if log.exists() else []
    return " | ".join(line.strip() for line in lines[-5:] if line.strip())[-600:] or "none"
