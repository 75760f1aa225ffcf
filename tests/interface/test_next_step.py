"""The training that a finished search proposes: on its images, at their size, with a preset that fits."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import dots
from dots.cli.main import app
from dots.config.schema import SearchConfig
from dots.run.next_step import training_after
from dots_core.data import from_arrays
from dots_core.engine.registry import choose_backend

SHORT = ["epochs=1", "train_images=16", "test_images=4", "batch=8", "channels=4", "layers=3"]


def images(side, count=120):
    pixels = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)
    labels = np.arange(count) % 2
    return from_arrays(pixels, labels, pixels[:20], labels[:20])


def after(side=32, count=120, **settings):
    """The proposal after a search with these settings, the engine one that is taken anyway."""
    settings.setdefault("backend", choose_backend(None).name)
    return str(training_after(SearchConfig(**settings), images(side, count), Path("runs/x")))


@pytest.mark.parametrize(
    ("settings", "command"),
    [
        ({"data": "digits"}, "dots train --cell runs/x --data digits --preset smoke"),
        ({"data": "digits", "image_size": 32, "side": 32},
         "dots train --cell runs/x --data digits --preset smoke --set image_size=32"),
        ({"data": "my images", "image_size": 32},
         "dots train --cell runs/x --data 'my images' --preset cifar --set image_size=32"),
        ({"data": "cifar.tar.gz", "backend": "reference"},
         "dots train --cell runs/x --data cifar.tar.gz --preset cifar --backend reference"),
        ({"data": "d", "stem": "imagenet", "image_size": 224, "side": 64, "count": 1200},
         "dots train --cell runs/x --data d --preset imagenet-mobile"),
        ({"data": "d", "stem": "imagenet", "side": 64, "batch": 100},
         "dots train --cell runs/x --data d --preset imagenet-mobile --set image_size=null --set batch=100"),
        ({"data": "d", "side": 16, "augmentation": {"flip": False}, "count": 60},
         "dots train --cell runs/x --data d --preset cifar --set augmentation.cutout=8 --set augmentation.crop=2 "
         "--set augmentation.flip=false --set batch=64"),
    ],
)  # fmt: skip
def test_it_fits_the_images(settings, command):
    if settings.get("backend") == choose_backend(None).name:
        command = command.replace(" --backend reference", "")
    assert after(**settings) == command


def test_paths_below_the_working_directory_are_short(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "--data images " in after(data=str(tmp_path / "images"))
    assert "--data /elsewhere/images " in after(data="/elsewhere/images")


TINY = {
    "channels": 2, "batch": 8, "train_images": 16, "space.nodes": 1, "operation.epochs": 1, "operation.warmup": 0,
    "operation.layers": 3, "topology.epochs": 0, "topology.warmup": 0,
}  # fmt: skip


@pytest.mark.any_engine
def test_what_is_proposed_runs(backend, tmp_path, monkeypatch):
    """The command after a search on a file of arrays, as printed but for settings that shorten it."""
    monkeypatch.chdir(tmp_path)
    data = images(16)
    arrays = {"train_images": data.train.images, "train_labels": data.train.labels}
    np.savez("my images.npz", **arrays, test_images=data.test.images, test_labels=data.test.labels)
    found = dots.search("dots-cifar10", backend=backend, data="my images.npz", settings=TINY, verbose=False)
    assert str(found).endswith(f"\ntrain it           {found.next_step}")
    command = shlex.split(found.next_step)
    assert command[:4] == ["dots", "train", "--cell", "runs/search-dots-cifar10-1"]
    assert {"my images.npz", "augmentation.cutout=8"} <= set(command)
    shorter = [part for value in SHORT for part in ("--set", value)]
    done = CliRunner().invoke(app, [*command[1:], *shorter, "--quiet"], catch_exceptions=False)
    assert done.exit_code == 0
    config = (tmp_path / done.stdout.strip() / "config.yaml").read_text()
    assert f"data: {tmp_path / 'my images.npz'}" in config


@pytest.mark.any_engine
def test_the_call_after_a_search_on_arrays_runs(backend, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = images(8)
    found = dots.search("dots-cifar10", backend=backend, data=data, settings=TINY, verbose=False)
    assert found.next_step.startswith("dots.train('runs/search-dots-cifar10-1', 'cifar', data=data")
    shorter = {key: int(value) for key, value in (text.split("=") for text in SHORT)}

    class Shortened:
        """`dots` with trainings that take a second."""

        @staticmethod
        def train(*given, settings, **others):
            return dots.train(*given, settings={**settings, **shorter}, verbose=False, **others)

    trained = eval(found.next_step, {"dots": Shortened, "data": data})
    assert trained.metrics["epoch"] == 1


def test_a_stem_of_a_package_is_that_of_the_training_too():
    config = SearchConfig(data="photos", backend=choose_backend(None).name).model_copy(update={"stem": "halving"})
    said = str(training_after(config, images(32), Path("runs/x")))
    assert said == "dots train --cell runs/x --data photos --preset cifar --set stem=halving"
