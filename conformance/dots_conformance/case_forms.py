"""Which layer forms a case asks of an engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dots_conformance.cases import Case
from dots_core.engine.crashes.forms import Form, network_forms
from dots_core.engine.protocol import Device, Runtime, Setup
from dots_core.errors import DotsError
from dots_core.search_space.layers import Layer


def case_forms(case: Case, runtime: Runtime) -> tuple[Form, ...]:
    """Return the layer forms of the first network, or the sequences of layers, that a case asks of an engine."""
    try:
        case.record(_Describer(), runtime)
    except _Described as described:
        return described.forms
    except DotsError:
        pass
    return ()


class _Described(Exception):
    def __init__(self, forms: tuple[Form, ...]) -> None:
        self.forms = forms


class _Describer:
    """An engine that computes nothing: it says what it was asked to."""

    name = "describer"

    def versions(self) -> dict[str, str]:
        return {}

    def devices(self) -> tuple[Device, ...]:
        return ()

    def check(self, runtime: Runtime) -> None:
        pass

    def build(self, setup: Setup, weights: Mapping[str, NDArray], architecture: Mapping[str, NDArray]) -> Any:
        raise _Described(network_forms(setup.spec))

    def run_layers(
        self,
        sequences: tuple[tuple[Layer, ...], ...],
        weights: Mapping[str, NDArray],
        images: NDArray[np.floating],
        upstream: NDArray[np.floating],
        runtime: Runtime,
    ) -> Any:
        samples, channels, height, width = images.shape
        raise _Described((Form.of(sequences, channels, (height, width), samples),))
