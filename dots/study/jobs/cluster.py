"""Handing a study's runs to a cluster's scheduler through submitit, which is optional."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dots.study.jobs.processes import Job, dots_command, is_held, problem_in
from dots_core.errors import UsageError

_PAUSE = 1.0
"""Seconds between two looks at runs in another's hands."""


class Submitter:
    """Carries jobs out as one job array; a drop-in for `dots.study.jobs.processes.ProcessQueue`.

    Parameters
    ----------
    folder : Path
        Takes submitit's logs; it must be seen by all machines.
    parameters : mapping
        Of submitit's ``AutoExecutor.update_parameters``; ``cluster`` chooses the executor.
    report : callable
        Takes a line for the user.

    Raises
    ------
    UsageError
        If submitit is not installed or refuses a parameter.
    """

    def __init__(self, folder: Path, parameters: Mapping[str, Any], report: Callable[[str], None]) -> None:
        try:
            import submitit
        except ImportError:
            raise UsageError(
                "--submitit needs submitit, which is not installed; install it with: "
                "pip install 'submitit>=1.5', or print the commands for a scheduler with --commands"
            ) from None
        others = dict(parameters)
        try:
            self._executor = submitit.AutoExecutor(folder=folder, cluster=others.pop("cluster", None))
            self._executor.update_parameters(**others)
        except (TypeError, ValueError, NameError, RuntimeError) as error:
            what = next(iter(str(error).splitlines()), type(error).__name__)
            raise UsageError(f"submitit refuses its parameters (--submitit-set): {what}") from None
        self._command = submitit.helpers.CommandFunction
        self._report = report
        self.stopped: int | None = None
        """Signals are left to submitit; jobs that are submitted outlive this process."""

    def __call__(self, jobs: Sequence[Job]) -> dict[str, str]:
        """Submit jobs, wait for them and return what went wrong, by job.

        A job that another process has in hand, as one submitted before this study's predecessor was
        killed, is waited for and submitted only if that one ends without result. One that still
        waits in the scheduler's queue cannot be told from one that was never submitted.
        """
        problems: dict[str, str] = {}
        left = list(jobs)
        told: set[str] = set()
        while left:
            free = []
            for job in left:
                if not is_held(job.run):
                    free.append(job)
                elif job.name not in told:
                    told.add(job.name)
                    self._report(f"{job.name}: another process has it in hand; waiting for that one")
            # One that was held a moment ago may have come to its end.
            problems |= self._carry_out([job for job in free if not job.done])
            left = [job for job in left if not job.done and job.name not in problems]
            if left:
                time.sleep(_PAUSE)
        return problems

    def _carry_out(self, jobs: Sequence[Job]) -> dict[str, str]:
        if not jobs:
            return {}
        with self._executor.batch():
            submitted = [self._executor.submit(self._command([*dots_command(), *job.arguments])) for job in jobs]
        self._report(f"submitted {len(jobs)} jobs: {submitted[0].job_id} to {submitted[-1].job_id}")
        problems = {}
        for job, handle in zip(jobs, submitted, strict=True):
            error = handle.exception()
            if job.done:
                self._report(f"{job.name}: done")
            elif not is_held(job.run):  # else it was refused, because another process was quicker
                said = f"{handle.stderr() or ''}\n{error or ''}"
                what = problem_in(said) or "left no summary.json"
                problems[job.name] = f"job {handle.job_id}: {what}"
                self._report(f"{job.name}: {problems[job.name]}")
        return problems
