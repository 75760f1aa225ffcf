"""Bundles that are damaged, incomplete or of another make are refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from dots_conformance.bundle import Bundle, Ending, Manifest, case_file
from dots_conformance.comparison import compare
from dots_conformance.recorder import Job, record

from dots_core.errors import CorruptFile, UsageError

CASE = "layers/norm/c4-3x3"


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return record(Job("reference", cases=(CASE, "search/topology-pairs-bi-level")), tmp_path / "bundle")


def test_it_comes_back_whole(bundle: Bundle) -> None:
    opened = Bundle.open(bundle.folder)
    assert opened.manifest == bundle.manifest
    for name in bundle.manifest.cases:
        mine, theirs = bundle.read(name), opened.read(name)
        assert mine is not None
        assert theirs is not None
        assert mine.decisions == theirs.decisions
        assert {key: value.tobytes() for key, value in mine.arrays.items()} == {
            key: value.tobytes() for key, value in theirs.arrays.items()
        }
    assert bundle.read("layers/norm/c4-8x8") is None


def test_a_flipped_bit(bundle: Bundle) -> None:
    path = case_file(bundle.folder, CASE)
    content = bytearray(path.read_bytes())
    content[-3] ^= 4
    path.write_bytes(content)
    with pytest.raises(CorruptFile, match="sha256"):
        bundle.read(CASE)


def test_a_missing_file(bundle: Bundle) -> None:
    case_file(bundle.folder, CASE).unlink()
    with pytest.raises(CorruptFile, match="missing"):
        bundle.read(CASE)


def test_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no conformance bundle"):
        Bundle.open(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record.pop("cases"),
        lambda record: record.update(version=99),
        lambda record: record.update(format="letter"),
        lambda record: record.update(surprise=1),
        lambda record: record.update(cases={"a": {"colour": "red"}}),
    ],
)
def test_a_damaged_manifest(bundle: Bundle, change) -> None:
    path = bundle.folder / "manifest.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    with pytest.raises(CorruptFile, match=r"manifest\.json"):
        Bundle.open(bundle.folder)


def test_bundles_of_other_cases_are_not_compared(bundle: Bundle, tmp_path: Path) -> None:
    other = record(Job("reference", seed=1, cases=(CASE,)), tmp_path / "other")
    with pytest.raises(UsageError, match=r"different seeds, \[0, 1\]"):
        compare([bundle, other])
    bundle.manifest.suite = "0.0.1"
    with pytest.raises(UsageError, match=r"recorded by dots 0\.0\.1"):
        compare([bundle])
    with pytest.raises(UsageError, match="no bundle"):
        compare([])


def test_bundles_of_several_precisions_are_each_judged_by_their_own(tmp_path: Path) -> None:
    case, precisions = "layers/convolution-1x1/c4-3x3", ("float32", "bfloat16", "tf32")
    bundles = [record(Job("reference", precision=each, cases=(case,)), tmp_path / each) for each in precisions]
    for engine, precision in zip(compare(bundles).engines, precisions, strict=True):
        assert engine.manifest.precision == precision
        assert engine.cases[case].verdict == "pass"
    away = [max(tensor.relative for tensor in engine.cases[case].tensors) for engine in compare(bundles).engines]
    assert away[0] < 1e-5 < away[2] < 1e-3 < away[1] < 1e-2
    bundles[1].manifest.precision = "float32"
    pretender, _ = compare([bundles[1], bundles[0]]).engines
    assert pretender.cases[case].verdict == "fail"
    bundles[1].manifest.precision = "float8"
    with pytest.raises(UsageError, match="unknown precision 'float8'"):
        compare(bundles[1:2])


BROKEN = ["", "[]", "null", "[" * 100_000, '{"format": NaN}', '{"version": 1e999}', "9" * 10_000, "\x00"]


@pytest.mark.parametrize("text", BROKEN, ids=range(len(BROKEN)))
def test_a_manifest_that_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(CorruptFile, match=r"manifest\.json"):
        Bundle.open(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"cases": [1]},
        {"cases": {"a": 1}},
        {"cases": {"a": {"status": 5}}},
        {"cases": {"a": {"status": "recorded", "seconds": "long"}}},
        {"cases": {"a": {"status": "recorded", "decisions": [1]}}},
        {"versions": {"torch": 2}},
        {"backend": None},
        {"seed": "0"},
        {"draw": 0.5},
        {"\x1b[2J" * 1000: 1},
    ],
    ids=range(10),
)
def test_a_manifest_of_another_form(change: dict[str, object], tmp_path: Path) -> None:
    bundle = Bundle(tmp_path, Manifest("reference", "cpu", "float32", 0, 0, "x", cases={CASE: Ending("refused")}))
    bundle.write_manifest()
    assert Bundle.open(tmp_path).manifest == bundle.manifest
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(CorruptFile, match=r"manifest\.json is no manifest") as caught:
        Bundle.open(tmp_path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600
