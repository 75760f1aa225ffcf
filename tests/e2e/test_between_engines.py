"""What one engine wrote, any other goes on with."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest
from command import command, dots, environment, settings, tiny_search, tiny_training

EVALUATE = """
import json, sys
from pathlib import Path
from dots_conformance.run_snapshot import snapshot_of_run
from dots_core.engine.registry import load_engine
snapshot = snapshot_of_run(Path(sys.argv[1]))
network = snapshot.build(load_engine(sys.argv[2]), "float32", "cpu")
loss, correct = network.evaluate(snapshot.batch, snapshot.temperature)
Path(sys.argv[3]).write_text(json.dumps([loss, correct]))
"""


def other(backends, backend):
    """The engine after this one, round the circle."""
    if len(backends) < 2:
        pytest.skip("there is a single engine here")
    return backends[(backends.index(backend) + 1) % len(backends)]


def rows(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.release("reference", "jittor", "search")
@pytest.mark.parametrize("kind", ["search", "train"])
def test_a_run_killed_on_one_engine_ends_on_another(backend, backends, kind, tmp_path):
    second = other(backends, backend)
    # A low rate: engines then stay together for as long as this takes.
    build = {"search": tiny_search, "train": tiny_training}[kind]
    slow = settings(["weights.learning_rate=0.002", "weights.final_learning_rate=0.001", "weights.clip=1"])
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert dots(*build(backend, whole, *slow, "-q")).returncode == 0
    process = subprocess.Popen(command(*build(backend, run, *slow, "-q")), env=environment(), stderr=subprocess.PIPE)
    deadline = time.monotonic() + 240
    while not list(run.glob("checkpoints/0000000[3-9]")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = len(rows(run))

    done = dots(kind, "--backend", second, "--out", run, "--resume")
    assert done.returncode == 0, done.stderr
    assert f"'name': '{second}'" in done.stderr, "going on elsewhere is said"
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    assert [event["engine"] for event in events if "engine" in event] == [backend, second]
    assert f"backend: {second}" in (run / "config.yaml").read_text()
    expected, found = rows(whole), rows(run)
    assert found[:kept] == expected[:kept]
    assert [row["epoch"] for row in found] == [row["epoch"] for row in expected]
    for mine, theirs in zip(found, expected, strict=True):
        assert mine["train_loss"] == pytest.approx(theirs["train_loss"], rel=0.02)
        assert mine["learning_rate"] == theirs["learning_rate"]


@pytest.mark.release("reference", "mindspore", "jittor", "train")
@pytest.mark.parametrize("kind", ["search", "train"])
def test_what_one_engine_learned_evaluates_on_all(backend, backends, kind, whole, tmp_path):
    """The same loss within rounding, the same predictions."""
    other(backends, backend)
    run = whole(backend, kind)
    found = {}
    for each in backends:
        answer = tmp_path / f"{each}.json"
        line = [sys.executable, "-c", EVALUATE, str(run), each, str(answer)]
        done = subprocess.run(line, env=environment(), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found[each] = json.loads(answer.read_text())
    loss, correct = found[backend]
    for each, (their_loss, their_correct) in found.items():
        assert their_loss == pytest.approx(loss, rel=1e-4), each
        assert their_correct == correct, each
