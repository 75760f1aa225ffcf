"""The plain formulation of a supernet: one module for every operation of every edge, in NCHW.

What `step.py` compares the project's engine with. It follows the way DARTS-style code is
commonly written: a mixed operation is a sum over its own modules, an edge is a module, a cell
loops over its edges, and PyTorch's optimisers and gradient clipping do the updates.
Parameters carry the canonical names of `dots_core.network.spec`, so that the same arrays fill both.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from dots_torch.runtime import DeviceContext
from numpy.typing import NDArray
from torch import Tensor, nn

from dots_core.engine.batch import Batch
from dots_core.engine.protocol import Optimizers, Rates
from dots_core.network.spec import CellLayout, NetworkSpec, cell_layouts
from dots_core.search_space.mixing import MASKED, SoftmaxGroups, Temperature


class Zero(nn.Module):
    """``none``: the input times 0, subsampled at stride 2."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == 1:
            return x.mul(0.0)
        return x[:, :, :: self.stride, :: self.stride].mul(0.0)


class NormedPool(nn.Module):
    """3×3 pooling and batch norm."""

    def __init__(self, kind: str, channels: int, stride: int) -> None:
        super().__init__()
        if kind == "max":
            self.pool: nn.Module = nn.MaxPool2d(3, stride, 1)
        else:
            self.pool = nn.AvgPool2d(3, stride, 1, count_include_pad=False)
        self.norm = nn.BatchNorm2d(channels, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.pool(x))


class FactorizedReduce(nn.Module):
    """ReLU, two shifted 1×1 stride-2 convolutions, batch norm; for images of even size."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs // 2, 1, 2, bias=False)
        self.conv2 = nn.Conv2d(inputs, outputs - outputs // 2, 1, 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        return self.norm(torch.cat([self.conv1(x), self.conv2(x[:, :, 1:, 1:])], 1))


class ReLUConvNorm(nn.Module):
    """ReLU, 1×1 convolution, batch norm."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(F.relu(x)))


class DilatedConvolution(nn.Module):
    """ReLU, depthwise convolution of dilation 2, pointwise convolution, batch norm."""

    def __init__(self, kernel: int, channels: int, stride: int) -> None:
        super().__init__()
        c = channels
        self.depthwise = nn.Conv2d(c, c, kernel, stride, kernel - 1, dilation=2, groups=c, bias=False)
        self.pointwise = nn.Conv2d(c, c, 1, bias=False)
        self.norm = nn.BatchNorm2d(c, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.pointwise(self.depthwise(F.relu(x))))


class SeparableConvolution(nn.Module):
    """Twice ReLU, depthwise convolution, pointwise convolution, batch norm."""

    def __init__(self, kernel: int, channels: int, stride: int) -> None:
        super().__init__()
        c = channels
        self.depthwise1 = nn.Conv2d(c, c, kernel, stride, kernel // 2, groups=c, bias=False)
        self.pointwise1 = nn.Conv2d(c, c, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(c, affine=False)
        self.depthwise2 = nn.Conv2d(c, c, kernel, 1, kernel // 2, groups=c, bias=False)
        self.pointwise2 = nn.Conv2d(c, c, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(c, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(self.pointwise1(self.depthwise1(F.relu(x))))
        return self.norm2(self.pointwise2(self.depthwise2(F.relu(x))))


def operation(name: str, channels: int, stride: int) -> nn.Module:
    """Return the module of one candidate operation."""
    if name == "none":
        return Zero(stride)
    if name == "skip_connect":
        return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels)
    kind, _, size = name.partition("_")
    if size.startswith("pool"):
        return NormedPool(kind, channels, stride)
    separable = kind == "sep"
    return (SeparableConvolution if separable else DilatedConvolution)(int(name[-1]), channels, stride)


class Cell(nn.Module):
    """One cell; an edge is a `ModuleDict` of its operations."""

    def __init__(self, spec: NetworkSpec, layout: CellLayout) -> None:
        super().__init__()
        cell = spec.cell(layout.kind)
        self.kind = layout.kind
        self.concat = cell.concat
        c = layout.channels
        first = FactorizedReduce if layout.after_reduction else ReLUConvNorm
        self.preprocess0 = first(layout.inputs[0], c)
        self.preprocess1 = ReLUConvNorm(layout.inputs[1], c)
        self.edges = nn.ModuleDict(
            {e.name: nn.ModuleDict({o: operation(o, c, layout.stride(e.source)) for o in e.operations})
             for e in cell.edges}
        )  # fmt: skip
        self.incoming = [
            [(cell.edges[number].source, number) for number in cell.incoming(node)] for node in range(2, cell.nodes + 2)
        ]
        self.names = [e.name for e in cell.edges]

    def forward(self, before: tuple[Tensor, Tensor], edge_weights: list[dict[str, Tensor]]) -> Tensor:
        """Run the cell; ``edge_weights[e][o]`` is γ_e·α_{e,o}."""
        nodes = [self.preprocess0(before[0]), self.preprocess1(before[1])]
        for incoming in self.incoming:
            nodes.append(sum(self._mixed(number, nodes[source], edge_weights[number]) for source, number in incoming))
        return torch.cat([nodes[number] for number in self.concat], 1)

    def _mixed(self, number: int, x: Tensor, edge_weights: dict[str, Tensor]) -> Tensor:
        edge = self.edges[self.names[number]]
        return sum(edge_weight * edge[name](x) for name, edge_weight in edge_weights.items())


class Supernet(nn.Module):
    """Stem, cells and classifier.

    Raises
    ------
    ValueError
        If the spec is not a supernet with the CIFAR stem and without an auxiliary head.
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        plain = spec.stem == "cifar" and spec.pool_norm and not (spec.affine or spec.auxiliary or spec.head_norm)
        if not plain or not all(spec.cell(kind).mixed for kind in spec.kinds()):
            raise ValueError("the per-edge formulation covers supernets with the CIFAR stem and a plain classifier")
        layouts = cell_layouts(spec)
        width = spec.stem_multiplier * spec.channels
        self.stem = nn.ModuleDict(
            {"conv": nn.Conv2d(spec.input_shape[0], width, 3, padding=1, bias=False), "norm": nn.BatchNorm2d(width)}
        )
        self.cells = nn.ModuleList(Cell(spec, layout) for layout in layouts)
        self.classifier = nn.Linear(layouts[-1].channels * len(spec.cell(layouts[-1].kind).concat), spec.classes)

    def forward(self, images: Tensor, edge_weights: Mapping[str, list[dict[str, Tensor]]]) -> Tensor:
        x = self.stem["norm"](self.stem["conv"](images))
        before = (x, x)
        for cell in self.cells:
            before = (before[1], cell(before, edge_weights[cell.kind]))
        return self.classifier(F.adaptive_avg_pool2d(before[1], 1).flatten(1))


def group_softmax(logits: Tensor, members: Tensor, temperature: float) -> Tensor:
    """Softmax within blocks: one masked row a block, then the rows laid over each other.

    Parameters
    ----------
    members : bool Tensor, shape (blocks, logits)
        Which logits, in flat order, belong to each block.
    """
    rows = (logits.flatten() / temperature).expand(members.shape)
    return torch.softmax(rows.masked_fill(~members, -torch.inf), 1).sum(0).view_as(logits)


def _members(blocks: SoftmaxGroups, device: torch.device) -> Tensor:
    labels = blocks.labels.ravel()
    numbers = np.unique(labels[labels != MASKED])
    return torch.from_numpy(labels == numbers[:, None]).to(device)


class PerEdgeNetwork:
    """A supernet with its optimisers, its verbs named as those of `dots_core.engine.protocol.Network`.

    Parameters
    ----------
    spec : NetworkSpec
    weights, architecture : mapping of name to array
        Initial values by canonical name.
    optimizers : Optimizers
    precision : DeviceContext
        Device and data type; the memory format is PyTorch's default whatever it says.
    """

    def __init__(
        self,
        spec: NetworkSpec,
        weights: Mapping[str, NDArray],
        architecture: Mapping[str, NDArray],
        optimizers: Optimizers,
        precision: DeviceContext,
    ) -> None:
        self._spec = spec
        self._precision = precision
        device, dtype = precision.device, precision.dtype
        self._model = Supernet(spec).to(device, dtype)
        self._fill(weights)
        self._architecture = {
            name: torch.from_numpy(np.array(values)).to(device, dtype).requires_grad_()
            for name, values in architecture.items()
        }
        self._alpha_blocks: dict[str, Tensor] = {}
        self._beta_blocks: dict[str, Tensor] = {}
        self._shares: dict[str, Tensor] = {}
        for kind in spec.kinds():
            cell = spec.cell(kind)
            self._alpha_blocks[kind] = _members(cell.operation_groups, device)
            if cell.matrix is not None and cell.combination_groups is not None:
                self._beta_blocks[kind] = _members(cell.combination_groups, device)
                self._shares[kind] = torch.from_numpy(cell.matrix.shares).to(device, dtype)
        self._clip = optimizers.clip
        self._sgd = torch.optim.SGD(
            self._model.parameters(), 0.0, momentum=optimizers.momentum, weight_decay=optimizers.weight_decay
        )
        self._adam = torch.optim.Adam(
            self._architecture.values(),
            0.0,
            betas=optimizers.betas,
            eps=optimizers.epsilon,
            weight_decay=optimizers.architecture_weight_decay,
        )

    def bilevel_step(self, train: Batch, validation: Batch, rates: Rates, temperature: Temperature) -> None:
        """Update the architecture on one batch, then the weights on another."""
        with self._precision.scope():
            self._backward(validation, temperature)
            self._update(self._adam, rates.architecture)
            # The first backward pass left gradients in the weights, the second leaves some in the architecture.
            self._backward(train, temperature)
            self._update_weights(rates.weights)

    def joint_step(self, batch: Batch, rates: Rates, temperature: Temperature) -> None:
        """Update weights and architecture on one batch, both gradients taken at the old point."""
        with self._precision.scope():
            self._backward(batch, temperature)
            self._update_weights(rates.weights)
            self._update(self._adam, rates.architecture)

    def gradients(self, batch: Batch, temperature: Temperature) -> dict[str, NDArray[np.floating]]:
        """Return ``gradient/<name>`` for every weight and architecture weight."""
        with self._precision.scope():
            self._backward(batch, temperature)
        named = {**dict(self._model.named_parameters()), **self._architecture}
        return {f"gradient/{name}": _gradient(value).cpu().numpy() for name, value in named.items()}

    def _fill(self, weights: Mapping[str, NDArray]) -> None:
        parameters = dict(self._model.named_parameters())
        if parameters.keys() != weights.keys():
            raise ValueError(f"parameters without a counterpart: {sorted(parameters.keys() ^ weights.keys())[:3]}")
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(torch.from_numpy(np.array(weights[name])))

    def _edge_weights(self, temperature: Temperature) -> dict[str, list[dict[str, Tensor]]]:
        edge_weights = {}
        for kind in self._spec.kinds():
            table = group_softmax(self._architecture[f"alpha.{kind}"], self._alpha_blocks[kind], temperature.alpha)
            if kind in self._beta_blocks:
                chosen = group_softmax(self._architecture[f"beta.{kind}"], self._beta_blocks[kind], temperature.beta)
                table = table * (self._shares[kind] @ chosen)[:, None]
            edge_weights[kind] = self._by_operation(kind, table)
        return edge_weights

    def _by_operation(self, kind: str, table: Tensor) -> list[dict[str, Tensor]]:
        rows = [row.unbind() for row in table.unbind()]
        cell = self._spec.cell(kind)
        return [{o: row[cell.column(o)] for o in e.operations} for e, row in zip(cell.edges, rows, strict=True)]

    def _backward(self, batch: Batch, temperature: Temperature) -> None:
        p = self._precision
        images, labels = p.upload(batch.images).to(p.dtype), p.upload(batch.labels)
        self._sgd.zero_grad()
        self._adam.zero_grad()
        edge_weights = self._edge_weights(temperature)
        with p.autocast():
            logits = self._model(images, edge_weights)
        F.cross_entropy(logits.to(p.dtype), labels).backward()

    def _update_weights(self, rate: float) -> None:
        nn.utils.clip_grad_norm_(self._model.parameters(), self._clip)
        self._update(self._sgd, rate)

    @staticmethod
    def _update(optimizer: torch.optim.Optimizer, rate: float) -> None:
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()


def _gradient(value: Tensor) -> Tensor:
    return torch.zeros_like(value) if value.grad is None else value.grad
