"""The conformance suite can fail: every seeded fault is caught, and named."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest
from dots_conformance.bundle import RECORDED, Bundle, Ending, Manifest, write_recording
from dots_conformance.cases import all_cases, select
from dots_conformance.comparison import CaseVerdict, compare
from dots_conformance.locate import Finding, Situation, locate
from dots_conformance.networks import CASES
from dots_conformance.recorder import suite_version
from faults import FAULTS, faulty_engine

from dots_core.engine import Engine, Runtime


def verdicts(engine: Engine, pattern: str, folder: Path) -> list[CaseVerdict]:
    """Record cases on an engine and judge them."""
    runtime = Runtime(precision="float32")
    cases = select(all_cases(), (pattern,))
    manifest = Manifest("copy", "cpu", "float32", 0, 0, suite_version(), engine.versions())
    for name, case in cases.items():
        recording = case.record(engine, runtime)
        manifest.cases[name] = Ending(
            RECORDED, decisions=recording.decisions, sha256=write_recording(folder, name, recording)
        )
    bundle = Bundle(folder, manifest)
    bundle.write_manifest()
    (engine_verdict,) = compare([Bundle.open(folder)]).engines
    return list(engine_verdict.cases.values())


@cache
def situation(name: str) -> Situation:
    """A network of the abstract suite after two steps, rounded to float32."""
    return Situation.of(CASES[name])


def found(engine: Engine, networks: Iterable[str]) -> Finding | None:
    """What locating says of the first network that shows anything."""
    for name in networks:
        finding = locate(engine, situation(name), Runtime(precision="float32"))
        if finding is not None:
            return finding
    return None


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_caught_and_named(name: str, tmp_path: Path) -> None:
    fault = FAULTS[name]
    package = f"faulty_{list(FAULTS).index(name)}"
    engine = faulty_engine(fault, tmp_path / "source", package)
    failing = [v for v in verdicts(engine, fault.cases, tmp_path / "bundle") if v.verdict == "fail"]
    assert failing, "the suite saw nothing"
    tensors = [tensor.key for verdict in failing for tensor in verdict.tensors if tensor.verdict == "fail"]
    assert any(re.search(fault.tensor, key) for key in tensors), tensors
    if fault.place:
        finding = found(engine, fault.networks)
        assert finding is not None, "locating found nothing"
        said = f"{finding.direction}: {finding.place} {finding.explanation}"
        assert re.search(fault.place, said), said


def test_an_engine_without_a_fault_raises_no_alarm(tmp_path: Path) -> None:
    from dots_reference.engine import engine

    for pattern in ("layers/*/c4-7x9", "networks/topology/2-edges", "steps/optimizers"):
        folder = tmp_path / pattern.replace("/", "-").replace("*", "all")
        assert {v.verdict for v in verdicts(engine, pattern, folder)} == {"pass"}
    assert found(engine, sorted({name for fault in FAULTS.values() for name in fault.networks})) is None
