"""Time a search step of several methods on one engine, relative to DARTS of first order.

A step is an update of the architecture weights on one batch and one of w on another. The methods
differ in nothing else than what names them: `gdas` evaluates one sampled operation an edge,
`pc-darts` passes a quarter of the channels through the operations and weighs edges, and
`darts-2nd` and `darts-2nd-exact` differentiate the step of w by finite differences and exactly.
All live in one process and take steps in turn, so that a disturbance of the machine meets all;
then each runs alone in a process of its own, whose peak memory is read. The exit status is 1 if
a ratio of medians exceeds its bar.

    python benchmarks/methods.py --batch 16
    python benchmarks/methods.py --batch 64 --repeats 7 --methods gdas pc-darts --out methods.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from step import peak_memory, processor
from workload import CLASSES, IMAGE, RATES, SEED, Options, batches

from dots_core.engine.protocol import PRECISIONS, Setup
from dots_core.engine.registry import load_engine
from dots_core.network.initialisation import initial_architecture, initial_weights
from dots_core.network.spec import NetworkSpec
from dots_core.plan.gradients import SecondOrder
from dots_core.plan.plan import Update
from dots_core.search.step import Stepper, StepPosition
from dots_core.search_space.cell import CellSpec, search_cell
from dots_core.search_space.mixing import Temperature
from dots_core.search_space.topology import Topology

BASE = "darts"

STEPS_ALONE = 3
"""Steps after which a process's peak memory is read; a sampling method's largest draw may come later."""


FIRST_ORDER = Update(("alpha",), "half-b")
SECOND_ORDER = replace(FIRST_ORDER, gradient=SecondOrder())


@dataclass(frozen=True)
class Method:
    """What a method searches with.

    Attributes
    ----------
    cell : CellSpec
    update : Update
        Of the architecture weights.
    temperature : float
        Of α′.
    time_bar, memory_bar : float or None
        Largest accepted ratio to `BASE`.
    """

    cell: CellSpec
    update: Update = FIRST_ORDER
    temperature: float = 1.0
    time_bar: float | None = None
    memory_bar: float | None = None


METHODS = {
    BASE: Method(search_cell()),
    "gdas": Method(search_cell(sampling="hard"), temperature=10.0, time_bar=0.35),
    "pc-darts": Method(
        search_cell(partial=4, topology=Topology("edge-softmax")),
        replace(FIRST_ORDER, groups=("alpha", "beta")),
        time_bar=0.45,
        memory_bar=0.5,
    ),
    "darts-2nd": Method(search_cell(), SECOND_ORDER, time_bar=4.5),
    "darts-2nd-exact": Method(search_cell(), replace(FIRST_ORDER, gradient=SecondOrder(exact=True))),
}


class Contestant:
    """A method's network, and the steps it takes."""

    def __init__(self, method: Method, options: Options) -> None:
        spec = NetworkSpec(method.cell, method.cell, options.cells, options.channels, CLASSES, IMAGE)
        weights, architecture = initial_weights(spec, SEED), initial_architecture(spec, SEED)
        self._network = load_engine(options.backend).build(Setup(spec, runtime=options.runtime), weights, architecture)
        self._stepper = Stepper(self._network, spec, (method.update, Update(("w",), "half-a")), SEED, "benchmark")
        train, validation = batches(options)
        self._batches = (validation, train)
        self._temperature, self._steps = Temperature(alpha=method.temperature), count()

    def step(self) -> float:
        """Take a step and return how long it took, in seconds."""
        position = StepPosition(0, next(self._steps), 2**31)
        start = time.perf_counter()
        self._stepper.step(self._batches.__getitem__, RATES, self._temperature, position)
        self._network.pop_losses()  # waits for the device
        return time.perf_counter() - start


def limit_threads(options: Options) -> None:
    """Use as many threads as were asked for, where the engine is PyTorch."""
    if options.backend == "torch":
        import torch

        torch.set_num_threads(options.threads)


def seconds_in_turn(names: Sequence[str], options: Options) -> dict[str, list[float]]:
    """Return the seconds of each method's steps, taken in turn after one that is not counted."""
    limit_threads(options)
    contestants = {name: Contestant(METHODS[name], options) for name in names}
    for contestant in contestants.values():
        contestant.step()
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(options.repeats):
        for name, contestant in contestants.items():
            seconds[name].append(contestant.step())
    return seconds


def memory(name: str, options: Options) -> tuple[float, float]:
    """Return the peak memory of this process after a few steps of a method, and before the first, in MiB."""
    limit_threads(options)
    contestant = Contestant(METHODS[name], options)
    before = peak_memory(options)
    for _ in range(STEPS_ALONE):
        contestant.step()
    return peak_memory(options), before


def memory_alone(name: str, options: Options) -> tuple[float, float]:
    """`memory` in a process of its own."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(memory, (name, options))


def parse(arguments: Sequence[str] | None = None) -> tuple[Options, list[str], Path | None]:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    others = [name for name in METHODS if name != BASE]
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--methods", nargs="+", choices=others, default=others, help=f"compared with {BASE}")
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--cells", type=int, default=8)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=PRECISIONS.names, default="float32")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    given = vars(parser.parse_args(arguments))
    out, methods = given.pop("out"), given.pop("methods")
    return Options(stage="operation", groups="single", **given), [BASE, *methods], out


def main() -> int:
    """Time, measure and print; return the exit status."""
    options, names, out = parse()
    os.environ.setdefault("OMP_NUM_THREADS", str(options.threads))
    print(" ".join(f"{key}={value}" for key, value in vars(options).items()))
    alone = {name: memory_alone(name, options) for name in names}
    seconds = seconds_in_turn(names, options)

    median = {name: statistics.median(values) for name, values in seconds.items()}
    times = {name: value / median[BASE] for name, value in median.items()}
    peaks = {name: peak / alone[BASE][0] for name, (peak, _) in alone.items()}
    steps = {name: (peak - before) / (alone[BASE][0] - alone[BASE][1]) for name, (peak, before) in alone.items()}
    print(f"{'':16}{'median s/step':>14}{'ratio':>7}{'bar':>6}{'peak MiB':>10}{'ratio':>7}{'of steps':>9}{'bar':>6}")
    missed = []
    for name in names:
        method = METHODS[name]
        print(
            f"{name:16}{median[name]:14.3f}{times[name]:7.2f}{method.time_bar or '':>6}"
            f"{alone[name][0]:10.0f}{peaks[name]:7.2f}{steps[name]:9.2f}{method.memory_bar or '':>6}"
        )
        for ratio, bar, what in (
            (times[name], method.time_bar, "time"),
            (peaks[name], method.memory_bar, "peak memory"),
        ):
            if bar is not None and ratio > bar:
                missed.append(f"{name}: {what} is {ratio:.2f} times that of {BASE}, above {bar}")
    if out is not None:
        result = {
            "options": vars(options),
            "seconds": seconds,
            "peak_mib": {name: peak for name, (peak, _) in alone.items()},
            "peak_mib_before_steps": {name: before for name, (_, before) in alone.items()},
            "ratio": {"time": times, "peak": peaks, "peak_of_steps": steps},
            "missed": missed,
            "versions": {
                "python": platform.python_version(),
                "numpy": np.__version__,
                **load_engine(options.backend).versions(),
            },
            "processor": processor(),
        }
        out.write_text(json.dumps(result, indent=2) + "\n")
    print(*missed, sep="\n", end="\n" if missed else "", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
