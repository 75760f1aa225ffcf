"""Every search preset as it is, but small: one epoch a phase on the embedded digits, to a valid cell."""

from __future__ import annotations

import json
from typing import Any

import pytest
from command import contents

import dots
from dots.config.plan import plan_of
from dots.config.presets import merged, nested, preset_names, preset_values
from dots.config.schema import SearchConfig, parse_config
from dots.console.progress import NoProgress
from dots.run import api as runs
from dots_core.errors import UsageError
from dots_core.search.runner import Interrupted, Runner
from dots_core.search_space.genotype_text import load_genotype

ENGINE = "torch"


def small(preset: str, epochs: int = 1) -> dict[str, Any]:
    """Settings that leave a preset its method and make its run a matter of a second; dotted keys."""
    values = preset_values("search", preset)
    settings: dict[str, Any] = {
        "data": "digits",
        "image_size": None,
        "batch": 8,
        "test_images": 16,
        "space.nodes": 2,
        "operation.layers": 3,
        "topology.layers": 3,
        "checkpoint_every": 1,
        # Partial channels need whole parts.
        "channels": 2 * values["operation"].get("partial_channels", 1),
    }
    if "edges" in values["space"]:
        del settings["space.nodes"]
    # A share of the images stays a share.
    settings |= {"train_share": 0.05} if "train_share" in values else {"train_images": 48}
    for stage in ("operation", "topology"):
        if values[stage]["epochs"]:
            warmup = min(1, values[stage]["warmup"])
            settings |= {f"{stage}.warmup": warmup, f"{stage}.epochs": warmup + epochs}
    return settings


@pytest.mark.engine(ENGINE)
@pytest.mark.parametrize("preset", preset_names("search"))
def test_a_preset_searches_a_valid_cell(preset, tmp_path):
    settings = small(preset)
    result = dots.search(preset, backend=ENGINE, settings=settings, out=tmp_path / "run", verbose=False)
    plan = plan_of(parse_config(SearchConfig, merged(preset_values("search", preset), nested(settings)), preset))
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["stage"] for row in rows] == [stage.name for stage in plan.stages for _ in range(stage.epochs)]
    assert all(0 <= row["validation_accuracy"] <= 1 for row in rows)
    # A genotype that is not valid cannot be read.
    assert load_genotype(tmp_path / "run" / "genotype.json") == result.genotype


@pytest.mark.engine(ENGINE)
@pytest.mark.parametrize("preset", preset_names("train"))
def test_a_preset_trains_a_cell(preset, tmp_path):
    settings = {
        "data": "digits",
        "image_size": None,
        "batch": 8,
        "train_images": 48,
        "test_images": 16,
        "channels": 2,
        "layers": 3,
        "epochs": 1,
        "weights.warmup_epochs": min(1, preset_values("train", preset)["weights"].get("warmup_epochs", 0)),
    }
    result = dots.train("DARTS_V2", preset, backend=ENGINE, settings=settings, out=tmp_path / "run", verbose=False)
    assert 0 <= result.accuracy <= 1
    assert (tmp_path / "run" / "last" / "weights.safetensors").exists()


@pytest.mark.engine("reference")
def test_exact_second_order_is_refused_before_anything_is_written(tmp_path):
    settings = {"operation.order": 2, "operation.hypergradient": "exact"}
    with pytest.raises(UsageError, match=r"set operation\.hypergradient .* to finite-difference"):
        dots.search("smoke", backend="reference", settings=settings, out=tmp_path / "run", verbose=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.release("v1", "snas", "gdas+dots", "fixed", "2")
@pytest.mark.engine(ENGINE)
@pytest.mark.parametrize(
    ("preset", "stop"),
    [
        # Of three steps an epoch, or two where images are cut in thirds or six where they are not cut.
        ("darts-v1-cifar10", 4),
        ("darts-v2-cifar10", 5),
        ("snas-cifar10", 8),
        ("gdas-cifar10", 4),
        ("gdas+dots", 8),
        ("dots-imagenet", 10),
        ("pc-darts-cifar10", 5),
        ("toponas-fixed-darts", 3),
        ("toponas-arbitrary-mile", 3),
        ("edarts-cifar10", 4),
        ("edarts-cifar10", 2),
    ],
)
def test_an_interrupted_search_ends_byte_equal(preset, stop, tmp_path, monkeypatch):
    """One of every sampling, level and order; a step in the middle of an epoch."""

    def search(name: str) -> None:
        dots.search(preset, backend=ENGINE, settings=small(preset, 2), out=tmp_path / name, resume=True, verbose=False)

    search("whole")
    drivers: list[Runner] = []

    def driver(*arguments: Any) -> Runner:
        drivers.append(Runner(*arguments))
        return drivers[-1]

    def stepped(self: NoProgress, stage: Any, phase: Any, progress: Any, *rest: Any) -> None:
        if len(drivers) == 1 and progress.global_step == stop:
            drivers[0].request_stop(143)

    monkeypatch.setattr(runs, "Runner", driver)
    monkeypatch.setattr(NoProgress, "stepped", stepped)
    with pytest.raises(Interrupted, match=f"stopped after step {stop},"):
        search("parted")
    assert not (tmp_path / "parted" / "genotype.json").exists()
    search("parted")
    whole, parted = contents(tmp_path / "whole"), contents(tmp_path / "parted")
    assert whole.keys() == parted.keys()
    assert [name for name in whole if whole[name] != parted[name]] == []
