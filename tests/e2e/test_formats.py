"""What earlier releases wrote stays readable: one small file or run of every format version."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from command import dots, settings

from dots_core.errors import CorruptFile
from dots_core.search_space.genotype_text import load_genotype
from dots_core.storage.atomic import write_folder
from dots_core.storage.checkpoint import read_checkpoint

FORMATS = Path(__file__).parent / "formats"


@pytest.mark.parametrize("path", sorted(FORMATS.glob("genotype-*.json")), ids=lambda path: path.stem)
def test_genotypes_stay_readable(path):
    assert len(load_genotype(path).normal) == 1


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    """Every run, gone on with to its end."""
    runs = {}
    for path in sorted(FORMATS.glob("run-*")):
        runs[path.name] = run = tmp_path_factory.mktemp("runs") / path.name
        shutil.copytree(path, run)
        done = dots("search", "--out", run, "--resume", "-q")
        assert done.returncode == 0, done.stderr
    return runs


@pytest.mark.parametrize("path", sorted(FORMATS.glob("run-*")), ids=lambda path: path.name)
def test_runs_stay_resumable(path, resumed):
    (folder,) = (path / "checkpoints").iterdir()
    assert f"run-{json.loads((folder / 'progress.json').read_text())['version']}" == path.name[:5]
    checkpoint = read_checkpoint(folder)
    assert {name.partition("/")[0] for name in checkpoint.state} >= {"weights", "momentum", "statistics", "adam.first"}
    before = (path / "metrics.jsonl").read_bytes()[: checkpoint.progress["metrics_bytes"]]
    after = (resumed[path.name] / "metrics.jsonl").read_bytes()
    assert after.startswith(before)
    config = yaml.safe_load((path / "config.yaml").read_text())
    epochs = config["operation"]["epochs"] + config["topology"]["epochs"]
    assert [json.loads(line)["epoch"] for line in after.splitlines()] == list(range(1, epochs + 1))
    load_genotype(resumed[path.name] / "genotype.json")


def test_a_run_of_version_1_goes_on_as_one_of_version_2(resumed):
    """The same search, stopped at the same step: α′ alone is laid out otherwise, and what follows is the same."""
    one, two = (FORMATS / f"run-{version}-topologies" / "checkpoints" / "00000009" for version in (1, 2))
    found, expected = read_checkpoint(one), read_checkpoint(two)
    assert found.progress == expected.progress
    assert found.state["architecture/alpha.normal"].shape == (5, 4)
    assert {name: array.tobytes() for name, array in found.state.items()} == {
        name: array.tobytes() for name, array in expected.state.items()
    }
    for name in ("metrics.jsonl", "architecture.jsonl", "genotype.json"):
        assert len({(resumed[f"run-{version}-topologies"] / name).read_bytes() for version in (1, 2)}) == 1


def test_a_run_of_version_1_is_shown_and_trained(resumed, tmp_path):
    run = resumed["run-1-topologies"]
    assert dots("show", run).returncode == 0
    tiny = settings(["train_images=32", "test_images=8", "batch=8", "channels=2", "epochs=1", "layers=2"])
    asked = ["train", "--backend", "reference", "--preset", "smoke", "--cell", run, *tiny]
    done = dots(*asked, "--out", tmp_path / "trained", "-q")
    assert done.returncode == 0, done.stderr


def test_a_damaged_checkpoint_of_version_1_is_refused(tmp_path):
    """Of which the cells do not go with the arrays, though every file is what it was."""
    source = FORMATS / "run-1-topologies" / "checkpoints" / "00000009"
    files = {path.name: path.read_bytes() for path in source.iterdir() if path.name != "manifest.json"}
    files["progress.json"] = files["progress.json"].replace(b"dil_conv_3x3", b"dil_conv_9x9")
    write_folder(tmp_path / "00000009", files)
    with pytest.raises(CorruptFile, match="its cells and its arrays do not go together"):
        read_checkpoint(tmp_path / "00000009")
