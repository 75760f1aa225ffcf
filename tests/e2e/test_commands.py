"""The commands, as a user runs them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command import command, contents, dots, environment, installed, settings, tiny_search, tiny_training

from dots_core.search_space.genotype import Genotype
from dots_core.search_space.genotype_text import load_genotype


def test_search_writes_a_run_and_prints_the_cell(backend, tmp_path):
    done = installed(*tiny_search(backend, tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    assert "Normal cell" in done.stdout
    assert "epoch 4/4" in done.stderr
    assert done.stderr.startswith("digits: 1442 train and 355 test images of 8x8 in grey, 10 classes\n")
    run = tmp_path / "run"
    genotype = load_genotype(run / "genotype.json")
    assert len(genotype.normal) == 2
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert [row["stage"] for row in rows] == ["operation"] * 2 + ["topology"] * 2
    assert rows[3]["beta_temperature"] == 10
    assert rows[3]["alpha_temperature"] == pytest.approx(0.01)
    for name in ("config.yaml", "data.json", "summary.json", "cell.dot", "cell.svg", "cell.png"):
        assert (run / name).stat().st_size > 100, name
    assert len(list((run / "checkpoints").iterdir())) == 2


@pytest.mark.release("mindspore")
def test_the_same_seed_gives_the_same_bytes_and_another_does_not(backend, whole, tmp_path):
    for name, seed in (("same", "0"), ("another", "4")):
        done = installed(*tiny_search(backend, tmp_path / name, "--seed", seed, "-q"))
        assert done.returncode == 0, done.stderr
    expected, same, another = map(contents, (whole(backend), tmp_path / "same", tmp_path / "another"))
    assert same == expected
    assert another["metrics.jsonl"] != expected["metrics.jsonl"]


@pytest.mark.any_engine
def test_json_is_one_document_and_quiet_prints_only_the_run(backend, tmp_path):
    done = dots(*tiny_search(backend, tmp_path / "run", "--json"))
    document = json.loads(done.stdout)
    assert document["schema"] == "dots/search/1"
    assert document["run"] == str(tmp_path / "run")
    assert Genotype.from_record(document["genotype"]) == load_genotype(tmp_path / "run" / "genotype.json")
    again = dots(*tiny_search(backend, tmp_path / "run", "--resume", "-q"))
    assert again.stdout == f"{tmp_path / 'run'}\n"
    assert again.stderr == ""


def test_train_evaluates_and_keeps_best_and_last_weights(backend, tmp_path):
    done = dots(*tiny_training(backend, tmp_path / "run", "--json"))
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert document["accuracy"] == rows[-1]["validation_accuracy"]
    assert document["best_accuracy"] == max(row["validation_accuracy"] for row in rows)
    for name in ("best", "last"):
        assert (tmp_path / "run" / name / "weights.safetensors").stat().st_size > 1000
    best = json.loads((tmp_path / "run" / "best" / "metrics.json").read_text())
    assert best["validation_accuracy"] == document["best_accuracy"]


@pytest.mark.any_engine
def test_a_found_cell_is_trained_and_shown_by_its_run(backend, whole, tmp_path):
    found = whole(backend)
    short = settings(["epochs=1", "train_images=64", "test_images=20", "batch=16", "channels=4", "layers=3"])
    trained = dots("train", "--backend", backend, "--cell", found, *short, "--out", tmp_path / "trained", "-q")
    assert trained.returncode == 0, trained.stderr
    shown = dots("show", found, "--json")
    assert json.loads(shown.stdout)["genotype"] == json.loads((found / "genotype.json").read_text())


@pytest.mark.any_engine
def test_a_saved_configuration_repeats_its_run(backend, whole, tmp_path):
    done = dots("search", "--preset", whole(backend) / "config.yaml", "--out", tmp_path / "again")
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "again") == contents(whole(backend))


@pytest.mark.any_engine
def test_dry_run_estimates_and_writes_nothing(backend, tmp_path):
    done = dots(*tiny_search(backend, tmp_path / "run", "--dry-run", "--json"))
    document = json.loads(done.stdout)
    assert [stage["stage"] for stage in document["stages"]] == ["operation", "topology"]
    assert all(stage["memory_bytes"] > 0 and stage["seconds"] > 0 for stage in document["stages"])
    # 48 of 96 images in batches of 16, one epoch of warm-up; all 96 in the topology stage.
    assert [[p["steps"] for p in s["phases"]] for s in document["stages"]] == [[3, 3], [6, 6]]
    assert not (tmp_path / "run").exists()


@pytest.mark.release("reference", "jittor")
def test_quiet_keeps_libraries_quiet_too(backend, whole, tmp_path):
    """A library that does warn: Matplotlib, where it can write no configuration."""
    (tmp_path / "file").touch()
    env = {**environment(), "MPLCONFIGDIR": str(tmp_path / "file" / "below")}
    # The run is finished: what is said is said by what draws its cell again.
    arguments = tiny_search(backend, shutil.copytree(whole(backend), tmp_path / "run"), "--resume")
    loud = subprocess.run(command(*arguments), env=env, capture_output=True, text=True)
    assert "MPLCONFIGDIR" in loud.stderr
    quiet = subprocess.run(command(*arguments, "-q"), env=env, capture_output=True, text=True)
    assert quiet.returncode == 0
    assert [line for line in quiet.stderr.splitlines() if not line.startswith("dots: ")] == []


def test_a_search_preset_runs_scaled_down_on_the_default_engine(tmp_path):
    small = settings(
        ["train_images=64", "test_images=20", "batch=16", "channels=2", "operation.layers=3", "topology.layers=3",
         "operation.epochs=2", "operation.warmup=1", "topology.epochs=2", "topology.warmup=1", "space.nodes=2",
         "augmentation.crop=1"]
    )  # fmt: skip
    done = dots("search", "--preset", "dots-cifar10", "--data", "digits", *small, "--out", tmp_path / "run", "-q")
    assert done.returncode == 0, done.stderr
    load_genotype(tmp_path / "run" / "genotype.json")


def test_released_preset_differs_from_the_paper_as_its_code_does():
    done = dots("presets", "diff", "dots-cifar10", "dots-cifar10-released", "--json")
    changed = json.loads(done.stdout)
    assert changed["topology.scaled"] == [True, False]
    assert changed["topology.layers"] == [20, 8]
    assert changed["head_norm"] == [False, True]
    assert changed["architecture.initial_scale"] == [0.001, 0.0]


def test_show_prints_published_counts_and_draws(tmp_path):
    pictures = [part for suffix in ("svg", "png", "dot") for part in ("--picture", tmp_path / f"cell.{suffix}")]
    done = dots("show", "DARTS_V1", "--layers", "20", "--channels", "36", "--json", *pictures)
    document = json.loads(done.stdout)
    assert document["params"] == 3_169_414
    assert set(document) >= {"genotype", "params", "macs"}
    assert (tmp_path / "cell.png").read_bytes().startswith(b"\x89PNG")
    assert "sep_conv_3x3" in (tmp_path / "cell.dot").read_text()
    with_head = json.loads(dots("show", "DARTS_V1", "--auxiliary", "--json").stdout)
    assert with_head["params"] > document["params"]
    assert with_head["macs"] == document["macs"]
    assert "3,169,414" in dots("show", "DARTS_V1").stdout


def test_doctor_and_env_tell_the_truth(backend):
    document = json.loads(dots("doctor", "--backend", backend, "--json").stdout)
    (report,) = document["engines"]
    assert report["ok"], report
    assert report["gradient_error"] < 1e-4
    found = json.loads(dots("env", "--json").stdout)
    assert backend in {engine["name"] for engine in found["backends"] if engine["available"]}


def test_presets_list_and_show():
    listed = json.loads(dots("presets", "list", "--json").stdout)
    assert {"dots-cifar10", "dots-cifar100", "smoke"} <= set(listed["search"])
    assert {"cifar", "toponas-cifar", "shallow", "smoke"} <= set(listed["train"])
    shown = json.loads(dots("presets", "show", "dots-cifar10", "--json").stdout)
    assert (shown["operation"]["epochs"], shown["topology"]["epochs"], shown["topology"]["layers"]) == (30, 40, 20)
    assert shown["topology"]["temperature"] == {"schedule": "exponential", "start": 10.0, "rate": 0.72, "end": 0.0}


def test_help_is_quick_and_loads_no_framework():
    script = (
        "import sys; sys.argv = ['dots', '--help']\n"
        "from dots.cli.main import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'mindspore', 'jittor', 'numpy', 'pydantic', 'matplotlib', 'PIL', 'jinja2'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "search" in done.stdout
    times = []
    for _ in range(5):
        begin = time.monotonic()
        subprocess.run(command("--help"), capture_output=True, check=True)
        times.append(time.monotonic() - begin)
    assert min(times) < 2, "a command that answers in a tenth of a second was seen to take ten times as long"


def test_importing_dots_loads_no_framework():
    script = (
        "import sys, dots\n"
        "dots.Genotype, dots.named_cells, dots.backends()\n"
        "assert not {'torch', 'mindspore', 'jittor'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_python_module_is_the_command():
    arguments = [sys.executable, "-m", "dots", "--version"]
    done = subprocess.run(arguments, capture_output=True, text=True, env=environment(), check=True)
    import dots

    assert done.stdout.strip() == dots.__version__


@pytest.mark.any_engine
def test_no_colour_and_no_animation_away_from_a_terminal(backend, tmp_path):
    done = dots(*tiny_search(backend, tmp_path / "run"))
    assert "\x1b" not in done.stdout + done.stderr
    assert "\r" not in done.stderr


@pytest.mark.any_engine
def test_runs_are_numbered_when_no_directory_is_given(backend, tmp_path: Path):
    arguments = tiny_search(backend, tmp_path / "unused", "-q")
    del arguments[arguments.index("--out") : arguments.index("--out") + 2]
    names = [dots(*arguments, cwd=tmp_path).stdout.strip() for _ in range(2)]
    assert names == ["runs/search-smoke-1", "runs/search-smoke-2"]
