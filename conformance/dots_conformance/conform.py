"""Everything in one go: record the engines and the reference, each in processes of its own, and compare."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from dots_conformance.bundle import Bundle
from dots_conformance.cases import all_cases, select
from dots_conformance.comparison import Comparison, compare
from dots_conformance.recorder import TIME_LIMIT, Job, record
from dots_conformance.rounding import DRAWS
from dots_conformance.thresholds import DRAWN, check_precision
from dots_core.engine.registry import choose_backend
from dots_core.errors import UsageError

Watch = Callable[[str, str, int, int], None]
"""Told whose case begins, its name, its number from 0 and how many there are."""


@dataclass(frozen=True)
class Request:
    """What to compare.

    Attributes
    ----------
    backends : tuple of str
    device : str or None
        Of all of them; None for each engine's preferred one.
    cases : tuple of str
        Patterns (`dots_conformance.cases.select`).
    jobs : int
        How many engines record at the same time.
    """

    backends: tuple[str, ...]
    device: str | None = None
    precision: str = "float32"
    seed: int = 0
    cases: tuple[str, ...] = ()
    quick: bool = False
    time_limit: float = TIME_LIMIT
    jobs: int = field(default_factory=lambda: max(1, min(4, os.cpu_count() or 1)))


def conform(request: Request, folder: Path, watch: Watch = lambda *_: None) -> Comparison:
    """Record and compare; bundles stay in the folder, one a subfolder.

    Raises
    ------
    EngineMissing
        If an engine that was named is not installed or does not start.
    UsageError
        If a name or pattern is unknown, or an engine cannot compute at the precision.
    """
    if len(set(request.backends)) != len(request.backends):
        raise UsageError(f"a backend is named twice in {', '.join(request.backends)}")
    check_precision(request.precision)
    backends = [choose_backend(name).name for name in request.backends]
    select(all_cases(request.seed), request.cases, request.quick)
    everything = Job("reference", request.device, request.precision, request.seed, 0, request.cases, request.quick)
    with tempfile.TemporaryDirectory() as shared:
        bundles = _record(
            replace(everything, time_limit=request.time_limit, shared=Path(shared)),
            backends,
            request.jobs,
            folder,
            watch,
        )
    return compare(bundles, watch=lambda case, number, count: watch("comparison", case, number, count))


def _record(common: Job, backends: list[str], at_once: int, folder: Path, watch: Watch) -> list[Bundle]:
    """Record the engines and what the reference is needed for to judge them."""
    jobs = {f"{name}-{common.precision}": replace(common, backend=name) for name in backends if name != "reference"}
    # The reference bundles come last: an engine that does not start is known before they are made.
    reference = replace(common, device="cpu")
    jobs["reference-float64"] = replace(reference, precision="float64")
    drawn = DRAWN[common.precision]
    for draw in range(DRAWS):
        jobs[f"reference-{drawn}-draw{draw}"] = replace(reference, precision=drawn, draw=draw)

    def one(name: str) -> Bundle:
        return record(jobs[name], folder / name, lambda case, number, count: watch(name, case, number, count))

    with ThreadPoolExecutor(at_once) as pool:
        futures = [pool.submit(one, name) for name in jobs]
        try:
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
