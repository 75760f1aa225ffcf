"""Time a search step: an engine against the plain per-edge formulation in PyTorch.

Both start from the same weights and see the same batches, each in a process of its own. Their
gradients are compared first, and the exit status is 1 if they differ by more than rounding. Then
steps of the two alternate, so that a disturbance of the machine meets both.

    python benchmarks/step.py --stage operation --cells 8
    python benchmarks/step.py --stage topology --cells 20
    python benchmarks/step.py --backend mindspore --channels 8 --cells 5 --batch 16
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from workload import RATES, SEED, Options, batches, supernet

from dots_core.engine.batch import Batch
from dots_core.engine.protocol import PRECISIONS, Optimizers, Setup
from dots_core.engine.registry import load_engine
from dots_core.errors import UsageError
from dots_core.network.initialisation import initial_architecture, initial_weights

CONTESTANTS = ("per-edge", "engine")

CHECKED_IMAGES = 8
"""Images of the training batch that the judged comparison uses."""

TOLERANCE = 1e-6
"""Largest accepted difference of a gradient in float64, relative to the tensor's norm plus an absolute term."""

MULTIPLE = 16.0
"""An engine without float64 may be this many times as far from the float64 gradients as per-edge float32 is."""

ABSOLUTE = 1e-3
"""Absolute term, as a share of the norm of all gradients of the same kind (weights, α or β).

Some gradients are zero by mathematics and rounding noise in practice, for example those of a
convolution along a direction that the next batch norm takes out again.
"""


class PerEdge:
    """The plain formulation in PyTorch."""

    def __init__(self, options: Options) -> None:
        import torch
        from dots_torch.runtime import device_context
        from per_edge import PerEdgeNetwork

        torch.set_num_threads(options.threads)
        self._torch, self._options = torch, options
        spec = supernet(options)
        weights, architecture = initial_weights(spec, SEED), initial_architecture(spec, SEED)
        self._network = PerEdgeNetwork(spec, weights, architecture, Optimizers(), device_context(options.runtime))

    def gradients(self, batch: Batch) -> dict[str, NDArray[Any]]:
        return self._network.gradients(batch, self._options.temperature)

    def step(self, train: Batch, validation: Batch) -> None:
        temperature = self._options.temperature
        if self._options.stage == "operation":
            self._network.bilevel_step(train, validation, RATES, temperature)
        else:
            self._network.joint_step(train, RATES, temperature)
        if self._torch.cuda.is_available():
            self._torch.cuda.synchronize()


class Ours:
    """The engine."""

    def __init__(self, options: Options) -> None:
        if options.backend == "torch":
            import torch

            torch.set_num_threads(options.threads)
        engine = load_engine(options.backend)
        spec = supernet(options)
        weights, architecture = initial_weights(spec, SEED), initial_architecture(spec, SEED)
        self._options, self.versions = options, engine.versions()
        self._network = engine.build(Setup(spec, runtime=options.runtime), weights, architecture)

    def gradients(self, batch: Batch) -> dict[str, NDArray[Any]]:
        found = self._network.gradients(batch, self._options.temperature)
        return {name: value for name, value in found.items() if name.startswith("gradient/")}

    def step(self, train: Batch, validation: Batch) -> None:
        temperature = self._options.temperature
        if self._options.stage == "operation":
            self._network.step(("alpha",), validation, RATES, temperature)
            self._network.step(("w",), train, RATES, temperature)
        else:
            self._network.step(("w", "alpha", "beta"), train, RATES, temperature)
        self._network.pop_losses()  # waits for the device


def serve(connection: Connection, contestant: str, options: Options) -> None:
    """Be a contestant: build, and answer what is asked until the other end closes."""
    kinds: dict[str, Callable[[Options], PerEdge | Ours]] = {"per-edge": PerEdge, "engine": Ours}
    try:
        built = kinds[contestant](options)
    except UsageError as error:
        connection.send(error)
        return
    connection.send(getattr(built, "versions", {}))
    train, validation = batches(options)
    while True:
        try:
            question, argument = connection.recv()
        except EOFError:
            return
        if question == "gradients":
            connection.send(built.gradients(Batch(train.images[:argument], train.labels[:argument])))
        elif question == "step":
            start = time.perf_counter()
            built.step(train, validation)
            connection.send(time.perf_counter() - start)
        else:
            connection.send(peak_memory(options))


def peak_memory(options: Options) -> float:
    """Return this process's peak in MiB: of the device's memory where PyTorch runs on CUDA, else resident."""
    if "torch" in sys.modules and options.device.startswith("cuda"):
        return sys.modules["torch"].cuda.max_memory_allocated(options.device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


class Process:
    """A contestant's process, from this side.

    Attributes
    ----------
    versions : dict
        The engine's.
    """

    def __init__(self, contestant: str, options: Options) -> None:
        context = get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, contestant, options), daemon=True)
        self._process.start()
        theirs.close()
        self.versions = self._connection.recv()
        if isinstance(self.versions, UsageError):
            self.close()
            raise self.versions

    def ask(self, question: str, argument: Any = None) -> Any:
        self._connection.send((question, argument))
        return self._connection.recv()

    def close(self) -> None:
        self._connection.close()
        self._process.join()


def gradient_errors(expected: Mapping[str, NDArray], found: Mapping[str, NDArray]) -> dict[str, float]:
    """Compare gradients; return the largest error of each kind (``w``, ``alpha``, ``beta``).

    A tensor's error is ‖found − expected‖ / (‖expected‖ + `ABSOLUTE`·‖all expected of its kind‖).
    """
    kinds: dict[str, list[str]] = {}
    for name in expected:
        prefix = name.removeprefix("gradient/").partition(".")[0]
        kinds.setdefault(prefix if prefix in ("alpha", "beta") else "w", []).append(name)
    errors = {}
    for kind, names in kinds.items():
        norms = {name: float(np.linalg.norm(expected[name])) for name in names}
        floor = ABSOLUTE * float(np.linalg.norm(list(norms.values())))
        errors[kind] = max(float(np.linalg.norm(found[n] - expected[n])) / (norms[n] + floor) for n in names)
    return errors


def gradients(contestant: str, options: Options, images: int) -> dict[str, NDArray[Any]]:
    """Return one contestant's gradients of one training pass."""
    process = Process(contestant, options)
    found = process.ask("gradients", images)
    process.close()
    return found


def compare_gradients(options: Options) -> tuple[dict[str, dict[str, float]], str]:
    """Return the errors of the gradients by precision, and what is wrong with them, empty if nothing is.

    Judged in float64. In float32 rounding decides on which side of a ReLU's kink a few values
    fall, and a deep network with batch norm amplifies that: both formulations then stand as far
    from the float64 gradients as from each other. So an engine without float64 is judged by how
    far the per-edge formulation is away in float32.
    """
    double = replace(options, precision="float64")
    exact = gradients("per-edge", double, CHECKED_IMAGES)
    try:
        found = gradient_errors(exact, gradients("engine", double, CHECKED_IMAGES))
        wrong = {kind: error for kind, error in found.items() if not error <= TOLERANCE}
        return {"float64": found}, f"the two differ by more than {TOLERANCE:g} in float64" if wrong else ""
    except UsageError:
        plain = gradient_errors(exact, gradients("per-edge", options, CHECKED_IMAGES))
        ours = gradient_errors(exact, gradients("engine", options, CHECKED_IMAGES))
        wrong = {kind: error for kind, error in ours.items() if not error <= MULTIPLE * max(plain.values())}
        text = f"the engine is more than {MULTIPLE:g} times as far from float64 as per-edge {options.precision}"
        return {f"per-edge {options.precision}": plain, options.precision: ours}, text if wrong else ""


def processor() -> str:
    """Return the CPU's name and number of cores seen by the system, as far as it tells."""
    table = Path("/proc/cpuinfo")
    lines = table.read_text().splitlines() if table.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} cores" if names else platform.processor() or platform.machine()


def parse(arguments: list[str] | None = None) -> tuple[Options, Path | None]:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--stage", choices=("operation", "topology"), default="operation")
    parser.add_argument("--groups", choices=("single", "group-v2"), default="single", help="operation stage only")
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--cells", type=int, default=8)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=PRECISIONS.names, default="float32")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    given = vars(parser.parse_args(arguments))
    out = given.pop("out")
    return Options(**given), out


def main() -> int:
    """Compare, time and print; return the exit status."""
    options, out = parse()
    os.environ.setdefault("OMP_NUM_THREADS", str(options.threads))
    print(" ".join(f"{key}={value}" for key, value in vars(options).items()))
    errors, wrong = compare_gradients(options)
    for name, by_kind in errors.items():
        print(f"largest relative gradient error in {name}: " + ", ".join(f"{k} {v:.1e}" for k, v in by_kind.items()))
    if wrong:
        print(wrong, file=sys.stderr)
        return 1

    processes = {contestant: Process(contestant, options) for contestant in CONTESTANTS}
    first = {contestant: process.ask("step") for contestant, process in processes.items()}
    seconds: dict[str, list[float]] = {contestant: [] for contestant in CONTESTANTS}
    for _ in range(options.repeats):
        for contestant, process in processes.items():
            seconds[contestant].append(process.ask("step"))
    memory = {contestant: process.ask("memory") for contestant, process in processes.items()}
    versions = processes["engine"].versions
    for process in processes.values():
        process.close()

    least = {contestant: min(values) for contestant, values in seconds.items()}
    median = {contestant: statistics.median(values) for contestant, values in seconds.items()}
    print(f"{'':10}{'first step':>12}{'min s/step':>12}{'median s/step':>15}{'peak MiB':>10}")
    for each in CONTESTANTS:
        print(f"{each:10}{first[each]:12.2f}{least[each]:12.3f}{median[each]:15.3f}{memory[each]:10.0f}")
    ratios = [values["engine"] / values["per-edge"] for values in (least, median, memory)]
    print(f"{'ratio':10}{'':12}{ratios[0]:12.2f}{ratios[1]:15.2f}{ratios[2]:10.2f}  (engine / per-edge)")

    if out is not None:
        result = {
            "options": vars(options),
            "gradient_errors": errors,
            "first": first,
            "seconds": seconds,
            "peak_mib": memory,
            "ratio": dict(zip(("min", "median", "memory"), ratios, strict=True)),
            "versions": {"python": platform.python_version(), "numpy": np.__version__, **versions},
            "processor": processor(),
        }
        out.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
