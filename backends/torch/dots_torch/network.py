"""A network on PyTorch: the verbs of `dots_core.engine.protocol`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dots_core.engine.batch import Batch, Draw
from dots_core.engine.flat_state import AdamState, FlatState
from dots_core.engine.protocol import Rates, Setup, State, check_groups
from dots_core.engine.stacking import StackedNetwork
from dots_core.network.spec import architecture_shapes
from dots_core.search_space.mixing import Temperature
from dots_torch.mixture import Mixture
from dots_torch.model import Model
from dots_torch.optimizers import Adam, MomentumSGD, clipped
from dots_torch.runtime import DeviceContext, host
from dots_torch.stack import ForwardContext
from dots_torch.weights import Leaves, Stacks, flat_gradient, parts, views


@dataclass(frozen=True)
class _Inputs:
    """A batch on the device; draws stay on the host, where they decide what is computed."""

    images: Tensor
    labels: Tensor
    keep: Tensor | None
    draws: Mapping[str, Draw]


class TorchNetwork:
    """The `dots_core.engine.protocol.UnrollingNetwork` verbs on PyTorch."""

    def __init__(
        self,
        setup: Setup,
        weights: Mapping[str, NDArray],
        architecture: Mapping[str, NDArray],
        device_context: DeviceContext,
    ) -> None:
        self.setup = setup
        self.spec = spec = setup.spec
        self._device_context = device_context
        device, dtype = device_context.device, device_context.dtype
        network = self._network = StackedNetwork(spec)
        self._model = Model(network)
        self._mixtures = {kind: Mixture(kind, spec.cell(kind), device_context) for kind in spec.kinds()}

        self._flat = self._to_device(network.weights.join(weights, device_context.numpy))
        self._weights = views(network.weights, self._flat)
        self._flat_statistics = self._to_device(network.initial_statistics(device_context.numpy))
        self._statistics = views(network.statistics, self._flat_statistics)
        self._architecture = {
            name: torch.from_numpy(np.array(architecture[name])).to(device, dtype) for name in architecture_shapes(spec)
        }
        self._sgd = MomentumSGD(self._flat, setup.optimizers)
        self._adam = {name: Adam(value, setup.optimizers) for name, value in self._architecture.items()}

        # Gradients of all w, flat, under "w", and of architecture weights under their names.
        self._accumulated: dict[str, Tensor] = {}
        # w while it is perturbed: where it is brought back to.
        self._unperturbed: Tensor | None = None
        self._log: list[tuple[Tensor, Tensor]] = []

    def step(self, groups: tuple[str, ...], batch: Batch, rates: Rates, temperature: Temperature) -> None:
        """Do `accumulate_gradients` and then `update`."""
        self.accumulate_gradients(groups, batch, temperature)
        self.update(groups, rates)

    def accumulate_gradients(
        self, groups: tuple[str, ...], batch: Batch, temperature: Temperature, factor: float = 1.0
    ) -> None:
        """Add ``factor`` times the training loss's gradient on one batch to what is accumulated.

        Raises
        ------
        UsageError
            If a group is unknown, or a batch norm has a single value to take a variance of.
        """
        check_groups(groups)
        names = self._names(groups)
        with self._device_context.scope():
            inputs = self._inputs(batch)
            leaves = Leaves(self._weights if "w" in groups else [])
            architecture = self._required(names)
            weights: Stacks = leaves if "w" in groups else self._weights
            context = ForwardContext(weights, self._statistics, training=True, track=self._unperturbed is None)
            loss, logits, _ = self._loss(context, inputs, architecture, temperature)
            read = leaves.read
            found = self._differentiate(loss, [*read.values(), *(architecture[name] for name in names)])
            if "w" in groups:
                self._accumulate("w", self._joined(read, found[: len(read)]), factor)
            for name, gradient in zip(names, found[len(read) :], strict=True):
                self._accumulate(name, gradient, factor)
            self._record(loss, logits, inputs)

    def accumulate_unrolled_gradients(
        self, groups: tuple[str, ...], training: Batch, validation: Batch, rate: float, temperature: Temperature
    ) -> None:
        """Accumulate the exact gradient of the validation loss at w after one step of SGD on the training batch.

        Raises
        ------
        UsageError
            As `accumulate_gradients`.
        """
        check_groups(groups)
        names = self._names(groups)
        layout = self._network.weights
        with self._device_context.scope():
            architecture = self._required(names)
            leaves = Leaves(self._weights)
            context = ForwardContext(leaves, self._statistics, training=True, track=self._unperturbed is None)
            loss, _, _ = self._loss(context, self._inputs(training), architecture, temperature)
            found = self._differentiate(loss, list(leaves.read.values()), create_graph=True)
            ahead = self._flat - rate * self._sgd.direction(self._joined(leaves.read, found))

            inputs = self._inputs(validation)
            context = ForwardContext(parts(layout, ahead), self._statistics, training=True, track=False)
            loss, logits, _ = self._loss(context, inputs, architecture, temperature)
            wanted = [architecture[name] for name in names]
            for name, gradient in zip(names, self._differentiate(loss, wanted), strict=True):
                self._accumulate(name, gradient, 1.0)
            self._record(loss, logits, inputs)

    def update(
        self, groups: tuple[str, ...], rates: Rates, extra_gradients: Mapping[str, NDArray[np.floating]] | None = None
    ) -> None:
        """Update the named groups by the gradients accumulated for them."""
        check_groups(groups)
        if "w" in groups:
            self._sgd.update(self._used("w", self._flat), rates.weights)
        names = self._names(groups)
        gradients = []
        for name in names:
            gradient = self._used(name, self._architecture[name])
            if extra_gradients is not None and name in extra_gradients:
                gradient = gradient + self._device_context.upload(extra_gradients[name]).to(gradient.dtype)
            gradients.append(gradient)
        gradients = clipped(gradients, self.setup.optimizers.architecture_clip)
        for name, gradient in zip(names, gradients, strict=True):
            self._adam[name].update(gradient, rates.architecture)

    @torch.no_grad()
    def virtual_step(self, rate: float) -> None:
        """Perturb w by one step of SGD, unclipped, on the gradient accumulated for it."""
        self._unperturbed = self._flat.clone()
        self._flat.sub_(self._sgd.direction(self._used("w", self._flat)), alpha=rate)

    @torch.no_grad()
    def perturb_weights(self, radius: float) -> None:
        """Perturb w from where it stood before `virtual_step` along the gradient accumulated for it."""
        assert self._unperturbed is not None, "virtual_step comes first"
        gradient = self._accumulated["w"]
        norm = torch.linalg.vector_norm(gradient)
        step = torch.where(norm > 0, radius / norm, 0.0)
        torch.add(self._unperturbed, gradient * step, out=self._flat)

    def gradient_norm(self) -> float:
        """Return the norm of the gradient accumulated for w."""
        return float(torch.linalg.vector_norm(self._accumulated["w"]))

    @torch.no_grad()
    def restore_weights(self) -> None:
        """Bring w back to where it stood before `virtual_step`, and forget the gradient accumulated for it."""
        assert self._unperturbed is not None, "virtual_step comes first"
        self._flat.copy_(self._unperturbed)
        self._unperturbed = None
        self._accumulated.pop("w", None)

    def pop_losses(self) -> NDArray[np.float64]:
        """Return loss and number of correct predictions of each differentiated loss since the last call."""
        if not self._log:
            return np.zeros((0, 2))
        rows = torch.stack([torch.stack([loss.double(), correct.double()]) for loss, correct in self._log])
        self._log.clear()
        return rows.cpu().numpy()

    @torch.no_grad()
    def evaluate(self, batch: Batch, temperature: Temperature) -> tuple[float, int]:
        """Return the summed cross-entropy and number of correct predictions, batch norm using running statistics."""
        with self._device_context.scope():
            inputs = replace(self._inputs(batch), keep=None)
            context = ForwardContext(self._weights, self._statistics, training=False, track=False)
            logits, _ = self._forward(context, inputs, self._architecture, temperature)
            loss = F.cross_entropy(logits, inputs.labels, reduction="sum")
            correct = (logits.argmax(1) == inputs.labels).sum()
        return float(loss), int(correct)

    def gradients(self, batch: Batch, temperature: Temperature, trace: bool = False) -> State:
        """Run one training forward and backward pass and change nothing."""
        with self._device_context.scope():
            inputs = self._inputs(batch)
            inputs.images.requires_grad_()
            leaves = Leaves(self._weights)
            architecture = self._required(list(self._architecture))
            context = ForwardContext(leaves, self._statistics, training=True, track=False, trace=trace)
            loss, logits, auxiliary = self._loss(context, inputs, architecture, temperature)
            traced, read = context.traced, leaves.read
            found = self._differentiate(loss, [*traced.values(), inputs.images, *architecture.values(), *read.values()])
        out: State = {"logits": host(logits), "loss": host(loss)}
        if auxiliary is not None:
            out["auxiliary_logits"] = host(auxiliary)
        for name, value in traced.items():
            out[f"trace/{name}"] = host(value.to(self._device_context.dtype))
            out[f"trace.gradient/{name}"] = host(found.pop(0).to(self._device_context.dtype))
        out["gradient/images"] = host(found.pop(0))
        for name in architecture:
            out[f"gradient/{name}"] = host(found.pop(0))
        out.update(self._network.weights.split(host(self._joined(read, found)), "gradient/"))
        return out

    def architecture(self) -> dict[str, NDArray[np.floating]]:
        """Return copies of α′ and β′ by name."""
        return {name: value.cpu().numpy().copy() for name, value in self._architecture.items()}

    def export_state(self) -> State:
        """Return copies of everything that training changes, by canonical name."""
        flat = FlatState(
            host(self._flat),
            host(self._sgd.buffer),
            host(self._flat_statistics),
            {
                name: AdamState(host(value), host(adam.first), host(adam.second), adam.steps)
                for (name, value), adam in zip(self._architecture.items(), self._adam.values(), strict=True)
            },
        )
        return flat.canonical(self._network)

    def import_state(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Take over what `export_state` of any engine returned, cast to this network's dtype."""
        flat = FlatState.of(self._network, state, self._device_context.numpy)
        pairs = [
            (self._flat, flat.weights),
            (self._sgd.buffer, flat.momentum),
            (self._flat_statistics, flat.statistics),
        ]
        for name, value in self._architecture.items():
            new, adam = flat.architecture[name], self._adam[name]
            pairs += [(value, new.value), (adam.first, new.first), (adam.second, new.second)]
            adam.steps = new.steps
        for tensor, array in pairs:
            tensor.copy_(torch.from_numpy(array))

    def _to_device(self, array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(array).to(self._device_context.device)

    def _names(self, groups: tuple[str, ...]) -> list[str]:
        return [name for name in self._architecture if name.partition(".")[0] in groups]

    def _required(self, names: Sequence[str]) -> dict[str, Tensor]:
        """The architecture weights, those named as leaves to differentiate by."""
        leaves = {name: self._architecture[name].detach().requires_grad_() for name in names}
        return {**self._architecture, **leaves}

    def _inputs(self, batch: Batch) -> _Inputs:
        p = self._device_context
        images = p.upload(batch.images).to(p.dtype).to(memory_format=p.memory_format)
        keep = None if batch.drop_path is None else p.upload(batch.drop_path).to(p.dtype)
        return _Inputs(images, p.upload(batch.labels), keep, batch.draws or {})

    def _forward(
        self, context: ForwardContext, inputs: _Inputs, architecture: Mapping[str, Tensor], temperature: Temperature
    ) -> tuple[Tensor, Tensor | None]:
        """Return logits and, in training, the auxiliary head's."""
        # Architecture weights stay in full precision; only the network itself is autocast.
        edge_weights = {
            kind: mixture(architecture, temperature, inputs.draws.get(kind)) for kind, mixture in self._mixtures.items()
        }
        with self._device_context.autocast():
            logits, auxiliary = self._model(context, inputs.images, inputs.keep, edge_weights)
        return logits.to(self._device_context.dtype), None if auxiliary is None else auxiliary.to(
            self._device_context.dtype
        )

    def _loss(
        self, context: ForwardContext, inputs: _Inputs, architecture: Mapping[str, Tensor], temperature: Temperature
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        logits, auxiliary = self._forward(context, inputs, architecture, temperature)
        smoothing = self.setup.loss.label_smoothing
        loss = F.cross_entropy(logits, inputs.labels, label_smoothing=smoothing)
        if auxiliary is not None:
            extra = F.cross_entropy(auxiliary, inputs.labels, label_smoothing=smoothing)
            loss = loss + self.setup.loss.auxiliary_weight * extra
        return loss, logits, auxiliary

    def _differentiate(self, loss: Tensor, tensors: Sequence[Tensor], create_graph: bool = False) -> list[Tensor]:
        if not tensors:
            return []
        if not loss.requires_grad:
            # Sampled operations can leave no path at all.
            return [torch.zeros_like(tensor) for tensor in tensors]
        scale = self._device_context.loss_scale
        found = torch.autograd.grad(
            loss * scale if scale != 1 else loss, tensors, allow_unused=True, create_graph=create_graph
        )
        # A weight behind a node that reaches no output has no path to the loss: its gradient is 0.
        whole = [torch.zeros_like(t) if g is None else g for g, t in zip(found, tensors, strict=True)]
        if scale == 1:
            return whole
        # A gradient that overflowed float16 says nothing; such a step moves by momentum alone.
        finite = torch.stack([torch.isfinite(g).all() for g in whole]).all()
        return [torch.where(finite, g / scale, 0.0) for g in whole]

    def _joined(self, read: Mapping[int, Tensor], gradients: Sequence[Tensor]) -> Tensor:
        """The flat gradient of w from those of the stacks that were read."""
        return flat_gradient(self._network.weights, dict(zip(read, gradients, strict=True)), self._flat)

    def _accumulate(self, name: str, gradient: Tensor, factor: float) -> None:
        found = self._accumulated.get(name)
        if found is not None:
            found.add_(gradient, alpha=factor)
        else:
            self._accumulated[name] = gradient if factor == 1 else gradient * factor

    def _used(self, name: str, like: Tensor) -> Tensor:
        """Take an accumulated gradient away; 0 where there is none."""
        found = self._accumulated.pop(name, None)
        return torch.zeros_like(like) if found is None else found

    def _record(self, loss: Tensor, logits: Tensor, inputs: _Inputs) -> None:
        self._log.append((loss.detach(), (logits.detach().argmax(1) == inputs.labels).sum()))
