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

from dots_core.engine.batch import Batch
from dots_core.errors import UsageError, quoted
from dots_core.network.spec import NetworkSpec, architecture_shapes
from dots_core.search_space.layers import Layer
from dots_core.search_space.mixing import Temperature
from dots_core.search_space.registry import Registry

State = dict[str, NDArray[Any]]
"""Arrays by canonical name, which says the shape: `Network.export_state`, `Network.gradients`, `Engine.run_layers`."""

GROUPS = ("w", "alpha", "beta")


@dataclass(frozen=True)
class Precision:
    """How exactly numbers are computed. An engine computes in it, and lists it among its own (`Backend.precisions`).

    Attributes
    ----------
    name : str
    about : str
        What is rounded to what.
    size : int
        Bytes in which a weight is kept.
    """

    name: str
    about: str
    size: int = 4


PRECISIONS: Registry[Precision] = Registry("precision", "dots.precisions", Precision)
"""All precisions; a package whose engine has another one adds it by an entry point of ``dots.precisions``."""

for _precision in (
    Precision("float32", "all in IEEE binary32"),
    Precision("float64", "all in IEEE binary64", 8),
    Precision("tf32", "products of matrices and convolutions with 10 bits of mantissa, all else in float32"),
    Precision("hf32", "products of matrices and convolutions with 11 bits of mantissa, all else in float32"),
    Precision("bfloat16", "the network's operations with 8 exponent and 7 mantissa bits, weights in float32"),
    Precision("float16", "the network's operations in IEEE binary16, weights in float32, the loss scaled up"),
):
    PRECISIONS.register(_precision)


@dataclass(frozen=True)
class Optimizers:
    """Constants of the two update rules, the same in every engine.

    Weights: SGD on g + weight_decay·w with momentum (buffer = momentum·buffer + g, no dampening),
    after the gradient was scaled by min(1, clip/(‖g‖₂ + 1e-6)), ‖g‖₂ taken over all weights.
    Architecture weights: Adam on g + architecture_weight_decay·α′, bias-corrected, ε added to √v̂, after
    the gradient was scaled by min(1, architecture_clip/(‖g‖₂ + 1e-6)), ‖g‖₂ taken over all architecture
    weights that one `Network.update` names, extra_gradients included.

    Attributes
    ----------
    clip, architecture_clip : float
        0 means no clipping.
    """

    momentum: float = 0.9
    weight_decay: float = 3e-4
    clip: float = 5.0
    betas: tuple[float, float] = (0.5, 0.999)
    epsilon: float = 1e-8
    architecture_weight_decay: float = 1e-3
    architecture_clip: float = 0.0


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
class Rates:
    """Learning rates of one step: SGD's for w, Adam's for α′ and β′."""

    weights: float = 0.0
    architecture: float = 0.0


@dataclass(frozen=True)
class Device:
    """A device an engine can use, for example ``Device("cpu", "Intel Xeon", 2 threads)``.

    Attributes
    ----------
    name, description : str
    memory : int, optional
        Bytes it has of its own; None for the machine's.
    """

    name: str
    description: str
    memory: int | None = None


@dataclass(frozen=True)
class Setup:
    """Everything but the weights that a network is built from."""

    spec: NetworkSpec
    optimizers: Optimizers = field(default_factory=Optimizers)
    loss: Loss = field(default_factory=Loss)
    runtime: Runtime = field(default_factory=Runtime)


def check_groups(groups: tuple[str, ...]) -> None:
    """Raise `UsageError` unless the names are parameter groups."""
    unknown = [group for group in groups if group not in GROUPS]
    if unknown:
        raise UsageError(f"unknown parameter group '{unknown[0]}'; known: {', '.join(GROUPS)}")


def check_extra_gradients(spec: NetworkSpec, groups: tuple[str, ...], given: Mapping[str, NDArray[Any]]) -> None:
    """Raise `UsageError` unless extra gradients are of architecture weights of the groups, and of their shapes."""
    shapes = architecture_shapes(spec)
    for name, gradient in given.items():
        if name not in shapes or name.partition(".")[0] not in groups:
            raise UsageError(
                f"an extra gradient is given for '{quoted(name)}', which is no architecture weight of the groups "
                f"that are updated ({', '.join(groups)}); it would be lost"
            )
        if np.shape(gradient) != shapes[name]:
            raise UsageError(f"the extra gradient of '{name}' has shape {np.shape(gradient)}, not {shapes[name]}")


def check_perturbed(perturbed: bool, wanted: bool) -> None:
    """Raise `UsageError` unless w is perturbed, or is not, as a verb needs it."""
    if perturbed and not wanted:
        raise UsageError("w is perturbed, and what would be done to it lost; restore_weights comes first")
    if wanted and not perturbed:
        raise UsageError("w is not perturbed; virtual_step comes first")


class Network(Protocol):
    """A network on an engine, with its architecture weights and optimiser state.

    What one step of a search is, is put together in `dots_core.search.step` from `accumulate_gradients`,
    `update` and, for second order, `virtual_step`, `perturb_weights` and `restore_weights`. Between calls a network
    keeps the gradients that were accumulated and not yet used; they are no part of its state.
    """

    def step(self, groups: tuple[str, ...], batch: Batch, rates: Rates, temperature: Temperature) -> None:
        """Do `accumulate_gradients` and then `update`: the step of plain training and of first-order search."""
        ...

    def accumulate_gradients(
        self, groups: tuple[str, ...], batch: Batch, temperature: Temperature, factor: float = 1.0
    ) -> None:
        """Add ``factor`` times the training loss's gradient on one batch to what is accumulated for the named groups.

        Parameters
        ----------
        groups : subset of ("w", "alpha", "beta")
            All named gradients are taken in one pass, at the weights as they stand.
        batch : Batch
        temperature : Temperature
        factor : float

        Notes
        -----
        Batch norm uses the batch's statistics and moves the running ones, whichever groups are
        named, unless w is perturbed (`virtual_step`). The call may return before the device is done;
        it must not wait for it.

        Raises
        ------
        UsageError
            If a batch norm would see a single value a channel, whose variance is undefined, or a
            group is unknown.
        """
        ...

    def update(
        self, groups: tuple[str, ...], rates: Rates, extra_gradients: Mapping[str, NDArray[np.floating]] | None = None
    ) -> None:
        """Update the named groups by the gradients accumulated for them, which are used up.

        Parameters
        ----------
        groups : subset of ("w", "alpha", "beta")
            A group for which nothing was accumulated has gradient 0.
        rates : Rates
        extra_gradients : mapping, optional
            Added to the gradients of architecture weights, by name and of their shapes
            (`dots_core.search.regularisation`).

        Raises
        ------
        UsageError
            If an extra gradient is of no architecture weight of the groups or of another shape, or w is to be
            updated while it is perturbed (`virtual_step`).
        """
        ...

    def virtual_step(self, rate: float) -> None:
        """Perturb w by one step of SGD, unclipped: w − rate·(momentum·buffer + g + weight_decay·w).

        g is the gradient accumulated for w, which is used up. The momentum buffer stays as it is,
        and w can be brought back by `restore_weights`.

        Raises
        ------
        UsageError
            If w is perturbed already.
        """
        ...

    def perturb_weights(self, radius: float) -> None:
        """Perturb w from where it stood before `virtual_step` by a vector along g: w + radius·g / ‖g‖₂.

        g is the gradient accumulated for w, which is kept: the call can be repeated. Where g is 0,
        w is where it stood. Comes after `virtual_step` and a `accumulate_gradients` of w.

        Raises
        ------
        UsageError
            If w is not perturbed.
        """
        ...

    def gradient_norm(self) -> float:
        """Return ‖g‖₂, g the gradient accumulated for w by a `accumulate_gradients` of it. Waits for the device."""
        ...

    def restore_weights(self) -> None:
        """Bring w back to where it stood before `virtual_step`, and forget the gradient accumulated for it.

        Raises
        ------
        UsageError
            If w is not perturbed.
        """
        ...

    def pop_losses(self) -> NDArray[np.float64]:
        """Return loss and number of correct predictions of each accumulated gradient since the last call.

        The shape is (calls, 2). The loss is the one that was differentiated. Waits for the device.
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
            the loss's gradient of every tensor of `dots_core.network.spec.traced_shapes`; a tensor
            that does not reach the loss has gradient 0.
        """
        ...

    def architecture(self) -> dict[str, NDArray[np.floating]]:
        """Return α′, shape (edges, operations), and β′, shape (combinations,), by name
        (`dots_core.network.spec.architecture_shapes`).
        """
        ...

    def export_state(self) -> State:
        """Return everything that training changes, by canonical name.

        Keys: ``weights/<name>``, ``statistics/<name>``, ``momentum/<name>``,
        ``architecture/<name>``, ``adam.first/<name>``, ``adam.second/<name>`` (floating, in the
        layouts of `dots_core.network.spec`) and ``adam.steps/<name>`` (int64, shape ()), the number
        of updates so far. `dots_core.engine.state.state_shapes` gives the shapes. w is as it stands, perturbed or not.
        """
        ...

    def import_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take over what `export_state` of any engine returned, in the network's own type.

        Gradients that were accumulated are forgotten, and w is not perturbed any more.

        Raises
        ------
        CorruptFile
            If an entry is missing, unknown or of the wrong shape or kind; the message names it.
        """
        ...


class UnrollingNetwork(Network, Protocol):
    """A network that can also differentiate through a step of SGD.

    An engine need not have it; one whose networks do says so by an attribute ``unrolls = True``.
    """

    def accumulate_unrolled_gradients(
        self, groups: tuple[str, ...], training: Batch, validation: Batch, rate: float, temperature: Temperature
    ) -> None:
        """Accumulate the exact gradient of the validation loss at w after one step of SGD on the training batch.

        Of L_val(w′(α), α) with w′ = w − rate·(momentum·buffer + ∇w L_train(w, α) + weight_decay·w):
        what `virtual_step` and `perturb_weights` approach by finite differences. It adds one row to `pop_losses`,
        that of the validation batch; running statistics move as in `accumulate_gradients` on the training
        batch.

        Parameters
        ----------
        groups : subset of ("alpha", "beta")

        Raises
        ------
        UsageError
            As `accumulate_gradients`, and if w is among the groups or perturbed.
        """
        ...


class Engine(Protocol):
    """A framework, as the project sees it.

    Attributes
    ----------
    name : str
    """

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

        Parameters
        ----------
        weights, architecture : mapping of arrays
            Of the names and shapes of `dots_core.network.spec.weight_shapes` and `architecture_shapes`.

        Raises
        ------
        EngineMissing
            If the device is not there.
        UsageError
            If the engine cannot compute at that precision.
        """
        ...

    def run_layers(
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
            Of equal kinds and sizes, as `dots_core.engine.stacking` puts together.
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
