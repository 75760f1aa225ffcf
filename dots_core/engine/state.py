"""Which arrays a network's state consists of, and the check every engine makes before taking one over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dots_core.errors import CorruptFile
from dots_core.network.spec import NetworkSpec, architecture_shapes, statistics_shapes, weight_shapes


def state_shapes(spec: NetworkSpec) -> dict[str, tuple[int, ...]]:
    """Return the key and shape of every array of ``Network.export_state``."""
    shapes: dict[str, tuple[int, ...]] = {}
    weights, architecture = weight_shapes(spec), architecture_shapes(spec)
    for prefix in ("weights", "momentum"):
        shapes.update({f"{prefix}/{name}": shape for name, shape in weights.items()})
    shapes.update({f"statistics/{name}": shape for name, shape in statistics_shapes(spec).items()})
    for prefix in ("architecture", "adam.first", "adam.second"):
        shapes.update({f"{prefix}/{name}": shape for name, shape in architecture.items()})
    shapes.update({f"adam.steps/{name}": () for name in architecture})
    return shapes


def check_state(spec: NetworkSpec, state: Mapping[str, NDArray[np.generic]]) -> None:
    """Raise `CorruptFile` unless the state holds exactly the arrays the network needs."""
    expected = state_shapes(spec)
    for key, shape in expected.items():
        if key not in state:
            raise CorruptFile(f"the state lacks '{key}'; it was saved from another network")
        if tuple(state[key].shape) != shape:
            raise CorruptFile(f"'{key}' has shape {tuple(state[key].shape)}, the network needs {shape}")
    unknown = sorted(set(state) - set(expected))
    if unknown:
        raise CorruptFile(
            f"the state holds '{unknown[0]}', which the network does not have; it was saved from another network"
        )


def rounded_state(state: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return a state with its floating arrays rounded to float32, so that every engine starts from the same values."""
    return {key: value.astype(np.float32) if value.dtype.kind == "f" else value for key, value in state.items()}
