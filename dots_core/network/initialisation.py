"""Initial values of weights, batch-norm statistics and architecture weights, drawn once for every engine."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from dots_core.network.spec import NetworkSpec, architecture_shapes, statistics_shapes, weight_shapes
from dots_core.random import Stream
from dots_core.search_space.operations.draws import drawn_by_operation


def initial_weights(spec: NetworkSpec, seed: int, salt: str = "") -> dict[str, NDArray[np.float32]]:
    """Draw every weight of a network by canonical name, float32.

    Convolution and linear weights and linear biases are uniform in ±1/√fan-in (PyTorch's
    default, which DARTS-style code relies on); batch norms start as the identity. A weight
    depends only on the seed, the salt and its name and shape.

    Parameters
    ----------
    salt : str
        Tells apart networks of one run, for example the name of the stage.
    """
    shapes = weight_shapes(spec)
    weights: dict[str, NDArray[np.float32]] = {}
    for name, shape in shapes.items():
        layer = name.rpartition(".")[0]
        weight_shape = shapes[f"{layer}.weight"]
        if len(weight_shape) == 1:
            weights[name] = np.full(shape, 1.0 if name.endswith(".weight") else 0.0, np.float32)
        else:
            bound = 1.0 / np.sqrt(np.prod(weight_shape[1:]))
            draw = Stream(seed, f"weights/{salt}/{name}").uniform(shape)
            weights[name] = ((2.0 * draw - 1.0) * bound).astype(np.float32)
    return weights


def initial_statistics(spec: NetworkSpec) -> dict[str, NDArray[np.float32]]:
    """Return running means of 0 and variances of 1 by canonical name, float32, shapes as `statistics_shapes`."""
    return initial_moments(statistics_shapes(spec))


def initial_moments(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, NDArray[np.float32]]:
    """Return running means of 0 and running variances of 1 of the given names and shapes, float32."""
    return {name: np.full(shape, 0.0 if name.endswith("mean") else 1.0, np.float32) for name, shape in shapes.items()}


def initial_architecture(
    spec: NetworkSpec, seed: int, salt: str = "", scale: float = 1e-3
) -> dict[str, NDArray[np.float32]]:
    """Draw α′ and β′ as ``scale`` times a standard normal (DARTS uses 1e-3), or zeros at scale 0.

    Names and shapes are those of `architecture_shapes`, float32. Entries of α′ whose operation is absent, and of β′
    that are fixed, are 0. An operation's entries do not depend on what other candidates there are.
    """
    values: dict[str, NDArray[np.float32]] = {}
    for name, shape in architecture_shapes(spec).items():
        stream = f"architecture/{salt}/{name}"
        group, _, kind = name.partition(".")
        cell = spec.cell(kind)
        if group == "alpha":
            draw = scale * drawn_by_operation(Stream.normal, seed, stream, len(cell.edges), cell.candidates)
            draw = np.where(cell.operation_groups.mask, draw, 0.0)
        else:
            draw = scale * Stream(seed, stream).normal(shape)
            matrix = cell.matrix
            draw = np.where(matrix.free, draw, 0.0) if matrix is not None else draw
        values[name] = draw.astype(np.float32)
    return values
