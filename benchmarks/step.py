"""Time a search step: the torch engine against the plain per-edge formulation.

Both start from the same weights and see the same batches. Their gradients are compared first, in
float64, and the exit status is 1 if they differ. Then steps of the two alternate, so that a
disturbance of the machine meets both.

    python benchmarks/step.py --stage operation --cells 8
    python benchmarks/step.py --stage topology --cells 20
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from dots_torch.engine import engine
from dots_torch.runtime import precision
from numpy.typing import NDArray
from per_edge import PerEdgeNetwork

from dots_core.batch import Batch
from dots_core.engine import PRECISIONS, Network, Optimizers, Rates, Runtime, Setup, Temperature
from dots_core.initial import initial_architecture, initial_weights
from dots_core.network import NetworkSpec
from dots_core.operations import CONVOLUTIONS, OPERATIONS
from dots_core.random import Stream
from dots_core.space import CellSpec, Edge, search_cell
from dots_core.topology import Topology

SEED = 0
CLASSES = 10
IMAGE = (3, 32, 32)
RATES = Rates(weights=0.025, architecture=3e-4)
CONTESTANTS = ("per-edge", "engine")

CHECKED_IMAGES = 8
"""Images of the training batch that the judged comparison uses."""

TOLERANCE = 1e-6
"""Largest accepted difference of a gradient in float64, relative to the tensor's norm plus an absolute term."""

ABSOLUTE = 1e-3
"""Absolute term, as a share of the norm of all gradients of the same kind (weights, α or β).

Some gradients are zero by mathematics and rounding noise in practice, for example those of a
convolution along a direction that the next batch norm takes out again.
"""


@dataclass(frozen=True)
class Options:
    """What is compared, as given on the command line."""

    stage: str
    groups: str
    channels: int
    cells: int
    batch: int
    repeats: int
    threads: int
    device: str
    precision: str

    @property
    def temperature(self) -> Temperature:
        """T = 1 in the operation stage; in the topology stage the start of the annealing, T_α = T_β / 1000."""
        return Temperature() if self.stage == "operation" else Temperature(alpha=0.01, beta=10.0)


def retained_cell(kind: str) -> CellSpec:
    """Build a cell whose edges hold two drawn operations each, one without weights and one convolution."""
    light = [o for o in OPERATIONS if o not in CONVOLUTIONS]
    cell = search_cell(topology=Topology("k-edges", edges_per_node=2))
    draws = Stream(SEED, f"benchmark/retained/{kind}").uniform((len(cell.edges), 2))
    edges = tuple(
        Edge(e.source, e.target, ((light[int(a * len(light))], CONVOLUTIONS[int(b * len(CONVOLUTIONS))]),))
        for e, (a, b) in zip(cell.edges, draws, strict=True)
    )
    return CellSpec(cell.nodes, edges, cell.concat, cell.topology)


def supernet(options: Options) -> NetworkSpec:
    """Return the network both contestants compute."""
    if options.stage == "operation":
        normal = reduce = search_cell(groups=options.groups)
    else:
        normal, reduce = retained_cell("normal"), retained_cell("reduce")
    return NetworkSpec(normal, reduce, options.cells, options.channels, CLASSES, IMAGE)


def batches(options: Options) -> tuple[Batch, Batch]:
    """Return a training and a validation batch of normally distributed images."""

    def draw(name: str) -> Batch:
        images = Stream(SEED, f"benchmark/images/{name}").normal((options.batch, *IMAGE)).astype(np.float32)
        labels = Stream(SEED, f"benchmark/labels/{name}").uniform((options.batch,)) * CLASSES
        return Batch(images, labels.astype(np.int64))

    return draw("train"), draw("validation")


def build(contestant: str, options: Options) -> Network | PerEdgeNetwork:
    """Build one contestant from the common initial values."""
    spec = supernet(options)
    weights, architecture = initial_weights(spec, SEED), initial_architecture(spec, SEED)
    runtime = Runtime(options.device, options.precision, deterministic=False)
    if contestant == "engine":
        return engine.build(Setup(spec, runtime=runtime), weights, architecture)
    return PerEdgeNetwork(spec, weights, architecture, Optimizers(), precision(runtime))


def stepper(network: Network | PerEdgeNetwork, options: Options) -> Callable[[], None]:
    """Return a function that takes one whole step and waits for it."""
    train, validation = batches(options)
    temperature = options.temperature
    bilevel = options.stage == "operation"

    def engine_step(network: Network) -> None:
        if bilevel:
            network.step(("alpha",), validation, RATES, temperature)
            network.step(("w",), train, RATES, temperature)
        else:
            network.step(("w", "alpha", "beta"), train, RATES, temperature)

    def per_edge_step(network: PerEdgeNetwork) -> None:
        if bilevel:
            network.bilevel_step(train, validation, RATES, temperature)
        else:
            network.joint_step(train, RATES, temperature)

    def step() -> None:
        if isinstance(network, PerEdgeNetwork):
            per_edge_step(network)
        else:
            engine_step(network)
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    return step


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


def compare_gradients(options: Options, images: int) -> dict[str, float]:
    """Return the errors of the engine's gradients of one training pass, the per-edge ones as the measure."""
    train, _ = batches(options)
    part = Batch(train.images[:images], train.labels[:images])
    per_edge, ours = (build(contestant, options).gradients(part, options.temperature) for contestant in CONTESTANTS)
    return gradient_errors(per_edge, ours)


def peak_memory(contestant: str, options: Options) -> float:
    """Take one step and return the peak in MiB: of the process on CPU, of the device's memory on CUDA."""
    torch.set_num_threads(options.threads)
    stepper(build(contestant, options), options)()
    if torch.device(options.device).type == "cuda":
        return torch.cuda.max_memory_allocated(options.device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def time_steps(options: Options) -> dict[str, list[float]]:
    """Return seconds per step of each contestant, after one step that is not counted."""
    steps = {contestant: stepper(build(contestant, options), options) for contestant in CONTESTANTS}
    for step in steps.values():
        step()
    seconds: dict[str, list[float]] = {contestant: [] for contestant in CONTESTANTS}
    for _ in range(options.repeats):
        for contestant, step in steps.items():
            start = time.perf_counter()
            step()
            seconds[contestant].append(time.perf_counter() - start)
    return seconds


def processor() -> str:
    """Return the CPU's name and number of cores seen by the system, as far as it tells."""
    table = Path("/proc/cpuinfo")
    lines = table.read_text().splitlines() if table.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} cores" if names else platform.processor() or platform.machine()


def parse(arguments: list[str] | None = None) -> tuple[Options, Path | None]:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", choices=("operation", "topology"), default="operation")
    parser.add_argument("--groups", choices=("single", "group-v2"), default="single", help="operation stage only")
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--cells", type=int, default=8)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    given = vars(parser.parse_args(arguments))
    out = given.pop("out")
    return Options(**given), out


def main() -> int:
    """Compare, time and print; return the exit status."""
    options, out = parse()
    torch.set_num_threads(options.threads)
    print(" ".join(f"{key}={value}" for key, value in vars(options).items()))

    # Before this process grows: a new process starts with the high-water mark of its parent.
    memory = {}
    for contestant in CONTESTANTS:
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            memory[contestant] = pool.submit(peak_memory, contestant, options).result()

    # Judged in float64. In float32 rounding decides on which side of a ReLU's kink a few values
    # fall, and a deep network with batch norm amplifies that: both formulations then stand as
    # far from the float64 gradients as from each other.
    errors = {
        "float64": compare_gradients(replace(options, precision="float64"), CHECKED_IMAGES),
        options.precision: compare_gradients(options, options.batch),
    }
    for name, by_kind in errors.items():
        print(f"largest relative gradient error in {name}: " + ", ".join(f"{k} {v:.1e}" for k, v in by_kind.items()))
    if not all(error <= TOLERANCE for error in errors["float64"].values()):
        print(f"the two formulations disagree by more than {TOLERANCE:g} in float64", file=sys.stderr)
        return 1

    seconds = time_steps(options)
    least = {contestant: min(values) for contestant, values in seconds.items()}
    median = {contestant: statistics.median(values) for contestant, values in seconds.items()}

    print(f"{'':10}{'min s/step':>12}{'median s/step':>15}{'peak MiB':>10}")
    for contestant in CONTESTANTS:
        print(f"{contestant:10}{least[contestant]:12.3f}{median[contestant]:15.3f}{memory[contestant]:10.0f}")
    ratios = [values["per-edge"] / values["engine"] for values in (least, median, memory)]
    print(f"{'ratio':10}{ratios[0]:12.2f}{ratios[1]:15.2f}{ratios[2]:10.2f}")

    if out is not None:
        result = {
            "options": vars(options),
            "gradient_errors": errors,
            "seconds": seconds,
            "peak_mib": memory,
            "ratio": dict(zip(("min", "median", "memory"), ratios, strict=True)),
            "versions": {"python": platform.python_version(), "numpy": np.__version__, **engine.versions()},
            "processor": processor(),
        }
        out.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
