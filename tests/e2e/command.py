"""Running the ``dots`` command, in a process of its own."""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from forked import Processes

TINY = [
    "train_images=96", "test_images=40", "batch=16", "channels=2", "space.nodes=2",
    "operation.epochs=2", "operation.warmup=1", "operation.layers=3",
    "topology.epochs=2", "topology.warmup=1", "topology.layers=3", "checkpoint_every=2",
]  # fmt: skip
"""Settings that make the smoke search a matter of a second or two."""

TINY_TRAINING = [
    "train_images=96",
    "test_images=40",
    "batch=16",
    "channels=4",
    "epochs=3",
    "layers=3",
    "checkpoint_every=2",
]


def command(*arguments: str | Path) -> list[str]:
    """Return the command line of ``dots``, the one installed beside this interpreter."""
    return [str(Path(sys.executable).with_name("dots")), *map(str, arguments)]


def settings(values: list[str]) -> list[str]:
    """Return ``--set`` options."""
    return [part for value in values for part in ("--set", value)]


def environment() -> dict[str, str]:
    """Return an environment in which a run computes on one thread, so that tests do not disturb each other."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NO_COLOR": "1"}


def installed(
    *arguments: str | Path, cwd: Path | None = None, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run the installed ``dots`` to its end, as a user would."""
    return subprocess.run(
        command(*arguments), cwd=cwd, env=environment(), text=True, capture_output=True, timeout=timeout
    )


def dots(
    *arguments: str | Path, cwd: Path | None = None, more: Mapping[str, str] | None = None, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run ``dots`` to its end in a process that finds the engine it names, and what any run needs, loaded.

    Parameters
    ----------
    more : mapping, optional
        Variables of the environment beside those of `environment`.
    """
    words = [str(argument) for argument in arguments]
    engine = words[words.index("--backend") + 1] if "--backend" in words else ""
    what = {"arguments": words, "cwd": str(cwd or Path.cwd()), "env": {**environment(), **(more or {})}}
    with tempfile.TemporaryDirectory() as folder:
        said = [Path(folder) / name for name in ("stdout", "stderr")]
        code = _processes(engine if engine in PRELOADED else "").run(what, *said, timeout=timeout)
        return subprocess.CompletedProcess(words, code, *(path.read_text("utf-8") for path in said))


PRELOADED = ("torch", "mindspore", "jittor")


@cache
def _processes(engine: str) -> Processes:
    """Processes with an engine loaded, or none."""
    found = Processes(environment(), *filter(None, [engine]))
    atexit.register(found.close)
    return found


def tiny_search(backend: str, out: Path, *more: str | Path) -> list[str | Path]:
    """Return the arguments of a search that takes a second or two."""
    return ["search", "--backend", backend, "--preset", "smoke", *settings(TINY), "--out", out, *more]


def tiny_training(backend: str, out: Path, *more: str | Path) -> list[str | Path]:
    """Return the arguments of a training that takes a second or two."""
    cell = ["--cell", "DARTS_V2"]
    return ["train", "--backend", backend, "--preset", "smoke", *cell, *settings(TINY_TRAINING), "--out", out, *more]


def contents(run: Path) -> dict[str, bytes]:
    """Return every file of a run that must be the same in every repetition: all but the log with its times."""
    skipped = {"events.jsonl", ".lock"}
    return {
        str(path.relative_to(run)): path.read_bytes()
        for path in sorted(run.rglob("*"))
        if path.is_file() and path.name not in skipped
    }
