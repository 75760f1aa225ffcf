"""How far the torch engine drifts from the reference over full search steps.

Runs one-level steps (w, α, β, batch-norm statistics) of a small topology supernet on the torch
engine in float32 and on the reference engine in float32 and float64, from the same weights on
the same batches, and prints after each step the distance from float64, relative to its norm.
The distances grow: SGD with batch norm and ReLU amplifies rounding. An engine that follows the
same rules drifts like the reference's own float32; one with a wrong rule is off at step 1.

    python benchmarks/growth.py
"""

from __future__ import annotations

import argparse

import numpy as np

from dots_core.engine.batch import Batch
from dots_core.engine.protocol import Network, Rates, Runtime, Setup
from dots_core.engine.registry import load_engine
from dots_core.network.initialisation import initial_architecture, initial_weights
from dots_core.network.spec import NetworkSpec
from dots_core.random import Stream
from dots_core.search_space.cell import search_cell
from dots_core.search_space.mixing import Temperature
from dots_core.search_space.topology import Topology

CONTESTANTS = (("torch", "float32"), ("reference", "float32"), ("reference", "float64"))
PREFIXES = ("weights/", "statistics/", "architecture/alpha", "architecture/beta")


def main() -> None:
    """Run and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rate", type=float, default=0.025)
    arguments = parser.parse_args()
    cell = search_cell(groups="group-v2", topology=Topology("k-edges"))
    spec = NetworkSpec(cell, cell, layers=3, channels=4, classes=10, input_shape=(3, 16, 16))
    weights, architecture = initial_weights(spec, 0), initial_architecture(spec, 0)
    networks: list[Network] = [
        load_engine(name).build(Setup(spec, runtime=Runtime("cpu", precision)), weights, architecture)
        for name, precision in CONTESTANTS
    ]
    groups = " | ".join(prefix.strip("/").replace("architecture/", "") for prefix in PREFIXES)
    print(f"| step | engine | loss | {groups} |\n| --- |{' --- |' * (len(PREFIXES) + 2)}")
    for step in range(arguments.steps):
        images = Stream(0, "images").normal((16, 3, 16, 16), step).astype(np.float32)
        labels = (Stream(0, "labels").uniform((16,), step) * 10).astype(np.int64)
        batch, rates = Batch(images, labels), Rates(arguments.rate, 3e-4)
        for network in networks:
            network.step(("w", "alpha", "beta"), batch, rates, Temperature())
        losses = [float(network.pop_losses()[0, 0]) for network in networks]
        states = [network.export_state() for network in networks]
        for number, (name, precision) in enumerate(CONTESTANTS[:-1]):
            row = [abs(losses[number] - losses[-1]) / losses[-1]]
            for prefix in PREFIXES:
                keys = [key for key in states[-1] if key.startswith(prefix)]
                exact, found = (np.concatenate([s[k].ravel() for k in keys]) for s in (states[-1], states[number]))
                row.append(float(np.linalg.norm(found - exact) / np.linalg.norm(exact)))
            print(f"| {step + 1} | {name} {precision} | {' | '.join(f'{value:.1e}' for value in row)} |")


if __name__ == "__main__":
    main()
