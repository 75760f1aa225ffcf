"""Carries a study out: plans its waves, has their runs done, and writes what they found."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dots.study.archive import Archive
from dots.study.jobs.processes import Job
from dots.study.scale import StudyRun
from dots.study.study import Study
from dots_core.errors import DotsError
from dots_core.storage.atomic import write_atomic

Runner = Callable[[Sequence[Job]], dict[str, str]]


class StudyInterrupted(DotsError):
    """The study was asked to stop and did; it can go on."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True)
class Executed:
    """Where a study stands.

    Attributes
    ----------
    runs : tuple of StudyRun
        All that could be planned.
    problems : dict
        What went wrong, by run.
    missing : tuple of str
        Runs without a result, and what could not be planned for want of one.
    """

    runs: tuple[StudyRun, ...]
    problems: dict[str, str]
    missing: tuple[str, ...]


def command_line(run: StudyRun, folder: Path) -> str:
    """Return a run's command as it is typed into a shell."""
    return shlex.join(["dots", *run.arguments(folder)])


def next_runs(study: Study, folder: Path) -> tuple[StudyRun, ...]:
    """Return the runs of the first wave that is not done yet, those done left out; none if all is done.

    The commands of every run planned so far are written to ``commands.txt``, one a line.
    """
    archive = Archive(folder)
    known: list[StudyRun] = []
    for number in range(study.waves()):
        wave = study.wave(number, archive)
        known += wave.runs
        todo = tuple(run for run in wave.runs if not archive.done(run.name))
        _write_commands(known, folder)
        if todo:
            return todo
    return ()


def execute(study: Study, folder: Path, runner: Runner, interrupted: Callable[[], bool]) -> Executed:
    """Have every run done that is not done yet.

    Parameters
    ----------
    runner : callable
        Carries out jobs and returns what went wrong, by job.
    interrupted : callable
        Whether the runner was told to stop; no further wave begins then.
    """
    archive = Archive(folder)
    known: list[StudyRun] = []
    problems: dict[str, str] = {}
    waiting: list[str] = []
    for number in range(study.waves()):
        wave = study.wave(number, archive)
        known += wave.runs
        waiting += wave.waiting
        _write_commands(known, folder)
        todo = [run for run in wave.runs if not archive.done(run.name)]
        if not interrupted():
            problems |= runner([_job(run, folder) for run in todo])
    missing = [run.name for run in known if not archive.done(run.name)]
    return Executed(tuple(known), problems, (*missing, *waiting))


def _job(run: StudyRun, folder: Path) -> Job:
    return Job(run.name, run.arguments(folder), folder / "runs" / run.name, folder / "logs" / f"{run.name}.txt")


def _write_commands(runs: Sequence[StudyRun], folder: Path) -> None:
    write_atomic(folder / "commands.txt", "".join(f"{command_line(run, folder)}\n" for run in runs))
