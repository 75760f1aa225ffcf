"""Files of ours that somebody else wrote, or that were damaged: typed, bounded, exit code 5."""

from __future__ import annotations

import json
import os
import shutil

import pytest
import yaml
from commands import refused, told

from dots.config.presets import read_yaml
from dots.report.rows import check_alike
from dots.run_directory.layout import config_text, read_run_config
from dots.study.archive import Archive
from dots.study.catalogue import defaults
from dots.study.directory import settle
from dots_core.errors import CorruptFile
from dots_core.storage.atomic import MANIFEST, read_folder, write_folder
from dots_core.storage.checkpoint import checkpoints, newest_checkpoint

BROKEN = {
    "empty": "",
    "cut short": '{"format": "dots-',
    "deep": "[" * 200_000,
    "deep object": '{"a":' * 100_000,
    "not a number": '{"format": NaN}',
    "beyond all numbers": '{"version": 1e999}',
    "a huge number": '{"version": ' + "9" * 100_000 + "}",
    "a list": "[]",
    "null": "null",
    "binary": "\x00\x1b[2J",
    "twice": '{"format": "dots-run", "format": "dots-run"}',
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_broken_marker_of_a_run(text, run, capsys):
    (run / "run.json").write_text(text)
    refused(told(capsys, "report", run), 5, "run.json")


@pytest.mark.parametrize(
    "change",
    [{"version": {"\x1b[31m" * 1000: 1}}, {"kind": ["search"]}, {"kind": "x" * 10**6}, {"format": None}],
    ids=range(4),
)
def test_a_marker_of_another_form(change, run, capsys):
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, **change}))
    refused(told(capsys, "report", run), 5, "run.json" if "kind" in change and change["kind"] == ["search"] else "run")


LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{below}'] * 9)}]\n" for below, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (LAUGHS, "aliases"),
        ("channels: &c 4\nbatch: *c\n", "aliases"),
        ("a: " + "[" * 3000, "nested too deeply"),
        ("batch: 8\nbatch: 16\n", "given twice"),
        ("a: !!python/object/apply:os.system [ls]", "constructor"),
        ("channels: " + "9" * 10_000, "integer"),
        ("x" * (2 << 20), "over the limit"),
        ("\x00", "special characters"),
        ("- a\n", "no settings"),
    ],
    ids=range(9),
)
def test_yaml_of_more_than_it_says(text, word, capsys, tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    refused(told(capsys, "search", "--preset", path, "--out", tmp_path / "run"), 5, "settings.yaml", word)
    assert not (tmp_path / "run").exists()
    assert len(LAUGHS) < 500


def test_aliases_on_the_command_line(capsys, tmp_path):
    found = told(capsys, "search", "--out", tmp_path / "run", "--set", "a=[&x [1, 1], *x]")
    refused(found, 2, "--set a", "aliases")


def test_settings_we_write_hold_no_aliases(run):
    config = read_run_config(run)
    assert not [t for t in yaml.scan(config_text(config)) if isinstance(t, yaml.AliasToken)]
    assert read_yaml(run / "config.yaml") == yaml.safe_load((run / "config.yaml").read_text())


def rewritten(run, change, number=-1):
    """Forge a checkpoint's progress, the newest's, sums and all."""
    path = checkpoints(run / "checkpoints")[number]
    content = read_folder(path)
    progress = json.loads(content["progress.json"])
    change(progress)
    write_folder(path, {**content, "progress.json": json.dumps(progress).encode()})


FORGED = {
    "an epoch beyond its phase": lambda p: p.update(stage=1, phase=0, epoch=1),
    "an epoch far beyond": lambda p: p.update(stage=0, epoch=10**15),
    "a phase beyond its stage": lambda p: p.update(stage=0, phase=7),
    "a stage beyond the plan": lambda p: p.update(stage=9),
    "more epochs than planned": lambda p: p.update(stage=0, global_epoch=2**40),
    "fewer steps than in the epoch": lambda p: p.update(stage=0, step=3, global_step=1),
    "a step beyond its epoch": lambda p: p.update(stage=0, global_epoch=0, step=6, global_step=6),
    "a step without a sum": lambda p: p.update(stage=0, global_epoch=0, step=1, global_step=1),
    "a negative stage": lambda p: p.update(stage=-1),
    "a text for a number": lambda p: p.update(epoch="0"),
    "a truth value for a number": lambda p: p.update(epoch=True),
    "a fraction of an epoch": lambda p: p.update(epoch=0.5),
    "no cells": lambda p: p.update(cells={}),
    "a cell of a thousand nodes": lambda p: p["cells"]["normal"].update(nodes=1000),
    "a list for the sums": lambda p: p.update(sums=[1]),
    "an infinite loss": lambda p: p["sums"].update(loss="inf"),
    "an engine that is none": lambda p: p.update(engine="torch"),
    "data that is none": lambda p: p.update(data=5),
    "an early stop of another form": lambda p: p.update(stability={"ranking": [], "epochs": 1.5}),
}


@pytest.mark.parametrize("change", FORGED.values(), ids=FORGED)
def test_a_forged_checkpoint_is_refused_and_the_run_left_as_it_is(change, run, capsys):
    rewritten(run, change)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != "events.jsonl"}
    older, newest = checkpoints(run / "checkpoints")
    way_out = f"to go on from {older.name} instead, delete {newest}"
    refused(told(capsys, "search", "--out", run, "--resume", "-q"), 5, way_out)
    after = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != "events.jsonl"}
    assert after == before


@pytest.mark.parametrize("kind", ["a stage beyond the plan", "a step beyond its epoch", "no cells"])
def test_the_way_out_that_is_named_leads_on_and_a_forged_one_is_not_named(kind, run, searched, capsys):
    rewritten(run, FORGED[kind])
    said = told(capsys, "search", "--out", run, "--resume", "-q").err
    shutil.rmtree(said.rpartition("delete ")[2].strip())
    assert told(capsys, "search", "--out", run, "--resume", "-q").code == 0
    assert (run / "genotype.json").read_bytes() == (searched / "genotype.json").read_bytes()
    for number in (0, 1):
        rewritten(run, FORGED["a stage beyond the plan"], number)
    refused(told(capsys, "search", "--out", run, "--resume", "-q"), 5, "its checkpoints are all damaged")


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_broken_manifest(text, run, capsys):
    path, _ = newest_checkpoint(run / "checkpoints")
    (path / MANIFEST).write_text(text)
    refused(told(capsys, "search", "--out", run, "--resume", "-q"), 5, MANIFEST)


def row_of(run, name, change):
    lines = (run / name).read_text().splitlines()
    row = json.loads(lines[-1])
    change(row)
    (run / name).write_text("".join(f"{line}\n" for line in [*lines[:-1], json.dumps(row)]))


ROWS = {
    "no epoch": ("metrics.jsonl", lambda r: r.pop("epoch")),
    "a text for an epoch": ("metrics.jsonl", lambda r: r.update(epoch="one")),
    "a list for a loss": ("metrics.jsonl", lambda r: r.update(train_loss=[1])),
    "no accuracy": ("metrics.jsonl", lambda r: r.update(validation_accuracy=None)),
    "a number for a stage": ("metrics.jsonl", lambda r: r.update(stage=7)),
    "no genotype": ("architecture.jsonl", lambda r: r.pop("genotype")),
    "another genotype": ("architecture.jsonl", lambda r: r.update(genotype={"normal": []})),
    "an unknown operation": (
        "architecture.jsonl",
        lambda r: r["alpha"]["normal"].update({"0-2": {"\x1b[31mconv" * 99: 1.0}}),
    ),
    "a text for a weight": ("architecture.jsonl", lambda r: r["alpha"]["normal"].update({"0-2": {"none": "much"}})),
    "an edge of no name": ("architecture.jsonl", lambda r: r["gamma"]["normal"].update({"x": 1.0})),
    "no decisions": ("architecture.jsonl", lambda r: r.pop("decisions")),
    "a decision nowhere": ("architecture.jsonl", lambda r: r["decisions"][0].update(place="<script>")),
    "a decision without a margin": ("architecture.jsonl", lambda r: r["decisions"][0].update(margin=None)),
}


@pytest.mark.parametrize(("name", "change"), ROWS.values(), ids=ROWS)
def test_rows_of_another_form(name, change, run, capsys):
    row_of(run, name, change)
    refused(told(capsys, "report", run), 5, name, "line")


def test_rows_of_one_stage_speak_of_the_same_edges(run):
    (row,) = [json.loads(line) for line in (run / "architecture.jsonl").read_text().splitlines()][-1:]
    other = {**row, "gamma": {"normal": {**row["gamma"]["normal"], "0-99": 1.0}}}
    check_alike([row, row], run / "architecture.jsonl")
    with pytest.raises(CorruptFile, match="line 2 is damaged: it speaks of other edges"):
        check_alike([row, other], run / "architecture.jsonl")


@pytest.mark.parametrize("line", ["[1]", "null", "NaN", "[" * 100_000, "{" + '"a":{' * 50_000, '{"epoch": 1e999}'])
@pytest.mark.parametrize("name", ["metrics.jsonl", "architecture.jsonl"])
def test_lines_that_are_no_rows(name, line, run, capsys):
    with open(run / name, "a") as file:
        file.write(line + "\n")
    refused(told(capsys, "report", run), 5, name)


@pytest.mark.parametrize("text", [*BROKEN.values(), '{"accuracy": "much"}', '{"accuracy": 7}', '{"accuracy": true}'])
def test_a_broken_summary(text, tmp_path):
    (tmp_path / "runs" / "a").mkdir(parents=True)
    (tmp_path / "runs" / "a" / "summary.json").write_text(text)
    with pytest.raises(CorruptFile, match=r"summary\.json is damaged; delete"):
        Archive(tmp_path).accuracy("a")


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_broken_study(text, tmp_path, capsys):
    (tmp_path / "study.json").write_text(text)
    refused(told(capsys, "study", "paths", "--out", tmp_path, "--resume"), 5, "study.json")


@pytest.mark.parametrize(
    "change",
    [
        {"seeds": 10**18},
        {"seeds": "3"},
        {"seeds": -1},
        {"settings": [1]},
        {"preset": 5},
        {"topologies": 1e9},
        {"data": {}},
    ],
    ids=str,
)
def test_a_study_that_was_asked_what_nobody_asks(change, tmp_path):
    record = {"format": "dots-study", "version": 1, "study": "paths", "asked": {**defaults("paths"), **change}}
    (tmp_path / "study.json").write_text(json.dumps(record))
    with pytest.raises(CorruptFile, match=r"study\.json is damaged"):
        settle(tmp_path, "paths", {}, defaults("paths"), resume=True)


@pytest.mark.parametrize("name", ["config.yaml", "run.json", "metrics.jsonl", "architecture.jsonl"])
def test_a_pipe_in_place_of_a_file_of_a_run(name, run, capsys):
    (run / name).unlink()
    os.mkfifo(run / name)
    refused(told(capsys, "report", run), 5, name)


@pytest.mark.parametrize("name", ["manifest.json", "progress.json", "state.safetensors"])
@pytest.mark.parametrize("kind", ["pipe", "sparse"])
def test_no_file_in_place_of_a_checkpoints(name, kind, run, capsys):
    path, _ = newest_checkpoint(run / "checkpoints")
    (path / name).unlink()
    if kind == "pipe":
        os.mkfifo(path / name)
    else:
        with open(path / name, "wb") as file:
            file.truncate(60 << 30)
    refused(told(capsys, "search", "--out", run, "--resume", "-q"), 5, name)
