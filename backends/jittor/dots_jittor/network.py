"""A whole network: forward pass, steps and state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike, NDArray

from dots_core.engine.batch import Batch, Draw
from dots_core.engine.protocol import Rates, Setup, State, check_groups
from dots_core.engine.stacking import StackedNetwork
from dots_core.engine.state import AdamState, FlatState
from dots_core.network.spec import architecture_shapes
from dots_core.search_space.mixing import Temperature
from dots_jittor.accumulated import Accumulated
from dots_jittor.arrays import Var, Views, download, upload
from dots_jittor.cell import Cell
from dots_jittor.edge_weights import EdgeWeights, SampledEdgeWeights, straight_through
from dots_jittor.optimizers import Adam, MomentumSGD, clipped
from dots_jittor.runtime import DeviceContext
from dots_jittor.stack import Constants, ForwardContext, Stack, moved_statistics
from dots_jittor.startup import jt


@dataclass(frozen=True)
class _Inputs:
    """A batch on its device; see `dots_core.engine.batch.Batch`."""

    images: Var
    labels: Var
    keep: Var | None
    draws: Mapping[str, Draw]


class JittorNetwork:
    """The `dots_core.engine.protocol.Network` verbs on Jittor."""

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
        dtype = self._dtype
        network = self._network = StackedNetwork(spec)
        self._stems = [Stack(stack) for stack in network.stems]
        self._cells = [Cell(cell) for cell in network.cells]
        self._auxiliary = None if network.auxiliary is None else (network.auxiliary[0], Stack(network.auxiliary[1]))
        self._head = Stack(network.head)
        with device_context.scope():
            self._constants = Constants(dtype)
            self._sgd = MomentumSGD(network.weights.join(weights, dtype), setup.optimizers, device_context.ops)
            self._statistics = upload(network.initial_statistics(dtype))
            self._adam = {
                name: Adam(np.array(architecture[name], dtype), setup.optimizers, device_context.ops)
                for name in architecture_shapes(spec)
            }
            self._shares: dict[str, Var] = {}
            for kind in spec.kinds():
                matrix = spec.cell(kind).matrix
                if matrix is not None:
                    self._shares[kind] = upload(matrix.shares.astype(dtype))
            shapes = {"w": (network.weights.size,), **architecture_shapes(spec)}
            self._accumulated = Accumulated(shapes, self._constants, device_context.ops)
        self._log: list[tuple[Var, Var]] = []

    @property
    def _dtype(self) -> DTypeLike:
        return self._device_context.dtype

    def step(self, groups: tuple[str, ...], batch: Batch, rates: Rates, temperature: Temperature) -> None:
        check_groups(groups)
        with self._device_context.scope():
            self._differentiate(groups, batch, temperature, 1.0)
            self._update(groups, rates, {})
            self._sync()

    def accumulate_gradients(
        self, groups: tuple[str, ...], batch: Batch, temperature: Temperature, factor: float = 1.0
    ) -> None:
        check_groups(groups)
        with self._device_context.scope():
            self._differentiate(groups, batch, temperature, factor)
            self._sync()

    def update(
        self, groups: tuple[str, ...], rates: Rates, extra_gradients: Mapping[str, NDArray[np.floating]] | None = None
    ) -> None:
        check_groups(groups)
        with self._device_context.scope():
            self._update(groups, rates, extra_gradients or {})
            self._sync()

    def virtual_step(self, rate: float) -> None:
        with self._device_context.scope():
            self._sgd.virtual_step(self._accumulated.take("w"), rate)
            self._sync()

    def perturb_weights(self, radius: float) -> None:
        with self._device_context.scope():
            self._sgd.perturb_weights(self._accumulated.total("w"), radius)
            self._sync()

    def gradient_norm(self) -> float:
        with self._device_context.scope():
            return float(self._device_context.ops.norm(self._accumulated.total("w")).item())

    def restore_weights(self) -> None:
        self._sgd.restore_weights()
        self._accumulated.take("w")

    def pop_losses(self) -> NDArray[np.float64]:
        rows = [(float(loss.item()), float(correct.item())) for loss, correct in self._log]
        self._log.clear()
        return np.array(rows, np.float64).reshape(len(rows), 2)

    def evaluate(self, batch: Batch, temperature: Temperature) -> tuple[float, int]:
        with self._device_context.scope(), jt.no_grad():
            inputs = self._inputs(batch, drop_path=False)
            context = self._pass(training=False)
            architecture = {name: adam.values for name, adam in self._adam.items()}
            logits, _ = self._forward(context, inputs, architecture, temperature)
            loss, correct = self._device_context.ops.cross_entropy(logits, inputs.labels, smoothing=0.0, share=1.0)
            return float(loss.item()), int(correct.item())

    def gradients(self, batch: Batch, temperature: Temperature, trace: bool = False) -> State:
        with self._device_context.scope():
            inputs = self._inputs(batch)
            architecture = {name: adam.values.clone() for name, adam in self._adam.items()}
            for var in (inputs.images, *architecture.values()):
                var.start_grad()
            context = self._pass(training=True, differentiated=True, trace=trace)
            loss, _, logits, auxiliary = self._loss(context, inputs, architecture, temperature)
            weights = context.weights.read.values()
            found = jt.grad(loss, [*context.traced.values(), inputs.images, *weights, *architecture.values()])
            flat = context.weights.flat(found[len(context.traced) + 1 : len(context.traced) + 1 + len(weights)])
            out: State = {"logits": download(logits), "loss": download(loss).reshape(())}
            if auxiliary is not None:
                out["auxiliary_logits"] = download(auxiliary)
            for (name, value), gradient in zip(context.traced.items(), found, strict=False):
                out[f"trace/{name}"] = download(value)
                out[f"trace.gradient/{name}"] = download(gradient)
            out["gradient/images"] = download(found[len(context.traced)])
            out.update(self._network.weights.split(download(flat), "gradient/"))
            for name, gradient in zip(architecture, found[len(found) - len(architecture) :], strict=True):
                out[f"gradient/{name}"] = download(gradient)
        return out

    def architecture(self) -> dict[str, NDArray[np.floating]]:
        return {name: download(adam.values) for name, adam in self._adam.items()}

    def export_state(self) -> State:
        architecture = {
            name: AdamState(download(adam.values), download(adam.first), download(adam.second), adam.steps)
            for name, adam in self._adam.items()
        }
        weights, momentum = download(self._sgd.weights), download(self._sgd.buffer)
        return FlatState(weights, momentum, download(self._statistics), architecture).canonical(self._network)

    def import_state(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        flat = FlatState.of(self._network, state, self._dtype)
        with self._device_context.scope():
            self._sgd.weights, self._sgd.buffer = upload(flat.weights), upload(flat.momentum)
            self._statistics = upload(flat.statistics)
            for name, adam in self._adam.items():
                new = flat.architecture[name]
                adam.values, adam.first, adam.second = upload(new.value), upload(new.first), upload(new.second)
                adam.steps = new.steps

    def _names(self, groups: tuple[str, ...]) -> list[str]:
        """Names under which a group's gradients are accumulated: ``"w"``, and architecture weights'."""
        names = ["w"] if "w" in groups else []
        return names + [name for name in self._adam if name.partition(".")[0] in groups]

    def _differentiate(self, groups: tuple[str, ...], batch: Batch, temperature: Temperature, factor: float) -> None:
        """Describe a pass to Jittor, which `_sync` then runs."""
        names = [name for name in self._names(groups) if name != "w"]
        inputs = self._inputs(batch)
        architecture = {name: adam.values.clone() for name, adam in self._adam.items()}
        for name in names:
            architecture[name].start_grad()
        context = self._pass(training=True, differentiated="w" in groups)
        loss, correct, *_ = self._loss(context, inputs, architecture, temperature)
        weights = list(context.weights.read.values()) if "w" in groups else []
        wanted = weights + [architecture[name] for name in names]
        found = jt.grad(loss, wanted) if wanted else []
        if "w" in groups:
            self._accumulated.add("w", context.weights.flat(found[: len(weights)]), factor)
        for name, gradient in zip(names, found[len(weights) :], strict=True):
            self._accumulated.add(name, gradient, factor)
        if not self._sgd.perturbed:
            self._statistics = moved_statistics(self._network.statistics, self._statistics, context)
        self._log.append((loss.detach(), correct))

    def _update(
        self, groups: tuple[str, ...], rates: Rates, extra_gradients: Mapping[str, NDArray[np.floating]]
    ) -> None:
        ops = self._device_context.ops
        gradients = {name: self._accumulated.take(name) for name in self._names(groups)}
        if "w" in gradients:
            self._sgd.update(gradients.pop("w"), rates.weights)
        for name in gradients:
            if name in extra_gradients:
                gradients[name] = ops.add_scaled(
                    gradients[name], upload(extra_gradients[name].astype(self._dtype)), 1.0
                )
        moved = clipped(list(gradients.values()), self.setup.optimizers.architecture_clip, ops)
        for name, gradient in zip(gradients, moved, strict=True):
            self._adam[name].update(gradient, rates.architecture)

    def _sync(self) -> None:
        """Run what was described: Jittor runs nothing until it is asked to, and the graph would grow."""
        results = [var for row in self._log[-1:] for var in row]
        state = [self._sgd.weights, self._sgd.buffer]
        for adam in self._adam.values():
            state += [adam.values, adam.first, adam.second]
        jt.sync([*results, self._statistics, *state, *self._accumulated.found.values()])

    def _inputs(self, batch: Batch, drop_path: bool = True) -> _Inputs:
        keep = upload(batch.drop_path.astype(self._dtype)) if drop_path and batch.drop_path is not None else None
        images, labels = upload(batch.images.astype(self._dtype)), upload(batch.labels.astype(np.int32))
        return _Inputs(images, labels, keep, batch.draws or {})

    def _pass(self, training: bool, differentiated: bool = False, trace: bool = False) -> ForwardContext:
        weights = Views(self._network.weights, self._sgd.weights, differentiated)
        statistics = Views(self._network.statistics, self._statistics)
        return ForwardContext(self._device_context.ops, weights, statistics, training, self._constants, trace)

    def _edge_weights(
        self, architecture: Mapping[str, Var], temperature: Temperature, draws: Mapping[str, Draw]
    ) -> dict[str, EdgeWeights | None]:
        ops = self._device_context.ops
        edge_weights: dict[str, EdgeWeights | None] = {}
        for kind in self.spec.kinds():
            cell, draw = self.spec.cell(kind), draws.get(kind)
            if not cell.mixed:
                edge_weights[kind] = None
                continue
            noise = None if draw is None else draw.noise
            table = ops.group_softmax(architecture[f"alpha.{kind}"], cell.operation_groups, temperature.alpha, noise)
            if draw is not None and draw.chosen is not None:
                table = straight_through(table, draw.chosen)
            gamma = None
            if cell.combination_groups is not None:
                chosen = ops.group_softmax(architecture[f"beta.{kind}"], cell.combination_groups, temperature.beta)
                gamma = (self._shares[kind] * chosen.reshape((1, -1))).sum(1)
                table = table * gamma.reshape((-1, 1))
            if draw is not None and draw.chosen is not None:
                cells = sum(each.kind == kind for each in self._cells)
                edge_weights[kind] = SampledEdgeWeights(ops, table, gamma, draw.chosen, cell.operation_groups, cells)
            else:
                edge_weights[kind] = EdgeWeights(table, gamma)
        return edge_weights

    def _forward(
        self, context: ForwardContext, inputs: _Inputs, architecture: Mapping[str, Var], temperature: Temperature
    ) -> tuple[Var, Var | None]:
        """Return logits and, in training, the auxiliary head's."""
        edge_weights = self._edge_weights(architecture, temperature, inputs.draws)
        x = inputs.images
        outputs = []
        for number, stem in enumerate(self._stems):
            x = context.keep(f"stems.{number}", stem(context, x))
            outputs.append(x)
        before = (outputs[0], outputs[-1])
        auxiliary = None
        for number, cell in enumerate(self._cells):
            keep = None if inputs.keep is None else inputs.keep[number]
            before = (before[1], cell(context, before, edge_weights[cell.kind], keep, inputs.draws.get(cell.kind)))
            if context.training and self._auxiliary is not None and self._auxiliary[0] == number:
                auxiliary = self._auxiliary[1](context, before[1])
        return self._head(context, before[1]), auxiliary

    def _loss(
        self, context: ForwardContext, inputs: _Inputs, architecture: Mapping[str, Var], temperature: Temperature
    ) -> tuple[Var, Var, Var, Var | None]:
        """Return the loss, the number of correct predictions, logits and the auxiliary head's."""
        logits, auxiliary = self._forward(context, inputs, architecture, temperature)
        ops, settings, labels = self._device_context.ops, self.setup.loss, inputs.labels
        share = 1 / labels.shape[0]
        loss, correct = ops.cross_entropy(logits, labels, settings.label_smoothing, share)
        if auxiliary is not None:
            weighted = settings.auxiliary_weight * share
            extra, _ = ops.cross_entropy(auxiliary, labels, settings.label_smoothing, weighted)
            loss = ops.add([loss, extra])
        return loss, correct, logits, auxiliary
