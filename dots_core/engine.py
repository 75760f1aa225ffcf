"""What an engine must offer: a handful of verbs that take and return NumPy arrays and plain records.

The reference engine (`dots_reference`) is their definition. An engine is a module-level object
registered in the entry-point group ``dots.backends``; it never draws random numbers, never
reads a clock and never learns which search method it serves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dots_core.batch import Batch
from dots_core.layers import Layer
from dots_core.network import NetworkSpec

State = dict[str, NDArray[Any]]

PRECISIONS = ("float32", "float64", "tf32", "bfloat16", "float16")
GROUPS = ("w", "alpha", "beta")


@dataclass(frozen=True)
class Optimizers:
    """Constants of the two update rules, the same in every engine.

    Weights: SGD on g + weight_decay·w with momentum (buffer = momentum·buffer + g, no dampening),
    after the gradient was scaled by min(1, clip/(‖g‖₂ + 1e-6)), ‖g‖₂ taken over all weights.
    Architecture weights: Adam on g + architecture_weight_decay·α′, bias-corrected, ε added to √v̂.

    Attributes
    ----------
    clip : float
        0 means no clipping.
    """

    momentum: float = 0.9
    weight_decay: float = 3e-4
    clip: float = 5.0
    betas: tuple[float, float] = (0.5, 0.999)
    epsilon: float = 1e-8
    architecture_weight_decay: float = 1e-3


@dataclass(frozen=True)
class Loss:
    """Cross-entropy, averaged over the batch.

    Attributes
    ----------
    label_smoothing : float
        Share of the target spread evenly over all classes; training only, evaluation uses 0.
    auxiliary_weight : float
        Weight of the auxiliary head's cross-entropy, added in training.
    """

    label_smoothing: float = 0.0
    auxiliary_weight: float = 0.4


@dataclass(frozen=True)
class Runtime:
    """Where and how exactly an engine computes.

    Attributes
    ----------
    device : str
        ``"cpu"``, ``"cuda"``, ``"cuda:1"``, …; what a device is called is the engine's matter.
    precision : str
        One of `PRECISIONS`; an engine refuses what it cannot do.
    deterministic : bool
        Forbid kernels whose result depends on timing.
    """

    device: str = "cpu"
    precision: str = "float32"
    deterministic: bool = True


@dataclass(frozen=True)
class Temperature:
    """Softmax temperatures of α′ and β′."""

    alpha: float = 1.0
    beta: float = 1.0


@dataclass(frozen=True)
class Rates:
    """Learning rates of one step: SGD's for w, Adam's for α′ and β′."""

    weights: float = 0.0
    architecture: float = 0.0


@dataclass(frozen=True)
class Device:
    """A device an engine can use, for example ``Device("cpu", "Intel Xeon", 2 threads)``."""

    name: str
    description: str


@dataclass(frozen=True)
class Setup:
    """Everything but the weights that a network is built from."""

    spec: NetworkSpec
    optimizers: Optimizers = field(default_factory=Optimizers)
    loss: Loss = field(default_factory=Loss)
    runtime: Runtime = field(default_factory=Runtime)


class Network(Protocol):
    """A network on an engine, with its architecture weights and optimiser state."""

    def step(self, groups: tuple[str, ...], batch: Batch, rates: Rates, temperature: Temperature) -> None:
        """Differentiate the training loss on one batch and update the named groups.

        Parameters
        ----------
        groups : subset of ("w", "alpha", "beta")
            All named gradients are taken at the old point, in one pass, before any update.
        batch : Batch
        rates : Rates
        temperature : Temperature

        Notes
        -----
        Batch norm uses the batch's statistics and moves the running ones, whichever groups are
        updated. The call may return before the device is done; it must not wait for it.

        Raises
        ------
        UsageError
            If a batch norm would see a single value a channel, whose variance is undefined.
        """
        ...

    def drain(self) -> NDArray[np.float64]:
        """Return loss and number of correct predictions of each `step` since the last call: shape (steps, 2).

        The loss is the one that was differentiated. Waits for the device.
        """
        ...

    def evaluate(self, batch: Batch, temperature: Temperature) -> tuple[float, int]:
        """Return the summed cross-entropy and number of correct predictions, batch norm using running statistics."""
        ...

    def gradients(self, batch: Batch, temperature: Temperature, trace: bool = False) -> State:
        """Run one training forward and backward pass and change nothing.

        Parameters
        ----------
        trace : bool
            Also return what flows through the network, for finding where engines part.

        Returns
        -------
        dict
            ``logits`` (N, classes), ``loss`` (), ``auxiliary_logits`` if there is a head,
            ``gradient/images`` and ``gradient/<name>`` for every weight and architecture weight.
            With ``trace`` also ``trace/<tensor>`` and ``trace.gradient/<tensor>``, the value and
            the loss's gradient of every tensor of `dots_core.network.traced_shapes`; a tensor
            that does not reach the loss has gradient 0.
        """
        ...

    def architecture(self) -> dict[str, NDArray[np.floating]]:
        """Return α′ and β′ by name (`dots_core.network.architecture_shapes`)."""
        ...

    def export_state(self) -> State:
        """Return everything that training changes, by canonical name.

        Keys: ``weights/<name>``, ``statistics/<name>``, ``momentum/<name>``,
        ``architecture/<name>``, ``adam.first/<name>``, ``adam.second/<name>`` (floating, in the
        layouts of `dots_core.network`) and ``adam.steps/<name>`` (int64, shape ()), the number
        of updates so far.
        """
        ...

    def import_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take over what `export_state` of any engine returned.

        Raises
        ------
        CorruptFile
            If an entry is missing, unknown or of the wrong shape; the message names it.
        """
        ...


class Engine(Protocol):
    """A framework, as the project sees it."""

    name: str

    def versions(self) -> dict[str, str]:
        """Return the versions of the framework and of what its results depend on."""
        ...

    def devices(self) -> tuple[Device, ...]:
        """Return the usable devices, the preferred first."""
        ...

    def check(self, runtime: Runtime) -> None:
        """Say at once whether `build` could run there; must be quick.

        Raises
        ------
        EngineMissing
            If the device is not there.
        UsageError
            If the engine cannot compute at that precision.
        """
        ...

    def build(self, setup: Setup, weights: Mapping[str, NDArray], architecture: Mapping[str, NDArray]) -> Network:
        """Build a network from canonical weights and architecture weights; statistics and optimisers start afresh.

        Raises
        ------
        EngineMissing
            If the device is not there.
        UsageError
            If the engine cannot compute at that precision.
        """
        ...

    def apply(
        self,
        sequences: tuple[tuple[Layer, ...], ...],
        weights: Mapping[str, NDArray],
        images: NDArray[np.floating],
        upstream: NDArray[np.floating],
        runtime: Runtime,
    ) -> State:
        """Run sequences of layers on one input, in training mode, forward and backward.

        For comparing single operations. It takes the way a network takes, stacking included.

        Parameters
        ----------
        sequences : tuple of layers, one an edge
            Of equal kinds and sizes, as `dots_core.stacking` puts together.
        weights : dict
            The layers' weights by canonical name.
        images : (N, C, H, W)
            What every sequence reads.
        upstream : like the output
            Gradient with respect to the output.

        Returns
        -------
        dict
            ``output`` (N, width·C′, H′, W′), sequence after sequence, or (N, C′) after a global
            average; ``gradient/images``; ``gradient/<name>`` of every weight; and
            ``statistics/<name>``, the running statistics after this batch, having started at 0 and 1.

        Raises
        ------
        EngineMissing, UsageError
            As `build`.
        """
        ...
