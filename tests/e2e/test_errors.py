"""Bad input: one line that names cause, place and remedy, the right exit code, nothing lost."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
import tarfile

import numpy as np
import pytest
from command import command, contents, dots, environment, tiny_search, tiny_training
from PIL import Image


def refused(done, code, *words):
    """Check that a command was refused in one line with these words."""
    assert done.returncode == code, (done.returncode, done.stderr)
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("dots: error: ")
    assert done.stdout == ""
    for word in words:
        assert word in done.stderr, done.stderr


def image_folder(root, sizes=((8, 8),), classes=("ant", "bee"), splits=("train", "test"), count=24):
    """Write a small image folder with a bright and a dark class."""
    noise = np.random.default_rng(0)
    for split in splits:
        for level, name in enumerate(classes):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                height, width = sizes[number % len(sizes)]
                pixels = noise.integers(0, 100, (height, width, 3)) + 150 * (level % 2)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    return root


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["search", "--preset", "dots-cifar11"], ["dots-cifar11", "did you mean 'dots-cifar10'"]),
        (["search", "--backend", "tensorflow"], ["tensorflow", "reference"]),
        (["search", "--set", "topology.epoch=3"], ["topology.epoch", "did you mean 'topology.epochs'"]),
        (["search", "--set", "topology.epochs=many"], ["topology.epochs", "many"]),
        (["search", "--set", "topology.epochs=-3"], ["topology.epochs", "-3"]),
        (["search", "--set", "weights.learning_rate=.nan"], ["weights.learning_rate"]),
        (["search", "--set", "structure=tree"], ["unknown key 'structure'"]),
        (["search", "--set", "backend=5"], ["backend"]),
        (["search", "--set", "topology.space=tree"], ["topology.space", "tree"]),
        (["search", "--set", "batch"], ["KEY=VALUE"]),
        (["search", "--set", "batch=5000"], ["5000", "batch="]),
        (["search", "--set", "space.operations=[none]"], ["other than 'none'"]),
        (["search", "--set", "space.operations=[sep_conv_3x4]"], ["sep_conv_3x4", "did you mean"]),
        (["search", "--set", "operation.warmup=99"], ["operation.warmup", "99"]),
        (["search", "--set", "channels=5"], ["channels"]),
        (["search", "--resume"], ["--out"]),
        (["search", "--no-such-option"], ["--no-such-option"]),
        (["train"], ["--cell"]),
        (["train", "--cell", "DOTS_C11"], ["DOTS_C11", "DOTS_C10"]),
        (["show", "nowhere/genotype.json"], ["nowhere/genotype.json"]),
        (["show", "DARTS_V1", "--channels", "7"], ["7", "even"]),
        (["show", "DARTS_V1", "--picture", "cell.gif"], ["gif", "png"]),
        (["frobnicate"], ["frobnicate"]),
    ],
)
def test_impossible_requests_are_usage_errors(arguments, words, tmp_path):
    done = dots(*arguments, cwd=tmp_path)
    refused(done, 2, *words)
    assert not (tmp_path / "runs").exists()


def test_a_missing_framework_is_told(tmp_path):
    # An engine whose framework is not installed, registered as a stranger's package would.
    site = tmp_path / "site"
    info = site / "ghost-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ghost\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[dots.backends]\nghost = ghost_engine:engine\n[dots.backend_info]\nghost = ghost_info:info\n"
    )
    (site / "ghost_info.py").write_text(
        "info = {'framework': 'ghost_framework', 'install': 'pip install ghost-framework', 'priority': 99}\n"
    )
    env = {**environment(), "PYTHONPATH": str(site)}
    done = subprocess.run(command("search", "--backend", "ghost"), env=env, capture_output=True, text=True)
    refused(done, 3, "ghost_framework", "pip install ghost-framework")
    unknown = subprocess.run(command("search", "--backend", "spirit"), env=env, capture_output=True, text=True)
    refused(unknown, 2, "spirit", "ghost (not installed: pip install ghost-framework)")


@pytest.mark.engine("torch")
def test_a_missing_device_is_told(tmp_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    refused(dots("search", "--backend", "torch", "--device", "cuda", cwd=tmp_path), 3, "CUDA", "--device cpu")
    refused(dots("search", "--backend", "torch", "--set", "precision=tf32", cwd=tmp_path), 2, "tf32")
    assert not (tmp_path / "runs").exists()


def test_missing_and_empty_data(tmp_path):
    refused(dots("search", "--preset", "dots-cifar10"), 4, "--data")
    refused(dots("search", "--data", tmp_path / "nowhere"), 4, "nowhere")
    (tmp_path / "empty").mkdir()
    refused(dots("search", "--data", tmp_path / "empty"), 4, "empty")
    (tmp_path / "hollow" / "train" / "ant").mkdir(parents=True)
    (tmp_path / "hollow" / "test" / "ant").mkdir(parents=True)
    refused(dots("search", "--data", tmp_path / "hollow"), 4, "ant")


def test_class_folders_that_differ(tmp_path):
    root = image_folder(tmp_path / "data")
    shutil.move(root / "test" / "bee", root / "test" / "wasp")
    refused(dots("search", "--data", root), 4, "bee", "wasp")


def test_tiny_mixed_huge_and_broken_images(tmp_path):
    refused(dots("search", "--data", image_folder(tmp_path / "pixels", sizes=((1, 1),))), 4, "1x1")
    refused(dots("search", "--data", image_folder(tmp_path / "mixed", sizes=((8, 8), (9, 9)))), 4, "image_size")
    huge = image_folder(tmp_path / "huge")
    # A small file that claims to be enormous.
    Image.new("1", (30000, 30000)).save(huge / "train" / "ant" / "0.png")
    refused(dots("search", "--data", huge), 5, "0.png", "pixel")
    broken = image_folder(tmp_path / "broken")
    path = broken / "train" / "ant" / "0.png"
    path.write_bytes(path.read_bytes()[:40])
    refused(dots("search", "--data", broken), 5, "0.png")


@pytest.mark.any_engine
def test_mixed_sizes_work_with_the_remedy_the_error_names(backend, tmp_path):
    root = image_folder(tmp_path / "mixed", sizes=((8, 8), (9, 11)))
    done = dots(*tiny_search(backend, tmp_path / "run", "-q", "--data", root, "--set", "image_size=8"))
    assert done.returncode == 0, done.stderr


def test_archive_that_leaves_its_folder(tmp_path):
    (tmp_path / "x").write_bytes(b"x")
    with tarfile.open(tmp_path / "cifar.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "x", "../x")
    refused(dots("search", "--data", tmp_path / "cifar.tar.gz"), 5, "../x")


def test_pickle_where_json_belongs(tmp_path):
    (tmp_path / "genotype.json").write_bytes(pickle.dumps({"normal": []}))
    refused(dots("show", tmp_path / "genotype.json"), 5, "genotype.json")


@pytest.fixture
def stopped(backend, whole, tmp_path):
    """A finished run of one's own, whose checkpoints can be tampered with."""
    return shutil.copytree(whole(backend), tmp_path / "run")


@pytest.mark.release("torch")
@pytest.mark.any_engine
@pytest.mark.parametrize("name", ["state.safetensors", "progress.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "pickle", "gone"])
def test_damaged_checkpoints_are_refused_and_untouched(stopped, backend, name, damage, tmp_path):
    newest = sorted((stopped / "checkpoints").iterdir())[-1]
    path = newest / name
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        path.write_bytes({"truncated": content[:-7], "flipped": flipped, "pickle": pickle.dumps([1])}[damage])
    before = contents(stopped)
    done = dots(*tiny_search(backend, stopped, "--resume"))
    refused(done, 5, str(newest), "delete")
    assert contents(stopped) == before
    # The remedy the message names.
    shutil.rmtree(newest)
    assert dots(*tiny_search(backend, stopped, "--resume", "-q")).returncode == 0


@pytest.mark.any_engine
def test_manifest_that_leaves_its_folder(stopped, backend):
    newest = sorted((stopped / "checkpoints").iterdir())[-1]
    (newest / "manifest.json").write_text(json.dumps({"sha256": {"../../genotype.json": "0" * 64}}))
    refused(dots(*tiny_search(backend, stopped, "--resume")), 5, "outside")


@pytest.mark.any_engine
def test_a_run_is_never_overwritten(stopped, backend, tmp_path):
    before = contents(stopped)
    refused(dots(*tiny_search(backend, stopped)), 2, "--resume")
    refused(dots(*tiny_search(backend, stopped, "--resume", "--seed", "9")), 2, "seed: 0 → 9")
    refused(dots(*tiny_training(backend, stopped, "--resume")), 2, "dots search")
    assert contents(stopped) == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    refused(dots(*tiny_search(backend, tmp_path / "mine")), 2, "mine")
    refused(dots(*tiny_search(backend, tmp_path / "mine", "--resume")), 2, "mine")
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years of work"


@pytest.mark.any_engine
def test_resuming_on_other_images_is_refused(backend, tmp_path):
    root = image_folder(tmp_path / "data", count=50)
    run = tmp_path / "run"
    assert dots(*tiny_search(backend, run, "-q", "--data", root)).returncode == 0
    Image.new("RGB", (8, 8), "red").save(root / "train" / "ant" / "0.png")
    refused(dots(*tiny_search(backend, run, "--resume", "--data", root)), 5, "other images")


@pytest.mark.release("mindspore", "jittor")
def test_no_space_left_is_told_and_nothing_is_lost(backend, whole, tmp_path):
    """A limit on the size of files stands in for a full disk: both are errors of the same system call."""
    run = tmp_path / "run"
    largest = max(len(content) for name, content in contents(whole(backend)).items() if "state" in name)

    # The limit begins when the engine is there: frameworks write files of their own while they load, and
    # Python writes what it compiled, which must not be cut short for those who come after.
    script = f"""
import resource, sys
sys.dont_write_bytecode = True
from dots.cli.main import main
from dots_core.engine.registry import load_engine
load_engine({backend!r})
resource.setrlimit(resource.RLIMIT_FSIZE, ({largest // 2}, {largest // 2}))
sys.argv = ["dots", *{[str(a) for a in tiny_search(backend, run, "-q")]!r}]
main()
"""
    done = subprocess.run([sys.executable, "-c", script], env=environment(), capture_output=True, text=True)
    refused(done, 1, "cannot write", "--resume")
    done = dots(*tiny_search(backend, run, "--resume", "-q"))
    assert done.returncode == 0, done.stderr
    assert contents(run) == contents(whole(backend))


def test_nan_in_training_stops_with_step_phase_and_checkpoint(backend, tmp_path):
    run = tmp_path / "run"
    wild = ["--set", "weights.learning_rate=1e30", "--set", "weights.clip=0"]
    done = dots(*tiny_training(backend, run, "-q", *wild))
    refused(done, 6, "training", "step", str(run / "checkpoints"), "learning_rate")
    from dots_core.storage.checkpoint import newest_checkpoint

    found = newest_checkpoint(run / "checkpoints")
    assert found is not None
    assert all(np.isfinite(array).all() for array in found[1].state.values())


@pytest.mark.any_engine
def test_two_processes_never_share_a_run(stopped, backend):
    from dots.run_directory.layout import owned

    with owned(stopped):
        refused(dots(*tiny_search(backend, stopped, "--resume")), 2, "another process")


def test_debug_shows_the_traceback():
    done = subprocess.run(
        [sys.executable, "-m", "dots", "--debug", "show", "NOTHING"], capture_output=True, text=True, env=environment()
    )
    assert done.returncode == 2
    assert "Traceback" in done.stderr


@pytest.mark.any_engine
def test_changed_settings_of_a_run_are_noticed(stopped, backend):
    path = stopped / "config.yaml"
    text = path.read_text()
    assert "channels: 2" in text
    path.write_text(text.replace("channels: 2", "channels: 4"))
    done = dots("search", "--out", stopped, "--resume")
    refused(done, 5, "config.yaml", "other settings")


@pytest.mark.any_engine
def test_a_run_goes_on_by_its_directory_alone_and_refuses_other_settings(stopped, backend, tmp_path):
    assert dots("search", "--out", stopped, "--resume", "-q", cwd=tmp_path).returncode == 0
    refused(dots("search", "--out", stopped, "--resume", "--preset", "smoke"), 2, "channels: 2 → 4", "run-2")


def test_doctor_fails_where_an_engine_does(tmp_path):
    done = dots("doctor", "--backend", "reference", "--device", "abacus")
    assert done.returncode == 3
    assert "abacus" in done.stdout


def test_weights_that_overflow_are_never_saved(backend, tmp_path):
    """The loss of the last step before a save is finite, what that step did to the weights is not."""
    run = tmp_path / "run"
    wild = ["--set", "weights.learning_rate=1e30", "--set", "weights.clip=0", "--set", "weights.weight_decay=1e30"]
    done = dots(*tiny_training(backend, run, "-q", *wild, "--set", "checkpoint_every=1"))
    refused(done, 6, "checkpoint")
    from dots_core.storage.checkpoint import checkpoints, read_checkpoint

    for path in checkpoints(run / "checkpoints"):
        assert all(np.isfinite(array).all() for array in read_checkpoint(path).state.values())
