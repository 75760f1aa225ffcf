"""A crash or a hang of one case is a result, not the end of the run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dots_conformance.bundle import CRASHED, RAISED, RECORDED, REFUSED, TIMED_OUT, Bundle
from dots_conformance.comparison import compare
from dots_conformance.recorder import Job, record
from out_of_tree import BROKEN, DYING, MISBEHAVING, install

from dots_core.engine.protocol import PRECISIONS, Precision
from dots_core.errors import EngineMissing, UsageError


def test_every_way_a_case_can_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in install(tmp_path / "site", "misbehaving", MISBEHAVING).items():
        monkeypatch.setenv(key, value)
    job = Job("misbehaving", cases=("layers/norm/c4-*",), time_limit=4.0)
    seen: list[tuple[str, int, int]] = []
    bundle = record(job, tmp_path / "bundle", lambda *each: seen.append(each))
    endings = {name.rpartition("-")[2]: ending for name, ending in bundle.manifest.cases.items()}
    assert {size: ending.status for size, ending in endings.items()} == {
        "1x1": REFUSED,
        "3x3": TIMED_OUT,
        "7x9": CRASHED,
        "8x8": RAISED,
        "32x32": RECORDED,
    }
    assert "one pixel is no image" in endings["1x1"].message
    assert "4 s" in endings["3x3"].message
    assert "SIGSEGV" in endings["7x9"].message
    assert "about to die" in endings["7x9"].message
    assert "run layer by layer, it was killed by SIGSEGV at: batch norm, input 4×7×9, width 1" in endings["7x9"].message
    assert "RuntimeError: no 8x8" in endings["8x8"].message
    assert [(number, count) for _, number, count in seen] == [(number, 5) for number in range(5)]

    (engine,) = compare([Bundle.open(tmp_path / "bundle")]).engines
    verdicts = {name.rpartition("-")[2]: case.verdict for name, case in engine.cases.items()}
    assert verdicts == {"1x1": REFUSED, "3x3": TIMED_OUT, "7x9": CRASHED, "8x8": RAISED, "32x32": "pass"}
    assert not engine.agrees


def test_the_layer_is_named_that_a_network_died_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in install(tmp_path / "site", "dying", DYING).items():
        monkeypatch.setenv(key, value)
    cases = ("networks/mixed/group-v2/1-cells", "networks/partial/odd")
    bundle = record(Job("dying", cases=cases), tmp_path / "bundle")
    messages = [bundle.manifest.cases[name].message for name in cases]
    assert all(message.startswith("the process was killed by SIGSEGV; run layer by layer, it ") for message in messages)
    # One cell reduces nothing, and so has no layer that dies.
    assert "it dies of none of its" in messages[0]
    assert "it was killed by SIGSEGV at: shifted pair " in messages[1]
    assert not any("\n" in message for message in messages)


def test_an_engine_that_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in install(tmp_path / "site", "broken", BROKEN).items():
        monkeypatch.setenv(key, value)
    with pytest.raises(
        EngineMissing, match=r"broken engine does not start: it ended with code 9.*a framework's last words"
    ):
        record(Job("broken", cases=("layers/norm",)), tmp_path / "bundle")


def test_an_unknown_engine_a_missing_device_and_an_impossible_precision(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown backend 'abacus'"):
        record(Job("abacus", cases=("layers/norm",)), tmp_path / "a")
    with pytest.raises(EngineMissing, match="no device 'tpu'"):
        record(Job("reference", device="tpu", cases=("layers/norm",)), tmp_path / "b")
    with pytest.raises(UsageError, match=r"unknown precision 'float8'.*; known: float32, .*hf32"):
        record(Job("reference", precision="float8", cases=("layers/norm",)), tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_a_precision_of_another_package_is_refused_where_nothing_is_known_of_its_rounding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRECISIONS._members, "int8", Precision("int8", "whole numbers", 1))
    with pytest.raises(UsageError, match="nothing is known of rounding in int8; what is judged: float64, float32"):
        record(Job("reference", precision="int8", cases=("layers/norm",)), tmp_path / "bundle")


def test_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(UsageError, match="holds other files"):
        record(Job("reference", cases=("layers/norm",)), tmp_path)
    assert (tmp_path / "letter.txt").read_text() == "dear"


def test_recordings_repeat(tmp_path: Path) -> None:
    job = Job("reference", cases=("layers/norm/c4-7x9", "networks/mixed/group-v2/1-cells"))
    first, second = (record(job, tmp_path / name) for name in "ab")
    assert {n: e.sha256 for n, e in first.manifest.cases.items()} == {
        n: e.sha256 for n, e in second.manifest.cases.items()
    }
    recording = first.read("layers/norm/c4-7x9")
    assert recording is not None
    assert recording.arrays["output"].dtype == np.float32
    assert first.manifest.versions["numpy"] == np.__version__
    assert first.manifest.environment["python"]
