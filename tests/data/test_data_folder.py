from __future__ import annotations

import os
import re
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dots_core.data import load
from dots_core.data.files import decoding as files_module
from dots_core.data.files import pixels
from dots_core.data.files import threads as threads_module
from dots_core.data.sources import folder as folder_module
from dots_core.data.sources.folder import load_folder
from dots_core.errors import CorruptFile, DataMissing, UsageError

Write = Callable[..., Path]


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def four(suffix: str = "png", pixels: np.ndarray | None = None) -> dict[str, np.ndarray]:
    names = ("train/cat/a", "train/dog/b", "test/cat/c", "test/dog/d")
    return {
        f"{name}.{suffix}": noise(6, 5, 3, seed=seed) if pixels is None else pixels for seed, name in enumerate(names)
    }


def test_pixels_labels_and_classes_arrive_in_the_order_of_names(write_images: Write):
    files = {
        "train/dog/z.png": noise(6, 5, 3, seed=1),
        "train/cat/b.png": noise(6, 5, 3, seed=2),
        "train/cat/a.PNG": noise(6, 5, 3, seed=3),
        "test/dog/x.bmp": noise(6, 5, 3, seed=4),
        "test/cat/y.ppm": noise(6, 5, 3, seed=5),
    }
    root = write_images(files)
    found = load(root)
    assert found.classes == ("cat", "dog")
    assert found.name == "pictures"
    assert found.origin == str(root)
    assert found.shape == (3, 6, 5)
    np.testing.assert_array_equal(found.train.labels, [0, 0, 1])
    np.testing.assert_array_equal(found.test.labels, [0, 1])
    for image, name in zip(found.train.images, ("train/cat/a.PNG", "train/cat/b.png", "train/dog/z.png"), strict=True):
        np.testing.assert_array_equal(image, files[name])
    np.testing.assert_array_equal(found.test.images[1], files["test/dog/x.bmp"])


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "webp"])
def test_lossy_formats_decode_as_pillow_decodes_them(write_images: Write, suffix: str):
    root = write_images(four(suffix))
    expected = np.asarray(Image.open(root / f"train/dog/b.{suffix}").convert("RGB"))
    np.testing.assert_array_equal(load(root).train.images[1], expected)


@pytest.mark.parametrize("name", ["val", "validation"])
def test_validation_folder_stands_in_for_test(write_images: Write, name: str):
    root = write_images(four())
    (root / "test").rename(root / name)
    assert len(load(root).test) == 2


def test_test_folder_is_preferred_to_validation(write_images: Write):
    root = write_images({**four(), "val/cat/e.png": noise(6, 5, 3), "val/cow/e.png": noise(6, 5, 3)})
    assert load(root).classes == ("cat", "dog")


def test_hidden_names_and_other_files_are_passed_over(write_images: Write):
    root = write_images({**four(), "train/.cache/x.png": noise(9, 9, 3), "train/cat/.hidden.png": noise(9, 9, 3)})
    (root / "train" / "cat" / "notes.txt").write_text("no image")
    assert len(load(root).train) == 2


def test_all_grey_files_give_one_channel(write_images: Write):
    grey = noise(6, 5)
    found = load(write_images(four(pixels=grey)))
    assert found.shape == (1, 6, 5)
    np.testing.assert_array_equal(found.train.images[0, ..., 0], grey)


@pytest.mark.parametrize("colour", ["train/cat/a.png", "train/dog/b.png", "test/dog/d.png"])
def test_one_colour_file_anywhere_gives_three_channels(write_images: Write, colour: str):
    grey, coloured = noise(6, 5), noise(6, 5, 3)
    found = load(write_images({**four(pixels=grey), colour: coloured}))
    assert found.shape == (3, 6, 5)
    every = np.concatenate([found.train.images, found.test.images])
    assert sum(np.array_equal(image, coloured) for image in every) == 1
    assert sum(np.array_equal(image, np.repeat(grey[..., None], 3, 2)) for image in every) == 3


def test_channels_can_be_demanded(write_images: Write):
    root = write_images(four())
    found = load_folder(root, channels=1)
    expected = np.asarray(Image.open(root / "train/cat/a.png").convert("L"))
    np.testing.assert_array_equal(found.train.images[0, ..., 0], expected)
    with pytest.raises(UsageError, match="channels is 2"):
        load_folder(root, channels=2)


def test_sixteen_bit_grey_keeps_its_upper_bits(write_images: Write):
    wide = np.random.default_rng(0).integers(0, 65536, (6, 5), dtype=np.uint16)
    found = load(write_images(four(pixels=wide)))
    np.testing.assert_array_equal(found.train.images[0, ..., 0], wide >> 8)


def test_transparency_and_palettes_become_colour(write_images: Write):
    root = write_images(four())
    Image.fromarray(noise(6, 5, 4, seed=9)).save(root / "train/cat/a.png")
    Image.fromarray(noise(6, 5, 3, seed=8)).quantize(4).save(root / "train/dog/b.png")
    found = load(root)
    np.testing.assert_array_equal(found.train.images[0], noise(6, 5, 4, seed=9)[..., :3])
    np.testing.assert_array_equal(
        found.train.images[1], np.asarray(Image.open(root / "train/dog/b.png").convert("RGB"))
    )


def test_floating_point_pixels_are_refused(write_images: Write):
    root = write_images(four())
    Image.fromarray(np.ones((6, 5), np.float32)).save(root / "train/cat/a.tif")
    with pytest.raises(DataMissing, match=r"a\.tif.*floating-point"):
        load_folder(root, channels=1)


def test_image_size_makes_central_squares_of_any_sizes(write_images: Write):
    wide, tall = noise(8, 24, 3), noise(24, 8, 3, seed=1)
    found = load(
        write_images({**four(), "train/cat/a.png": wide, "train/dog/b.png": tall, "test/cat/c.png": noise(4, 4, 3)}),
        image_size=4,
    )
    assert found.shape == (3, 4, 4)
    whole_wide = np.asarray(Image.fromarray(wide).resize((12, 4), Image.Resampling.BICUBIC))
    whole_tall = np.asarray(Image.fromarray(tall).resize((4, 12), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(found.train.images[0], whole_wide[:, 4:8])
    np.testing.assert_array_equal(found.train.images[1], whole_tall[4:8])
    np.testing.assert_array_equal(found.test.images[0], noise(4, 4, 3))


def test_resizing_is_bicubic(write_images: Write):
    square = noise(12, 12, 3)
    found = load(write_images(four(pixels=square)), image_size=6)
    expected = np.asarray(Image.fromarray(square).resize((6, 6), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(found.train.images[0], expected)


def test_long_thin_image_is_not_blown_up(write_images: Write):
    found = load(write_images(four(pixels=noise(1, 60000, 3))), image_size=64)
    assert found.shape == (3, 64, 64)


@pytest.mark.parametrize("size", [0, 3, -1, True, 2.5])
def test_impossible_image_size_is_refused(write_images: Write, size: int):
    with pytest.raises(UsageError, match=r"image_size"):
        load(write_images(four()), image_size=size)


def test_two_sizes_without_image_size_name_both_files(write_images: Write):
    root = write_images({**four(), "test/cat/c.png": noise(7, 9, 3)})
    with pytest.raises(DataMissing) as caught:
        load(root)
    message = str(caught.value)
    assert f"{root}/test/cat/c.png is 9x7" in message
    assert f"{root}/train/cat/a.png is 5x6" in message
    assert "--set image_size=32" in message
    assert load(root, image_size=8).shape == (3, 8, 8)


def test_single_pixel_images_are_refused(write_images: Write):
    with pytest.raises(DataMissing, match="at least 4"):
        load(write_images(four(pixels=noise(1, 1, 3))))


def test_threads_and_no_threads_give_the_same(write_images: Write, monkeypatch: pytest.MonkeyPatch):
    root = write_images(
        {f"{part}/{'cd'[i // 9]}/{i:03}.png": noise(6, 5, 3, seed=i) for part in ("train", "test") for i in range(18)}
    )
    monkeypatch.setattr(files_module, "_FILES_PER_TASK", 2)
    monkeypatch.setattr(threads_module, "workers", lambda: 3)
    alone = load(root)
    monkeypatch.setattr(folder_module, "_PIXELS_WORTH_THREADS", 1)
    assert load(root).fingerprint == alone.fingerprint
    np.testing.assert_array_equal(alone.train.images[8], noise(6, 5, 3, seed=8))

    for name in ("003", "006"):
        (root / f"train/c/{name}.png").write_bytes(b"damage")
    with pytest.raises(CorruptFile, match=r"003\.png"):
        load(root)


def remove(name: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        shutil.rmtree(root / name)

    return change


def move(name: str, to: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        (root / name).rename(root / to)

    return change


def empty(name: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        shutil.rmtree(root / name)
        (root / name).mkdir()

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (remove("test"), "no folder 'test' (nor 'val' nor 'validation')"),
        (remove("train"), "no folder 'train' beside test"),
        (empty("train"), "/train: no class folders"),
        (empty("test"), "test/ has no class folders"),
        (empty("train/dog"), "/train: only one class folder with images (folder train/dog without), 'cat'"),
        (remove("train/cat"), "/train: only one class folder, 'dog'"),
        (move("test/dog", "test/cow"), "test/ has folder cow, which is no class of train images"),
    ],
)
def test_incomplete_folders_are_refused(write_images: Write, change: Callable[[Path], None], message: str):
    root = write_images(four())
    change(root)
    with pytest.raises(DataMissing, match=re.escape(message)) as caught:
        load(root)
    assert str(root) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_many_differing_classes_are_counted(write_images: Write):
    extra = {f"test/more{i}/x.png": noise(6, 5, 3) for i in range(8)}
    with pytest.raises(DataMissing, match="more0, more1, more2, more3, more4 and 3 more"):
        load(write_images({**four(), **extra}))


def test_missing_train_folder_is_reported(tmp_path: Path):
    (tmp_path / "test" / "cat").mkdir(parents=True)
    with pytest.raises(DataMissing, match="no folder 'train' beside test"):
        load_folder(tmp_path)


def test_truncated_and_foreign_files_are_corrupt(write_images: Write):
    root = write_images(four("jpg", noise(64, 64, 3)))
    target = root / "train/dog/b.jpg"
    whole = target.read_bytes()
    target.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorruptFile, match=re.escape(str(target))):
        load(root)
    target.write_bytes(b"")
    with pytest.raises(CorruptFile, match="not recognised"):
        load(root)


def test_formats_that_start_programs_are_not_decoded(write_images: Write):
    root = write_images(four())
    Image.fromarray(noise(6, 5, 3)).save(root / "eps", format="EPS")
    shutil.move(root / "eps", root / "train/cat/a.png")
    with pytest.raises(CorruptFile, match="not recognised"):
        load(root)


def test_link_to_an_image_is_followed_and_a_dangling_one_reported(write_images: Write):
    root = write_images(four())
    os.symlink(root / "train/cat/a.png", root / "train/cat/link.png")
    assert len(load(root).train) == 3
    os.symlink(root / "nowhere.png", root / "train/cat/z.png")
    with pytest.raises(DataMissing, match=r"z\.png: cannot be read"):
        load(root)


def test_too_many_pixels_are_refused_from_the_header(write_images: Write, monkeypatch: pytest.MonkeyPatch):
    root = write_images(four())
    monkeypatch.setattr(pixels, "PIXEL_LIMIT", 29)
    monkeypatch.setattr(files_module, "decode", lambda *_: pytest.fail("decoded in spite of its size"))
    with pytest.raises(CorruptFile, match=r"a\.png: 30 pixels, over the limit of 29"):
        load(root)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(("side", "message"), [(9000, "81000000 pixels"), (20000, "far more pixels")])
def test_decompression_bombs_are_refused(write_images: Write, side: int, message: str):
    root = write_images(four())
    target = root / "train/cat/a.png"
    # A PNG file states width and height in bytes 16 to 24, followed by a checksum of the chunk.
    content = bytearray(target.read_bytes())
    content[16:24] = struct.pack(">II", side, side)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    target.write_bytes(content)
    with pytest.raises(CorruptFile, match=message):
        load(root)


def test_total_size_is_checked_before_memory_is_taken(write_images: Write, monkeypatch: pytest.MonkeyPatch):
    root = write_images(four())
    monkeypatch.setattr(pixels, "BYTE_LIMIT", 3 << 20)
    monkeypatch.setattr(files_module.np, "empty", lambda *_: pytest.fail("memory taken in spite of the size"))
    with pytest.raises(UsageError, match=r"2 images of 1000x1000 with 3 channels need 0\.0 GiB"):
        load(root, image_size=1000)
