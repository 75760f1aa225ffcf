"""A network on PyTorch: its passes, forward and backward."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dots_core.engine.batch import Batch
from dots_core.engine.mixture import EdgeWeights
from dots_core.engine.network import EngineNetwork, Gradients
from dots_core.engine.protocol import Setup, UnrollingNetwork, check_groups, check_perturbed
from dots_core.errors import UsageError
from dots_core.search_space.mixing import Temperature
from dots_torch.cell import TorchMaps
from dots_torch.runtime import DeviceContext
from dots_torch.stack import ForwardContext, Stack
from dots_torch.tensors import Leaves, TorchTensors, flat_gradient, parts, views


class TorchNetwork(EngineNetwork, UnrollingNetwork):
    """A network's verbs on PyTorch, with exact steps of second order."""

    tensors: TorchTensors

    def __init__(
        self, setup: Setup, weights: Mapping[str, NDArray], architecture: Mapping[str, NDArray], device: DeviceContext
    ) -> None:
        self._device = device
        super().__init__(setup, weights, architecture, TorchTensors(device), Stack, TorchMaps())
        self._weights = views(self.stacked.weights, self.values["w"])

    def scope(self) -> contextlib.AbstractContextManager[None]:
        return self._device.scope()

    def put_statistics(self, flat: NDArray[Any]) -> None:
        super().put_statistics(flat)
        self._statistics = views(self.stacked.statistics, self.statistics)

    def differentiate(
        self,
        names: Sequence[str],
        batch: Batch,
        temperature: Temperature,
        move: bool,
        images: bool = False,
        trace: bool = False,
    ) -> Gradients:
        leaves = Leaves(self._weights)
        architecture, wanted = self._architecture(names)
        context = ForwardContext(
            leaves if "w" in names else self._weights, self._statistics, training=True, track=move, trace=trace
        )
        x, labels = self._images(batch), self._device.upload(batch.labels)
        if images:
            x.requires_grad_()
        loss, correct, logits, auxiliary = self.loss(context, x, labels, batch, architecture, temperature)
        traced = context.traced
        found = self._gradients(
            loss, [*traced.values(), *([x] if images else []), *wanted.values(), *leaves.read.values()]
        )
        given = Gradients(loss.detach(), logits.detach(), auxiliary, correct, {})
        given.traced = {name: (value, found.pop(0)) for name, value in traced.items()}
        if images:
            given.images = found.pop(0)
        given.found = {name: found.pop(0) for name in wanted}
        if "w" in names:
            given.found["w"] = self._joined(leaves, found)
        return given

    def accumulate_unrolled_gradients(
        self, groups: tuple[str, ...], training: Batch, validation: Batch, rate: float, temperature: Temperature
    ) -> None:
        check_groups(groups)
        if "w" in groups:
            raise UsageError("the gradient through a step of SGD is one of architecture weights, not of w")
        check_perturbed(self.perturbed, False)
        self.check_samples(min(len(training.labels), len(validation.labels)))
        with self.scope():
            architecture, wanted = self._architecture(self.names(groups))
            leaves = Leaves(self._weights)
            context = ForwardContext(leaves, self._statistics, training=True, track=True)
            labels = self._device.upload(training.labels)
            loss, *_ = self.loss(context, self._images(training), labels, training, architecture, temperature)
            found = self._gradients(loss, list(leaves.read.values()), create_graph=True)
            gradient = self._joined(leaves, found)
            # w′, shape (weights.size,), a function of α and β.
            ahead = self.values["w"] - rate * self.tensors.direction(
                self.values["w"], self._momentum, gradient, self.setup.optimizers
            )

            labels = self._device.upload(validation.labels)
            context = ForwardContext(parts(self.stacked.weights, ahead), self._statistics, training=True, track=False)
            loss, correct, *_ = self.loss(
                context, self._images(validation), labels, validation, architecture, temperature
            )
            for name, gradient in zip(wanted, self._gradients(loss, list(wanted.values())), strict=True):
                self.add_gradient(name, gradient, 1.0)
            self.record(loss.detach(), correct)

    @torch.no_grad()
    def classify(self, batch: Batch, temperature: Temperature) -> tuple[Tensor, Tensor]:
        context = ForwardContext(self._weights, self._statistics, training=False, track=False)
        logits, _ = self.forward(context, self._images(batch), batch, self.values, temperature)
        labels = self._device.upload(batch.labels)
        return F.cross_entropy(logits, labels, reduction="sum"), _correct(logits, labels)

    def _architecture(self, names: Sequence[str]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return all architecture weights, and those named, which are leaves to differentiate by."""
        leaves = {name: self.values[name].detach().requires_grad_() for name in names if name != "w"}
        return {**self.values, **leaves}, leaves

    def _images(self, batch: Batch) -> Tensor:
        device = self._device
        return device.upload(batch.images).to(device.dtype).to(memory_format=device.memory_format)

    def run(
        self, context: ForwardContext, images: Tensor, weights: Mapping[str, EdgeWeights | None], keep: Any
    ) -> tuple[Tensor, Tensor | None]:
        """Run stems, cells and heads; architecture weights stay in full precision, only the network is autocast.

        Parameters, results and their shapes are those of `dots_core.engine.forward.Forward`.
        """
        with self._device.autocast():
            logits, auxiliary = super().run(context, images, weights, keep)
        dtype = self._device.dtype
        return logits.to(dtype), None if auxiliary is None else auxiliary.to(dtype)

    def cross_entropy(self, logits: Tensor, targets: Tensor, weight: float = 1.0) -> tuple[Tensor, Tensor]:
        loss = F.cross_entropy(logits, targets, label_smoothing=self.setup.loss.label_smoothing)
        return loss if weight == 1.0 else weight * loss, _correct(logits, targets)

    def _gradients(self, loss: Tensor, tensors: Sequence[Tensor], create_graph: bool = False) -> list[Tensor]:
        if not tensors:
            return []
        if not loss.requires_grad:
            # Sampled operations can leave no path at all.
            return [torch.zeros_like(tensor) for tensor in tensors]
        scale = self._device.loss_scale
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

    def _joined(self, leaves: Leaves, gradients: Sequence[Tensor]) -> Tensor:
        """The gradient of w, shape (weights.size,), from those of the stacks that were read."""
        found = dict(zip(leaves.read, gradients, strict=True))
        return flat_gradient(self.stacked.weights, found, self.values["w"])


def _correct(logits: Tensor, labels: Tensor) -> Tensor:
    return (logits.detach().argmax(1) == labels).sum()
