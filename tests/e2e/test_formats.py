"""What earlier releases wrote stays readable: one small file or run of every format version."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from command import dots

from dots_core.search_space.genotype_text import load_genotype
from dots_core.storage.checkpoint import read_checkpoint

FORMATS = Path(__file__).parent / "formats"


@pytest.mark.parametrize("path", sorted(FORMATS.glob("genotype-*.json")), ids=lambda path: path.stem)
def test_genotypes_stay_readable(path):
    assert len(load_genotype(path).normal) == 1


@pytest.mark.parametrize("path", sorted(FORMATS.glob("run-*")), ids=lambda path: path.name)
def test_runs_stay_resumable(path, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(path, run)
    (checkpoint,) = (read_checkpoint(folder) for folder in (run / "checkpoints").iterdir())
    assert {name.partition("/")[0] for name in checkpoint.state} >= {"weights", "momentum", "statistics", "adam.first"}
    before = (run / "metrics.jsonl").read_bytes()[: checkpoint.progress["metrics_bytes"]]
    done = dots("search", "--out", run, "--resume", "-q")
    assert done.returncode == 0, done.stderr
    after = (run / "metrics.jsonl").read_bytes()
    assert after.startswith(before)
    assert [json.loads(line)["epoch"] for line in after.splitlines()] == [1, 2, 3, 4]
    load_genotype(run / "genotype.json")
