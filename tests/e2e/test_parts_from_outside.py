"""Parts of another package: searched together on every engine, repeated, under conformance, refused without it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from command import contents, dots, settings

sys.path.insert(0, str(Path(__file__).parents[1]))
from out_of_tree import install

AHEAD = '''
"""Architecture weights learn at w one step ahead, and from the images that other levels give w."""

from dataclasses import dataclass
from typing import ClassVar

from dots_core.plan.gradients import Gradient
from dots_core.plan.levels import Level
from dots_core.plan.plan import Update


@dataclass(frozen=True)
class Ahead(Gradient):
    factor: float

    perturbs_weights: ClassVar[bool] = True

    def accumulate(self, network, groups, training, own, rate, temperature):
        network.accumulate_gradients(("w",), training, temperature)
        network.virtual_step(rate)
        network.accumulate_gradients(groups, own, temperature, self.factor)
        network.restore_weights()
        return [False, True]


class AheadLevel(Level):
    name = "ahead"
    about = "the first term of DARTS eq. 7, w on the other half"
    settings = ("once_at", "validation_weight")

    def updates(self, step, architecture):
        gradient = Ahead(step.validation_weight)
        searched = Update(architecture, "half-a", gradient=gradient, once_at=step.once_at)
        return searched, Update(("w",), "half-b")


level = AheadLevel()
'''

NORMAL = '''
"""The operation of the largest α′ with normal noise, evaluated alone."""

import numpy as np

from dots_core.search_space.mixing import Sampling


class Normal(Sampling):
    name = "normal"
    about = "a normal number is added to α′, by Box and Muller, and one operation of each group evaluated"
    chooses = True

    def noise(self, uniform):
        radius = np.sqrt(-2 * np.log(1 - uniform))
        return radius * np.cos(2 * np.pi * np.roll(uniform, 1, axis=0))


sampling = Normal()
'''

HALVING = '''
"""A stem of half the size."""

from dots_core.search_space.layers import Convolution, Norm, ReLU
from dots_core.network.stems import Stem


class Halving(Stem):
    name = "halving"
    about = "two 3×3 convolutions, the first of stride 2"

    def layers(self, colours, channels, multiplier):
        width = channels * multiplier
        first = Convolution("stem.conv1", colours, channels, 3, 2, 1), Norm("stem.norm1", channels, True), ReLU()
        return ((*first, Convolution("stem.conv2", channels, width, 3, 1, 1), Norm("stem.norm2", width, True)),)


stem = Halving()
'''

SCHEDULES = '''
"""A temperature and a learning rate that fall in steps."""

from dataclasses import dataclass

from dots_core.plan.schedules import RateSchedule, Schedule, TemperatureSchedule


@dataclass(frozen=True)
class Steps(Schedule):
    start: float
    factor: float

    def at(self, epoch, epochs):
        return self.start * self.factor**epoch


class Temperature(TemperatureSchedule):
    name = "steps"
    about = "start·rate^t"

    def schedule(self, start, rate, end):
        return Steps(start, rate)

    def stays_positive(self, start, rate, end):
        return rate > 0


class Rate(RateSchedule):
    name = "steps"
    about = "half of it in every epoch"

    def schedule(self, start, end):
        return Steps(start, 0.5)


temperature, rate = Temperature(), Rate()
'''

PARTS = [
    ("ahead", AHEAD, "dots.levels", "level"),
    ("normal", NORMAL, "dots.samplings", "sampling"),
    ("halving", HALVING, "dots.stems", "stem"),
    ("steps", SCHEDULES, "dots.temperatures", "temperature"),
    ("halves", SCHEDULES, "dots.rates", "rate"),
]

SMALL = [
    "train_images=48", "test_images=40", "batch=16", "channels=2", "space.nodes=2", "operation.epochs=2",
    "operation.warmup=1", "operation.layers=3", "topology.epochs=1", "topology.warmup=0", "topology.layers=3",
    "operation.level=ahead", "topology.level=ahead", "operation.validation_weight=0.5", "operation.sampling=normal",
    "stem=halving", "weights.schedule=steps", "operation.temperature.schedule=steps",
    "topology.temperature.schedule=steps",
]  # fmt: skip


@pytest.fixture
def package(tmp_path):
    """The environment in which they are installed."""
    return [install(tmp_path / "site", *part) for part in PARTS][-1]


def run(*arguments, more, code=0):
    done = dots(*arguments, more=more, timeout=600)
    assert done.returncode == code, done.stderr
    return done


def test_they_are_searched_and_repeated(backend, package, tmp_path):
    asked = ["search", "--backend", backend, "--preset", "smoke", *settings(SMALL)]
    run(*asked, "--out", tmp_path / "run", more=package)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert rows[0]["validation_split"] == "half-a"
    assert "architecture_loss" in rows[1]
    assert [row["learning_rate"] / rows[0]["learning_rate"] for row in rows] == [1, 0.5, 0.25]
    again = ["search", "--backend", backend, "--preset", tmp_path / "run" / "config.yaml"]
    run(*again, "--out", tmp_path / "again", more=package)
    first, second = contents(tmp_path / "run"), contents(tmp_path / "again")
    assert [name for name in first if first[name] != second.get(name) and not name.startswith("report")] == []
    gone = run("search", "--out", tmp_path / "run", "--resume", more={}, code=5)
    assert ", or what an installed package adds, not '" in gone.stderr


def test_conformance_has_cases_of_them(backend, package):
    cases = [
        part
        for case in ("steps/levels/ahead-level/*", "networks/sampling/normal/group-v2", "networks/stem/halving-odd")
        for part in ("--cases", case)
    ]
    done = run("conformance", "--backends", backend, *cases, more=package)
    assert "pass" in done.stdout


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("operation.joint=true", "operation.joint is true, updates of several levels applied together, but "),
        ("operation.order=2", "set operation.level=bi, or operation.order=1"),
    ],
)
def test_settings_that_a_level_does_not_take_are_refused(setting, said, package, tmp_path):
    asked = [*settings([*SMALL, setting]), "--out", tmp_path / "run"]
    done = run("search", "--backend", "reference", "--preset", "smoke", *asked, more=package, code=2)
    assert said in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_gradient_that_tells_of_other_losses_than_it_left_is_refused(tmp_path):
    source = AHEAD.replace("[False, True]", "[False, True, False]")
    more = install(tmp_path / "site", "ahead", source, "dots.levels", "level")
    small = [each for each in SMALL if not each.startswith(("stem=", "weights.")) and "=steps" not in each]
    small = [*(each for each in small if "sampling" not in each), "operation.warmup=0"]
    asked = [*settings(small), "--out", tmp_path / "run"]
    done = run("search", "--backend", "reference", "--preset", "smoke", *asked, more=more, code=2)
    assert (
        "the gradients of operation/search tell of 4 losses, and left 3; mend the package of the level" in done.stderr
    )
