"""A whole network: forward pass, steps and state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, ops
from numpy.typing import NDArray

from dots_core.engine.batch import Batch, Draw
from dots_core.engine.protocol import Rates, Setup, State, check_groups
from dots_core.engine.stacking import StackedNetwork
from dots_core.engine.state import AdamState, FlatState
from dots_core.network.spec import architecture_shapes, traced_shapes
from dots_core.search_space.mixing import Temperature
from dots_mindspore.cell import Cell
from dots_mindspore.differentiate import host, joined, parameters, parts, value_and_gradients
from dots_mindspore.mixture import Mixture
from dots_mindspore.optimizers import Adam, MomentumSGD, clipped
from dots_mindspore.reads import Reads, reads
from dots_mindspore.runtime import DeviceContext, upload
from dots_mindspore.stack import ForwardContext, Stack


class MindSporeNetwork:
    """The `dots_core.engine.protocol.Network` verbs on MindSpore."""

    def __init__(
        self,
        setup: Setup,
        weights: Mapping[str, NDArray],
        architecture: Mapping[str, NDArray],
        device_context: DeviceContext,
    ) -> None:
        device_context.enter()
        self.setup = setup
        self.spec = spec = setup.spec
        self._device_context = device_context
        network = self._network = StackedNetwork(spec)
        self._stems = [Stack(stack, device_context) for stack in network.stems]
        self._cells = [Cell(cell, device_context) for cell in network.cells]
        auxiliary = network.auxiliary
        self._auxiliary = None if auxiliary is None else (auxiliary[0], Stack(auxiliary[1], device_context))
        self._head = Stack(network.head, device_context)
        self._mixtures = {kind: Mixture(kind, spec.cell(kind)) for kind in spec.kinds()}

        self._sgd = MomentumSGD(upload(network.weights.join(weights, np.float32)), setup.optimizers)
        self._adam = {
            name: Adam(upload(np.asarray(architecture[name], np.float32)), setup.optimizers)
            for name in architecture_shapes(spec)
        }
        self._statistics = parameters(network.statistics, network.initial_statistics(np.float32))
        # Gradients of all w, flat, under "w", and of architecture weights under their names.
        self._accumulated: dict[str, Tensor] = {}
        # w while it is perturbed: where it is brought back to.
        self._unperturbed: Tensor | None = None
        self._cut: _Cut | None = None
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
        self._device_context.enter()
        names = self._names(groups)
        inputs = _Inputs(self.setup, batch)
        read = reads(self._network, batch.draws)
        stacks = self._stacks(read)
        differentiated = stacks if "w" in groups else {}
        statistics = self._training_statistics(read)
        variables = (*differentiated.values(), *(self._adam[name].values for name in names))

        def objective(*variables: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
            architecture = {name: adam.values for name, adam in self._adam.items()}
            architecture.update(zip(names, variables[len(differentiated) :], strict=True))
            weights = dict(zip(differentiated, variables, strict=False)) or stacks
            return self._loss(
                ForwardContext(weights, statistics, training=True), inputs.images, inputs, architecture, temperature
            )

        (loss, logits, _), gradients = value_and_gradients(objective, variables, self._device_context.loss_scale)
        if "w" in groups:
            found = dict(zip(differentiated, gradients, strict=False))
            self._accumulate("w", joined(self._network.weights, found), factor)
        for name, gradient in zip(names, gradients[len(differentiated) :], strict=True):
            self._accumulate(name, gradient, factor)
        self._log.append((loss + _taint(statistics), inputs.correct(logits)))

    def update(
        self, groups: tuple[str, ...], rates: Rates, extra_gradients: Mapping[str, NDArray[np.floating]] | None = None
    ) -> None:
        """Update the named groups by the gradients accumulated for them."""
        check_groups(groups)
        self._device_context.enter()
        if "w" in groups:
            self._sgd.update(self._used("w", self._sgd.values), rates.weights)
        names = self._names(groups)
        gradients = []
        for name in names:
            gradient = self._used(name, self._adam[name].values)
            if extra_gradients is not None and name in extra_gradients:
                gradient = gradient + upload(np.asarray(extra_gradients[name], np.float32))
            gradients.append(gradient)
        gradients = clipped(gradients, self.setup.optimizers.architecture_clip)
        for name, gradient in zip(names, gradients, strict=True):
            self._adam[name].update(gradient, rates.architecture)

    def virtual_step(self, rate: float) -> None:
        """Perturb w by one step of SGD, unclipped, on the gradient accumulated for it."""
        self._device_context.enter()
        self._unperturbed = self._sgd.values
        self._sgd.values = self._unperturbed - rate * self._sgd.direction(self._used("w", self._unperturbed))

    def perturb_weights(self, radius: float) -> None:
        """Perturb w from where it stood before `virtual_step` along the gradient accumulated for it."""
        assert self._unperturbed is not None, "virtual_step comes first"
        self._device_context.enter()
        gradient = self._accumulated["w"]
        norm = _norm(gradient)
        step = ops.where(norm > 0.0, radius / norm, ops.zeros_like(norm))
        self._sgd.values = self._unperturbed + step * gradient

    def gradient_norm(self) -> float:
        """Return the norm of the gradient accumulated for w."""
        self._device_context.enter()
        return float(_norm(self._accumulated["w"]).asnumpy())

    def restore_weights(self) -> None:
        """Bring w back to where it stood before `virtual_step`, and forget the gradient accumulated for it."""
        assert self._unperturbed is not None, "virtual_step comes first"
        self._sgd.values, self._unperturbed = self._unperturbed, None
        self._accumulated.pop("w", None)

    def pop_losses(self) -> NDArray[np.float64]:
        rows = [(float(loss.asnumpy()), float(correct.asnumpy())) for loss, correct in self._log]
        self._log.clear()
        return np.array(rows, np.float64).reshape(-1, 2)

    def evaluate(self, batch: Batch, temperature: Temperature) -> tuple[float, int]:
        self._device_context.enter()
        inputs = _Inputs(self.setup, batch)
        architecture = {name: adam.values for name, adam in self._adam.items()}
        read = reads(self._network, batch.draws)
        statistics = {number: self._statistics[number] for number in read.statistics}
        context = ForwardContext(self._stacks(read), statistics, training=False)
        logits, _ = self._forward(context, inputs.images, None, architecture, temperature, inputs.draws)
        # Evaluation does not smooth labels.
        losses = _taint(statistics) - ops.reduce_sum(ops.log_softmax(logits) * inputs.one_hot)
        return float(losses.asnumpy()), int(inputs.correct(logits).asnumpy())

    def gradients(self, batch: Batch, temperature: Temperature, trace: bool = False) -> State:
        self._device_context.enter()
        inputs = _Inputs(self.setup, batch)
        shapes = traced_shapes(self.spec) if trace else {}
        probes = {name: Tensor(np.zeros((len(batch.labels), *shape), np.float32)) for name, shape in shapes.items()}
        read = reads(self._network, batch.draws)
        stacks = self._stacks(read)
        count = len(stacks)
        context = ForwardContext({}, self._scratch_statistics(read), training=True)

        def objective(images: Tensor, *variables: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
            context.weights = dict(zip(stacks, variables, strict=False))
            architecture = dict(zip(self._adam, variables[count:], strict=False))
            context.probes = dict(zip(probes, variables[count + len(self._adam) :], strict=True))
            return self._loss(context, images, inputs, architecture, temperature)

        architecture = [adam.values for adam in self._adam.values()]
        variables = (inputs.images, *stacks.values(), *architecture, *probes.values())
        (loss, logits, auxiliary), found = value_and_gradients(objective, variables, self._device_context.loss_scale)
        out: State = {"logits": host(logits), "loss": host(loss + _taint(context.statistics)).reshape(())}
        if auxiliary is not None:
            out["auxiliary_logits"] = host(auxiliary)
        for name, gradient in zip(probes, found[1 + count + len(architecture) :], strict=True):
            out[f"trace/{name}"] = host(context.traced[name])
            out[f"trace.gradient/{name}"] = host(gradient)
        out["gradient/images"] = host(found[0])
        flat = joined(self._network.weights, dict(zip(stacks, found[1:], strict=False)))
        out.update(self._network.weights.split(host(flat), "gradient/"))
        for name, gradient in zip(self._adam, found[1 + count :], strict=False):
            out[f"gradient/{name}"] = host(gradient)
        return out

    def architecture(self) -> dict[str, NDArray[np.floating]]:
        return {name: host(adam.values) for name, adam in self._adam.items()}

    def export_state(self) -> State:
        flat = FlatState(
            host(self._sgd.values),
            host(self._sgd.buffer),
            np.concatenate([host(parameter) for parameter in self._statistics.values()]),
            {
                name: AdamState(host(adam.values), host(adam.first), host(adam.second), adam.steps)
                for name, adam in self._adam.items()
            },
        )
        return flat.canonical(self._network)

    def import_state(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        self._device_context.enter()
        flat = FlatState.of(self._network, state, np.float32)
        self._sgd.values, self._sgd.buffer = upload(flat.weights), upload(flat.momentum)
        self._statistics = parameters(self._network.statistics, flat.statistics)
        for name, adam in self._adam.items():
            new = flat.architecture[name]
            adam.values, adam.first, adam.second = upload(new.value), upload(new.first), upload(new.second)
            adam.steps = new.steps

    def _names(self, groups: tuple[str, ...]) -> list[str]:
        return [name for name in self._adam if name.partition(".")[0] in groups]

    def _accumulate(self, name: str, gradient: Tensor, factor: float) -> None:
        if factor != 1.0:
            gradient = gradient * factor
        found = self._accumulated.get(name)
        self._accumulated[name] = gradient if found is None else found + gradient

    def _used(self, name: str, values: Tensor) -> Tensor:
        """Take an accumulated gradient away; 0 where there is none."""
        gradient = self._accumulated.pop(name, None)
        return ops.zeros_like(values) if gradient is None else gradient

    def _stacks(self, read: Reads) -> dict[int, Tensor]:
        """The weights that a pass reads, cut out anew where w has changed or other weights are read."""
        values = self._sgd.values
        if self._cut is None or self._cut.values is not values or self._cut.numbers != read.weights:
            self._cut = _Cut(values, read.weights, parts(self._network.weights, values, read.weights))
        return self._cut.stacks

    def _training_statistics(self, read: Reads) -> dict[int, Parameter]:
        if self._unperturbed is not None:
            return self._scratch_statistics(read)
        return {number: self._statistics[number] for number in read.statistics}

    def _scratch_statistics(self, read: Reads) -> dict[int, Parameter]:
        """Statistics for a pass that must not move the network's: batch norm moves those it is given."""
        layout = self._network.statistics
        return parameters(layout, self._network.initial_statistics(np.float32), read.statistics)

    def _forward(
        self,
        context: ForwardContext,
        images: Tensor,
        keep: list[tuple[Tensor, ...]] | None,
        architecture: Mapping[str, Tensor],
        temperature: Temperature,
        draws: Mapping[str, Draw],
    ) -> tuple[Tensor, Tensor | None]:
        """Return logits and, in training, the auxiliary head's."""
        edge_weights = {
            kind: mixture.edge_weights(architecture, temperature, draws.get(kind))
            for kind, mixture in self._mixtures.items()
        }
        x = images
        outputs = []
        for number, stem in enumerate(self._stems):
            x = context.passing(f"stems.{number}", stem(context, ops.relu(x) if stem.rectified else x))
            outputs.append(x)
        before = (outputs[0], outputs[-1])
        auxiliary = None
        for number, cell in enumerate(self._cells):
            before = (before[1], cell(context, before, edge_weights[cell.kind], None if keep is None else keep[number]))
            if context.training and self._auxiliary is not None and self._auxiliary[0] == number:
                auxiliary = self._auxiliary[1](context, ops.relu(before[1]))
        return self._head(context, before[1]), auxiliary

    def _loss(
        self,
        context: ForwardContext,
        images: Tensor,
        inputs: _Inputs,
        architecture: Mapping[str, Tensor],
        temperature: Temperature,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        logits, auxiliary = self._forward(context, images, inputs.keep, architecture, temperature, inputs.draws)
        loss = inputs.cross_entropy(logits)
        if auxiliary is not None:
            loss = loss + self.setup.loss.auxiliary_weight * inputs.cross_entropy(auxiliary)
        return loss, logits, auxiliary


@dataclass(frozen=True)
class _Cut:
    """Stacks cut out of w as it stood."""

    values: Tensor
    numbers: tuple[int, ...]
    stacks: dict[int, Tensor]


class _Inputs:
    """One batch on the device; draws stay on the host, where they decide what is computed."""

    def __init__(self, setup: Setup, batch: Batch) -> None:
        classes, smoothing = setup.spec.classes, setup.loss.label_smoothing
        one_hot = np.eye(classes, dtype=np.float32)[batch.labels]
        self.images = upload(np.asarray(batch.images, np.float32))
        self.one_hot = Tensor.from_numpy(one_hot)
        self._targets = upload((1.0 - smoothing) * one_hot + np.float32(smoothing / classes))
        self._labels = upload(batch.labels.astype(np.int32))
        self.draws: Mapping[str, Draw] = batch.draws or {}
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


def _norm(gradient: Tensor) -> Tensor:
    return ops.sqrt(ops.reduce_sum(gradient * gradient))


def _taint(statistics: Mapping[int, Parameter]) -> Tensor:
    """0, or not a number where a statistic is not finite.

    MindSpore's ReLU on CPU turns what is not a number into 0. Added to a loss, this reports what
    would be lost: such values reach the statistics of a batch norm before any ReLU.
    """
    return ops.reduce_sum(ops.concat(list(statistics.values())) * 0.0)
