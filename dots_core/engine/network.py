"""A network's bookkeeping, the same in every engine: gradients accumulated and used, updates, state in and out."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dots_core.engine import stacking
from dots_core.engine.batch import Batch
from dots_core.engine.forward import FeatureMaps, Forward, Source
from dots_core.engine.mixture import EdgeWeights, Mixture
from dots_core.engine.protocol import (
    Device,
    Engine,
    Network,
    Rates,
    Runtime,
    Setup,
    State,
    check_extra_gradients,
    check_groups,
    check_perturbed,
)
from dots_core.engine.stacking import StackedNetwork, Stacker
from dots_core.engine.state import AdamState, FlatState
from dots_core.engine.tensors import Tensor, Tensors
from dots_core.errors import UsageError
from dots_core.network.spec import NetworkSpec, architecture_shapes, auxiliary_layers, cell_layouts
from dots_core.search_space.layers import Layer, Norm, Size, output_size
from dots_core.search_space.mixing import Temperature


@dataclass
class Gradients:
    """What one training pass gave.

    Attributes
    ----------
    loss : tensor, one value
    logits : tensor, shape (N, classes)
    auxiliary : tensor, shape (N, classes), or None
        Logits of the auxiliary head.
    correct : tensor, one value
        Number of correct predictions.
    found : dict of tensors
        Gradients by name: ``"w"`` flat, architecture weights by theirs.
    images : tensor, shape (N, C, H, W), or None
        Gradient of the images, where it was wanted.
    traced : dict of (tensor, tensor)
        Value and gradient by name (`dots_core.network.spec.traced_shapes`), where they were wanted.
    """

    loss: Tensor
    logits: Tensor
    auxiliary: Tensor | None
    correct: Tensor
    found: dict[str, Tensor]
    images: Tensor | None = None
    traced: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)


class EngineNetwork(Network, ABC):
    """The verbs of a network; a subclass adds what its framework alone can do.

    Attributes
    ----------
    setup : Setup
    spec : NetworkSpec
    stacked : StackedNetwork
    tensors : Tensors
    maps : FeatureMaps
    values : dict of tensors
        ``"w"``, all weights as one vector laid out as ``stacked.weights``, and α′ and β′ by name.
    statistics : tensor, shape (stacked.statistics.size,)
        All running statistics, laid out as ``stacked.statistics``; a framework may keep them otherwise.

    Parameters
    ----------
    stack : callable
        Makes the framework's `dots_core.engine.forward.Stack` of a description.
    source : class
        `dots_core.engine.forward.Source`, or the framework's own of the same parameters and call.
    """

    def __init__(
        self,
        setup: Setup,
        weights: Mapping[str, NDArray],
        architecture: Mapping[str, NDArray],
        tensors: Tensors,
        stack: Callable[[stacking.Stack], Any],
        maps: FeatureMaps,
        source: Callable[..., Any] = Source,
    ) -> None:
        self.setup, self.spec, self.tensors, self.maps = setup, setup.spec, tensors, maps
        self.stacked = StackedNetwork(setup.spec)
        self._forward = Forward(self.stacked, stack, maps, source)
        self._norm_sizes = _norm_sizes(setup.spec)
        with self.scope():
            self.values = {"w": tensors.upload(self.stacked.weights.join(weights, tensors.dtype))}
            self.values |= {name: tensors.upload(architecture[name]) for name in architecture_shapes(setup.spec)}
            self._momentum = tensors.zeros_like(self.values["w"])
            self._moments = {
                name: (tensors.zeros_like(value), tensors.zeros_like(value))
                for name, value in self.values.items()
                if name != "w"
            }
            self._steps = dict.fromkeys(self._moments, 0)
            self.put_statistics(self.stacked.initial_statistics(tensors.dtype))
            self._mixtures = {kind: self.mixture(kind) for kind in self.spec.kinds()}
        self._accumulated: dict[str, Tensor] = {}
        # w while it is perturbed: where it is brought back to.
        self._unperturbed: Tensor | None = None
        self._log: list[tuple[Tensor, Tensor]] = []

    # A framework's own

    @abstractmethod
    def differentiate(
        self,
        names: Sequence[str],
        batch: Batch,
        temperature: Temperature,
        move: bool,
        images: bool = False,
        trace: bool = False,
    ) -> Gradients:
        """Run one training forward and backward pass.

        Parameters
        ----------
        names : sequence of str
            Keys of `values`; of these the gradients are wanted, others may be left out.
        move : bool
            Whether the running statistics move.
        images, trace : bool
            Whether the images' gradient, and what flows through the network, are wanted, too.
        """

    @abstractmethod
    def classify(self, batch: Batch, temperature: Temperature) -> tuple[Tensor, Tensor]:
        """Return the summed cross-entropy and number of correct predictions, with the running statistics.

        Each is a tensor of one value.
        """

    @abstractmethod
    def cross_entropy(self, logits: Tensor, targets: Any, weight: float = 1.0) -> tuple[Tensor, Tensor]:
        """Return the batch's mean cross-entropy with label smoothing, times a weight, and how many are right.

        Parameters
        ----------
        logits : tensor, shape (N, classes)
        targets
            What the framework makes of a batch's labels.

        Returns
        -------
        loss, correct : tensors, one value each
        """

    def put_statistics(self, flat: NDArray[Any]) -> None:
        """Take over running statistics, shape (size,), laid out as ``stacked.statistics``."""
        self.statistics = self.tensors.upload(flat)

    def take_statistics(self) -> NDArray[Any]:
        """Return the running statistics, shape (size,), laid out as ``stacked.statistics``, in memory of their own."""
        return self.tensors.download(self.statistics)

    def mixture(self, kind: str) -> Mixture:
        """Return what makes the weights of a type of cell."""
        return Mixture(kind, self.spec.cell(kind), self.tensors)

    def scope(self) -> contextlib.AbstractContextManager[None]:
        """Make the framework compute where and as exactly as this network does, for one call."""
        return contextlib.nullcontext()

    def flush(self) -> None:
        """Have what was asked of a framework that computes later on its way; must not wait for it."""

    # Verbs

    def step(self, groups: tuple[str, ...], batch: Batch, rates: Rates, temperature: Temperature) -> None:
        check_groups(groups)
        self._check_update(groups, {})
        with self.scope():
            self._accumulate(groups, batch, temperature, 1.0)
            self._update(groups, rates, {})
            self.flush()

    def accumulate_gradients(
        self, groups: tuple[str, ...], batch: Batch, temperature: Temperature, factor: float = 1.0
    ) -> None:
        check_groups(groups)
        with self.scope():
            self._accumulate(groups, batch, temperature, factor)
            self.flush()

    def update(
        self, groups: tuple[str, ...], rates: Rates, extra_gradients: Mapping[str, NDArray[np.floating]] | None = None
    ) -> None:
        check_groups(groups)
        self._check_update(groups, extra_gradients or {})
        with self.scope():
            self._update(groups, rates, extra_gradients or {})
            self.flush()

    def virtual_step(self, rate: float) -> None:
        check_perturbed(self.perturbed, False)
        unclipped = replace(self.setup.optimizers, clip=0.0)
        with self.scope():
            self._unperturbed = self.tensors.copy(self.values["w"])
            gradient = self._used("w")
            self._assign("w", self.tensors.sgd(self._unperturbed, self._momentum, gradient, unclipped, rate)[0])
            self.flush()

    def perturb_weights(self, radius: float) -> None:
        check_perturbed(self.perturbed, True)
        with self.scope():
            self._assign("w", self.tensors.perturbed(self._unperturbed, self._accumulated["w"], radius))
            self.flush()

    def gradient_norm(self) -> float:
        with self.scope():
            return float(self.tensors.download(self.tensors.norm([self._accumulated["w"]])).item())

    def restore_weights(self) -> None:
        check_perturbed(self.perturbed, True)
        with self.scope():
            self._assign("w", self._unperturbed)
        self._unperturbed = None
        self._accumulated.pop("w", None)

    def pop_losses(self) -> NDArray[np.float64]:
        rows = self.tensors.rows(self._log)
        self._log.clear()
        return rows

    def evaluate(self, batch: Batch, temperature: Temperature) -> tuple[float, int]:
        with self.scope():
            loss, correct = self.tensors.rows([self.classify(batch, temperature)])[0]
        return float(loss), int(correct)

    def gradients(self, batch: Batch, temperature: Temperature, trace: bool = False) -> State:
        self.check_samples(len(batch.labels))
        host = self.tensors.download
        with self.scope():
            given = self.differentiate(tuple(self.values), batch, temperature, move=False, images=True, trace=trace)
            out: State = {"logits": host(given.logits), "loss": host(given.loss).reshape(())}
            if given.auxiliary is not None:
                out["auxiliary_logits"] = host(given.auxiliary)
            for name, (value, gradient) in given.traced.items():
                out[f"trace/{name}"], out[f"trace.gradient/{name}"] = host(value), host(gradient)
            out["gradient/images"] = host(given.images)
            for name in self._moments:
                out[f"gradient/{name}"] = host(given.found[name])
            out.update(self.stacked.weights.split(host(given.found["w"]), "gradient/"))
        return out

    def architecture(self) -> dict[str, NDArray[np.floating]]:
        return {name: self.tensors.download(self.values[name]) for name in self._moments}

    def export_state(self) -> State:
        host = self.tensors.download
        adam = {
            name: AdamState(host(self.values[name]), host(first), host(second), self._steps[name])
            for name, (first, second) in self._moments.items()
        }
        flat = FlatState(host(self.values["w"]), host(self._momentum), self.take_statistics(), adam)
        return flat.canonical(self.stacked)

    def import_state(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        flat, upload = FlatState.of(self.stacked, state, self.tensors.dtype), self.tensors.upload
        with self.scope():
            self._assign("w", upload(flat.weights))
            self._momentum = self.tensors.assign(self._momentum, upload(flat.momentum))
            self.put_statistics(flat.statistics)
            for name, adam in flat.architecture.items():
                self._assign(name, upload(adam.value))
                self._move(name, upload(adam.first), upload(adam.second))
                self._steps[name] = adam.steps
        self._accumulated.clear()
        self._unperturbed = None

    # For a framework's own

    def forward(
        self,
        context: Any,
        images: Tensor,
        batch: Batch,
        architecture: Mapping[str, Tensor],
        temperature: Temperature,
    ) -> tuple[Tensor, Tensor | None]:
        """Return logits and, in training, the auxiliary head's; drop-path acts in training alone.

        Parameters
        ----------
        context
            What the framework's stacks read (`dots_core.engine.forward.Context`).
        images : tensor, shape (N, C, H, W)
        architecture : mapping of tensors
            α′ and β′ by name, shape (edges, operations) and (combinations,) of each type of cell.

        Returns
        -------
        logits, auxiliary : tensors, shape (N, classes); the second may be None
        """
        draws, keep = batch.draws or {}, None
        if context.training and batch.drop_path is not None:
            keep = self.maps.by_edge(self.tensors.upload(batch.drop_path[..., None, None, None]))
        weights = {
            kind: mixture(architecture, temperature, draws.get(kind)) for kind, mixture in self._mixtures.items()
        }
        return self.run(context, images, weights, keep)

    def run(
        self, context: Any, images: Tensor, weights: Mapping[str, EdgeWeights | None], keep: Any
    ) -> tuple[Tensor, Tensor | None]:
        """Run stems, cells and heads: all of a pass that may be computed in a lower precision.

        Parameters, results and their shapes are those of `dots_core.engine.forward.Forward`.
        """
        return self._forward(context, images, weights, keep)

    def loss(
        self,
        context: Any,
        images: Tensor,
        targets: Any,
        batch: Batch,
        architecture: Mapping[str, Tensor],
        temperature: Temperature,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Return the training loss, the number of correct predictions, logits and the auxiliary head's.

        The first two are one value each; parameters and shapes are those of `forward`.
        """
        logits, auxiliary = self.forward(context, images, batch, architecture, temperature)
        loss, correct = self.cross_entropy(logits, targets)
        if auxiliary is not None:
            extra, _ = self.cross_entropy(auxiliary, targets, self.setup.loss.auxiliary_weight)
            loss = self.maps.add([loss, extra])
        return loss, correct, logits, auxiliary

    @property
    def perturbed(self) -> bool:
        """Whether w is away from where `restore_weights` brings it back to."""
        return self._unperturbed is not None

    def check_samples(self, samples: int) -> None:
        """Raise `UsageError` if some batch norm would see a single value a channel in training."""
        _check_variances(self._norm_sizes, samples)

    def names(self, groups: tuple[str, ...]) -> list[str]:
        """Return the keys of `values` that belong to parameter groups."""
        return [name for name in self.values if name.partition(".")[0] in groups]

    def record(self, loss: Tensor, correct: Tensor) -> None:
        """Keep a loss, and the number of correct predictions, one value each, for `pop_losses`."""
        self._log.append((loss, correct))

    def add_gradient(self, name: str, gradient: Tensor, factor: float) -> None:
        """Add ``factor`` times a gradient, of the shape of the value that it belongs to, to what is accumulated."""
        self._accumulated[name] = self.tensors.add_scaled(self._accumulated.get(name), gradient, factor)

    def pending(self) -> list[Tensor]:
        """Return all tensors that computations so far have changed, but the statistics; of any shape."""
        moments = [moment for pair in self._moments.values() for moment in pair]
        losses = [value for pair in self._log[-1:] for value in pair]
        return [*losses, *self.values.values(), self._momentum, *moments, *self._accumulated.values()]

    # Inside

    def _accumulate(self, groups: tuple[str, ...], batch: Batch, temperature: Temperature, factor: float) -> None:
        self.check_samples(len(batch.labels))
        names = self.names(groups)
        given = self.differentiate(names, batch, temperature, move=not self.perturbed)
        for name in names:
            self.add_gradient(name, given.found[name], factor)
        self.record(given.loss, given.correct)

    def _check_update(self, groups: tuple[str, ...], extra: Mapping[str, NDArray[np.floating]]) -> None:
        check_extra_gradients(self.spec, groups, extra)
        check_perturbed("w" in groups and self.perturbed, False)

    def _update(self, groups: tuple[str, ...], rates: Rates, extra: Mapping[str, NDArray[np.floating]]) -> None:
        tensors, settings = self.tensors, self.setup.optimizers
        gradients = {name: self._used(name) for name in self.names(groups)}
        if "w" in gradients:
            weights, momentum = tensors.sgd(
                self.values["w"], self._momentum, gradients.pop("w"), settings, rates.weights
            )
            self._assign("w", weights)
            self._momentum = tensors.assign(self._momentum, momentum)
        for name in gradients:
            if name in extra:
                gradients[name] = tensors.add_scaled(gradients[name], tensors.upload(extra[name]), 1.0)
        moved = tensors.clipped(list(gradients.values()), settings.architecture_clip)
        for name, gradient in zip(gradients, moved, strict=True):
            self._steps[name] += 1
            value, first, second = tensors.adam(
                self.values[name], *self._moments[name], gradient, settings, self._steps[name], rates.architecture
            )
            self._assign(name, value)
            self._move(name, first, second)

    def _used(self, name: str) -> Tensor:
        """Take an accumulated gradient away; 0 where there is none."""
        found = self._accumulated.pop(name, None)
        return self.tensors.zeros_like(self.values[name]) if found is None else found

    def _assign(self, name: str, value: Tensor) -> None:
        self.values[name] = self.tensors.assign(self.values[name], value)

    def _move(self, name: str, *moments: Tensor) -> None:
        first, second = (self.tensors.assign(*pair) for pair in zip(self._moments[name], moments, strict=True))
        self._moments[name] = (first, second)


class FrameworkEngine(Engine, ABC):
    """The front of an engine whose networks are `EngineNetwork`: a subclass says what its framework has.

    Attributes
    ----------
    name : str
    network : class
        Its networks: of a setup, weights, architecture weights and a device.
    """

    name: str
    network: Callable[..., Any]

    @abstractmethod
    def versions(self) -> dict[str, str]: ...

    @abstractmethod
    def devices(self) -> tuple[Device, ...]: ...

    @abstractmethod
    def device(self, runtime: Runtime) -> Any:
        """Return where and as exactly as a runtime asks for to compute, or refuse (``Engine.check``)."""

    @abstractmethod
    def differentiate(
        self,
        stacker: Stacker,
        described: stacking.Stack,
        weights: NDArray[Any],
        images: NDArray[np.floating],
        upstream: NDArray[np.floating],
        device: Any,
    ) -> tuple[NDArray[Any], ...]:
        """Run one stack in training, forward and backward (``Engine.run_layers``).

        Parameters
        ----------
        stacker : Stacker
            It has placed the arrays of the one stack.
        weights : array, shape (stacker.weights.size,)
        images : array, shape (N, C, H, W)
        upstream : array
            Gradient of the output, of its shape: that of ``described``.

        Returns
        -------
        output, image gradient, flat gradient of the weights, flat statistics : arrays
        """

    def check(self, runtime: Runtime) -> None:
        self.device(runtime)

    def build(self, setup: Setup, weights: Mapping[str, NDArray], architecture: Mapping[str, NDArray]) -> Any:
        return self.network(setup, weights, architecture, self.device(setup.runtime))

    def run_layers(
        self,
        sequences: tuple[tuple[Layer, ...], ...],
        weights: Mapping[str, NDArray],
        images: NDArray[np.floating],
        upstream: NDArray[np.floating],
        runtime: Runtime,
    ) -> State:
        device, stacker = self.device(runtime), Stacker()
        described = stacker.stack(sequences)
        flat = stacker.weights.join(weights, np.float64)
        _, _, height, width = images.shape
        _check_variances(_sizes_at_norms(sequences[0], (height, width)), len(images))
        if described.shared:
            # What nothing tells apart is computed once: gradients of all sequences' outputs reach it.
            apart = upstream.reshape(len(images), described.width, -1, *upstream.shape[2:])
            upstream = apart.sum(1, dtype=np.float64)
        output, *found = self.differentiate(stacker, described, flat, images, upstream, device)
        output = np.concatenate([output] * described.width, 1) if described.shared else output
        return stacker.state(output, *found)


def _sizes_at_norms(layers: tuple[Layer, ...], size: Size) -> list[Size]:
    """Return height and width at each batch norm of a sequence of layers, whose input has a size."""
    found = []
    for layer in layers:
        size = output_size(layer, size)
        if isinstance(layer, Norm):
            found.append(size)
    return found


def _norm_sizes(spec: NetworkSpec) -> list[Size]:
    """Return heights and widths at a network's batch norms, the smallest among them: no stem's is below its cells'."""
    layouts, auxiliary = cell_layouts(spec), auxiliary_layers(spec)
    sizes = [layout.size for layout in layouts]
    return sizes if auxiliary is None else sizes + _sizes_at_norms(auxiliary[1], sizes[auxiliary[0]])


def _check_variances(sizes: Sequence[Size], samples: int) -> None:
    if any(samples * height * width == 1 for height, width in sizes):
        raise UsageError(
            "a batch norm gets one value for each channel and cannot take a variance of it; "
            "train with larger batches or images"
        )
