"""A network on MindSpore: its passes, forward and backward."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, ops
from numpy.typing import NDArray

from dots_core.engine.batch import Batch
from dots_core.engine.network import EngineNetwork, Gradients
from dots_core.engine.protocol import Setup
from dots_core.engine.stacking import Reads, reads
from dots_core.network.spec import traced_shapes
from dots_core.search_space.mixing import Temperature
from dots_mindspore.cell import MindSporeMaps
from dots_mindspore.runtime import DeviceContext
from dots_mindspore.stack import ForwardContext, Stack
from dots_mindspore.tensors import MindSporeTensors, joined, parameters, parts, value_and_gradients


class MindSporeNetwork(EngineNetwork):
    """The `dots_core.engine.protocol.Network` verbs on MindSpore."""

    def __init__(
        self, setup: Setup, weights: Mapping[str, NDArray], architecture: Mapping[str, NDArray], device: DeviceContext
    ) -> None:
        self._device = device
        # Stacks as they were cut out of w last: of which w, and which.
        self._cut: tuple[Tensor, tuple[int, ...], dict[int, Tensor]] | None = None
        super().__init__(
            setup, weights, architecture, MindSporeTensors(), lambda stack: Stack(stack, device), MindSporeMaps(device)
        )

    def scope(self) -> contextlib.AbstractContextManager[None]:
        self._device.enter()
        return contextlib.nullcontext()

    def put_statistics(self, flat: NDArray[Any]) -> None:
        self._statistics = parameters(self.stacked.statistics, flat)

    def take_statistics(self) -> NDArray[Any]:
        return np.concatenate([self.tensors.download(parameter) for parameter in self._statistics.values()])

    def differentiate(
        self,
        names: Sequence[str],
        batch: Batch,
        temperature: Temperature,
        move: bool,
        images: bool = False,
        trace: bool = False,
    ) -> Gradients:
        inputs = self._inputs(batch)
        read = reads(self.stacked, batch.draws)
        stacks = self._stacks(read)
        context = ForwardContext(stacks, self._training_statistics(read, move), training=True)
        shapes = traced_shapes(self.spec) if trace else {}
        # By what the gradients are taken; a probe is 0, added to a tensor on its way.
        variables: dict[str, dict[Any, Tensor]] = {
            "images": {0: inputs.images} if images else {},
            "weights": stacks if "w" in names else {},
            "architecture": {name: self.values[name] for name in names if name != "w"},
            "probes": {name: self.tensors.upload(np.zeros((len(batch.labels), *s))) for name, s in shapes.items()},
        }

        def objective(*flat: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
            given = _like(variables, flat)
            context.weights = given["weights"] or stacks
            context.probes = given["probes"]
            x = given["images"].get(0, inputs.images)
            return self.loss(context, x, inputs, batch, {**self.values, **given["architecture"]}, temperature)

        flat = tuple(tensor for group in variables.values() for tensor in group.values())
        (loss, correct, logits, auxiliary), gradients = value_and_gradients(objective, flat, self._device.loss_scale)
        found = _like(variables, gradients)
        given = Gradients(loss + _taint(context.statistics), logits, auxiliary, correct, found["architecture"])
        if "w" in names:
            given.found["w"] = joined(self.stacked.weights, found["weights"])
        given.images = found["images"].get(0)
        given.traced = {name: (context.traced[name], gradient) for name, gradient in found["probes"].items()}
        return given

    def classify(self, batch: Batch, temperature: Temperature) -> tuple[Tensor, Tensor]:
        inputs = self._inputs(batch)
        read = reads(self.stacked, batch.draws)
        statistics = {number: self._statistics[number] for number in read.statistics}
        context = ForwardContext(self._stacks(read), statistics, training=False)
        logits, _ = self.forward(context, inputs.images, batch, self.values, temperature)
        # Evaluation does not smooth labels.
        losses = _taint(statistics) - ops.reduce_sum(ops.log_softmax(logits) * inputs.one_hot)
        return losses, inputs.correct(logits)

    def _inputs(self, batch: Batch) -> _Inputs:
        upload = self.tensors.upload
        one_hot = np.eye(self.spec.classes, dtype=np.float32)[batch.labels]
        smoothing = self.setup.loss.label_smoothing
        smoothed = (1.0 - smoothing) * one_hot + np.float32(smoothing / self.spec.classes)
        labels = Tensor.from_numpy(batch.labels.astype(np.int32))
        return _Inputs(upload(batch.images), upload(one_hot), upload(smoothed), labels)

    def _stacks(self, read: Reads) -> dict[int, Tensor]:
        """The weights that a pass reads, cut out anew where w has changed or other weights are read."""
        values = self.values["w"]
        if self._cut is None or self._cut[0] is not values or self._cut[1] != read.weights:
            self._cut = (values, read.weights, parts(self.stacked.weights, values, read.weights))
        return self._cut[2]

    def _training_statistics(self, read: Reads, move: bool) -> dict[int, Parameter]:
        if move:
            return {number: self._statistics[number] for number in read.statistics}
        # Batch norm moves those it is given: others than the network's.
        initial = self.stacked.initial_statistics(np.float32)
        return parameters(self.stacked.statistics, initial, read.statistics)

    def cross_entropy(self, logits: Tensor, targets: _Inputs, weight: float = 1.0) -> tuple[Tensor, Tensor]:
        share = -weight / len(targets.labels)
        return ops.reduce_sum(ops.log_softmax(logits) * targets.smoothed) * share, targets.correct(logits)


def _like(variables: Mapping[str, Mapping[Any, Tensor]], flat: Sequence[Tensor]) -> dict[str, dict[Any, Tensor]]:
    """Arrange tensors as the variables they stand for, group after group; shapes are kept."""
    left = iter(flat)
    return {group: {key: next(left) for key in members} for group, members in variables.items()}


@dataclass(frozen=True)
class _Inputs:
    """A batch's images and labels on the device.

    Attributes
    ----------
    images : Tensor, shape (N, C, H, W)
    one_hot, smoothed : Tensor, shape (N, classes)
        The targets as they are, and with label smoothing.
    labels : Tensor, shape (N,)
    """

    images: Tensor
    one_hot: Tensor
    smoothed: Tensor
    labels: Tensor

    def correct(self, logits: Tensor) -> Tensor:
        """Number of correct predictions, shape ()."""
        hits = ops.equal(ops.cast(ops.argmax(logits, 1), ms.int32), self.labels)
        return ops.reduce_sum(ops.cast(hits, ms.float32))


def _taint(statistics: Mapping[int, Parameter]) -> Tensor:
    """0, or not a number where a statistic is not finite.

    MindSpore's ReLU on CPU turns what is not a number into 0. Added to a loss, this reports what
    would be lost: such values reach the statistics of a batch norm before any ReLU.
    """
    return ops.reduce_sum(ops.concat(list(statistics.values())) * 0.0)
