"""Diagnostics, early stops and reports, as a user meets them."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from command import command, contents, dots, environment, settings, tiny_search

from dots_core.search_space.genotype import Genotype
from dots_core.search_space.genotype_text import load_genotype
from dots_core.storage.checkpoint import newest_checkpoint

pytestmark = pytest.mark.any_engine

OLD_RUN = Path(__file__).parent / "formats" / "run-1"
EARLY = settings(["operation.early_stop=stable-ranking", "operation.early_stop_epochs=2", "operation.epochs=6"])
"""With `STILL`, which lets no ranking change, the search stops after its third epoch that searches."""
STILL = settings(["architecture.learning_rate=1e-9"])


def rows_of(run: Path, name: str = "metrics.jsonl") -> list[dict]:
    return [json.loads(line) for line in (run / name).read_text().splitlines()]


def skips(genotype: dict, kind: str) -> int:
    return [operation for node in genotype[kind] for operation, _ in node].count("skip_connect")


class Page(HTMLParser):
    """Collects what a page would load, and checks that what is opened is closed."""

    VOID = ("meta", "br", "link", "img", "input")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.loads, self.sections, self.charts = [], [], [], 0
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.loads += [value for name, value in attributes if name in ("src", "srcset", "data", "action")]
        self.loads += [value for name, value in attributes if name.endswith("href") and not value.startswith("#")]
        self.loads += [tag] if tag in ("script", "link", "iframe", "object", "img") else []
        self.charts += tag == "figure"
        if tag == "section":
            self.sections.append(found["id"])
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_every_epoch_says_how_the_search_stands(backend, tmp_path):
    done = dots(*tiny_search(backend, tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    rows, evolution = rows_of(tmp_path / "run"), rows_of(tmp_path / "run", "architecture.jsonl")
    assert [row["epoch"] for row in evolution] == [row["epoch"] for row in rows] == [1, 2, 3, 4]
    for row, weights in zip(rows, evolution, strict=True):
        for kind in ("normal", "reduce"):
            assert row[f"skip_count_{kind}"] == skips(weights["genotype"], kind)
            assert 0 <= row[f"alpha_entropy_{kind}"] <= 1
            for edge in weights["alpha"][kind].values():
                groups = 2 if row["stage"] == "operation" else 1
                assert sum(edge.values()) == pytest.approx(groups, abs=1e-5)
            gaps = [d["margin"] for d in weights["decisions"] if (d["cell"], d["by"]) == (kind, "alpha")]
            assert row[f"alpha_margin_{kind}"] == pytest.approx(min(gaps), abs=1e-6)
        assert ("gamma" in weights) is ("beta" in weights) is (row["stage"] == "topology")
    assert {"retained_margin_normal", "edges_margin_normal"} <= set(rows[1])
    assert [("discretisation_gap" in row) for row in rows] == [False, False, False, True]
    last = rows[3]
    assert last["discretisation_gap"] == last["validation_accuracy"] - last["derived_accuracy"]
    found = load_genotype(tmp_path / "run" / "genotype.json")
    assert Genotype.from_record(evolution[-1]["genotype"]) == found
    assert f"skips {last['skip_count_normal']}/{last['skip_count_reduce']}" in done.stderr
    assert "H(α)" in done.stderr
    for words in ("skip connections", "entropy of β", "smallest margin", "without retraining", "report.html"):
        assert words in done.stdout, words


@pytest.mark.release("torch")
def test_measuring_the_gap_changes_nothing_else(backend, tmp_path):
    """With one measured after every epoch, with none, and in a search without topology."""
    for place, topology in (("two", "topology.epochs=2"), ("one", "topology.epochs=0")):
        states, metrics = [], []
        warmup = "topology.warmup=" + ("1" if topology.endswith("2") else "0")
        for name, choice in (("on", "diagnostics.every=1"), ("off", "diagnostics.discretisation_gap=false")):
            run = tmp_path / f"{place}-{name}"
            done = dots(*tiny_search(backend, run, "-q", *settings([topology, warmup, choice])))
            assert done.returncode == 0, done.stderr
            states.append(newest_checkpoint(run / "checkpoints")[1].state)
            metrics.append(rows_of(run))
        measured = {"derived_accuracy", "discretisation_gap"}
        searched = [row for row in metrics[0] if row["stage"] == ("topology" if place == "two" else "operation")]
        assert all(measured <= set(row) for row in searched)
        assert not any(measured & set(row) for row in metrics[1])
        assert [{k: v for k, v in row.items() if k not in measured} for row in metrics[0]] == metrics[1]
        assert states[0].keys() == states[1].keys()
        assert all(np.array_equal(states[0][key], states[1][key]) for key in states[0])


def test_a_stable_ranking_ends_the_operation_search(backend, tmp_path):
    done = dots(*tiny_search(backend, tmp_path / "run", *EARLY, *STILL))
    assert done.returncode == 0, done.stderr
    rows = rows_of(tmp_path / "run")
    # Warm-up, three searching epochs of five (the second and third find the ranking unchanged), topology.
    assert [row["phase"] for row in rows] == ["warm-up", "search", "search", "search", "warm-up", "search"]
    reason = "the ranking of the convolutions in the normal cell was stable for 2 epochs"
    assert [row.get("stopped_early") for row in rows] == [None] * 3 + [reason] + [None] * 2
    assert "retained_margin_normal" in rows[3]
    # The learning rate goes on where it stood: a cosine over the 8 epochs that were planned.
    rates = [0.01 + 0.09 / 2 * (1 + np.cos(np.pi * epoch / 8)) for epoch in range(6)]
    assert [row["learning_rate"] for row in rows] == pytest.approx(rates)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    told = f"operation/search ended after epoch 4: {reason}"
    assert summary["early_stops"] == [told]
    events = rows_of(tmp_path / "run", "events.jsonl")
    assert [(e["epoch"], e["reason"]) for e in events if e["event"] == "stopped early"] == [(4, reason)]
    assert "epoch 6/6" in done.stderr
    assert f"stopped early      {told}" in done.stdout
    assert told[1:] in (tmp_path / "run" / "report.html").read_text()


def test_two_skips_end_the_operation_search(backend, tmp_path):
    """Where every edge can only be a skip connection, the first searching epoch is the last."""
    only = settings(["space.operations=[skip_connect]", "space.groups=single", "operation.early_stop=skips"])
    done = dots(*tiny_search(backend, tmp_path / "run", *only, *settings(["operation.epochs=5"]), "--json"))
    assert done.returncode == 0, done.stderr
    rows = rows_of(tmp_path / "run")
    assert [row["stage"] for row in rows] == ["operation"] * 2 + ["topology"] * 2
    document = json.loads(done.stdout)
    assert document["early_stops"] == [
        "operation/search ended after epoch 2: the normal cell holds 4 skip connections of 4 edges"
    ]
    assert (
        "the normal cell holds 4 skip connections of 4 edges and no convolution: the search has collapsed"
        in (document["warnings"])
    )
    assert document["report"] == str(tmp_path / "run" / "report.html")


@pytest.mark.release("torch")
def test_a_killed_run_with_an_early_stop_ends_byte_equal(backend, tmp_path):
    """Stopped again and again: how long the ranking has been stable survives in the checkpoints."""
    arguments = [*EARLY, *STILL]
    assert dots(*tiny_search(backend, tmp_path / "whole", "-q", *arguments)).returncode == 0
    run = tmp_path / "run"
    for wanted in (2, 3, 4):
        process = subprocess.Popen(
            command(*tiny_search(backend, run, "--resume", "-q", *arguments)), env=environment(), stderr=subprocess.PIPE
        )
        deadline = time.monotonic() + 120
        path = run / "architecture.jsonl"
        while process.poll() is None and time.monotonic() < deadline:
            if path.exists() and path.read_bytes().count(b"\n") >= wanted:
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.002)
        process.communicate()
    done = dots(*tiny_search(backend, run, "--resume", "-q", *arguments))
    assert done.returncode == 0, done.stderr
    assert contents(run) == contents(tmp_path / "whole")


@pytest.mark.parametrize("kind", ["search", "train"])
def test_a_report_needs_nothing_beside_it_and_can_be_written_again(backend, kind, whole, tmp_path):
    run = shutil.copytree(whole(backend, kind), tmp_path / "run")
    path = run / "report.html"
    first = path.read_bytes()
    page = Page(first.decode())
    assert page.loads == []
    assert {"results", "cell", "curves", "epochs", "settings"} <= set(page.sections)
    assert ({"alpha", "beta", "gamma", "decisions"} <= set(page.sections)) is (kind == "search")
    if kind == "search":
        # 5 edges a cell in both stages, 2 nodes with β and γ; six charts over the epochs.
        assert page.charts == 6 + 4 * 5 + 2 * 2 + 2 * 2
    text = first.decode()
    assert str(whole(backend, kind)) not in text
    starts = [start for start in range(len(text)) if text.startswith("<svg viewBox", start)]
    for start in starts:
        ElementTree.fromstring(text[start : text.index("</svg>", start) + 6])
    path.unlink()
    done = dots("report", run)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{path}\n"
    assert path.read_bytes() == first


def test_an_unfinished_run_has_a_report_too(backend, whole, tmp_path):
    run = shutil.copytree(whole(backend), tmp_path / "run")
    for name in ("genotype.json", "summary.json", "report.html"):
        (run / name).unlink()
    lines = (run / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    # As another process leaves it in the middle of a row.
    (run / "metrics.jsonl").write_bytes(b"".join(lines[:2]) + lines[2][:40])
    evolution = (run / "architecture.jsonl").read_bytes().splitlines(keepends=True)
    (run / "architecture.jsonl").write_bytes(b"".join(evolution[:2]))
    done = dots("report", run, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["finished"], document["metrics"]["epoch"]) == (False, 2)
    text = (run / "report.html").read_text()
    assert "Unfinished, 2 of 4 epochs" in text
    assert "The cell so far" in text


def test_a_run_of_the_first_format_has_a_report(tmp_path):
    run = tmp_path / "run"
    shutil.copytree(OLD_RUN, run)
    done = dots("report", run)
    assert done.returncode == 0, done.stderr
    page = Page((run / "report.html").read_text())
    assert "curves" in page.sections
    assert "alpha" not in page.sections


def test_a_report_of_no_run_is_refused(tmp_path):
    done = dots("report", tmp_path)
    assert done.returncode == 2
    assert "is not a run of dots" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_python_results_carry_the_diagnostics(backend, tmp_path):
    import dots as api

    small = {
        "train_images": 64, "test_images": 20, "batch": 16, "channels": 2, "space.nodes": 2, "operation.epochs": 2,
        "operation.warmup": 1, "operation.layers": 3, "topology.epochs": 1, "topology.warmup": 0, "topology.layers": 3,
    }  # fmt: skip
    result = api.search("smoke", backend=backend, out=tmp_path / "run", settings=small, verbose=False)
    assert result.report.read_text().startswith("<!doctype html>")
    assert {"alpha.normal", "alpha.reduce"} <= set(result.margins)
    assert result.metrics["skip_count_normal"] == skips(result.genotype.to_record(), "normal")
    assert isinstance(result.warnings, tuple)
    assert result.early_stops == ()
