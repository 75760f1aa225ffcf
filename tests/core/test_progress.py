from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import quick

from dots_core.errors import CorruptFile
from dots_core.plan.early_stop import Stability
from dots_core.search.progress import Progress, Sums

counts = st.integers(0, 10**6)
losses = st.floats(allow_nan=False, allow_infinity=False)


@quick
@given(st.builds(Sums, counts, losses, counts, counts, losses), counts, counts, counts, counts, losses)
def test_round_trip_through_json(sums, stage, phase, step, size, best):
    progress = Progress(
        {"normal": {"nodes": 1}},
        {"name": "torch"},
        "abc",
        "def",
        stage,
        phase,
        3,
        step,
        4,
        5,
        metrics_bytes=size,
        best_accuracy=best,
        sums=sums,
    )
    again = Progress.from_record(json.loads(json.dumps(progress.to_record())))
    assert again == progress
    assert isinstance(again.sums, Sums)


def test_a_run_starts_at_the_beginning():
    progress = Progress({}, {}, "x", "p")
    assert (progress.stage, progress.phase, progress.epoch, progress.step) == (0, 0, 0, 0)
    assert (progress.global_epoch, progress.global_step, progress.metrics_bytes) == (0, 0, 0)
    assert progress.best_accuracy == -1.0
    assert progress.sums == Sums() == Sums(0, 0.0, 0, 0, 0.0)
    assert Progress({}, {}, "y", "p").sums is not progress.sums


def test_records_are_copies():
    progress = Progress({}, {}, "x", "p")
    record = progress.to_record()
    record["sums"]["steps"] = 9
    again = Progress.from_record(record)
    again.sums.steps = 11
    assert (progress.sums.steps, record["sums"]["steps"]) == (0, 9)


@pytest.mark.parametrize(
    "change",
    [
        {"sums": None},
        {"sums": 3},
        {"sums": {"steps": 1, "more": 2}},
        {"sums": [1]},
        {"more": 1},
        {"stability": None},
        {"stability": {"ranking": []}},
        {"stability": {"ranking": 3, "epochs": 1}},
        {"stability": {"ranking": [], "epochs": "many"}},
    ],
    ids=str,
)
def test_other_records_are_refused(change):
    with pytest.raises(CorruptFile, match="progress is of another form"):
        Progress.from_record({**Progress({}, {}, "x", "p").to_record(), **change})


@pytest.mark.parametrize("key", ["cells", "engine", "data", "sums"])
def test_missing_keys_are_refused(key):
    record = Progress({}, {}, "x", "p").to_record()
    del record[key]
    with pytest.raises(CorruptFile, match=f"progress is of another form.*{key}"):
        Progress.from_record(record)


def test_what_an_early_stop_counts_survives():
    stability = Stability([["sep_conv_3x3", "dil_conv_5x5"], []], 7)
    progress = Progress({}, {}, "x", "p", architecture_bytes=123, stability=stability)
    again = Progress.from_record(json.loads(json.dumps(progress.to_record())))
    assert again == progress
    assert isinstance(again.stability, Stability)


def test_records_of_the_first_release_lack_what_came_later():
    record = Progress({}, {}, "x", "p").to_record()
    del record["stability"], record["architecture_bytes"]
    assert Progress.from_record(record) == Progress({}, {}, "x", "p")
