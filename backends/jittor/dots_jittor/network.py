"""A network on Jittor: its passes, forward and backward."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from dots_core.engine.batch import Batch
from dots_core.engine.network import EngineNetwork, Gradients
from dots_core.engine.protocol import Setup
from dots_core.search_space.mixing import Temperature
from dots_jittor.arrays import Var, Views, upload
from dots_jittor.cell import JittorMaps, JittorSource
from dots_jittor.mixture import JittorMixture
from dots_jittor.runtime import DeviceContext
from dots_jittor.stack import Constants, ForwardContext, Stack, moved_statistics
from dots_jittor.startup import jt


class JittorNetwork(EngineNetwork):
    """The `dots_core.engine.protocol.Network` verbs on Jittor."""

    def __init__(
        self, setup: Setup, weights: Mapping[str, NDArray], architecture: Mapping[str, NDArray], device: DeviceContext
    ) -> None:
        self._device = device
        with device.scope():
            self._constants = Constants(device.dtype)
        super().__init__(
            setup, weights, architecture, device.tensors(), Stack, JittorMaps(device.ops), source=JittorSource
        )

    def mixture(self, kind: str) -> JittorMixture:
        cells = sum(cell.layout.kind == kind for cell in self.stacked.cells)
        return JittorMixture(kind, self.spec.cell(kind), self.tensors, self._device.ops, cells)

    def scope(self) -> contextlib.AbstractContextManager[None]:
        return self._device.scope()

    def flush(self) -> None:
        # Jittor runs nothing until it is asked to, and the graph would grow.
        jt.sync([*self.pending(), self.statistics])

    def differentiate(
        self,
        names: Sequence[str],
        batch: Batch,
        temperature: Temperature,
        move: bool,
        images: bool = False,
        trace: bool = False,
    ) -> Gradients:
        architecture = {name: self.values[name].clone() for name in self.values if name != "w"}
        wanted = {name: architecture[name].start_grad() for name in names if name != "w"}
        context = self._context(training=True, differentiated="w" in names, trace=trace)
        x = self.tensors.upload(batch.images)
        if images:
            x.start_grad()
        loss, correct, logits, auxiliary = self.loss(context, x, _labels(batch), batch, architecture, temperature)
        weights = list(context.weights.read.values()) if "w" in names else []
        asked = [*context.traced.values(), *([x] if images else []), *wanted.values(), *weights]
        found = list(jt.grad(loss, asked)) if asked else []
        given = Gradients(loss.detach(), logits, auxiliary, correct, {})
        given.traced = {name: (value, found.pop(0)) for name, value in context.traced.items()}
        given.images = found.pop(0) if images else None
        given.found = {name: found.pop(0) for name in wanted}
        if "w" in names:
            given.found["w"] = context.weights.flat(found)
        if move:
            self.statistics = moved_statistics(self.stacked.statistics, self.statistics, context)
        return given

    def classify(self, batch: Batch, temperature: Temperature) -> tuple[Var, Var]:
        with jt.no_grad():
            context, images = self._context(training=False), self.tensors.upload(batch.images)
            logits, _ = self.forward(context, images, batch, self.values, temperature)
            return self._device.ops.cross_entropy(logits, _labels(batch), smoothing=0.0, share=1.0)

    def _context(self, training: bool, differentiated: bool = False, trace: bool = False) -> ForwardContext:
        weights = Views(self.stacked.weights, self.values["w"], differentiated)
        statistics = Views(self.stacked.statistics, self.statistics)
        return ForwardContext(self._device.ops, weights, statistics, training, self._constants, trace)

    def cross_entropy(self, logits: Var, targets: Var, weight: float = 1.0) -> tuple[Var, Var]:
        share = weight / targets.shape[0]
        return self._device.ops.cross_entropy(logits, targets, self.setup.loss.label_smoothing, share)


def _labels(batch: Batch) -> Var:
    return upload(batch.labels.astype(np.int32))
