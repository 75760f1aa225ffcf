"""A whole network: forward pass, steps and state."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import DTypeLike, NDArray

from dots_core.batch import Batch
from dots_core.engine import Rates, Setup, State, Temperature
from dots_core.flat_state import AdamState, FlatState
from dots_core.network import architecture_shapes
from dots_core.stacking import StackedNetwork
from dots_jittor.arrays import Var, download, joined, upload, views
from dots_jittor.cell import Cell, Gains
from dots_jittor.optimizers import Adam, MomentumSGD
from dots_jittor.runtime import Place
from dots_jittor.stack import Constants, Pass, Stack, moved_statistics
from dots_jittor.startup import jt


class JittorNetwork:
    """The `dots_core.engine.Network` verbs on Jittor."""

    def __init__(
        self, setup: Setup, weights: Mapping[str, NDArray], architecture: Mapping[str, NDArray], place: Place
    ) -> None:
        self.setup = setup
        self.spec = spec = setup.spec
        self._place = place
        dtype = self._dtype
        network = self._network = StackedNetwork(spec)
        self._stems = [Stack(stack) for stack in network.stems]
        self._cells = [Cell(cell) for cell in network.cells]
        self._auxiliary = None if network.auxiliary is None else (network.auxiliary[0], Stack(network.auxiliary[1]))
        self._head = Stack(network.head)
        with place.scope():
            self._constants = Constants(dtype)
            self._sgd = MomentumSGD(network.weights.join(weights, dtype), setup.optimizers, place.ops)
            self._statistics = upload(network.initial_statistics(dtype))
            self._adam = {
                name: Adam(np.array(architecture[name], dtype), setup.optimizers, place.ops)
                for name in architecture_shapes(spec)
            }
            self._shares: dict[str, Var] = {}
            for kind in spec.kinds():
                matrix = spec.cell(kind).matrix
                if matrix is not None:
                    self._shares[kind] = upload(matrix.shares.astype(dtype))
        self._log: list[tuple[Var, Var]] = []

    @property
    def _dtype(self) -> DTypeLike:
        return self._place.dtype

    def step(self, groups: tuple[str, ...], batch: Batch, rates: Rates, temperature: Temperature) -> None:
        names = [name for name in self._adam if name.partition(".")[0] in groups]
        with self._place.scope():
            images, labels, keep = self._inputs(batch)
            weights = views(self._network.weights, self._sgd.weights)
            architecture = {name: adam.values.clone() for name, adam in self._adam.items()}
            wanted = (weights if "w" in groups else []) + [architecture[name] for name in names]
            for var in wanted:
                var.start_grad()
            run = self._pass(weights, training=True)
            loss, correct, *_ = self._loss(run, images, labels, keep, architecture, temperature)
            gradients = jt.grad(loss, wanted) if wanted else []
            if "w" in groups:
                self._sgd.update(joined(gradients[: len(weights)]), rates.weights)
            for name, gradient in zip(names, gradients[len(gradients) - len(names) :], strict=True):
                self._adam[name].update(gradient, rates.architecture)
            self._statistics = moved_statistics(self._network.statistics, self._statistics, run)
            loss = loss.detach()
            # Jittor runs nothing until it is asked to; left alone, the graph would grow from step to step.
            jt.sync([loss, correct, self._statistics, *self._state()])
        self._log.append((loss, correct))

    def drain(self) -> NDArray[np.float64]:
        rows = [(float(loss.item()), float(correct.item())) for loss, correct in self._log]
        self._log.clear()
        return np.array(rows, np.float64).reshape(len(rows), 2)

    def evaluate(self, batch: Batch, temperature: Temperature) -> tuple[float, int]:
        with self._place.scope(), jt.no_grad():
            images, labels, _ = self._inputs(batch)
            run = self._pass(views(self._network.weights, self._sgd.weights), training=False)
            architecture = {name: adam.values for name, adam in self._adam.items()}
            logits, _ = self._forward(run, images, None, architecture, temperature)
            loss, correct = self._place.ops.cross_entropy(logits, labels, smoothing=0.0, share=1.0)
            return float(loss.item()), int(correct.item())

    def gradients(self, batch: Batch, temperature: Temperature, trace: bool = False) -> State:
        with self._place.scope():
            images, labels, keep = self._inputs(batch)
            weights = views(self._network.weights, self._sgd.weights)
            architecture = {name: adam.values.clone() for name, adam in self._adam.items()}
            for var in (images, *weights, *architecture.values()):
                var.start_grad()
            run = self._pass(weights, training=True, trace=trace)
            loss, _, logits, auxiliary = self._loss(run, images, labels, keep, architecture, temperature)
            found = jt.grad(loss, [*run.traced.values(), images, *weights, *architecture.values()])
            flat = joined(found[len(run.traced) + 1 : len(run.traced) + 1 + len(weights)])
            out: State = {"logits": download(logits), "loss": download(loss).reshape(())}
            if auxiliary is not None:
                out["auxiliary_logits"] = download(auxiliary)
            for (name, value), gradient in zip(run.traced.items(), found, strict=False):
                out[f"trace/{name}"] = download(value)
                out[f"trace.gradient/{name}"] = download(gradient)
            out["gradient/images"] = download(found[len(run.traced)])
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
        with self._place.scope():
            self._sgd.weights, self._sgd.buffer = upload(flat.weights), upload(flat.momentum)
            self._statistics = upload(flat.statistics)
            for name, adam in self._adam.items():
                new = flat.architecture[name]
                adam.values, adam.first, adam.second = upload(new.value), upload(new.first), upload(new.second)
                adam.steps = new.steps

    def _state(self) -> list[Var]:
        state = [self._sgd.weights, self._sgd.buffer]
        for adam in self._adam.values():
            state += [adam.values, adam.first, adam.second]
        return state

    def _inputs(self, batch: Batch) -> tuple[Var, Var, Var | None]:
        keep = None if batch.drop_path is None else upload(batch.drop_path.astype(self._dtype))
        return upload(batch.images.astype(self._dtype)), upload(batch.labels.astype(np.int32)), keep

    def _pass(self, weights: list[Var], training: bool, trace: bool = False) -> Pass:
        statistics = [] if training else views(self._network.statistics, self._statistics)
        return Pass(self._place.ops, weights, statistics, training, self._constants, trace)

    def _gains(self, architecture: Mapping[str, Var], temperature: Temperature) -> dict[str, Gains | None]:
        ops = self._place.ops
        gains: dict[str, Gains | None] = {}
        for kind in self.spec.kinds():
            cell = self.spec.cell(kind)
            if not cell.mixed:
                gains[kind] = None
                continue
            table = ops.block_softmax(architecture[f"alpha.{kind}"], cell.operation_blocks, temperature.alpha)
            if cell.combination_blocks is not None:
                chosen = ops.block_softmax(architecture[f"beta.{kind}"], cell.combination_blocks, temperature.beta)
                table = table * (self._shares[kind] * chosen.reshape((1, -1))).sum(1).reshape((-1, 1))
            gains[kind] = Gains(table)
        return gains

    def _forward(
        self,
        run: Pass,
        images: Var,
        keep: Var | None,
        architecture: Mapping[str, Var],
        temperature: Temperature,
    ) -> tuple[Var, Var | None]:
        """Return logits and, in training, the auxiliary head's."""
        gains = self._gains(architecture, temperature)
        x = images
        outputs = []
        for number, stem in enumerate(self._stems):
            x = run.keep(f"stems.{number}", stem(run, x))
            outputs.append(x)
        before = (outputs[0], outputs[-1])
        auxiliary = None
        for number, cell in enumerate(self._cells):
            before = (before[1], cell(run, before, gains[cell.kind], None if keep is None else keep[number]))
            if run.training and self._auxiliary is not None and self._auxiliary[0] == number:
                auxiliary = self._auxiliary[1](run, before[1])
        return self._head(run, before[1]), auxiliary

    def _loss(
        self,
        run: Pass,
        images: Var,
        labels: Var,
        keep: Var | None,
        architecture: Mapping[str, Var],
        temperature: Temperature,
    ) -> tuple[Var, Var, Var, Var | None]:
        """Return the loss, the number of correct predictions, logits and the auxiliary head's."""
        logits, auxiliary = self._forward(run, images, keep, architecture, temperature)
        ops, settings = self._place.ops, self.setup.loss
        share = 1 / labels.shape[0]
        loss, correct = ops.cross_entropy(logits, labels, settings.label_smoothing, share)
        if auxiliary is not None:
            weighted = settings.auxiliary_weight * share
            extra, _ = ops.cross_entropy(auxiliary, labels, settings.label_smoothing, weighted)
            loss = ops.add([loss, extra])
        return loss, correct, logits, auxiliary
