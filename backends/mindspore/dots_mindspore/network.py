"""A whole network: forward pass, steps and state."""

from __future__ import annotations

from collections.abc import Mapping

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, ops
from numpy.typing import NDArray

from dots_core.batch import Batch
from dots_core.engine import Rates, Setup, State, Temperature
from dots_core.flat_state import AdamState, FlatState
from dots_core.network import architecture_shapes, traced_shapes
from dots_core.stacking import StackedNetwork
from dots_mindspore.cell import Cell
from dots_mindspore.differentiate import host, parameters, parts, value_and_gradients
from dots_mindspore.mixture import Mixture
from dots_mindspore.optimizers import Adam, MomentumSGD
from dots_mindspore.runtime import Place, upload
from dots_mindspore.stack import Pass, Stack


class MindSporeNetwork:
    """The `dots_core.engine.Network` verbs on MindSpore."""

    def __init__(
        self, setup: Setup, weights: Mapping[str, NDArray], architecture: Mapping[str, NDArray], place: Place
    ) -> None:
        place.enter()
        self.setup = setup
        self.spec = spec = setup.spec
        self._place = place
        network = self._network = StackedNetwork(spec)
        self._stems = [Stack(stack, place) for stack in network.stems]
        self._cells = [Cell(cell, place) for cell in network.cells]
        auxiliary = network.auxiliary
        self._auxiliary = None if auxiliary is None else (auxiliary[0], Stack(auxiliary[1], place))
        self._head = Stack(network.head, place)
        self._mixtures = {kind: Mixture(kind, spec.cell(kind)) for kind in spec.kinds()}

        self._sgd = MomentumSGD(upload(network.weights.join(weights, np.float32)), setup.optimizers)
        self._weights = parts(network.weights, self._sgd.values)
        self._adam = {
            name: Adam(upload(np.asarray(architecture[name], np.float32)), setup.optimizers)
            for name in architecture_shapes(spec)
        }
        self._statistics = parameters(network.statistics, network.initial_statistics(np.float32))
        self._log: list[tuple[Tensor, Tensor]] = []

    def step(self, groups: tuple[str, ...], batch: Batch, rates: Rates, temperature: Temperature) -> None:
        self._place.enter()
        names = [name for name in self._adam if name.partition(".")[0] in groups]
        inputs = _Inputs(self.setup, batch)
        weights = self._weights if "w" in groups else []
        variables = (*weights, *(self._adam[name].values for name in names))

        def objective(*variables: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
            architecture = {name: adam.values for name, adam in self._adam.items()}
            architecture.update(zip(names, variables[len(weights) :], strict=True))
            run = Pass(list(variables[: len(weights)]) or self._weights, self._statistics, training=True)
            return self._loss(run, inputs.images, inputs, architecture, temperature)

        (loss, logits, _), gradients = value_and_gradients(objective, variables, self._place.loss_scale)
        if "w" in groups:
            flat = ops.concat([ops.reshape(g, (-1,)) for g in gradients[: len(weights)]])
            self._sgd.update(flat, rates.weights)
            self._weights = parts(self._network.weights, self._sgd.values)
        for name, gradient in zip(names, gradients[len(weights) :], strict=True):
            self._adam[name].update(gradient, rates.architecture)
        self._log.append((loss + _taint(self._statistics), inputs.correct(logits)))

    def drain(self) -> NDArray[np.float64]:
        rows = [(float(loss.asnumpy()), float(correct.asnumpy())) for loss, correct in self._log]
        self._log.clear()
        return np.array(rows, np.float64).reshape(-1, 2)

    def evaluate(self, batch: Batch, temperature: Temperature) -> tuple[float, int]:
        self._place.enter()
        inputs = _Inputs(self.setup, batch)
        architecture = {name: adam.values for name, adam in self._adam.items()}
        run = Pass(self._weights, self._statistics, training=False)
        logits, _ = self._forward(run, inputs.images, None, architecture, temperature)
        # Evaluation does not smooth labels.
        losses = _taint(self._statistics) - ops.reduce_sum(ops.log_softmax(logits) * inputs.one_hot)
        return float(losses.asnumpy()), int(inputs.correct(logits).asnumpy())

    def gradients(self, batch: Batch, temperature: Temperature, trace: bool = False) -> State:
        self._place.enter()
        inputs = _Inputs(self.setup, batch)
        shapes = traced_shapes(self.spec) if trace else {}
        probes = {name: Tensor(np.zeros((len(batch.labels), *shape), np.float32)) for name, shape in shapes.items()}
        # Batch norm moves the statistics it is given, so it gets others than the network's.
        moments = np.concatenate([host(parameter) for parameter in self._statistics])
        run = Pass([], parameters(self._network.statistics, moments), training=True)
        count = len(self._weights)

        def objective(images: Tensor, *variables: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
            run.weights = list(variables[:count])
            architecture = dict(zip(self._adam, variables[count:], strict=False))
            run.probes = dict(zip(probes, variables[count + len(self._adam) :], strict=True))
            return self._loss(run, images, inputs, architecture, temperature)

        architecture = [adam.values for adam in self._adam.values()]
        variables = (inputs.images, *self._weights, *architecture, *probes.values())
        (loss, logits, auxiliary), found = value_and_gradients(objective, variables, self._place.loss_scale)
        out: State = {"logits": host(logits), "loss": host(loss + _taint(run.statistics)).reshape(())}
        if auxiliary is not None:
            out["auxiliary_logits"] = host(auxiliary)
        for name, gradient in zip(probes, found[1 + count + len(architecture) :], strict=True):
            out[f"trace/{name}"] = host(run.traced[name])
            out[f"trace.gradient/{name}"] = host(gradient)
        out["gradient/images"] = host(found[0])
        flat = np.concatenate([host(gradient).ravel() for gradient in found[1 : 1 + count]])
        out.update(self._network.weights.split(flat, "gradient/"))
        for name, gradient in zip(self._adam, found[1 + count :], strict=False):
            out[f"gradient/{name}"] = host(gradient)
        return out

    def architecture(self) -> dict[str, NDArray[np.floating]]:
        return {name: host(adam.values) for name, adam in self._adam.items()}

    def export_state(self) -> State:
        flat = FlatState(
            host(self._sgd.values),
            host(self._sgd.buffer),
            np.concatenate([host(parameter) for parameter in self._statistics]),
            {
                name: AdamState(host(adam.values), host(adam.first), host(adam.second), adam.steps)
                for name, adam in self._adam.items()
            },
        )
        return flat.canonical(self._network)

    def import_state(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        self._place.enter()
        flat = FlatState.of(self._network, state, np.float32)
        self._sgd.values, self._sgd.buffer = upload(flat.weights), upload(flat.momentum)
        self._weights = parts(self._network.weights, self._sgd.values)
        self._statistics = parameters(self._network.statistics, flat.statistics)
        for name, adam in self._adam.items():
            new = flat.architecture[name]
            adam.values, adam.first, adam.second = upload(new.value), upload(new.first), upload(new.second)
            adam.steps = new.steps

    def _forward(
        self,
        run: Pass,
        images: Tensor,
        keep: list[tuple[Tensor, ...]] | None,
        architecture: Mapping[str, Tensor],
        temperature: Temperature,
    ) -> tuple[Tensor, Tensor | None]:
        """Return logits and, in training, the auxiliary head's."""
        gains = {kind: mixture.gains(architecture, temperature) for kind, mixture in self._mixtures.items()}
        x = images
        outputs = []
        for number, stem in enumerate(self._stems):
            x = run.passing(f"stems.{number}", stem(run, ops.relu(x) if stem.rectified else x))
            outputs.append(x)
        before = (outputs[0], outputs[-1])
        auxiliary = None
        for number, cell in enumerate(self._cells):
            before = (before[1], cell(run, before, gains[cell.kind], None if keep is None else keep[number]))
            if run.training and self._auxiliary is not None and self._auxiliary[0] == number:
                auxiliary = self._auxiliary[1](run, ops.relu(before[1]))
        return self._head(run, before[1]), auxiliary

    def _loss(
        self,
        run: Pass,
        images: Tensor,
        inputs: _Inputs,
        architecture: Mapping[str, Tensor],
        temperature: Temperature,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        logits, auxiliary = self._forward(run, images, inputs.keep, architecture, temperature)
        loss = inputs.cross_entropy(logits)
        if auxiliary is not None:
            loss = loss + self.setup.loss.auxiliary_weight * inputs.cross_entropy(auxiliary)
        return loss, logits, auxiliary


class _Inputs:
    """One batch on the device."""

    def __init__(self, setup: Setup, batch: Batch) -> None:
        classes, smoothing = setup.spec.classes, setup.loss.label_smoothing
        one_hot = np.eye(classes, dtype=np.float32)[batch.labels]
        self.images = upload(np.asarray(batch.images, np.float32))
        self.one_hot = Tensor.from_numpy(one_hot)
        self._targets = upload((1.0 - smoothing) * one_hot + np.float32(smoothing / classes))
        self._labels = upload(batch.labels.astype(np.int32))
        self.keep: list[tuple[Tensor, ...]] | None = None
        if batch.drop_path is not None:
            factors = upload(np.asarray(batch.drop_path, np.float32)[..., None, None, None])
            self.keep = [ops.unbind(cell, 0) for cell in ops.unbind(factors, 0)]

    def cross_entropy(self, logits: Tensor) -> Tensor:
        """Mean over the batch, shape ()."""
        return ops.reduce_sum(ops.log_softmax(logits) * self._targets) * (-1.0 / len(self._labels))

    def correct(self, logits: Tensor) -> Tensor:
        """Number of correct predictions, shape ()."""
        hits = ops.equal(ops.cast(ops.argmax(logits, 1), ms.int32), self._labels)
        return ops.reduce_sum(ops.cast(hits, ms.float32))


def _taint(statistics: list[Parameter]) -> Tensor:
    """0, or not a number where a statistic is not finite.

    MindSpore's ReLU on CPU turns what is not a number into 0. Added to a loss, this reports what
    would be lost: such values reach the statistics of a batch norm before any ReLU.
    """
    return ops.reduce_sum(ops.concat(statistics) * 0.0)
