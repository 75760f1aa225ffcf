from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dots_core.data import ImageData, Split
from dots_core.data import images as images_module
from dots_core.errors import DataMissing


def split(count: int = 6, height: int = 5, width: int = 4, channels: int = 3, seed: int = 0) -> Split:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (count, height, width, channels), dtype=np.uint8)
    return Split(pixels, np.arange(count, dtype=np.int64) % 2)


def data(train: Split | None = None, test: Split | None = None, **fields: object) -> ImageData:
    train = split() if train is None else train
    test = split(seed=1) if test is None else test
    return ImageData(**{"name": "some", "classes": ("a", "b"), "train": train, "test": test, **fields})  # type: ignore[arg-type]


def test_shape_is_channels_first_and_not_transposed():
    assert data().shape == (3, 5, 4)


@given(seed=st.integers(0, 99), count=st.integers(1, 40), channels=st.sampled_from([1, 3]), chunk=st.integers(1, 999))
@settings(max_examples=30, deadline=None)
def test_statistics_equal_those_of_numpy_whatever_the_chunks(seed: int, count: int, channels: int, chunk: int):
    train = split(count, channels=channels, seed=seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images_module, "_CHUNK_BYTES", chunk)
        found = data(train, split(channels=channels))
        mean, std = found.mean, found.std
    scaled = train.images.astype(np.float64).reshape(-1, channels) / 255
    np.testing.assert_allclose(mean, scaled.mean(0), rtol=1e-6)
    np.testing.assert_allclose(std, scaled.std(0), rtol=1e-6)
    assert mean.dtype == std.dtype == np.float32
    assert mean.shape == std.shape == (channels,)


def test_statistics_are_of_the_train_split_only():
    black = Split(np.zeros((3, 4, 4, 1), np.uint8), np.zeros(3, np.int64))
    white = Split(np.full((3, 4, 4, 1), 255, np.uint8), np.zeros(3, np.int64))
    assert data(white, black).mean == [1.0]


def test_constant_channel_has_deviation_one():
    flat = Split(np.full((3, 4, 4, 1), 77, np.uint8), np.zeros(3, np.int64))
    assert data(flat, flat).std == [1.0]


def test_small_variance_survives_many_pixels():
    pixels = np.full((50, 64, 64, 1), 255, np.uint8)
    pixels[0, 0, 0, 0] = 254
    nearly_flat = Split(pixels, np.zeros(50, np.int64))
    share = 1 / pixels.size
    expected = np.sqrt(share * (1 - share)) / 255
    np.testing.assert_allclose(data(nearly_flat, nearly_flat).std, [expected], rtol=1e-6)


def test_fingerprint_tells_contents_apart_but_not_names():
    reference = data().fingerprint
    assert re.fullmatch("[0-9a-f]{64}", reference)
    assert data(name="other", origin="elsewhere").fingerprint == reference

    one_pixel = split()
    one_pixel.images[3, 2, 1, 0] ^= 1
    one_label = split()
    one_label.labels[0] ^= 1
    transposed = Split(split().images.reshape(6, 4, 5, 3), split().labels)
    others = [
        data(one_pixel),
        data(test=one_pixel),
        data(one_label),
        data(transposed, transposed),
        data(classes=("a", "c")),
        data(split(seed=1), split()),
    ]
    found = {other.fingerprint for other in others}
    assert reference not in found
    assert len(found) == len(others)


def test_fingerprint_does_not_depend_on_memory_layout():
    strided = Split(np.asfortranarray(split().images), split().labels)
    assert data(strided).fingerprint == data().fingerprint


def bad(images: object = None, labels: object = None) -> Split:
    good = split()
    return Split(
        good.images if images is None else images,  # type: ignore[arg-type]
        good.labels if labels is None else labels,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (bad(images=split().images.astype(np.float32)), "train images are float32"),
        (bad(images=split().images[..., 0]), "shape (6, 5, 4)"),
        (bad(labels=split().labels.astype(np.int32)), "train labels are int32"),
        (bad(labels=split().labels[:, None]), "train labels are int64 of shape (6, 1)"),
        (bad(labels=split().labels[:4]), "6 train images have 4 labels"),
        (Split(split().images[:0], split().labels[:0]), "no train images"),
        (bad(labels=split().labels + 1), "train label 2 names no class"),
        (bad(labels=split().labels - 1), "train label -1 names no class"),
        (split(height=6), "train images are 4x6 with 3 channels but test images are 4x5"),
        (split(channels=1), "with 1 channel but test images are 4x5 with 3 channels"),
    ],
)
def test_wrong_train_split_is_refused(wrong: Split, message: str):
    with pytest.raises(DataMissing, match=re.escape(message)) as caught:
        data(wrong, origin="/some/where")
    assert str(caught.value).startswith("/some/where: ")
    assert "\n" not in str(caught.value)


def test_wrong_test_split_is_refused():
    with pytest.raises(DataMissing, match="there are no test images"):
        data(test=Split(split().images[:0], split().labels[:0]))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 8), (8, 3)])
def test_images_too_small_for_a_network_are_refused(height: int, width: int):
    small = split(height=height, width=width)
    with pytest.raises(DataMissing, match=f"{width}x{height} pixels, but both sides must have at least 4"):
        data(small, small)


def test_four_pixels_are_enough():
    assert data(split(height=4), split(height=4)).shape == (3, 4, 4)


@pytest.mark.parametrize("channels", [2, 4])
def test_other_numbers_of_channels_are_refused(channels: int):
    with pytest.raises(DataMissing, match=f"{channels} channels"):
        data(split(channels=channels), split(channels=channels))
