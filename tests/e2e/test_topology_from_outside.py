"""A topology space of another package: searched on every engine, derived, pictured, and under conformance."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from command import contents, dots, settings

sys.path.insert(0, str(Path(__file__).parents[1]))
from out_of_tree import install

UP_TO_TWO = '''
"""Every node hears one node before it, or two."""

from dots_core.search_space.topology import Combinations


class UpToTwo(Combinations):
    name = "up-to-two"
    about = "all subsets of one or two edges of a node"
    sides = ("input",)

    def sizes(self, topology, competing, last):
        return range(1, min(2, competing) + 1)


space = UpToTwo()
'''

SMALL = [
    "train_images=48", "test_images=40", "batch=16", "channels=2", "space.nodes=2", "operation.epochs=1",
    "operation.warmup=0", "operation.layers=3", "topology.epochs=1", "topology.warmup=0", "topology.layers=3",
    "topology.space=up-to-two",
]  # fmt: skip


@pytest.fixture
def package(tmp_path):
    """The environment in which it is installed."""
    return install(tmp_path / "site", "up_to_two", UP_TO_TWO, "dots.topologies", "space")


def run(*arguments, more, code=0):
    done = dots(*arguments, more=more, timeout=600)
    assert done.returncode == code, done.stderr
    return done


def test_it_is_searched_derived_and_reported(backend, package, tmp_path):
    asked = ["search", "--backend", backend, "--preset", "smoke", *settings(SMALL)]
    run(*asked, "--out", tmp_path / "run", more=package)
    last = json.loads((tmp_path / "run" / "architecture.jsonl").read_text().splitlines()[-1])
    assert set(last["beta"]["normal"]["3"]) == {"0", "1", "2", "0,1", "0,2", "1,2"}
    genotype = json.loads((tmp_path / "run" / "genotype.json").read_text())
    chosen = {d["place"]: d["chosen"] for d in last["decisions"] if (d["cell"], d["by"]) == ("normal", "beta")}
    assert [",".join(str(source) for _, source in node) for node in genotype["normal"]] == [chosen["2"], chosen["3"]]
    assert "up-to-two" in (tmp_path / "run" / "report.html").read_text()
    before = contents(tmp_path / "run")
    run("report", tmp_path / "run", more=package)
    assert contents(tmp_path / "run") == before


def test_conformance_has_cases_of_it(backend, package):
    done = run("conformance", "--backends", backend, "--cases", "networks/topology/up-to-two/*", more=package)
    assert "pass" in done.stdout


def test_without_the_package_it_is_unknown(tmp_path):
    done = run("search", *settings(SMALL), "--out", tmp_path / "run", more={}, code=2)
    assert "topology.space" in done.stderr
    assert "'k-edges'" in done.stderr
    assert not (tmp_path / "run").exists()
