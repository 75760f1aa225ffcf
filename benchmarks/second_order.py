"""How near the finite-difference gradient of second order is to the exact one, by the radius of the difference.

A small supernet on the embedded digits takes some steps of w; then both gradients of the architecture
weights are taken at one point, on the same batches, by PyTorch in float64. Printed for every radius
‖ε·∇w′ L_val‖ (DARTS takes 0.01): the norm of the difference relative to that of the exact gradient, and the
share of entries whose signs agree.

    python benchmarks/second_order.py
    python benchmarks/second_order.py --batch 256 --rate 0.01
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dots_core.data import Augmentation, Loader, load
from dots_core.engine.batch import Batch
from dots_core.engine.protocol import Network, Optimizers, Rates, Runtime, Setup
from dots_core.engine.registry import load_engine
from dots_core.network.initialisation import initial_architecture, initial_weights
from dots_core.network.spec import NetworkSpec
from dots_core.plan import gradients
from dots_core.plan.gradients import FirstOrder, Gradient, SecondOrder
from dots_core.plan.plan import Update
from dots_core.random import Stream
from dots_core.search.batches import endless
from dots_core.search.step import Stepper, StepPosition
from dots_core.search_space.cell import search_cell
from dots_core.search_space.mixing import Temperature

RADII = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
WARM = 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--channels", type=int, default=8)
    parser.add_argument("--cells", type=int, default=3)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=0.025, help="of w: ξ")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    data = load("digits")
    cell = search_cell(2)
    spec = NetworkSpec(cell, cell, asked.cells, asked.channels, len(data.classes), data.shape)
    # With these constants Adam's first moment after an update is the gradient.
    optimizers = Optimizers(betas=(0.0, 0.999), architecture_weight_decay=0.0)
    network = load_engine("torch").build(
        Setup(spec, optimizers, runtime=Runtime(precision="float64")),
        initial_weights(spec, asked.seed),
        initial_architecture(spec, asked.seed),
    )
    loader = Loader(
        data.train, np.arange(len(data.train)), asked.batch, asked.seed, "w", Augmentation(), data.mean, data.std
    )
    source = endless(loader, 0, 0)
    batches = [_untied(next(source), number) for number in range(WARM + 2)]
    source.close()
    for batch in batches[:WARM]:
        network.step(("w",), batch, Rates(asked.rate), Temperature())
    state = network.export_state()

    def gradient(of: Gradient) -> NDArray[np.float64]:
        network.import_state(state)
        return _gradient(network, spec, Update(("alpha",), "half-b", gradient=of), batches[WARM:], asked.rate)

    first, exact = gradient(FirstOrder()), gradient(SecondOrder(exact=True))
    size = np.linalg.norm(exact)
    print(f"first order differs from the exact second order by {np.linalg.norm(first - exact) / size:.2%}")
    print("radius   difference  equal signs")
    for radius in RADII:
        gradients.RADIUS = radius
        found = gradient(SecondOrder())
        signs = np.sign(found) == np.sign(exact)
        print(f"{radius:<8.0e} {np.linalg.norm(found - exact) / size:<11.2e} {signs.mean():.1%}")


def _untied(batch: Batch, number: int) -> Batch:
    """Add noise: the digits' even background ties in max-pooling, and rounding would break the ties at random."""
    noise = 0.05 * Stream(0, "noise").normal(batch.images.shape, number)
    return replace(batch, images=(batch.images + noise).astype(np.float32))


def _gradient(
    network: Network, spec: NetworkSpec, update: Update, batches: list[Batch], rate: float
) -> NDArray[np.float64]:
    stepper = Stepper(network, spec, (update, Update(("w",), "half-a")), 0, "")
    stepper.step(lambda number: batches[number], Rates(rate), Temperature(), StepPosition(0, 0, 1))
    state = network.export_state()
    # Entries of absent operations are 0 in both.
    return np.concatenate([state[key].ravel() for key in sorted(state) if key.startswith("adam.first/")])


if __name__ == "__main__":
    main()
