"""What is too big is refused before it is built, and leaves nothing behind."""

from __future__ import annotations

import json

import pytest
from commands import refused, told

from dots.run import capacity
from dots_core import bounds
from dots_core.errors import UsageError
from dots_core.network.spec import NetworkSpec
from dots_core.search_space.cell import search_cell
from dots_core.search_space.genotype import Genotype

HUGE = [
    *(f"channels={10**power}" for power in (6, 7, 8, 9)),
    *("operation.layers=1000000", "topology.layers=1000000", "space.nodes=1000", "batch=1000000000"),
    *("operation.epochs=1000000000", "topology.epochs=1000000000", "image_size=1000000", "stem_multiplier=1000000"),
    *(
        "train_images=100000000000",
        "checkpoint_every=1e300",
        "augmentation.crop=1000000",
        "augmentation.cutout=10000000",
    ),
    *("weights.warmup_epochs=10000000", f"channels={'9' * 100_000}", f"channels=0x{'f' * 3000}", "seed=-1"),
]


@pytest.mark.parametrize("setting", HUGE, ids=lambda setting: setting[:30])
def test_numbers_beyond_what_can_be_meant_are_refused(setting, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = told(capsys, "search", "--backend", "reference", "--set", setting)
    refused(found, 2, setting.partition("=")[0])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("setting", ["channels=2048", "image_size=2048", "batch=512", "operation.layers=200"])
def test_what_does_not_fit_into_memory_is_refused_before_it_is_built(setting, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(capacity, "machine_memory", lambda: 64 << 20)
    found = told(capsys, "search", "--backend", "reference", "--set", setting, "--out", "run")
    refused(found, 2, "operation stage", "cpu has 0.1 GiB", "batch", "channels", "layers", "image_size")
    assert list(tmp_path.iterdir()) == []


def test_what_may_fit_is_not_refused(capsys, monkeypatch, tmp_path):
    """The limit is where it is certain: half as much again as there is."""
    from dots.run.api import Request, prepare

    prepared = prepare(Request("search", "smoke-reference", "reference", out=tmp_path / "run"))
    needed = max(
        capacity.memory_needed(prepared.plan, spec) for _, spec in capacity.networks(prepared.plan, 10, (1, 8, 8))
    )
    arguments = (prepared.plan, prepared.engine, 10, (1, 8, 8))
    monkeypatch.setattr(capacity, "machine_memory", lambda: int(needed / 1.49))
    capacity.check_fits(*arguments)
    monkeypatch.setattr(capacity, "machine_memory", lambda: int(needed / 1.51))
    with pytest.raises(UsageError, match="lower batch"):
        capacity.check_fits(*arguments)


def test_memory_of_the_machine_is_known():
    memory = capacity.machine_memory()
    assert memory is not None
    assert 1 << 26 < memory < 1 << 50


@pytest.mark.parametrize(
    "options",
    [
        ("--image-size", 0), ("--image-size", -3), ("--image-size", 10**9), ("--layers", 10**9), ("--layers", 0),
        ("--channels", 10**9), ("--channels", 0), ("--classes", 10**9), ("--classes", 1), ("--layers", "9" * 5000),
    ],
    ids=lambda options: f"{options[0]} {options[1]}"[:30],
)  # fmt: skip
def test_networks_that_cannot_be_meant_are_not_shown(options, capsys):
    refused(told(capsys, "show", "DARTS_V2", *options), 2)


def test_a_cell_of_a_thousand_nodes_is_refused(capsys, tmp_path):
    nodes = [[["skip_connect", 0], ["skip_connect", 1]]] * 1000
    record = {"format": "dots-genotype", "version": 1}
    record |= {"normal": nodes, "normal_concat": [2], "reduce": nodes, "reduce_concat": [2]}
    path = tmp_path / "genotype.json"
    path.write_text(json.dumps(record))
    refused(told(capsys, "show", path), 5, "1,000 nodes")
    refused(told(capsys, "train", "--cell", path, "--out", tmp_path / "run"), 5, "1,000 nodes")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["genotype.json"]
    with pytest.raises(UsageError, match="1,000 nodes"):
        Genotype.from_record(record)


def test_the_largest_that_is_allowed_is_described():
    cell = search_cell(bounds.SEARCHED_NODES)
    NetworkSpec(cell, cell, bounds.LAYERS, bounds.CHANNELS, bounds.CLASSES, (3, bounds.SIDE, bounds.SIDE))
    for wrong in (
        (bounds.LAYERS + 1, 2, 2, (3, 8, 8)),
        (3, bounds.CHANNELS + 2, 2, (3, 8, 8)),
        (3, 2, bounds.CLASSES + 1, (3, 8, 8)),
        (3, 2, 2, (3, 8, bounds.SIDE + 1)),
    ):
        with pytest.raises(UsageError, match="beyond what can be meant"):
            NetworkSpec(cell, cell, *wrong)
    with pytest.raises(UsageError, match="beyond what can be meant"):
        search_cell(bounds.SEARCHED_NODES + 1)
