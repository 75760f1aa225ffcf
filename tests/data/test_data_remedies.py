"""Every remedy that is named for archives and for the pixels of files is followed, and leads on."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dots_core.data import load
from dots_core.data.files import decoding, pixels
from dots_core.data.sources import folder
from dots_core.errors import DotsError, UsageError

CLASSES = "\n".join("abcdefghij").encode()


def records(count: int, seed: int) -> bytes:
    images = np.random.default_rng(seed).integers(0, 256, (count, 3073), dtype=np.uint8)
    images[:, 0] = np.arange(count) % 10
    return images.tobytes()


def cifar(**changes: bytes | None) -> dict[str, bytes]:
    files: dict[str, bytes | None] = {f"data_batch_{n}.bin": records(4, n) for n in range(1, 6)}
    files |= {"test_batch.bin": records(4, 6), "batches.meta.txt": CLASSES}
    files |= {
        name.replace("_bin", ".bin").replace("_txt", ".txt").replace("meta", ".meta"): content
        for name, content in changes.items()
    }
    return {name: content for name, content in files.items() if content is not None}


def packed(method: int = zipfile.ZIP_DEFLATED, twice: bool = False, encrypted: bool = False) -> Callable[[Path], Path]:
    def pack(root: Path) -> Path:
        path = root / "cifar.zip"
        with zipfile.ZipFile(path, "w", method) as archive:
            for name, content in cifar().items():
                archive.writestr(f"cifar/{name}", content)
            if twice:
                archive.writestr("again/test_batch.bin", records(4, 6))
        if encrypted:  # by what the headers say
            content = bytearray(path.read_bytes())
            content[6] |= 1
            content[content.index(b"PK\x01\x02") + 8] |= 1
            path.write_bytes(content)
        return path

    return pack


def unpacked(files: dict[str, bytes]) -> Callable[[Path], Path]:
    def write(root: Path) -> Path:
        shutil.rmtree(root / "cifar", ignore_errors=True)
        (root / "cifar").mkdir()
        for name, content in files.items():
            (root / "cifar" / name).write_bytes(content)
        return root / "cifar"

    return write


def images_in_archive(root: Path) -> Path:
    images_in_folder(root)
    return Path(shutil.make_archive(str(root / "images"), "zip", root / "images"))


def images_in_folder(root: Path) -> Path:
    for number, name in enumerate(("train/a/0", "train/b/0", "test/a/0", "test/b/0")):
        path = root / "images" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (8, 8), dtype=np.uint8)).save(path)
    return root / "images"


REMEDIES = {
    "a file is missing": (
        unpacked(cifar(data_batch_3_bin=None)),
        "without data_batch_3.bin; add the missing files",
        unpacked(cifar()),
    ),
    "too few names": (unpacked(cifar(batchesmeta_txt=b"a\nb\n")), "restore the original", unpacked(cifar())),
    "names repeated": (
        unpacked(cifar(batchesmeta_txt=CLASSES.replace(b"b", b"a"))),
        "a names more than one class; give each class a name of its own",
        unpacked(cifar()),
    ),
    "cut short": (unpacked(cifar(test_batch_bin=records(4, 6)[:-1])), "download the file again", unpacked(cifar())),
    "two files of a name": (packed(twice=True), "keep one of them in the archive", packed()),
    "compressed otherwise": (packed(zipfile.ZIP_LZMA), "pack it by the usual one, deflate", packed()),
    "encrypted": (packed(encrypted=True), "pack it without a password", packed()),
    "images in an archive": (images_in_archive, "unpack the archive if it holds an image folder", images_in_folder),
}


@pytest.mark.parametrize("case", REMEDIES)
def test_remedies_of_archives_lead_on(tmp_path: Path, case: str):
    wrong, words, right = REMEDIES[case]
    with pytest.raises(DotsError) as caught:
        load(wrong(tmp_path))
    assert words in str(caught.value)
    assert len(load(right(tmp_path)).test) > 0


def test_pixels_of_floating_point_can_be_saved_with_eight_bits(tmp_path: Path):
    root = images_in_folder(tmp_path)
    Image.fromarray(np.random.default_rng(0).random((8, 8)).astype(np.float32)).save(root / "train" / "a" / "1.tif")
    with pytest.raises(DotsError, match="save the image with 8 bits per channel"):
        load(root)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(root / "train" / "a" / "1.tif")
    assert len(load(root).train) == 3


@pytest.mark.parametrize("limit", [30, 200])
def test_an_image_of_too_many_pixels_can_be_scaled_down_or_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
):
    monkeypatch.setattr(pixels, "PIXEL_LIMIT", limit)
    root = images_in_folder(tmp_path)
    large = root / "train" / "a" / "1.png"
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(large)
    with pytest.raises(DotsError, match=r"(scale the image down or delete it|replace or delete them)$"):
        load(root, image_size=4)
    if limit == 200:
        for remedy in (lambda: Image.fromarray(np.zeros((8, 8), np.uint8)).save(large), large.unlink):
            remedy()
            assert load(root, image_size=4).shape == (1, 4, 4)


@pytest.mark.parametrize("limit", [1000, 100])
def test_all_images_together_can_be_made_smaller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int):
    monkeypatch.setattr(pixels, "BYTE_LIMIT", limit)
    root = images_in_folder(tmp_path)
    with pytest.raises(UsageError) as caught:
        load(root, image_size=100)
    side = int(str(caught.value).split("--set image_size=")[1])
    assert load(root, image_size=side).shape == (1, side, side)


def test_an_image_on_demand_can_be_made_smaller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(decoding, "PIXEL_LIMIT", 224 * 224)
    monkeypatch.setattr(folder, "IN_MEMORY_LIMIT", 0)
    root = images_in_folder(tmp_path)
    with pytest.raises(UsageError, match="--set image_size=224"):
        load(root, image_size=225)
    assert load(root, image_size=224).shape == (1, 224, 224)


def test_folders_beside_the_one_that_is_read_are_told(tmp_path: Path):
    root = unpacked(cifar())(tmp_path).rename(tmp_path / "cifar-10-batches-bin").parent
    (root / "cifar-10-batches-py").mkdir()
    (root / "more").mkdir()
    assert "cifar-10-batches-py/, more/ not used" in load(root).summary


def test_a_search_of_arrays_is_told_how_to_make_images_of_them(tmp_path: Path):
    import dots

    given: Any = np.random.default_rng(0).integers(0, 256, (4, 8, 8), dtype=np.uint8)
    with pytest.raises(UsageError, match=r"make images of arrays by dots\.from_arrays\(train_images"):
        dots.search(data=given, out=tmp_path / "run")
    assert len(dots.from_arrays(given, [0, 1, 0, 1], given, [0, 1, 0, 1]).train) == 4
