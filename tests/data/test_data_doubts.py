"""Images that are what they should be by form, but show next to nothing, whatever they are read from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dots_core.data import ImageData, from_arrays, load
from dots_core.data.sources import folder as folder_module

DIM = "images have values {} to {} only, of 0 to 255; scale them"


def noise(*shape: int, most: int = 256, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, most, shape, dtype=np.uint8)


def in_folder(root: Path, train: np.ndarray, test: np.ndarray) -> ImageData:
    for part, images in (("train", train), ("test", test)):
        for number, image in enumerate(images):
            target = root / part / "ab"[number % 2] / f"{number}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(target)
    return load(root)


def in_arrays(root: Path, train: np.ndarray, test: np.ndarray) -> ImageData:
    return from_arrays(train, np.arange(len(train)) % 2, test, np.arange(len(test)) % 2)


def in_cifar(root: Path, train: np.ndarray, test: np.ndarray) -> ImageData:
    def records(images: np.ndarray) -> bytes:
        rows = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
        return np.concatenate([(np.arange(len(rows), dtype=np.uint8) % 10)[:, None], rows], axis=1).tobytes()

    root.mkdir()
    for number, part in enumerate(np.array_split(train, 5), start=1):
        (root / f"data_batch_{number}.bin").write_bytes(records(part))
    (root / "test_batch.bin").write_bytes(records(test))
    return load(root)


ORIGINS = {"folder": in_folder, "arrays": in_arrays, "cifar": in_cifar}


@pytest.mark.parametrize("dim", ["train", "test"])
@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("on_demand", [False, True])
@pytest.mark.parametrize("most", [2, 16, 64])
def test_splits_that_use_little_of_the_range_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, origin: str, dim: str, on_demand: bool, most: int
):
    if on_demand:
        monkeypatch.setattr(folder_module, "IN_MEMORY_LIMIT", 0)
    images = {"train": noise(20, 32, 32, 3), "test": noise(10, 32, 32, 3, seed=1)}
    images[dim] = images[dim] % most
    found = ORIGINS[origin](tmp_path / "images", images["train"], images["test"])
    told = [warning for warning in found.warnings if "images have values" in warning]
    assert told == [f"the {dim} " + DIM.format(0, most - 1)]
    assert not any("all but of one colour" in warning for warning in found.warnings)


def names_of(origin: str) -> Callable[[str, int], str]:
    if origin == "folder":
        return lambda part, number: f"{part}/{'ab'[number % 2]}/{number}.png"
    return lambda part, number: f"{part} image {number}"


@pytest.mark.parametrize("origin", ORIGINS)
def test_images_all_but_of_one_colour_are_named(tmp_path: Path, origin: str):
    train, test = noise(20, 32, 32, 3), noise(10, 32, 32, 3, seed=1)
    train[3] //= 255
    train[4] = train[4] % 8 + np.array([9, 100, 240], np.uint8)
    test[7] = test[7] % 8 + 90
    train[5] = train[5] % 9
    found = ORIGINS[origin](tmp_path / "images", train, test)
    name = names_of(origin)
    told = [warning for warning in found.warnings if "all but of one colour" in warning]
    assert len(told) == 2
    for places, sentence in zip(([("train", 3), ("train", 4)], [("test", 7)]), told, strict=True):
        assert f"{len(places)} ({', '.join(sorted(name(*place) for place in places))})" in sentence


@pytest.mark.parametrize(
    "values", [lambda x: x / 255 > 0.5, lambda x: (x / 255).astype(np.float32), lambda x: x.astype(np.int64)]
)
def test_images_that_use_the_range_are_not_doubted(values: Any):
    images = noise(20, 8, 8, 1)
    assert from_arrays(values(images), np.arange(20) % 2, values(images), np.arange(20) % 2).warnings == ()
