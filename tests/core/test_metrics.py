from __future__ import annotations

import hashlib
import itertools
import json

import pytest
from crashes import run

from dots_core.errors import CorruptFile, DotsError
from dots_core.storage.metrics import MetricsFile, read_metrics

ROWS = [{"epoch": 0, "loss": 2.5}, {"epoch": 1, "name": "é"}, {"epoch": 2, "nested": {"a": [1, None]}}]


def test_append_last_and_read(tmp_path):
    path = tmp_path / "metrics.jsonl"
    metrics = MetricsFile(path)
    assert metrics.last() == {}
    for number, row in enumerate(ROWS, start=1):
        assert metrics.append(row) == path.stat().st_size
        assert metrics.last() == row
        assert read_metrics(path) == ROWS[:number]
    assert [json.loads(line) for line in path.read_bytes().decode().splitlines()] == ROWS
    assert MetricsFile(path).append({"epoch": 3}) == path.stat().st_size


def test_one_row_a_line_whatever_it_holds(tmp_path):
    metrics = MetricsFile(tmp_path / "m")
    metrics.append({"text": "a\nb\u2028c\x85d"})
    metrics.append({"x": 1})
    assert read_metrics(tmp_path / "m") == [{"text": "a\nb\u2028c\x85d"}, {"x": 1}]


def test_cut_goes_back_to_any_row(tmp_path):
    for keep in range(len(ROWS) + 1):
        path = tmp_path / f"{keep}.jsonl"
        metrics = MetricsFile(path)
        lengths = [0] + [metrics.append(row) for row in ROWS]
        metrics.cut(lengths[keep])
        assert read_metrics(path) == ROWS[:keep]
        assert metrics.last() == (ROWS[keep - 1] if keep else {})
        for row in ROWS[keep:]:
            metrics.append(row)
        assert path.stat().st_size == lengths[-1]
        assert read_metrics(path) == ROWS


def test_a_row_that_was_cut_short_is_cut_away(tmp_path):
    metrics = MetricsFile(tmp_path / "m")
    length = metrics.append(ROWS[0])
    with open(tmp_path / "m", "ab") as file:
        file.write(b'{"epoch": 1, "lo')
    metrics.cut(length)
    assert read_metrics(tmp_path / "m") == ROWS[:1]


def test_missing_rows_are_an_error(tmp_path):
    metrics = MetricsFile(tmp_path / "m.jsonl")
    with pytest.raises(CorruptFile, match=r"m\.jsonl has 0 bytes, the checkpoint knows of 1"):
        metrics.cut(1)
    length = metrics.append(ROWS[0])
    with pytest.raises(CorruptFile, match="rows are missing"):
        metrics.cut(length + 1)
    assert read_metrics(tmp_path / "m.jsonl") == ROWS[:1]
    metrics.cut(length)


def test_the_sum_is_that_of_the_file_whether_it_was_begun_taken_up_or_cut(tmp_path):
    path = tmp_path / "m.jsonl"
    metrics = MetricsFile(path)
    metrics.begin()
    for row in ROWS:
        length = metrics.append(row)
        taken_up = MetricsFile(path)
        taken_up.check(length, metrics.sha256)
        assert metrics.sha256 == taken_up.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    metrics.append(ROWS[0])
    metrics.cut(length)
    assert metrics.sha256 == taken_up.sha256


def test_appending_does_not_read_what_is_there(tmp_path, monkeypatch):
    """A sum over the whole file with every row would take the square of the time."""
    metrics = MetricsFile(tmp_path / "m.jsonl")
    metrics.begin()
    length = metrics.append(ROWS[0])
    taken_up = MetricsFile(tmp_path / "m.jsonl")
    taken_up.cut(length)
    monkeypatch.setattr(MetricsFile, "_read", lambda *_: pytest.fail("the file was read"))
    for file in (metrics, taken_up):
        file.append(ROWS[1])
        assert file.sha256


def test_other_rows_than_were_written_are_an_error(tmp_path):
    path = tmp_path / "m.jsonl"
    metrics = MetricsFile(path)
    length, total = metrics.append(ROWS[0]), metrics.sha256
    metrics.append(ROWS[1])
    whole = path.read_bytes()
    for place in range(length):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(CorruptFile, match=r"m\.jsonl is not as the run wrote it.*; put the file back"):
            MetricsFile(path).check(length, total)
    path.write_bytes(whole[:length] + b"anything")
    MetricsFile(path).check(length, total)
    path.write_bytes(whole[:-1])
    MetricsFile(path).check(length)  # a checkpoint of a release that kept no sums


def test_cutting_nothing_needs_no_file(tmp_path):
    MetricsFile(tmp_path / "m").cut(0)
    assert not (tmp_path / "m").exists()


def test_rows_are_durable_and_crashes_leave_what_was_there(tmp_path):
    for point in itertools.count(1):
        path = tmp_path / f"{point}.jsonl"
        metrics = MetricsFile(path)
        length = metrics.append(ROWS[0])
        disk = run(lambda metrics=metrics: metrics.append(ROWS[1]), tmp_path / "nothing", point)
        metrics.cut(length)
        assert read_metrics(path) == ROWS[:1]
        if not disk.failed:
            assert not disk.unsynced
            assert disk.trace == [("fsync", path.stat().st_ino)]
            break
    assert point > 3


def test_a_full_disk_is_an_error_with_the_path(tmp_path):
    for point in itertools.count(1):
        path = tmp_path / f"{point}.jsonl"
        metrics = MetricsFile(path)
        length = metrics.append(ROWS[0])
        errors = []

        def attempt(metrics=metrics, errors=errors):
            try:
                metrics.append(ROWS[1])
            except DotsError as error:
                errors.append(str(error))

        disk = run(attempt, tmp_path, point, OSError)
        if not disk.failed:
            break
        assert f"{point}.jsonl: No space left on device" in errors[0]
        metrics.cut(length)
        assert read_metrics(path) == ROWS[:1]
    assert point > 3


@pytest.mark.parametrize("content", [b"{", b"\xff\n", b'{"a": 1}\n\n{', b'{"a": 1}\nxyz\n'])
def test_a_damaged_file_is_an_error_with_the_path(tmp_path, content):
    (tmp_path / "m.jsonl").write_bytes(content)
    with pytest.raises(CorruptFile, match=r"m\.jsonl"):
        read_metrics(tmp_path / "m.jsonl")


def test_a_row_that_is_being_written_is_left_out(tmp_path):
    path = tmp_path / "m.jsonl"
    MetricsFile(path).append(ROWS[0])
    whole = path.read_bytes()
    for part in (b"", b"{", b'{"epoch": 1}'):
        path.write_bytes(whole + part)
        assert read_metrics(path, growing=True) == ROWS[:1]
    path.write_bytes(b"xyz\n" + whole)
    with pytest.raises(CorruptFile, match="line 1 is not JSON"):
        read_metrics(path, growing=True)
