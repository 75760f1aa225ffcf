"""The conformance suite can fail: every seeded fault is caught, and named."""

from __future__ import annotations

import re
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
from dots_conformance.cases import Recording, all_cases, select
from dots_conformance.comparison import References
from dots_conformance.failures import Situations, failures, layer_at_fault, locate_among, networks_of
from dots_conformance.networks import CASES
from dots_conformance.snapshot import NetworkSnapshot
from faults import FAULTS, Fault, faulty_engine
from torch_faults import TORCH_FAULTS

from dots_core.engine.protocol import Runtime
from dots_core.engine.registry import load_engine

RUNTIME = Runtime(precision="float32")
EVERY = all_cases()


@cache
def expected(case: str) -> tuple[Recording, list[Recording]]:
    """What the reference does on a case: the same for every fault."""
    return References([], EVERY).of(case)


@cache
def situation(name: str) -> NetworkSnapshot:
    """A small network after two steps, with all that the reference makes of it."""
    return NetworkSnapshot.of(CASES[name])


def situations(names: tuple[str, ...]) -> Situations:
    return {name: partial(situation, name) for name in names}


def seeded() -> list[Any]:
    """Every fault: the package it is put into, its name, itself."""
    return [
        *(pytest.param("dots_reference", fault, id=f"reference-{name}") for name, fault in FAULTS.items()),
        *(
            pytest.param("dots_torch", fault, id=f"torch-{name}", marks=pytest.mark.engine("torch"))
            for name, fault in TORCH_FAULTS.items()
        ),
    ]


@pytest.mark.parametrize(("source", "fault"), seeded())
def test_a_fault_is_caught_and_named(source: str, fault: Fault, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    package = "faulty_" + re.sub(r"\W", "_", request.node.callspec.id)
    engine = faulty_engine(source, fault, tmp_path, package)
    failed = list(failures(engine, RUNTIME, select(EVERY, (fault.cases,)).values(), expected))
    assert failed, "the suite saw nothing"
    tensors = [tensor.key for failure in failed for tensor in failure.tensors]
    assert any(re.search(fault.tensor, key) for key in tensors), tensors
    # As `dots conformance locate` does with and without --cases.
    if fault.networks:
        found = locate_among(engine, RUNTIME, situations(fault.networks))
    else:
        found = layer_at_fault(failed) or locate_among(engine, RUNTIME, networks_of(failed))
    assert found is not None, "locating found nothing"
    _, finding = found
    said = f"{finding.direction}: {finding.place} {finding.explanation}"
    assert re.search(fault.place, said), said


@pytest.mark.parametrize("name", ["reference", pytest.param("torch", marks=pytest.mark.engine("torch"))])
def test_an_engine_without_a_fault_raises_no_alarm(name: str) -> None:
    engine = load_engine(name)
    for pattern in ("layers/*/c4-7x9", "networks/topology/2-edges", "steps/optimizers"):
        assert list(failures(engine, RUNTIME, select(EVERY, (pattern,)).values(), expected)) == []
    used = {network for fault in (*FAULTS.values(), *TORCH_FAULTS.values()) for network in fault.networks}
    assert locate_among(engine, RUNTIME, situations(tuple(sorted(used)))) is None
