"""A run's page for every sort of topology: what competes is named, on real runs."""

from __future__ import annotations

import pytest

import dots

SETTINGS = {
    "train_images": 64,
    "test_images": 16,
    "batch": 16,
    "channels": 2,
    "space.nodes": 2,
    "operation.epochs": 1,
    "operation.warmup": 0,
    "topology.epochs": 0,
    "architecture.initial_scale": 0.1,
}


@pytest.mark.engine("reference")
@pytest.mark.parametrize(
    ("space", "side", "named"),
    [
        ("k-edges", "input", "edges into"),
        ("arbitrary", "output", "edges out of"),
        ("edge-softmax", "input", "edges into"),
        ("edge-sigmoid", "input", "kept"),
        ("fixed", "input", "operation on"),
    ],
)
def test_the_page_names_what_competes(space, side, named, tmp_path):
    settings = {**SETTINGS, "operation.edges.space": space, "operation.edges.side": side}
    result = dots.search("smoke", backend="reference", settings=settings, out=tmp_path / "run", verbose=False)
    page = result.report.read_text("utf-8")
    decisions = page[page.index('id="decisions"') :]
    assert named in decisions
    assert ("Edge-combination weights" in page) is (space != "fixed")


@pytest.mark.engine("reference")
def test_a_repaired_cell_is_told(tmp_path):
    """Nodes 0 and 1 choose one of their output edges each; often both choose the same node."""
    settings = {
        **SETTINGS,
        "space.nodes": 3,
        "operation.edges.space": "k-edges",
        "operation.edges.side": "output",
        "operation.edges.edges_per_node": 1,
    }
    told = []
    for seed in range(4):
        out = tmp_path / f"run-{seed}"
        result = dots.search("smoke", backend="reference", seed=seed, settings=settings, out=out, verbose=False)
        repaired = [warning for warning in result.warnings if "was repaired" in warning]
        told.append(bool(repaired))
        assert bool(repaired) is ("repairs" in result.metrics)
        assert all(result.genotype.normal)
        assert all(result.genotype.reduce)
        if repaired:
            assert "repaired" in result.report.read_text("utf-8")
    assert any(told)
