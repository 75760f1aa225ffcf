"""Operations of another package: searched, derived, reported, counted, drawn, trained, and under conformance.

Not a line of this project knows of them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from command import command, contents, environment, settings

sys.path.insert(0, str(Path(__file__).parents[1]))
from out_of_tree import install

SEPARABLE = '''
"""A wider separable convolution."""

from dots_core.search_space.operations.darts import SeparableConvolution

operation = SeparableConvolution(7)
'''

BOTTLENECK = '''
"""A convolution of a quarter of the channels; no batch norm ends it."""

from dots_core.search_space.layers import Convolution, Norm, ReLU
from dots_core.search_space.operations import Operation


class Bottleneck(Operation):
    name = "bottleneck"
    about = "1×1 convolution to a quarter of the channels, 3×3, and 1×1 back"
    family = "bottleneck"
    spellings = ("bneck",)

    def layers(self, name, channels, stride, affine, pool_norm):
        few = max(1, channels // 4)
        return (
            Convolution(f"{name}.reduce", channels, few, 1, stride),
            Norm(f"{name}.norm", few, affine),
            ReLU(),
            Convolution(f"{name}.spatial", few, few, 3, 1, 1),
            ReLU(),
            Convolution(f"{name}.expand", few, channels, 1),
        )


operation = Bottleneck()
'''

RECTIFIED = '''
"""A pool of what is positive: without weights, one result for all edges out of a node."""

from dots_core.search_space.layers import Pool, ReLU
from dots_core.search_space.operations import Operation


class RectifiedPool(Operation):
    name = "rectified_pool"
    about = "ReLU, 3×3 average pooling"
    family = "pool"

    def layers(self, name, channels, stride, affine, pool_norm):
        return ReLU(), Pool("avg", stride)


operation = RectifiedPool()
'''

CANDIDATES = "space.operations=[bottleneck, sep_conv_7x7, skip_connect, none]"
SMALL = [
    "train_images=48", "test_images=40", "batch=16", "channels=2", "space.nodes=2", "operation.epochs=1",
    "operation.warmup=0", "operation.layers=3", "topology.epochs=1", "topology.warmup=0", "topology.layers=3",
    CANDIDATES, "space.groups=single",
]  # fmt: skip

CELL = (
    "Genotype(normal=[('bneck', 0), ('sep_conv_7x7', 1)], normal_concat=[2], "
    "reduce=[('bottleneck', 0), ('skip_connect', 1)], reduce_concat=[2])"
)


@pytest.fixture
def package(tmp_path):
    """The environment in which all are installed."""
    site = tmp_path / "site"
    install(site, "sep_conv_7x7", SEPARABLE, "dots.operations", "operation")
    install(site, "rectified_pool", RECTIFIED, "dots.operations", "operation")
    return install(site, "bottleneck", BOTTLENECK, "dots.operations", "operation")


def run(*arguments, more, code=0):
    line = command(*arguments)
    done = subprocess.run(line, env={**environment(), **more}, text=True, capture_output=True, timeout=1200)
    assert done.returncode == code, done.stderr
    return done


def test_they_are_searched_derived_and_reported(backend, package, tmp_path):
    asked = ["search", "--backend", backend, "--preset", "smoke", *settings(SMALL)]
    run(*asked, "--out", tmp_path / "run", more=package)
    rows = [json.loads(line) for line in (tmp_path / "run" / "architecture.jsonl").read_text().splitlines()]
    first, last = rows[0], rows[-1]
    assert list(first["alpha"]["normal"]["0-2"]) == ["none", "skip_connect", "bottleneck", "sep_conv_7x7"]
    genotype = json.loads((tmp_path / "run" / "genotype.json").read_text())
    chosen = {d["place"]: d["chosen"] for d in last["decisions"] if (d["cell"], d["by"]) == ("normal", "alpha")}
    derived = {f"{s}-{node}": o for node, edges in enumerate(genotype["normal"], start=2) for o, s in edges}
    assert chosen.items() <= derived.items()
    report = (tmp_path / "run" / "report.html").read_text()
    assert "bottleneck" in report
    assert "sep_conv_7x7" in report
    before = contents(tmp_path / "run")
    missing = run("report", tmp_path / "run", more={}, code=5).stderr
    assert "if 'bottleneck' is of a package, install it" in missing
    run("report", tmp_path / "run", more=package)
    assert contents(tmp_path / "run") == before


def test_a_cell_of_them_is_counted_drawn_and_trained(backend, package, tmp_path):
    (tmp_path / "cell.txt").write_text(CELL)
    shape = ["--layers", "1", "--channels", "8", "--classes", "10"]
    picture = tmp_path / "cell.svg"
    said = run("show", tmp_path / "cell.txt", *shape, "--picture", picture, "--json", more=package).stdout
    assert "bottleneck" in picture.read_text()
    c, few = 8, 2
    # Batch norms have 2 weights a channel; the stem has 3·C channels.
    stem, head = 3 * 3 * 9 * c + 2 * 3 * c, 10 * c + 10
    inputs = 2 * (3 * c * c + 2 * c)
    bottleneck = c * few + 2 * few + 9 * few * few + few * c
    separable = 2 * (49 * c + c * c + 2 * c)
    assert json.loads(said)["params"] == stem + inputs + bottleneck + separable + head
    tiny = settings(["train_images=48", "test_images=40", "batch=16", "channels=4", "epochs=1", "layers=2"])
    asked = ["train", "--backend", backend, "--preset", "smoke", "--cell", tmp_path / "cell.txt", *tiny]
    run(*asked, "--out", tmp_path / "trained", more=package)
    assert (tmp_path / "trained" / "best" / "weights.safetensors").is_file()


def test_conformance_has_cases_of_them(backend, package):
    names = ("bottleneck", "sep_conv_7x7", "rectified_pool")
    cases = [case for name in names for case in (f"networks/operation/{name}/*", f"operations/{name}-*x9")]
    asked = ["conformance", "--backends", backend, *(part for case in cases for part in ("--cases", case))]
    done = run(*asked, more=package)
    assert "pass" in done.stdout


def test_a_grouping_without_a_place_for_one_is_refused_with_groups_that_have(package, tmp_path):
    small = [each for each in SMALL if "space.groups" not in each]
    asked = ["search", "--backend", "reference", "--preset", "smoke", *settings(small), "--dry-run"]
    refused = run(*asked, *settings(["space.groups=group-v1"]), more=package, code=2).stderr
    assert "the grouping 'group-v1' has no place for 'bottleneck', of the family 'bottleneck'" in refused
    groups = refused[refused.index("[[") : refused.index("]]") + 2]
    assert groups == "[[skip_connect], [sep_conv_7x7], [bottleneck]]"
    run(*asked, *settings([f"space.groups={groups}"]), more=package)


def test_without_the_package_they_are_unknown(tmp_path):
    done = run("search", *settings([CANDIDATES]), "--out", tmp_path / "run", more={}, code=2)
    assert "space.operations: unknown operation 'bottleneck'" in done.stderr
    assert not (tmp_path / "run").exists()
