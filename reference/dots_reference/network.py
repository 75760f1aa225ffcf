"""A network of the reference engine: the verbs of `dots_core.engine.protocol.Network`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dots_core.engine.batch import Batch
from dots_core.engine.protocol import (
    Network,
    Rates,
    Setup,
    State,
    check_extra_gradients,
    check_groups,
    check_perturbed,
)
from dots_core.engine.state import check_state, state_shapes
from dots_core.network.initialisation import initial_statistics
from dots_core.network.spec import auxiliary_layers, cell_layouts, head_layers, stem_layers
from dots_core.search_space.mixing import Temperature
from dots_reference.cell import Cell, PullCell
from dots_reference.layers import ForwardContext, sequence
from dots_reference.loss import correct_predictions, cross_entropy
from dots_reference.mixture import Mixture
from dots_reference.normalisation import moved
from dots_reference.optimizers import adam, clipped, sgd
from dots_reference.pooling import Pull
from dots_reference.precision import Precision
from dots_reference.windows import Array

PullNetwork = Callable[[Array, "Array | None"], Array]


@dataclass(frozen=True)
class _Differentiated:
    """What one training pass yields: see `ReferenceNetwork.gradients`."""

    logits: Array
    auxiliary_logits: Array | None
    loss: Array
    images: Array
    gradients: dict[str, Array]
    context: ForwardContext


class ReferenceNetwork(Network):
    """A network, its architecture weights and its optimisers' state, all arrays in a precision's dtype.

    The verbs are documented in `dots_core.engine.protocol.Network`. Values that overflow or are no
    numbers pass through every verb as they are.
    """

    def __init__(
        self, setup: Setup, precision: Precision, weights: Mapping[str, NDArray], architecture: Mapping[str, NDArray]
    ) -> None:
        self._setup, self._precision, self._dtype = setup, precision, precision.dtype
        spec = setup.spec
        self._stems = stem_layers(spec)
        self._kinds = [layout.kind for layout in cell_layouts(spec)]
        self._cells = [Cell(spec, layout) for layout in cell_layouts(spec)]
        self._auxiliary = auxiliary_layers(spec)
        self._head = head_layers(spec)
        self._rows: list[tuple[float, float]] = []
        self._accumulated: dict[str, Array] = {}
        # w while it is perturbed: where it is brought back to.
        self._unperturbed: dict[str, Array] | None = None
        self._weights: dict[str, Array] = {}
        self._momentum: dict[str, Array] = {}
        # Momentum and Adam's moments start at 0.
        state: dict[str, NDArray] = {
            key: np.zeros(shape, np.int64 if key.startswith("adam.steps/") else self._dtype)
            for key, shape in state_shapes(spec).items()
            if key.startswith(("momentum/", "adam."))
        }
        state.update({f"weights/{name}": value for name, value in weights.items()})
        state.update({f"architecture/{name}": value for name, value in architecture.items()})
        state.update({f"statistics/{name}": value for name, value in initial_statistics(spec).items()})
        self.import_state(state)

    def step(self, groups: tuple[str, ...], batch: Batch, rates: Rates, temperature: Temperature) -> None:
        """Do `accumulate_gradients` and then `update`."""
        check_perturbed("w" in groups and self._unperturbed is not None, False)
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
        with np.errstate(all="ignore"):
            result = self._differentiate(batch, temperature)
            if self._unperturbed is None:
                for name, (mean, variance) in result.context.moments.items():
                    for key, value in ((f"{name}.running_mean", mean), (f"{name}.running_var", variance)):
                        self._statistics[key] = moved(self._statistics[key], value)
            for name in self._names(groups):
                gradient = self._dtype.type(factor) * result.gradients[name]
                found = self._accumulated.get(name)
                self._accumulated[name] = gradient if found is None else found + gradient
        self._rows.append((float(result.loss), correct_predictions(result.logits, batch.labels)))

    def update(
        self, groups: tuple[str, ...], rates: Rates, extra_gradients: Mapping[str, NDArray[np.floating]] | None = None
    ) -> None:
        """Update the named groups by the gradients accumulated for them."""
        check_groups(groups)
        check_extra_gradients(self._setup.spec, groups, extra_gradients or {})
        check_perturbed("w" in groups and self._unperturbed is not None, False)
        with np.errstate(all="ignore"):
            gradients = self._used(groups)
            for name, extra in (extra_gradients or {}).items():
                gradients[name] = gradients[name] + extra.astype(self._dtype)
            if "w" in groups:
                self._update_weights(gradients, rates.weights)
            architecture = {name: gradients[name] for name in self._architecture if name in gradients}
            for name, gradient in clipped(architecture, self._setup.optimizers.architecture_clip).items():
                self._update_architecture(name, gradient, rates.architecture)

    def virtual_step(self, rate: float) -> None:
        """Perturb w by one step of SGD, unclipped, on the gradient accumulated for it."""
        check_perturbed(self._unperturbed is not None, False)
        self._unperturbed = self._weights
        constants = self._setup.optimizers
        with np.errstate(all="ignore"):
            self._weights = {
                name: sgd(self._weights[name], self._momentum[name], gradient, rate, constants)[0]
                for name, gradient in self._used(("w",)).items()
            }

    def perturb_weights(self, radius: float) -> None:
        """Perturb w from where it stood before `virtual_step` along the gradient accumulated for it."""
        check_perturbed(self._unperturbed is not None, True)
        assert self._unperturbed is not None
        norm = self.gradient_norm()
        step = self._dtype.type(radius / norm if norm > 0 else 0.0)
        with np.errstate(all="ignore"):
            self._weights = {name: w + step * self._accumulated[name] for name, w in self._unperturbed.items()}

    def gradient_norm(self) -> float:
        """Return the norm of the gradient accumulated for w."""
        with np.errstate(all="ignore"):
            squares = [np.vdot(self._accumulated[name], self._accumulated[name]) for name in self._weights]
            return float(np.sqrt(np.sum(squares)))

    def restore_weights(self) -> None:
        """Bring w back to where it stood before `virtual_step`, and forget the gradient accumulated for it."""
        check_perturbed(self._unperturbed is not None, True)
        assert self._unperturbed is not None
        self._weights, self._unperturbed = self._unperturbed, None
        self._used(("w",))

    def _names(self, groups: tuple[str, ...]) -> list[str]:
        names = list(self._weights) if "w" in groups else []
        return names + [name for name in self._architecture if name.partition(".")[0] in groups]

    def _used(self, groups: tuple[str, ...]) -> dict[str, Array]:
        """Take the accumulated gradients of groups away; 0 where there is none."""
        values = {**self._weights, **self._architecture}
        found = {name: self._accumulated.pop(name, None) for name in self._names(groups)}
        return {name: np.zeros_like(values[name]) if g is None else g for name, g in found.items()}

    def pop_losses(self) -> NDArray[np.float64]:
        """Return loss and number of correct predictions of each `accumulate_gradients` since the last call."""
        rows = np.array(self._rows, np.float64).reshape(-1, 2)
        self._rows = []
        return rows

    def evaluate(self, batch: Batch, temperature: Temperature) -> tuple[float, int]:
        """Return the summed cross-entropy and number of correct predictions, batch norm using running statistics."""
        with np.errstate(all="ignore"):
            context = ForwardContext(self._weights, self._statistics, training=False, precision=self._precision)
            images = batch.images.astype(self._dtype)
            logits, _, _ = self._forward(images, None, self._mixtures(temperature, batch), context)
            losses, _ = cross_entropy(logits, batch.labels)
            return float(losses.sum()), correct_predictions(logits, batch.labels)

    def gradients(self, batch: Batch, temperature: Temperature, trace: bool = False) -> State:
        """Run one training forward and backward pass and change nothing."""
        with np.errstate(all="ignore"):
            result = self._differentiate(batch, temperature)
        state: State = {"logits": result.logits, "loss": result.loss, "gradient/images": result.images}
        if result.auxiliary_logits is not None:
            state["auxiliary_logits"] = result.auxiliary_logits
        state.update({f"gradient/{name}": value for name, value in result.gradients.items()})
        if trace:
            state.update({f"trace/{name}": value for name, value in result.context.traced.items()})
            state.update({f"trace.gradient/{name}": value for name, value in result.context.traced_gradients.items()})
        return state

    def architecture(self) -> dict[str, NDArray[np.floating]]:
        """Return copies of α′ and β′ by name."""
        return {name: value.copy() for name, value in self._architecture.items()}

    def export_state(self) -> State:
        """Return copies of everything that training changes, by canonical name."""
        state: State = {}
        for prefix, arrays in (
            ("weights", self._weights),
            ("statistics", self._statistics),
            ("momentum", self._momentum),
            ("architecture", self._architecture),
            ("adam.first", self._first),
            ("adam.second", self._second),
        ):
            state.update({f"{prefix}/{name}": value.copy() for name, value in arrays.items()})
        state.update({f"adam.steps/{name}": np.asarray(steps, np.int64) for name, steps in self._steps.items()})
        return state

    def import_state(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Take over what `export_state` of any engine returned, cast to this network's dtype."""
        check_state(self._setup.spec, state)
        keys = tuple(state_shapes(self._setup.spec))

        def take(prefix: str) -> dict[str, Array]:
            return {
                key.removeprefix(prefix): np.array(state[key], self._dtype, order="C")
                for key in keys
                if key.startswith(prefix)
            }

        with np.errstate(all="ignore"):
            self._weights, self._statistics, self._momentum = take("weights/"), take("statistics/"), take("momentum/")
            self._architecture, self._first, self._second = (
                take("architecture/"),
                take("adam.first/"),
                take("adam.second/"),
            )
        self._accumulated, self._unperturbed = {}, None
        self._steps = {name: int(state[f"adam.steps/{name}"].item()) for name in self._architecture}

    def _mixtures(self, temperature: Temperature, batch: Batch) -> dict[str, Mixture]:
        spec, draws = self._setup.spec, batch.draws or {}
        return {
            kind: Mixture(kind, spec.cell(kind), self._architecture, temperature, self._dtype, draws.get(kind))
            for kind in spec.kinds()
        }

    def _forward(
        self, images: Array, drop_path: Array | None, mixtures: Mapping[str, Mixture], context: ForwardContext
    ) -> tuple[Array, Array | None, PullNetwork]:
        """Return the logits, the auxiliary head's in training, and a pull from both their gradients to the images'."""
        # outputs[k] and outputs[k + 1] are the inputs of cell k; with one stem both are its output.
        stem_pulls: list[Pull] = []
        outputs: list[Array] = []
        for layers in self._stems:
            output, pull_stem = sequence(layers, outputs[-1] if outputs else images, context)
            context.traced[f"stems.{len(outputs)}"] = output
            outputs.append(output)
            stem_pulls.append(pull_stem)
        if len(self._stems) == 1:
            outputs *= 2

        auxiliary_logits, pull_auxiliary = None, None
        cell_pulls: list[PullCell] = []
        for index, (kind, cell) in enumerate(zip(self._kinds, self._cells, strict=True)):
            factors = None if drop_path is None else drop_path[index]
            output, pull_cell = cell.forward((outputs[-2], outputs[-1]), mixtures[kind], factors, context)
            context.traced[f"cells.{index}"] = output
            outputs.append(output)
            cell_pulls.append(pull_cell)
            if self._auxiliary is not None and self._auxiliary[0] == index and context.training:
                auxiliary_logits, pull_auxiliary = sequence(self._auxiliary[1], output, context)
        logits, pull_head = sequence(self._head, outputs[-1], context)
        shapes = [output.shape for output in outputs]
        stored = self._precision.stored

        def pull(gradient: Array, auxiliary_gradient: Array | None) -> Array:
            gradients: list[Array] = [np.zeros(shape, gradient.dtype) for shape in shapes]
            gradients[-1] += pull_head(stored(gradient))
            for index in reversed(range(len(cell_pulls))):
                if self._auxiliary is not None and self._auxiliary[0] == index:
                    assert pull_auxiliary is not None
                    assert auxiliary_gradient is not None
                    gradients[index + 2] += pull_auxiliary(stored(auxiliary_gradient))
                    gradients[index + 2] = stored(gradients[index + 2])
                context.traced_gradients[f"cells.{index}"] = gradients[index + 2]
                first, second = cell_pulls[index](gradients[index + 2])
                gradients[index] = stored(gradients[index] + first)
                gradients[index + 1] = stored(gradients[index + 1] + second)
            if len(stem_pulls) == 1:
                context.traced_gradients["stems.0"] = stem = stored(gradients[0] + gradients[1])
            else:
                context.traced_gradients["stems.1"] = gradients[1]
                context.traced_gradients["stems.0"] = stem = stored(gradients[0] + stem_pulls[1](gradients[1]))
            return stem_pulls[0](stem)

        return logits, auxiliary_logits, pull

    def _differentiate(self, batch: Batch, temperature: Temperature) -> _Differentiated:
        constants = self._setup.loss
        context = ForwardContext(self._weights, self._statistics, training=True, precision=self._precision)
        mixtures = self._mixtures(temperature, batch)
        drop_path = None if batch.drop_path is None else batch.drop_path.astype(self._dtype)
        images = batch.images.astype(self._dtype)
        logits, auxiliary_logits, pull = self._forward(images, drop_path, mixtures, context)

        samples = len(images)
        losses, gradient = cross_entropy(logits, batch.labels, constants.label_smoothing)
        auxiliary_gradient = None
        if auxiliary_logits is not None:
            auxiliary_losses, auxiliary_gradient = cross_entropy(
                auxiliary_logits, batch.labels, constants.label_smoothing
            )
            losses = losses + constants.auxiliary_weight * auxiliary_losses
            auxiliary_gradient = (constants.auxiliary_weight / samples) * auxiliary_gradient
        scale = self._dtype.type(self._precision.loss_scale)
        if auxiliary_gradient is not None:
            auxiliary_gradient = scale * auxiliary_gradient
        image_gradient = pull(scale * (gradient / samples), auxiliary_gradient) / scale
        # Operations that were left out have gradient 0.
        gradients = {name: np.zeros_like(w) for name, w in self._weights.items()} | context.gradients
        for mixture in mixtures.values():
            gradients.update(mixture.pull())
        if scale != 1:
            for found in (gradients, context.traced_gradients):
                found.update({name: value / scale for name, value in found.items()})
        return _Differentiated(logits, auxiliary_logits, np.asarray(losses.mean()), image_gradient, gradients, context)

    def _update_weights(self, gradients: Mapping[str, Array], rate: float) -> None:
        constants = self._setup.optimizers
        scaled = clipped({name: gradients[name] for name in self._weights}, constants.clip)
        for name, gradient in scaled.items():
            self._weights[name], self._momentum[name] = sgd(
                self._weights[name], self._momentum[name], gradient, rate, constants
            )

    def _update_architecture(self, name: str, gradient: Array, rate: float) -> None:
        self._steps[name] += 1
        self._architecture[name], self._first[name], self._second[name] = adam(
            self._architecture[name],
            self._first[name],
            self._second[name],
            self._steps[name],
            gradient,
            rate,
            self._setup.optimizers,
        )
