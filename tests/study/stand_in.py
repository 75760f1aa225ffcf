"""A stand-in for ``dots train``: leaves what a run leaves, in milliseconds, with an accuracy made of its name.

Run as a script it takes the arguments of ``dots`` and behaves like it: it creates the run or goes on
with it, holds its lock, logs its events, saves and ends when asked to. ``STAND_IN_SECONDS`` says how
long it takes, ``STAND_IN_UNTIL`` names a file that it waits for, ``STAND_IN_FAILS`` names runs that fail.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import sys
import time
from itertools import pairwise
from pathlib import Path


def accuracy_of(name: str) -> float:
    """Return the accuracy a run of this name reports; coarse, so that some are equal."""
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % 50 / 50


def options_of(arguments: list[str]) -> dict[str, str]:
    """Return the last value of every option."""
    return {a: b for a, b in pairwise(arguments) if a.startswith("--")}


def begin(arguments: list[str]) -> Path:
    """Create the run directory, or take it up, and log so."""
    options = options_of(arguments)
    run = Path(options["--out"])
    event = "resumed" if run.exists() else "started"
    run.mkdir(exist_ok=True)
    config = {"kind": arguments[0], "data": "digits", "channels": 4, "layers": 3, "auxiliary": False}
    config["cell"] = json.loads(Path(options["--cell"]).read_text())
    (run / "config.yaml").write_text(json.dumps(config))
    (run / "run.json").write_text(json.dumps({"format": "dots-run", "version": 1, "kind": arguments[0]}))
    with open(run / "events.jsonl", "a") as file:
        file.write(json.dumps({"event": event}) + "\n")
    return run


def finish(run: Path) -> None:
    """Write what ends a run."""
    (run / "summary.json.new").write_text(json.dumps({"accuracy": accuracy_of(run.name)}))
    os.replace(run / "summary.json.new", run / "summary.json")


def events(study: Path) -> dict[str, list[str]]:
    """Return the events of every run of a study."""
    return {
        path.parent.name: [json.loads(line)["event"] for line in path.read_text().splitlines()]
        for path in sorted(study.glob("runs/*/events.jsonl"))
    }


def carry_out(jobs) -> dict[str, str]:
    """Do jobs in this process, as a runner of `dots.study.jobs.execute`."""
    for job in jobs:
        finish(begin(list(job.arguments)))
    return {}


def main() -> None:
    name = Path(options_of(sys.argv)["--out"]).name
    if name in os.environ.get("STAND_IN_FAILS", "").split(","):
        sys.exit("dots: error: the loss became nan")
    stopping = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: stopping.append(number))
    run = begin(sys.argv[1:])
    with open(run / ".lock", "a+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # A process queue always sets it, a scheduler need not.
        (run / "threads").write_text(os.environ.get("OMP_NUM_THREADS", ""))
        end = time.monotonic() + float(os.environ.get("STAND_IN_SECONDS", "0"))
        awaited = os.environ.get("STAND_IN_UNTIL")
        while time.monotonic() < end or (awaited and not Path(awaited).exists()):
            if stopping:
                (run / "saved").touch()
                sys.exit(128 + stopping[0])
            time.sleep(0.01)
        finish(run)


if __name__ == "__main__":
    main()
