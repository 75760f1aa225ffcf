"""The conformance suite can fail: every seeded fault is caught, and named."""

from __future__ import annotations

import re
from functools import cache, partial
from typing import Any

import pytest
from dots_conformance.cases import Recording, all_cases, select
from dots_conformance.comparison import References
from dots_conformance.failures import Failure, Snapshots, failures, layer_at_fault, locate_among, networks_of
from dots_conformance.networks import CASES
from dots_conformance.snapshot import NetworkSnapshot
from faults import FAULTS, Fault, faulty_engine
from torch_faults import TORCH_FAULTS

from dots_core.engine.protocol import Engine, Runtime
from dots_core.engine.registry import load_engine

EVERY = all_cases()
LOWER = {"dots_reference": ("tf32", "hf32", "bfloat16", "float16"), "dots_torch": ("bfloat16",)}
"""Precisions below float32 that an engine computes in on a CPU; the reference computes as if in them."""

SAMPLE = ("average pool counts the padding", "gamma without 1/N(c)", "no straight-through gradient")


@cache
def expected(case: str, precision: str) -> tuple[Recording, list[Recording]]:
    """What the reference does on a case: the same for every fault."""
    return References([], EVERY).of(case, precision)


@cache
def snapshot(name: str) -> NetworkSnapshot:
    """A small network after two steps, with all that the reference makes of it."""
    return NetworkSnapshot.of(CASES[name])


def snapshots(names: tuple[str, ...]) -> Snapshots:
    return {name: partial(snapshot, name) for name in names}


def seeded(*precisions: str) -> list[Any]:
    """Every fault at those of the precisions that its engine computes in: the package it is put into, itself, which."""
    found = []
    for source, faults in (("dots_reference", FAULTS), ("dots_torch", TORCH_FAULTS)):
        label = source.partition("_")[2]
        for name, fault in faults.items():
            for precision in precisions:
                marks = [pytest.mark.engine("torch")] * (label == "torch")
                if precision in LOWER["dots_reference"]:
                    if precision not in LOWER[source]:
                        continue
                    marks += [pytest.mark.release] * (name not in SAMPLE)
                found.append(pytest.param(source, fault, precision, id=f"{label}-{precision}-{name}", marks=marks))
    return found


def caught(source: str, fault: Fault, precision: str, request: pytest.FixtureRequest) -> tuple[Engine, list[Failure]]:
    """Put a fault into a copy of an engine; return it and the cases that catch it."""
    package = "faulty_" + re.sub(r"\W", "_", f"{request.function.__name__}-{request.node.callspec.id}")
    engine = faulty_engine(source, fault, request.getfixturevalue("tmp_path"), package)
    cases = select(EVERY, (fault.cases,)).values()
    failed = list(failures(engine, Runtime(precision=precision), cases, expected))
    assert failed, "the suite saw nothing"
    return engine, failed


@pytest.mark.parametrize(("source", "fault", "precision"), seeded("float32"))
def test_a_fault_is_caught_and_named(source: str, fault: Fault, precision: str, request: pytest.FixtureRequest) -> None:
    engine, failed = caught(source, fault, precision, request)
    tensors = [tensor.key for failure in failed for tensor in failure.tensors]
    assert any(re.search(fault.tensor, key) for key in tensors), tensors
    # As `dots conformance locate` does with and without --cases.
    runtime = Runtime(precision=precision)
    if fault.networks:
        found = locate_among(engine, runtime, snapshots(fault.networks))
    else:
        found = layer_at_fault(failed) or locate_among(engine, runtime, networks_of(failed))
    assert found is not None, "locating found nothing"
    _, finding = found
    said = f"{finding.direction}: {finding.place} {finding.explanation}"
    assert re.search(fault.place, said), said


@pytest.mark.parametrize(("source", "fault", "precision"), seeded(*LOWER["dots_reference"]))
def test_a_fault_is_caught_below_float32(
    source: str, fault: Fault, precision: str, request: pytest.FixtureRequest
) -> None:
    caught(source, fault, precision, request)


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("reference", "float32"),
        pytest.param("torch", "float32", marks=pytest.mark.engine("torch")),
        pytest.param("torch", "bfloat16", marks=[pytest.mark.engine("torch"), pytest.mark.release]),
    ],
)
def test_an_engine_without_a_fault_raises_no_alarm(name: str, precision: str) -> None:
    engine, runtime = load_engine(name), Runtime(precision=precision)
    for pattern in ("layers/*/c4-7x9", "networks/topology/2-edges", "steps/optimizers"):
        assert list(failures(engine, runtime, select(EVERY, (pattern,)).values(), expected)) == []
    used = {network for fault in (*FAULTS.values(), *TORCH_FAULTS.values()) for network in fault.networks}
    assert locate_among(engine, runtime, snapshots(tuple(sorted(used)))) is None
