"""The ledger excuses what it names, and nothing for ever."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from dots_conformance.bundle import CRASHED, RECORDED, Bundle, Ending, Manifest, write_recording
from dots_conformance.cases import Recording, all_cases
from dots_conformance.comparison import compare
from dots_conformance.ledger import Entry, read_ledger, stale
from dots_conformance.recorder import suite_version
from dots_conformance.rounding import RoundingDraw

from dots_core.engine.protocol import Runtime
from dots_core.errors import CorruptFile

CASE, OTHER = "layers/norm/c4-3x3", "layers/norm/c4-7x9"
ENTRY = Entry("copy", "framework", ">=2,<3", "layers/norm/*", "output", "it rounds as it likes")


def bundle(folder: Path, factor: float = 1.0, statuses: tuple[str, str] = (RECORDED, RECORDED)) -> Bundle:
    """A bundle of two cases whose outputs are the reference's times a factor."""
    manifest = Manifest("copy", "cpu", "float32", 0, 0, suite_version(), {"framework": "2.5.1"})
    for name, status in zip((CASE, OTHER), statuses, strict=True):
        arrays = all_cases()[name].record(RoundingDraw(0), Runtime(precision="float32")).arrays
        arrays["output"] = arrays["output"] * np.float32(factor)
        digest = write_recording(folder, name, Recording(arrays)) if status == RECORDED else ""
        manifest.cases[name] = Ending(status, sha256=digest)
    made = Bundle(folder, manifest)
    made.write_manifest()
    return made


def judged(made: Bundle, *entries: Entry):
    (engine,) = compare([made], ledger=entries).engines
    return engine


def test_a_known_deviation_is_excused(tmp_path: Path) -> None:
    made = bundle(tmp_path, 1.01)
    assert {case.verdict for case in judged(made).cases.values()} == {"fail"}
    engine = judged(made, ENTRY)
    assert {case.verdict for case in engine.cases.values()} == {"known"}
    assert engine.agrees
    assert engine.ledger == (ENTRY,)
    assert not engine.stale


def test_an_entry_excuses_only_what_it_names(tmp_path: Path) -> None:
    made = bundle(tmp_path, 1.01)
    for other in (
        Entry("other", "framework", ">=2", "*", "*", "another engine"),
        Entry("copy", "framework", ">=3", "*", "*", "another version"),
        Entry("copy", "nothing", ">=2", "*", "*", "another package"),
        Entry("copy", "framework", ">=2", "*", "*", "another device", devices="cuda*"),
        Entry("copy", "framework", ">=2", "layers/relu/*", "*", "another case"),
        Entry("copy", "framework", ">=2", "*", "gradient/*", "another tensor"),
    ):
        assert not judged(made, other).agrees, other.reason
    one = judged(made, Entry("copy", "framework", ">=2", CASE, "output", "one case"))
    assert {name: case.verdict for name, case in one.cases.items()} == {CASE: "known", OTHER: "fail"}


def test_a_crash_is_excused_only_as_a_whole(tmp_path: Path) -> None:
    made = bundle(tmp_path, statuses=(CRASHED, RECORDED))
    assert judged(made, ENTRY).cases[CASE].verdict == CRASHED
    whole = Entry("copy", "framework", ">=2", CASE, "*", "it crashes")
    assert judged(made, whole).cases[CASE].verdict == "known"


def test_an_entry_that_excuses_nothing_is_stale(tmp_path: Path) -> None:
    engine = judged(bundle(tmp_path), ENTRY)
    assert {case.verdict for case in engine.cases.values()} == {"pass"}
    assert engine.stale == (ENTRY,)
    assert not engine.agrees
    elsewhere = Entry("copy", "framework", ">=2", "search/*", "*", "no case of it was run")
    assert stale([ENTRY, elsewhere], set(), [CASE]) == (ENTRY,)


def test_the_shipped_ledger_is_whole() -> None:
    for entry in read_ledger():
        assert entry.backend in ("torch", "mindspore", "jittor")
        assert entry.reason


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"format": "dots-conformance-ledger", "version": 2, "entries": []}',
        '{"format": "dots-conformance-ledger", "version": 1, "entries": [{"backend": "copy"}]}',
    ],
)
def test_a_damaged_ledger(tmp_path: Path, text: str) -> None:
    (tmp_path / "ledger.json").write_text(text)
    with pytest.raises(CorruptFile, match=r"ledger\.json"):
        read_ledger(tmp_path / "ledger.json")


def test_an_entry_without_a_reason(tmp_path: Path) -> None:
    entry = {"backend": "a", "package": "a", "versions": "", "cases": "*", "tensors": "*", "reason": ""}
    record = {"format": "dots-conformance-ledger", "version": 1, "entries": [entry]}
    (tmp_path / "ledger.json").write_text(json.dumps(record))
    with pytest.raises(CorruptFile, match="no reason"):
        read_ledger(tmp_path / "ledger.json")


@pytest.mark.parametrize(
    "text",
    ["", "[]", "null", "[" * 100_000, '{"format": NaN}', '{"version": 1e999}', "9" * 10_000, "\x00"],
    ids=range(8),
)
def test_a_ledger_that_is_none(text, tmp_path):
    (tmp_path / "ledger.json").write_text(text)
    with pytest.raises(CorruptFile, match=r"ledger\.json"):
        read_ledger(tmp_path / "ledger.json")


@pytest.mark.parametrize("part", ["backend", "versions", "cases", "tensors", "reason"])
def test_an_entry_of_another_form(part, tmp_path):
    entry = dict.fromkeys(("backend", "package", "versions", "cases", "tensors", "reason"), "x")
    record = {"format": "dots-conformance-ledger", "version": 1, "entries": [{**entry, part: [5]}]}
    (tmp_path / "ledger.json").write_text(json.dumps(record))
    with pytest.raises(CorruptFile, match=r"ledger\.json is no ledger"):
        read_ledger(tmp_path / "ledger.json")
