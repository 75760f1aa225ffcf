"""Pipes, devices and files larger than any image in place of files of images are refused, not waited for."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from dots_core.data import load
from dots_core.data.files.pixels import FILE_LIMIT, open_image
from dots_core.data.sources.arrays import load_npz
from dots_core.errors import CorruptFile, DotsError


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def sparse(path: Path) -> None:
    with open(path, "wb") as file:
        file.truncate(60 << 30)


@pytest.mark.parametrize("make", [pipe, device, sparse])
class TestNoFiles:
    def test_an_image(self, make, tmp_path):
        make(tmp_path / "a.png")
        with pytest.raises(CorruptFile, match=r"a\.png"):
            open_image(str(tmp_path / "a.png"))

    def test_an_image_among_others(self, make, tmp_path, write_images):
        noise = np.random.default_rng(0).integers(0, 255, (4, 8, 8, 3)).astype(np.uint8)
        names = [f"{split}/{name}/{n}.png" for split in ("train", "test") for name in ("ant", "bee") for n in "xy"]
        root = write_images({name: noise[n % 4] for n, name in enumerate(names)})
        make(root / "train" / "ant" / "z.png")
        try:
            data = load(root)
        except DotsError as error:
            assert "z.png" in str(error)  # noqa: PT017 (either is right)
        else:
            assert len(data.train) == 4
            assert "z.png" in data.summary

    def test_an_archive_of_arrays(self, make, tmp_path):
        make(tmp_path / "a.npz")
        with pytest.raises(CorruptFile, match=r"a\.npz"):
            load_npz(tmp_path / "a.npz")

    @pytest.mark.parametrize("name", ["cifar-10.tar.gz", "data_batch_1.bin"])
    def test_cifar(self, make, name, tmp_path):
        make(tmp_path / name)
        with pytest.raises(DotsError):
            load(tmp_path / name if name.endswith("gz") else tmp_path)


def test_the_limit_is_above_the_largest_image():
    assert FILE_LIMIT > 64_000_000 * 4 * 2
