"""A whole network: forward pass, steps and state."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dots_core.arena import Arena
from dots_core.batch import Batch
from dots_core.engine import Rates, Setup, State, Temperature
from dots_core.flat_state import AdamState, FlatState
from dots_core.mixing import Blocks
from dots_core.network import architecture_shapes
from dots_core.stacking import StackedNetwork
from dots_torch.cell import Cell, Gains
from dots_torch.optimizers import Adam, MomentumSGD
from dots_torch.runtime import Precision
from dots_torch.stack import Pass, Stack


class BlockSoftmax:
    """Softmax within blocks of logits, on a device (see `dots_core.mixing`)."""

    def __init__(self, blocks: Blocks, device: torch.device, dtype: torch.dtype) -> None:
        self._gather = torch.from_numpy(blocks.gather).to(device)
        self._padding = torch.from_numpy(blocks.padding).to(device)
        self._scatter = torch.from_numpy(blocks.scatter).to(device)
        self._mask = torch.from_numpy(blocks.mask.ravel()).to(device, dtype)

    def __call__(self, logits: Tensor, temperature: float) -> Tensor:
        rows = logits.reshape(-1).index_select(0, self._gather.reshape(-1)).view_as(self._gather) / temperature
        weights = torch.softmax(rows.masked_fill(self._padding, -torch.inf), -1)
        return (weights.reshape(-1).index_select(0, self._scatter) * self._mask).view_as(logits)


def views(arena: Arena, flat: Tensor) -> list[Tensor]:
    """Every stack as a view of the flat tensor, by stack number."""
    return [flat.narrow(0, start, math.prod(shape)).view(shape) for start, shape in arena.stacks]


def host(tensor: Tensor) -> NDArray[np.floating]:
    """The values as a contiguous array, which may share the tensor's memory."""
    return tensor.detach().contiguous().cpu().numpy()


class TorchNetwork:
    """The `dots_core.engine.Network` verbs on PyTorch."""

    def __init__(
        self, setup: Setup, weights: Mapping[str, NDArray], architecture: Mapping[str, NDArray], precision: Precision
    ) -> None:
        self.setup = setup
        self.spec = spec = setup.spec
        self._precision = precision
        device, dtype = precision.device, precision.dtype
        network = self._network = StackedNetwork(spec)
        self._stems = [Stack(stack) for stack in network.stems]
        self._cells = [Cell(cell) for cell in network.cells]
        self._auxiliary = None if network.auxiliary is None else (network.auxiliary[0], Stack(network.auxiliary[1]))
        self._head = Stack(network.head)

        self._flat = self._to_device(network.weights.join(weights, precision.numpy))
        self._weights = views(network.weights, self._flat)
        self._flat_statistics = self._to_device(network.initial_statistics(precision.numpy))
        self._statistics = views(network.statistics, self._flat_statistics)

        self._architecture = {
            name: torch.from_numpy(np.array(architecture[name])).to(device, dtype) for name in architecture_shapes(spec)
        }
        self._alpha_softmax: dict[str, BlockSoftmax] = {}
        self._beta_softmax: dict[str, BlockSoftmax] = {}
        self._shares: dict[str, Tensor] = {}
        for kind in spec.kinds():
            cell = spec.cell(kind)
            if cell.mixed:
                self._alpha_softmax[kind] = BlockSoftmax(cell.operation_blocks, device, dtype)
            if cell.matrix is not None and cell.combination_blocks is not None:
                self._beta_softmax[kind] = BlockSoftmax(cell.combination_blocks, device, dtype)
                self._shares[kind] = torch.from_numpy(cell.matrix.shares).to(device, dtype)

        self._sgd = MomentumSGD(self._flat, setup.optimizers)
        self._adam = {name: Adam(value, setup.optimizers) for name, value in self._architecture.items()}
        self._log: list[tuple[Tensor, Tensor]] = []

    def step(self, groups: tuple[str, ...], batch: Batch, rates: Rates, temperature: Temperature) -> None:
        names = [name for name in self._architecture if name.partition(".")[0] in groups]
        with self._precision.scope():
            images, labels, keep = self._inputs(batch)
            weights = self._leaves() if "w" in groups else self._weights
            architecture = dict(self._architecture)
            for name in names:
                architecture[name] = architecture[name].detach().requires_grad_()
            run = Pass(weights, self._statistics, training=True, track=True)
            loss, logits, _ = self._loss(run, images, labels, keep, architecture, temperature)
            wanted = (weights if "w" in groups else []) + [architecture[name] for name in names]
            gradients = self._differentiate(loss, wanted) if wanted else []
            if "w" in groups:
                flat = torch.cat([g.reshape(-1) for g in gradients[: len(weights)]])
                self._sgd.update(flat, rates.weights)
            for name, gradient in zip(names, gradients[len(gradients) - len(names) :], strict=True):
                self._adam[name].update(gradient, rates.architecture)
            correct = (logits.detach().argmax(1) == labels).sum()
        self._log.append((loss.detach(), correct))

    def drain(self) -> NDArray[np.float64]:
        if not self._log:
            return np.zeros((0, 2))
        rows = torch.stack([torch.stack([loss.double(), correct.double()]) for loss, correct in self._log])
        self._log.clear()
        return rows.cpu().numpy()

    @torch.no_grad()
    def evaluate(self, batch: Batch, temperature: Temperature) -> tuple[float, int]:
        with self._precision.scope():
            images, labels, _ = self._inputs(batch)
            run = Pass(self._weights, self._statistics, training=False, track=False)
            logits, _ = self._forward(run, images, None, self._architecture, temperature)
            loss = F.cross_entropy(logits, labels, reduction="sum")
            correct = (logits.argmax(1) == labels).sum()
        return float(loss), int(correct)

    def gradients(self, batch: Batch, temperature: Temperature, trace: bool = False) -> State:
        with self._precision.scope():
            images, labels, keep = self._inputs(batch)
            images.requires_grad_()
            weights = self._leaves()
            architecture = {name: value.detach().requires_grad_() for name, value in self._architecture.items()}
            run = Pass(weights, self._statistics, training=True, track=False, trace=trace)
            loss, logits, auxiliary = self._loss(run, images, labels, keep, architecture, temperature)
            found = self._differentiate(loss, [*run.traced.values(), images, *weights, *architecture.values()])
        out: State = {"logits": logits.detach().cpu().numpy(), "loss": loss.detach().cpu().numpy()}
        if auxiliary is not None:
            out["auxiliary_logits"] = auxiliary.detach().cpu().numpy()
        for name, value in run.traced.items():
            out[f"trace/{name}"] = host(value.to(self._precision.dtype))
            out[f"trace.gradient/{name}"] = host(found.pop(0).to(self._precision.dtype))
        out["gradient/images"] = host(found[0])
        flat = torch.cat([g.reshape(-1) for g in found[1 : 1 + len(weights)]])
        out.update(self._network.weights.split(host(flat), "gradient/"))
        for name, gradient in zip(architecture, found[1 + len(weights) :], strict=True):
            out[f"gradient/{name}"] = gradient.cpu().numpy()
        return out

    def architecture(self) -> dict[str, NDArray[np.floating]]:
        return {name: value.cpu().numpy().copy() for name, value in self._architecture.items()}

    def export_state(self) -> State:
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
        flat = FlatState.of(self._network, state, self._precision.numpy)
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
        return torch.from_numpy(array).to(self._precision.device)

    def _leaves(self) -> list[Tensor]:
        return [w.detach().requires_grad_() for w in self._weights]

    def _inputs(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor | None]:
        p = self._precision
        images = p.upload(batch.images).to(p.dtype).to(memory_format=p.memory_format)
        keep = None if batch.drop_path is None else p.upload(batch.drop_path).to(p.dtype)
        return images, p.upload(batch.labels), keep

    def _gains(self, architecture: Mapping[str, Tensor], temperature: Temperature) -> dict[str, Gains | None]:
        gains: dict[str, Gains | None] = {}
        for kind in self.spec.kinds():
            if kind not in self._alpha_softmax:
                gains[kind] = None
                continue
            table = self._alpha_softmax[kind](architecture[f"alpha.{kind}"], temperature.alpha)
            if kind in self._beta_softmax:
                chosen = self._beta_softmax[kind](architecture[f"beta.{kind}"], temperature.beta)
                table = table * (self._shares[kind] @ chosen)[:, None]
            gains[kind] = Gains(table)
        return gains

    def _forward(
        self,
        run: Pass,
        images: Tensor,
        keep: Tensor | None,
        architecture: Mapping[str, Tensor],
        temperature: Temperature,
    ) -> tuple[Tensor, Tensor | None]:
        """Return logits and, in training, the auxiliary head's."""
        # Architecture weights stay in full precision; only the network itself is autocast.
        gains = self._gains(architecture, temperature)
        with self._precision.autocast():
            x = images
            outputs = []
            for number, stem in enumerate(self._stems):
                x = run.passing(f"stems.{number}", stem(run, F.relu(x) if stem.rectified else x))
                outputs.append(x)
            before = (outputs[0], outputs[-1])
            auxiliary = None
            for number, cell in enumerate(self._cells):
                before = (before[1], cell(run, before, gains[cell.kind], None if keep is None else keep[number]))
                if run.training and self._auxiliary is not None and self._auxiliary[0] == number:
                    auxiliary = self._auxiliary[1](run, F.relu(before[1]))
            logits = self._head(run, before[1])
        return logits.to(self._precision.dtype), None if auxiliary is None else auxiliary.to(self._precision.dtype)

    def _loss(
        self,
        run: Pass,
        images: Tensor,
        labels: Tensor,
        keep: Tensor | None,
        architecture: Mapping[str, Tensor],
        temperature: Temperature,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        logits, auxiliary = self._forward(run, images, keep, architecture, temperature)
        smoothing = self.setup.loss.label_smoothing
        loss = F.cross_entropy(logits, labels, label_smoothing=smoothing)
        if auxiliary is not None:
            extra = F.cross_entropy(auxiliary, labels, label_smoothing=smoothing)
            loss = loss + self.setup.loss.auxiliary_weight * extra
        return loss, logits, auxiliary

    def _differentiate(self, loss: Tensor, tensors: list[Tensor]) -> list[Tensor]:
        scale = self._precision.loss_scale
        found = torch.autograd.grad(loss * scale if scale != 1 else loss, tensors, allow_unused=True)
        # A weight behind a node that reaches no output has no path to the loss: its gradient is 0.
        whole = [torch.zeros_like(t) if g is None else g for g, t in zip(found, tensors, strict=True)]
        if scale == 1:
            return whole
        # A gradient that overflowed float16 says nothing; such a step moves by momentum alone.
        finite = torch.stack([torch.isfinite(g).all() for g in whole]).all()
        return [torch.where(finite, g / scale, 0.0) for g in whole]
