"""``dots study``, as a user runs it."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from html import unescape
from importlib.metadata import version
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from stand_in import accuracy_of, events

from dots.study.jobs.processes import is_held
from dots.study.questions.paths import all_paths, path_name
from dots_core.search_space.genotype_text import load_genotype

STAND_IN = [sys.executable, "-S", str(Path(__file__).with_name("stand_in.py"))]
WITH_STAND_IN = f"""
import sys
from dots.study.jobs import processes
processes.dots_command = lambda: {STAND_IN!r}
from dots.cli.main import main
main()
"""
NAMED = os.environ.get("DOTS_TEST_ENGINES", "reference").split(",")
ENGINE = "reference" if "reference" in NAMED else NAMED[0]
PATHS = ["paths", "--backend", ENGINE, "--topologies", "4", "--best", "2"]
SMALL = [
    "train_images=64", "test_images=80", "batch=16", "channels=2", "space.nodes=2",
    "operation.epochs=1", "operation.warmup=0", "operation.layers=3",
    "topology.epochs=1", "topology.warmup=0", "topology.layers=3",
]  # fmt: skip
SMALL_TRAINING = [
    "train_images=64", "test_images=80", "batch=16", "channels=2", "layers=3", "epochs=2", "auxiliary=false",
    "checkpoint_every=1",
]  # fmt: skip


def environment(**more):
    return {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NO_COLOR": "1", **more}


def study(*arguments, script=None, **more):
    """Run ``dots study`` to its end; with a script, in place of the command."""
    start = [sys.executable, "-c", script] if script else [str(Path(sys.executable).with_name("dots"))]
    return subprocess.run(
        [*start, "study", *map(str, arguments)], env=environment(**more), text=True, capture_output=True, timeout=300
    )


def options(option, values):
    return [part for value in values for part in (option, value)]


def soon(true, seconds=60):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_rank_correlation_runs_whole_and_its_numbers_are_those_of_its_runs(tmp_path):
    """Everything is recomputed from the run directories, by other code."""
    out = tmp_path / "study"
    asked = [*options("--set", SMALL), *options("--train-set", [*SMALL_TRAINING, "epochs=1"])]
    asked += ["--seeds", "2", "--backend", ENGINE]
    done = study("rank-correlation", *asked, "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["schema"] == "dots/study/1"
    assert document["complete"]
    pairs = list(combinations(range(3), 2))
    expected = {f"{m}-pair-{a}-{b}-seed-{s}" for m in ("darts", "dots") for a, b in pairs for s in (0, 1)}
    assert set(events(out)) == expected | {"darts-search", "dots-search"}
    assert all(names == ["started", "finished"] for names in events(out).values())
    means = {}
    for row in document["rows"]:
        rows = [json.loads((out / "runs" / run / "metrics.jsonl").read_text().splitlines()[-1]) for run in row["runs"]]
        values = [last["validation_accuracy"] for last in rows]
        assert row["mean"] == pytest.approx(np.mean(values))
        assert row["deviation"] == pytest.approx(np.std(values, ddof=1))
        means[row["name"]] = np.mean(values)
        if row["name"] in ("darts 0, 1", "dots 1, 2"):
            cell = out / "cells" / f"{row['runs'][0].removesuffix('-seed-0')}.json"
            network = ["--layers", "3", "--channels", "2", "--image-size", "8"]
            shown = subprocess.run(
                [Path(sys.executable).with_name("dots"), "show", cell, *network, "--json"],
                capture_output=True,
                check=True,
            )
            # `show` counts three colour channels, the digits have one: a 3×3 stem of six channels.
            assert row["parameters"] == json.loads(shown.stdout)["params"] - 2 * 9 * 6
            assert row["macs"] == json.loads(shown.stdout)["macs"] - 2 * 9 * 6 * 64
    from safetensors.numpy import load_file
    from scipy.stats import kendalltau

    for method, finding in (("darts", "largest"), ("dots", "beta")):
        state = load_file(sorted(out.glob(f"runs/{method}-search/checkpoints/0*"))[-1] / "state.safetensors")
        if method == "dots":  # β′ of the last node's pairs stand last, in lexicographic order
            importance = dict(zip(pairs, state["architecture/beta.normal"][-3:], strict=True))
        else:  # rows of α′: edges 0-2, 1-2, then 0-3, 1-3, 2-3; column 0 is none
            weights = np.exp(state["architecture/alpha.normal"][-3:].astype(float))
            largest = (weights / weights.sum(axis=1, keepdims=True))[:, 1:].max(axis=1)
            importance = {(a, b): largest[a] + largest[b] for a, b in pairs}
        measured = [means[f"{method} {a}, {b}"] for a, b in pairs]
        tau = kendalltau([importance[pair] for pair in pairs], np.round(measured, 12)).statistic
        found = document["findings"].get(f"{finding} on the pairs of the {method} cell")
        assert found["tau"] == (None if np.isnan(tau) else pytest.approx(tau))
    for method in ("darts", "dots"):
        searched = load_genotype(out / "runs" / f"{method}-search" / "genotype.json")
        chosen = "-".join(str(source) for _, source in searched.normal[-1])
        assert load_genotype(out / "cells" / f"{method}-pair-{chosen}.json") == searched
    written = ("results.json", "results.md", "results.html", "rank-correlation.svg")
    before = {name: (out / name).read_bytes() for name in written}
    again = study("rank-correlation", "--out", out, "--resume", "-q")
    assert (again.returncode, again.stdout) == (0, f"{out}\n")
    assert all(names == ["started", "finished"] for names in events(out).values())
    assert {name: (out / name).read_bytes() for name in before} == before


def test_an_ablation_runs_whole_and_trains_the_cells_its_searches_held_after_each_epoch(tmp_path):
    out = tmp_path / "study"
    sizes = [setting for setting in SMALL if not setting.startswith(("topology", "operation.epochs"))]
    asked = [*options("--set", sizes), *options("--train-set", [*SMALL_TRAINING, "epochs=1"]), "--backend", ENGINE]
    done = study("ablation", "epochs", *asked, "--seeds", "1", "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    methods, epochs = ("DARTS-2nd", "fixed-DARTS"), {20: 2, 30: 3, 40: 4, 50: 5}
    assert [row["name"] for row in document["rows"]] == [f"{m}-{epoch}" for m in methods for epoch in epochs]
    assert len(events(out)) == 2 + 8
    skips = document["findings"]["skip connections"]
    for row in document["rows"]:
        method, epoch = row["name"].rsplit("-", 1)
        search = out / "runs" / f"{method}-search-seed-0"
        held = json.loads((search / "architecture.jsonl").read_text().splitlines()[epochs[int(epoch)] - 1])["genotype"]
        assert json.loads((out / "cells" / f"{row['name']}-seed-0.json").read_text()) == held
        for kind in ("normal", "reduce"):
            edges = [operation for node in held[kind] for operation, _ in node]
            assert skips[row["name"]][kind] == edges.count("skip_connect")
        if epoch == "50":
            assert json.loads((search / "genotype.json").read_text()) == held
        last = json.loads((out / "runs" / row["runs"][0] / "metrics.jsonl").read_text().splitlines()[-1])
        assert row["mean"] == last["validation_accuracy"]
    page = (out / "results.md").read_text()
    assert "97.06 ± 0.11 (printed: error 2.93, 3.05, 2.83), CIFAR-10, 3.6 M" in page
    assert document["command"] in page


def test_a_real_child_killed_and_a_parent_killed_the_study_ends_as_if_nothing_was(tmp_path):
    asked = ["paths", "--topologies", "2", "--best", "0", "--backend", ENGINE, *options("--train-set", SMALL_TRAINING)]
    assert study(*asked, "--out", tmp_path / "whole", "-q").returncode == 0
    out = tmp_path / "killed"
    start = [Path(sys.executable).with_name("dots"), "study", *asked, "--out", out, "--resume", "-q"]
    first, second = (out / "runs" / f"path-01-01-01-{last}-seed-0" for last in ("01", "02"))

    process = subprocess.Popen(start, env=environment(), stderr=subprocess.PIPE, text=True)
    soon(lambda: list(first.glob("checkpoints/0000000[1-9]")))
    os.kill(child_of(first), signal.SIGKILL)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "killed by SIGKILL" in errors
    assert "--resume" in errors
    assert not json.loads((out / "results.json").read_text())["complete"]

    process = subprocess.Popen(start, env=environment())
    soon(lambda: (first / "summary.json").exists())  # the second was done beside the kill
    process.kill()
    process.wait()
    done = study(*asked, "--out", out, "--resume", "-q")
    assert done.returncode == 0, done.stderr
    assert [names.count("started") for names in events(out).values()] == [1, 1]
    assert [names.count("finished") for names in events(out).values()] == [1, 1]
    assert "resumed" in events(out)[first.name]
    assert events(out)[second.name] == ["started", "finished"]
    rows = [json.loads((folder / "results.json").read_text())["rows"] for folder in (out, tmp_path / "whole")]
    assert rows[0] == rows[1]


def test_the_180_topologies_are_trained_once_each_however_often_everything_is_killed(tmp_path):
    """Kills the study and the run it has in hand, three times, with nothing left to tidy up."""
    out = tmp_path / "study"
    asked = ["study", "paths", "--backend", ENGINE, "--best", "5", "--out", str(out), "--resume", "-q"]
    killed = {}
    for done in (30, 100, 180):
        process = subprocess.Popen(
            [sys.executable, "-c", WITH_STAND_IN, *asked], env=environment(STAND_IN_SECONDS="0.02")
        )
        soon(lambda done=done: len(list(out.glob("runs/*/summary.json"))) >= done, 200)
        process.kill()
        process.wait()
        for run in out.glob("runs/*"):
            if not (run / "summary.json").exists():
                with contextlib.suppress(AssertionError, ProcessLookupError):
                    os.kill(child_of(run), signal.SIGKILL)
        # What is done now is not to be touched again.
        soon(lambda: not any(is_held(run) for run in out.glob("runs/*")))
        for run in out.glob("runs/*"):
            if (run / "summary.json").exists():
                killed.setdefault(run.name, (run / "events.jsonl").read_bytes())
    assert len(killed) >= 180
    last = study(*asked[1:], script=WITH_STAND_IN)
    assert last.returncode == 0, last.stderr
    trained = events(out)
    assert {name for name in trained if name.startswith("path-")} == {
        f"path-{path_name(path)}-seed-0" for path in all_paths()
    }
    assert len(trained) == 185
    assert {name: (out / "runs" / name / "events.jsonl").read_bytes() for name in killed} == killed
    assert all(names.count("started") == 1 for names in trained.values())
    assert sum(names.count("resumed") for names in trained.values()) <= 3
    assert json.loads((out / "results.json").read_text())["complete"]


def child_of(run):
    """Return the process that has a run in hand."""
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if process.name.isdigit() and f"--out\0{run}\0--resume".encode() in (process / "cmdline").read_bytes():
                return int(process.name)
    raise AssertionError(f"no process runs {run}")


def test_a_parent_killed_leaves_runs_that_are_waited_for_and_none_is_done_twice(tmp_path):
    out = tmp_path / "study"
    go, said = tmp_path / "go", tmp_path / "said.txt"
    slow = environment(STAND_IN_UNTIL=str(go))
    start = [sys.executable, "-c", WITH_STAND_IN, "study", *PATHS, "--jobs", "2", "--out", str(out)]
    process = subprocess.Popen(start, env=slow, stderr=subprocess.DEVNULL)
    soon(lambda: len(list(out.glob("runs/*/threads"))) == 2)
    process.kill()  # its two children go on
    process.wait()
    with open(said, "wb") as log:
        again = subprocess.Popen([*start, "--resume"], env=slow, stdout=subprocess.DEVNULL, stderr=log)
    soon(lambda: said.read_text().count("waiting") == 2)
    go.touch()
    assert again.wait(timeout=60) == 0, said.read_text()
    assert len(events(out)) == 6
    assert all(names == ["started"] for names in events(out).values())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_study_and_it_goes_on(number, code, tmp_path):
    out = tmp_path / "study"
    start = [sys.executable, "-c", WITH_STAND_IN, "study", *PATHS, "--out", str(out)]
    process = subprocess.Popen(start, env=environment(STAND_IN_SECONDS="20"), stderr=subprocess.PIPE, text=True)
    soon(lambda: list(out.glob("runs/*/threads")))
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert errors.splitlines()[-1].endswith(f"go on with: dots study paths --out {out} --resume")
    assert len(list(out.glob("runs/*/saved"))) == 1
    assert study("paths", "--out", out, "--resume", script=WITH_STAND_IN).returncode == 0
    counts = sorted(names.count("started") + 10 * names.count("resumed") for names in events(out).values())
    assert counts == [1, 1, 1, 1, 1, 11]


def test_a_failed_run_is_named_the_others_go_on_and_the_exit_code_is_1(tmp_path):
    out, bad = tmp_path / "study", "path-01-01-01-02-seed-0"
    failed = study(*PATHS, "--out", out, script=WITH_STAND_IN, STAND_IN_FAILS=bad)
    assert failed.returncode == 1
    assert f"{bad}: the loss became nan" in failed.stderr.splitlines()[-1]
    assert len(events(out)) == 3
    assert json.loads((out / "results.json").read_text())["problems"] == {bad: "the loss became nan"}
    assert study("paths", "--out", out, "--resume", script=WITH_STAND_IN).returncode == 0
    assert json.loads((out / "results.json").read_text())["complete"]


def test_printed_commands_run_by_anyone_are_what_the_study_then_finds_done(tmp_path):
    out = tmp_path / "study"
    for wave in (4, 2):
        printed = study(*PATHS, "--out", out, "--resume", "--commands")
        assert printed.returncode == 0, printed.stderr
        commands = [shlex.split(line) for line in printed.stdout.splitlines()]
        assert len(commands) == wave
        for words in commands:
            assert words[:2] == ["dots", "train"]
            subprocess.run([*STAND_IN, *words[1:]], env=environment(), check=True)
    assert len((out / "commands.txt").read_text().splitlines()) == 6
    last = study(*PATHS, "--out", out, "--resume", "--commands")
    assert (last.returncode, last.stdout) == (0, "")
    assert str(out / "results.md") in last.stderr
    written = json.loads((out / "results.json").read_text())
    assert (written["format"], written["version"], written["complete"]) == ("dots-study-results", 1, True)
    done = study("paths", "--out", out, "--resume", "--json", script=WITH_STAND_IN)
    record = json.loads(done.stdout)
    assert record["complete"]
    assert record["version"] == version("dots-nas")
    assert {row["name"]: row["mean"] for row in record["rows"]} == {
        row["name"]: accuracy_of(f"{row['name']}-seed-0") for row in record["rows"]
    }
    assert all(names == ["started"] for names in events(out).values())
    page = (out / "results.md").read_text()
    assert record["command"] in page
    assert all(line in page for line in (out / "commands.txt").read_text().splitlines())
    shown = unescape((out / "results.html").read_text())
    assert all(f'<th scope="row">{row["name"]}</th>' in shown for row in record["rows"])
    assert all(line in shown for line in [record["command"], *(out / "commands.txt").read_text().splitlines()])


def test_a_study_is_resumed_as_it_was_asked_or_refused_by_name(tmp_path):
    out = tmp_path / "study"
    assert study(*PATHS, "--train-set", "epochs=2", "--out", out, "--commands").returncode == 0
    for arguments, named in [
        ((*PATHS, "--out", out), "--resume"),
        (("paths", "--out", out, "--resume", "--seeds", "3"), "seeds: 1 → 3"),
        (
            ("paths", "--out", out, "--resume", "--train-set", "epochs=3"),
            "train_settings: {'epochs': 2} → {'epochs': 3}",
        ),
        (("paths", "--out", out, "--resume", "--best", "1"), "best: 2 → 1"),
        (("rank-correlation", "--out", out, "--resume"), "is the study 'paths'"),
        (("paths", "--resume"), "--out"),
    ]:
        refused = study(*arguments)
        assert refused.returncode == 2, refused.stderr
        assert named in refused.stderr
        assert refused.stderr.count("\n") == 1
    same = study("paths", "--out", out, "--resume", "--train-set", "epochs=2", "--seeds", "1", "--commands")
    assert same.returncode == 0, same.stderr


def test_images_may_move_between_two_starts_of_a_study_and_others_are_refused(tmp_path):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (80, 8, 8, 3), np.uint8), np.arange(80) % 4
    for name, shift in (("first", 0), ("moved", 0), ("other", 1)):
        arrays = {"train_images": images + np.uint8(shift), "train_labels": labels}
        arrays |= {"test_images": images, "test_labels": labels}
        np.savez(tmp_path / f"{name}.npz", **arrays)
    asked = ["--topologies", "1", "--best", "1", *options("--train-set", SMALL_TRAINING), "--backend", ENGINE]
    begun = study("paths", *asked, "--out", tmp_path / "study", "--data", tmp_path / "first.npz")
    assert begun.returncode == 0, begun.stderr
    (tmp_path / "first.npz").unlink()
    run = next((tmp_path / "study" / "runs").iterdir())
    (run / "summary.json").unlink()
    other = study("paths", "--out", tmp_path / "study", "--resume", "--data", tmp_path / "other.npz")
    assert other.returncode == 2
    assert "other.npz holds other images than" in other.stderr
    moved = study("paths", "--out", tmp_path / "study", "--resume", "--data", tmp_path / "moved.npz")
    assert moved.returncode == 0, moved.stderr
    assert (run / "summary.json").is_file()
    again = study("paths", "--out", tmp_path / "study", "--resume")
    assert again.returncode == 0, again.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["ablation", "levle"], 2, "did you mean 'levels'"),
        (["ablation", "levels", "--set", "operation.epoch=3"], 2, "operation.epochs"),
        (["ablation", "order", "--preset", "dots-cifar10"], 2, "--preset paper"),
        (["ablation", "order", "--preset", "paper"], 4, "--data"),
        (["ablation", "training-depth", "--train-set", "layers=3"], 2, "--train-set layers"),
        (["paths", "--train-set", "epochs=none"], 2, "epochs"),
        (["paths", "--train-preset", "shallow"], 4, "--data"),
        (["paths", "--best", "200"], 2, "--best"),
        (["paths", "--backend", "tensorflow"], 2, "unknown backend"),
        (["paths", "--submitit-set", "timeout_min=3"], 2, "--submitit"),
        (["paths", "--commands", "--json"], 2, "give one of them"),
        (["rank-correlation", "--set", "topology.space=arbitrary"], 2, "pairs"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(arguments, code, named, tmp_path):
    refused = study(*arguments, "--out", tmp_path / "study")
    assert refused.returncode == code, refused.stderr
    assert named in refused.stderr
    assert not (tmp_path / "study").exists()


def test_a_directory_that_is_no_study_and_a_damaged_record_are_refused(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    refused = study(*PATHS, "--out", tmp_path / "mine", "--resume")
    assert (refused.returncode, "not a study" in refused.stderr) == (2, True)
    for text in ("{", "[]", '{"format": "dots-study", "version": 2, "study": "paths", "asked": {}}'):
        (tmp_path / "study").mkdir(exist_ok=True)
        (tmp_path / "study" / "study.json").write_text(text)
        assert study(*PATHS, "--out", tmp_path / "study", "--resume").returncode == 5


def test_the_list_names_every_study_with_its_source():
    listed = study("list")
    assert listed.returncode == 0
    assert "ablation levels" in listed.stdout
    assert "arXiv:2010.00969" in listed.stdout
    assert len(json.loads(study("list", "--json").stdout)["studies"]) == 20


def test_help_loads_nothing_heavy():
    script = """
import sys
sys.argv = ["dots", "study", "--help"]
from dots.cli.main import main
try:
    main()
finally:
    print(sorted({name.partition(".")[0] for name in sys.modules} & {"numpy", "scipy", "matplotlib", "yaml", "torch"}))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment())
    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr


def test_a_study_that_another_began_meanwhile_is_left_as_it_is(tmp_path, monkeypatch, capsys):
    """Between the look at the place and its lock."""
    from dots.cli import main
    from dots.run_directory import layout

    out, owned = tmp_path / "study", layout.owned

    def quicker(folder):
        (folder / "study.json").write_text("another's")
        return owned(folder)

    monkeypatch.setattr(layout, "owned", quicker)
    monkeypatch.setattr(sys, "argv", ["dots", "study", *PATHS, "--out", str(out)])
    with pytest.raises(SystemExit, match="2"):
        main.main()
    assert "is a study already" in capsys.readouterr().err
    assert sorted(path.name for path in out.iterdir()) == [".lock", "study.json"]
    assert (out / "study.json").read_text() == "another's"
