"""Which layer was it? What is said of a process that died of a signal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dots_conformance.alone import CHILD, FAULTS, Job, death, run_alone
from dots_conformance.cases import Case
from dots_conformance.forms import Form, network_forms
from dots_core.engine import Device, Runtime, Setup
from dots_core.errors import DotsError
from dots_core.layers import Layer

__all__ = ["FAULTS", "case_forms", "death", "died_at"]


def died_at(code: int | None, forms: tuple[Form, ...], backend: str, runtime: Runtime) -> str:
    """Return how a process ended and, if by a fault of its own, at which layer, in one line.

    For that, each layer of the forms and each form are run alone. It takes an engine's start and seconds.

    Parameters
    ----------
    code : int or None
        The process's return code, that of a signal if negative.
    forms : tuple of Form
        What it had to run.
    """
    how = death(code)
    if code is None or -code not in FAULTS or not forms:
        return how
    apart = tuple(dict.fromkeys(part for form in forms for part in (*form.layers(), form)))
    outcome = run_alone(Job(backend, apart, runtime.device, runtime.precision), child=CHILD)
    if outcome.deaths:
        form, alone = outcome.deaths[0]
        return f"{how}; run layer by layer, it {alone} at: {form.name}"
    if outcome.begun < len(apart):
        return f"{how}; layer by layer it could not be run"
    return f"{how}; run layer by layer, it dies of none of its {len(apart)} layer forms"


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

    def apply(
        self,
        sequences: tuple[tuple[Layer, ...], ...],
        weights: Mapping[str, NDArray],
        images: NDArray[np.floating],
        upstream: NDArray[np.floating],
        runtime: Runtime,
    ) -> Any:
        samples, channels, height, width = images.shape
        raise _Described((Form.of(sequences, channels, (height, width), samples),))
