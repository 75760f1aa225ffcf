"""What a run will need, before it begins."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from dots.run.api import Prepared
from dots.run.capacity import gibibytes, memory_needed, memory_there, networks
from dots_core.data.on_demand import OnDemand
from dots_core.engine.protocol import Network, Rates
from dots_core.errors import printable
from dots_core.network.counts import mac_count, parameter_count
from dots_core.network.spec import NetworkSpec
from dots_core.plan.plan import Phase, Plan, Stage
from dots_core.search.batches import BatchSource, endless
from dots_core.search.step import Stepper, StepPosition

_TIMED_STEPS = 4
_SECONDS = 10.0
"""Of measuring, all phases together."""

_FEWEST_SECONDS = 0.5
"""Of measuring a phase, whatever those before it took."""

_FEW_IMAGES = 4
"""Of the batch that tells how long a whole one would take."""

DECODED_AT_MOST = 4096
"""Images of a split up to which an estimate decodes all: those that a mean is taken over of a larger one."""


def estimate(prepared: Prepared) -> dict[str, Any]:
    """Describe the images and each stage's network, and estimate memory and time; writes nothing.

    The time of a step is measured on the engine itself, on real batches, or where those take long on
    small ones.

    Returns
    -------
    dict
        ``data``: the images, those of each split, and what was passed over. ``stages``: for each
        stage its parameters, MACs (multiply-accumulates of one image), memory in bytes, steps and
        seconds; ``seconds`` in all; None where a step takes too long to be timed.
        ``device_memory_bytes``: None if it is not known.
    """
    plan, data = prepared.plan, prepared.data
    clock = _Clock(_SECONDS, sum(len(stage.phases) for stage in plan.stages))
    stages = [_stage(prepared, stage, spec, clock) for stage, spec in networks(plan, len(data.classes), data.shape)]
    return {
        "backend": prepared.engine.name,
        "device": plan.runtime.device,
        "device_memory_bytes": memory_there(prepared.engine, plan.runtime.device),
        "data": {
            "name": data.name,
            "summary": data.summary,
            "classes": len(data.classes),
            "shape": list(data.shape),
            "images": {"train": len(data.train), "test": len(data.test)},
            # Of a larger one that is not in memory, only samples were decoded.
            "sampled": [name for name in ("train", "test") if isinstance(getattr(data, name).images, OnDemand)],
            "passed_over": data.account.passed_over_records(),
            "warnings": list(data.warnings),
        },
        "out": str(prepared.out),
        "stages": stages,
        "seconds": _sum(stage["seconds"] for stage in stages),
    }


class _TimeUp(Exception):
    """A step takes longer than there is time to measure it."""


class _Clock:
    """Shares the time for measuring out among phases; what one leaves is the others'."""

    def __init__(self, seconds: float, phases: int) -> None:
        self._end = time.monotonic() + seconds
        self._phases = phases

    def share(self) -> float:
        """Return the seconds of the next phase."""
        share = max((self._end - time.monotonic()) / self._phases, _FEWEST_SECONDS)
        self._phases -= 1
        return share


@contextlib.contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raise `_TimeUp` where what is done takes longer, in the main thread of a program, which alone hears alarms.

    It is raised wherever the program happens to be, so nothing that must be seen to its end, such as the
    starting of a thread, is to be done within.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(number: int, frame: object) -> None:
        raise _TimeUp

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        try:
            signal.setitimer(signal.ITIMER_REAL, 0)
        finally:  # also where the alarm rings as late as here
            signal.signal(signal.SIGALRM, before)


def _sum(seconds: Iterable[float | None]) -> float | None:
    """Add seconds up; what could not be measured makes the sum unknown."""
    known = list(seconds)
    return None if None in known else sum(each for each in known if each is not None)


def _stage(prepared: Prepared, stage: Stage, spec: NetworkSpec, clock: _Clock) -> dict[str, Any]:
    plan = prepared.plan
    network = stage.build(plan, spec, prepared.engine)
    phases = [_phase(prepared, stage, phase, network, spec, clock.share()) for phase in stage.phases]
    return {
        "stage": stage.name,
        "layers": stage.layers,
        "params": parameter_count(spec),
        "macs": mac_count(spec),
        "memory_bytes": memory_needed(plan, spec),
        "phases": phases,
        "seconds": _sum(phase["seconds"] for phase in phases),
    }


def _phase(
    prepared: Prepared, stage: Stage, phase: Phase, network: Network, spec: NetworkSpec, limit: float
) -> dict[str, Any]:
    plan = prepared.plan
    source = BatchSource(plan, prepared.data)
    number = ["w" in update.groups for update in phase.updates].index(True)
    steps = phase.epochs * source.loader(stage, phase, number, spec).steps
    seconds, timed = _measured(prepared, stage, phase, network, spec, limit)
    return {
        "phase": phase.name,
        "epochs": phase.epochs,
        "steps": steps,
        "seconds": None if seconds is None else seconds * steps * plan.batch / timed,
        "timed_on": timed,
        "scaled": timed < plan.batch,
    }


def _measured(
    prepared: Prepared, stage: Stage, phase: Phase, network: Network, spec: NetworkSpec, limit: float
) -> tuple[float | None, int]:
    """Return the time of a step, None if it could not be measured, and on how many images."""
    plan = prepared.plan
    timed = min(_FEW_IMAGES, plan.batch)
    begin = time.perf_counter()
    seconds = _step_time(replace(plan, batch=timed), prepared, stage, phase, network, spec, limit)
    left = limit - (time.perf_counter() - begin)
    # Two whole steps, the first of which also warms up, if there is the time for them.
    if seconds is not None and timed < plan.batch and 2 * seconds * plan.batch / timed < left:
        whole = _step_time(plan, prepared, stage, phase, network, spec, left)
        if whole is not None:
            return whole, plan.batch
    return seconds, timed


def _step_time(
    plan: Plan,
    prepared: Prepared,
    stage: Stage,
    phase: Phase,
    network: Network,
    spec: NetworkSpec,
    limit: float,
) -> float | None:
    """Return the time of a step: the fastest of a few, which neither warmed the engine up nor was disturbed.

    None where not even one is done within the limit, in seconds.
    """
    feed = BatchSource(plan, prepared.data)
    batches = []
    for number in range(len(phase.updates)):
        with contextlib.closing(endless(feed.loader(stage, phase, number, spec), 0, 0)) as read:
            batches.append(next(read))
    temperature = phase.temperature(0)
    stepper = Stepper(network, spec, phase.updates, plan.seed, "")
    times: list[float] = []
    with contextlib.suppress(_TimeUp), _limited(limit):
        while len(times) < _TIMED_STEPS and sum(times) < limit / 2:
            begin = time.perf_counter()
            # Amid an epoch, where an update that is made once an epoch is not due.
            stepper.step(lambda n: batches[n], Rates(), temperature, StepPosition(0, len(times), 10**9))
            network.pop_losses()
            times.append(time.perf_counter() - begin)
    return min(times, default=None)


def estimate_text(found: dict[str, Any]) -> str:
    """Return what `estimate` found as a person reads it."""
    data, there = found["data"], found["device_memory_bytes"]
    lines = [f"engine {found['backend']} on {found['device']}, would write {printable(found['out'])}"]
    lines.append(f"images {data['summary']}")
    if data["sampled"]:
        lines.append(
            f"       of the {' and '.join(data['sampled'])} images only samples were decoded; a damaged one elsewhere "
            "shows when the run reads it"
        )
    lines += [f"warning: {warning}" for warning in data["warnings"]]
    for stage in found["stages"]:
        needed = stage["memory_bytes"]
        beside = "" if there is None else f" of the {gibibytes(there)} that {found['device']} has"
        over = ", which may not do: lower batch, channels or layers" if there is not None and needed > there else ""
        lines.append(
            f"{stage['stage']}: {stage['layers']} cells, {stage['params']:,} parameters, {stage['macs']:,} MACs, "
            f"about {gibibytes(needed)}{beside}{over}"
        )
        for phase in stage["phases"]:
            spent = "not timed" if phase["seconds"] is None else f"{phase['seconds']:,.0f} s"
            lines.append(f"  {phase['phase']}: {phase['epochs']} epochs, {phase['steps']} steps, {spent}")
    small = [phase["timed_on"] for stage in found["stages"] for phase in stage["phases"] if phase["scaled"]]
    if found["seconds"] is None:
        lines.append(
            f"how long it takes is unknown: a step on {_FEW_IMAGES} images was not done in its part of the "
            f"{_SECONDS:g} s for measuring; try again where less else is running"
        )
    else:
        scaled = f", steps timed on {min(small)} images and scaled up" if small else ""
        lines.append(f"about {found['seconds']:,.0f} s in all on this machine, without evaluation{scaled}")
    return "\n".join(lines)
