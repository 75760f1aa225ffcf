"""The process in which an engine records cases; whatever happens to it, the recorder goes on.

Run by `dots_conformance.recorder` as ``python -m dots_conformance.worker``. The job comes as JSON
on stdin; reports go as JSON lines to the file descriptor named in the job, since frameworks
print what they like to stdout.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from dots_conformance.bundle import RAISED, RECORDED, REFUSED, write_recording
from dots_conformance.cases import all_cases
from dots_conformance.rounding import RoundingDraw
from dots_core.engine.protocol import Engine, Runtime
from dots_core.engine.registry import choose_backend, load_engine
from dots_core.errors import DotsError


def main() -> None:
    """Read a job from stdin and carry it out."""
    job = json.load(sys.stdin)
    with os.fdopen(job["report_to"], "w", buffering=1) as reports:
        work(job, reports)


def work(job: dict[str, Any], reports: Any) -> None:
    """Record the job's cases one after the other.

    Reports are ``{"ready": versions, "device": …}`` or ``{"failed": message, "code": …}`` once,
    then ``{"begin": case}`` and ``{"end": case, "status": …, …}`` for every case.
    """

    def report(**record: Any) -> None:
        reports.write(json.dumps(record) + "\n")

    try:
        engine = _engine(job)
        device = job["device"] or engine.devices()[0].name
        runtime = Runtime(device, job["precision"])
        engine.check(runtime)
        report(ready=engine.versions(), device=device)
    except DotsError as error:
        report(failed=str(error), code=error.exit_code)
        return
    cases = all_cases(job["seed"], None if job["shared"] is None else Path(job["shared"]))
    for name in job["cases"]:
        report(begin=name)
        started = time.perf_counter()
        decisions: list[dict[str, Any]] = []
        digest = message = ""
        try:
            recording = cases[name].record(engine, runtime)
            decisions, digest = list(recording.decisions), write_recording(Path(job["folder"]), name, recording)
            status = RECORDED
        except DotsError as error:
            status, message = REFUSED, str(error)
        except Exception as error:
            status, message = RAISED, f"{type(error).__name__}: {error}"
        seconds = round(time.perf_counter() - started, 4)
        report(end=name, status=status, seconds=seconds, message=message, decisions=decisions, sha256=digest)


def _engine(job: dict[str, Any]) -> Engine:
    if job["backend"] == "reference" and job["draw"]:
        return RoundingDraw(job["draw"])
    return load_engine(choose_backend(job["backend"]).name)


if __name__ == "__main__":
    main()
