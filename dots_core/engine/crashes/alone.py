"""Layer forms, each run alone in a process that may die of it: which form does an engine's process die of?

Started as ``python -m dots_core.engine.crashes.alone JOURNAL``, this module is that process. The job comes
pickled on stdin, from the process that started it. The journal gets a line for each form, its number,
before it runs: the last line of a process that died names what killed it.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from dots_core.engine.crashes.forms import Form
from dots_core.engine.crashes.heap import CHECKING, malloc_checking
from dots_core.engine.protocol import Engine, Runtime, State
from dots_core.engine.registry import load_engine

CHILD = (sys.executable, "-m", "dots_core.engine.crashes.alone")

FAR = 0.02
"""Relative distance from the reference beyond which a form is called wrong; conformance judges the rest."""

NEAR = 1e-3
"""Distance, by the root of the number of values, that is rounding: of a gradient that should be 0, say."""

FORM_LIMIT = 300.0
"""Seconds a form may take, kernels compiled for it included."""

START_LIMIT = 900.0
"""Seconds an engine may take to load: Jittor compiles itself the first time."""

FAULTS = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)
"""Signals a process gets for what it did itself; others come from outside."""


@dataclass(frozen=True)
class Job:
    """What to run alone.

    Attributes
    ----------
    judged : bool
        Whether outputs and gradients are compared, loosely, with the reference engine's.
    """

    backend: str
    forms: tuple[Form, ...]
    device: str = "cpu"
    precision: str = "float32"
    judged: bool = False


@dataclass
class Outcome:
    """What became of the forms.

    Attributes
    ----------
    begun : int
        How many forms were run or died.
    deaths : list of (Form, str)
        Forms the process died of, or did not come back from, and how: ``"was killed by SIGSEGV"``.
    wrong : list of (Form, str)
        Forms that raised, or whose results were not finite or far from the reference's.
    said : str
        The last words of a process that ended before it ran any form, else empty.
    """

    begun: int = 0
    deaths: list[tuple[Form, str]] = field(default_factory=list)
    wrong: list[tuple[Form, str]] = field(default_factory=list)
    said: str = ""


def run_alone(
    job: Job,
    most_deaths: int = 1,
    child: Sequence[str] = CHILD,
    form_limit: float = FORM_LIMIT,
    start_limit: float = START_LIMIT,
) -> Outcome:
    """Run forms one after the other, under malloc checking where there is such a thing.

    Parameters
    ----------
    most_deaths : int
        After so many it is enough; before, a process that died is followed by one for the forms left.
    child : sequence of str
        Command line of the process.
    form_limit, start_limit : float
        Seconds for a form, and for the engine to load. Damaged memory can make a process loop, too.
    """
    outcome = Outcome()
    with tempfile.TemporaryDirectory() as folder:
        while outcome.begun < len(job.forms) and len(outcome.deaths) < most_deaths and not outcome.said:
            left = replace(job, forms=job.forms[outcome.begun :])
            journal, words = Path(folder) / "journal", Path(folder) / "words"
            journal.write_text("")
            with open(words, "wb") as log:
                started = subprocess.Popen(
                    [*child, str(journal)],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    env=malloc_checking(),
                    start_new_session=True,
                )
                try:
                    with contextlib.suppress(BrokenPipeError), started.stdin as stdin:  # type: ignore[union-attr]
                        pickle.dump(left, stdin)
                    how = _wait(started, journal, form_limit, start_limit)
                finally:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(started.pid, signal.SIGKILL)
                    started.wait()
            begun = _read(journal, left.forms, outcome)
            if how and begun:
                outcome.deaths.append((left.forms[begun - 1], how))
            elif how:
                outcome.said = f"it {how}: {words.read_text('utf-8', 'replace').strip()}"
    return outcome


def _wait(process: subprocess.Popen[bytes], journal: Path, form_limit: float, start_limit: float) -> str:
    """Wait for a process as long as it goes on; return how it ended if not well."""
    length, since = 0, time.monotonic()
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = process.wait(0.1)
            return death(code) if code else ""
        if journal.stat().st_size != length:
            length, since = journal.stat().st_size, time.monotonic()
        limit = form_limit if length else start_limit
        if time.monotonic() - since > limit:
            return f"did not end within {limit:g} s"


def _read(journal: Path, forms: Sequence[Form], outcome: Outcome) -> int:
    """Take over what a process noted; return how many forms it began."""
    begun = 0
    for line in journal.read_text("utf-8").splitlines():
        number, _, problem = line.partition(" ")
        begun = int(number) + 1
        if problem:
            outcome.wrong.append((forms[begun - 1], problem))
    outcome.begun += begun
    return begun


def death(code: int | None) -> str:
    """Say how a process ended that ended with a code that is not 0."""
    if code is not None and code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with code {code}"


def main() -> None:
    """Run the forms of the job on stdin, as the process that may die."""
    job: Job = pickle.load(sys.stdin.buffer)
    # A library bound deeply, as Jittor binds its own, would free by the C library what the checked malloc gave.
    vars(os)["RTLD_DEEPBIND"] = 0
    # What an engine starts, a compiler above all, need not be checked, and would take minutes.
    for name in CHECKING:
        os.environ.pop(name, None)
    engine, runtime = load_engine(job.backend), Runtime(job.device, job.precision)
    reference = load_engine("reference") if job.judged else None
    journal = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)
    for number, form in enumerate(job.forms):
        os.write(journal, f"{number}\n".encode())
        problem = _problem(form, engine, runtime, reference)
        if problem:
            os.write(journal, f"{number} {problem}\n".encode())
    # Without what a framework does at its end, which is no form's concern.
    os._exit(0)


def _problem(form: Form, engine: Engine, runtime: Runtime, reference: Engine | None) -> str:
    try:
        found = form.run(engine, runtime)
    except Exception as error:
        return " ".join(f"{type(error).__name__}: {error}".split())
    unfinished = [name for name, values in found.items() if not np.isfinite(values).all()]
    if unfinished:
        return f"{unfinished[0]} is not finite"
    if reference is None:
        return ""
    return _far(found, form.run(reference, Runtime(precision="float64")))


def _far(found: State, true: State) -> str:
    for name, expected in true.items():
        distance = np.linalg.norm(found[name].astype(np.float64) - expected)
        if not distance <= FAR * np.linalg.norm(expected) + NEAR * np.sqrt(expected.size):
            return f"{name} is {distance:.2g} away from the reference's, whose norm is {np.linalg.norm(expected):.2g}"
    return ""


if __name__ == "__main__":
    # By its own name, under which the job was pickled.
    from dots_core.engine.crashes import alone

    alone.main()
