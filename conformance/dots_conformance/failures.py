"""Cases that an engine fails, and where in their networks it parts from the reference."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from dots_conformance.cases import Case, Recording
from dots_conformance.closeness import FAIL, TensorVerdict
from dots_conformance.comparison import decisions_differ, judge_recording
from dots_conformance.locate import Finding, locate
from dots_conformance.networks import CASES
from dots_conformance.snapshot import NetworkSnapshot
from dots_core.engine.protocol import Engine, Runtime
from dots_core.errors import DotsError

Expected = Callable[[str, str], tuple[Recording, list[Recording]]]
"""What the reference does on a case, by its name, at a precision: `dots_conformance.comparison.References.of`."""

Snapshots = dict[str, Callable[[], NetworkSnapshot]]
"""What is looked into, by name, made when it is needed."""


@dataclass(frozen=True)
class Failure:
    """A case that an engine fails.

    Attributes
    ----------
    case : Case
    message : str
        What is off most, or what it raised.
    tensors : tuple of TensorVerdict
        All that fail, the worst first.
    """

    case: Case
    message: str
    tensors: tuple[TensorVerdict, ...] = ()


def failures(engine: Engine, runtime: Runtime, cases: Iterable[Case], expected: Expected) -> Iterator[Failure]:
    """Run cases in this process and yield those that fail, whatever the ledger excuses.

    Raises
    ------
    DotsError
        If the engine refuses a case.
    """
    for case in cases:
        try:
            recording = case.record(engine, runtime)
        except DotsError:
            raise
        except Exception as error:
            message = f"{type(error).__name__}: {error}"
            yield Failure(case, message, (TensorVerdict("", FAIL, np.inf, np.inf, reason=message),))
            continue
        exact, draws = expected(case.name, runtime.precision)
        tensors = judge_recording(recording, exact, draws, runtime.precision)
        failing = tuple(tensor for tensor in tensors if tensor.verdict == FAIL)
        differ, said = decisions_differ(recording, exact)
        if failing or differ:
            yield Failure(case, f"{failing[0].key}: {failing[0].reason}" if failing else said, failing)


def small_networks() -> Snapshots:
    """The networks that are looked into where no case is named, after two steps."""
    return {name: partial(NetworkSnapshot.of, case) for name, case in CASES.items()}


def networks_of(failed: Iterable[Failure]) -> Snapshots:
    """The networks of cases that fail, each as it is built and after two steps; each network once."""
    found = {id(failure.case.network): failure.case for failure in failed}
    snapshots: Snapshots = {}
    for case in found.values():
        if case.network is not None:
            snapshots[case.name] = partial(NetworkSnapshot.of, case.network, 0)
            snapshots[f"{case.name}, after two steps"] = partial(NetworkSnapshot.of, case.network)
    return snapshots


def layer_at_fault(failed: Iterable[Failure]) -> tuple[str, Finding] | None:
    """Of the failing cases that are layers alone, the one that is off earliest: it says itself where the engine parts.

    What comes first is off first: the gradient of a wrong output says nothing.
    """
    directions = {"": "raised", "output": "forward", "gradient": "backward", "statistics": "update"}
    alone = [f for f in failed if f.case.name.startswith(("layers/", "operations/"))]
    for sort, direction in directions.items():
        for failure in alone:
            for tensor in failure.tensors:
                if tensor.key.partition("/")[0] == sort:
                    name = failure.case.name
                    return name, Finding(direction, tensor.key, name, "the case is these layers alone", tensor)
    return None


def locate_among(
    engine: Engine,
    runtime: Runtime,
    snapshots: Snapshots,
    watch: Callable[[str, int, int], None] = lambda *_: None,
) -> tuple[str, Finding] | None:
    """Return the first of some networks in which an engine parts from the reference, and where."""
    for number, (name, snapshot) in enumerate(snapshots.items()):
        watch(name, number, len(snapshots))
        finding = locate(engine, snapshot(), runtime)
        if finding is not None:
            return name, finding
    return None
