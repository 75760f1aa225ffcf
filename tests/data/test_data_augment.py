from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dots_core.data import Augmentation, normalise
from dots_core.errors import UsageError
from dots_core.random import Stream

AUGMENTATIONS = st.builds(Augmentation, st.booleans(), st.integers(0, 5), st.integers(0, 9))
ALL_AUGMENTATIONS = st.builds(
    Augmentation,
    st.booleans(),
    st.integers(0, 5),
    st.integers(0, 9),
    st.sampled_from([0.0, 0.08, 0.5, 1.0]),
    st.sampled_from([0.0, 0.4, 1.0]),
)
SHAPES = st.tuples(st.integers(1, 7), st.integers(4, 9), st.integers(4, 9), st.sampled_from([1, 3]))


def noise(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def scale(channels: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return np.array([0.5, 0.4, 0.3], np.float32)[:channels], np.array([0.2, 0.3, 0.1], np.float32)[:channels]


def literal(
    augmentation: Augmentation, images: NDArray[np.uint8], samples: NDArray[np.int64], epoch: int, seed: int
) -> NDArray[np.float64]:
    """The definition, one image and one pixel at a time."""
    count, height, width, channels = images.shape
    mean, std = scale(channels)
    result = np.zeros((count, channels, height, width))
    for row, sample in enumerate(samples):
        one = np.array([sample])
        image = images[row]
        if augmentation.crop:
            top, left = (Stream(seed, "crop").uniform_per(one, 2, epoch)[0] * (2 * augmentation.crop + 1)).astype(int)
            cropped = np.zeros_like(image)
            for y in range(height):
                for x in range(width):
                    source_y, source_x = y + top - augmentation.crop, x + left - augmentation.crop
                    if 0 <= source_y < height and 0 <= source_x < width:
                        cropped[y, x] = image[source_y, source_x]
            image = cropped
        if augmentation.flip and Stream(seed, "flip").uniform_per(one, 1, epoch)[0, 0] < 0.5:
            image = image[:, ::-1]
        for channel in range(channels):
            result[row, channel] = (image[..., channel] / 255 - float(mean[channel])) / float(std[channel])
        if augmentation.cutout:
            draws = Stream(seed, "cutout").uniform_per(one, 2, epoch)[0]
            top = int(draws[0] * height) - augmentation.cutout // 2
            left = int(draws[1] * width) - augmentation.cutout // 2
            for y in range(height):
                for x in range(width):
                    if top <= y < top + augmentation.cutout and left <= x < left + augmentation.cutout:
                        result[row, :, y, x] = 0
    return result


@given(augmentation=AUGMENTATIONS, shape=SHAPES, epoch=st.integers(0, 999), seed=st.integers(0, 999))
@settings(max_examples=80, deadline=None)
def test_equals_the_literal_definition(
    augmentation: Augmentation, shape: tuple[int, int, int, int], epoch: int, seed: int
):
    images, samples = noise(*shape), np.arange(shape[0]) * 1000 + 7
    found = augmentation.apply(images, samples, epoch, seed, *scale(shape[3]))
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    np.testing.assert_allclose(found, literal(augmentation, images, samples, epoch, seed), atol=2e-6)


@given(augmentation=ALL_AUGMENTATIONS, chosen=st.permutations(range(12)), count=st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_an_image_does_not_depend_on_its_batch(augmentation: Augmentation, chosen: list[int], count: int):
    images = noise(12, 6, 5, 3)
    whole = augmentation.apply(images, np.arange(12), 3, 1, *scale(3))
    some = np.array(chosen[:count])
    np.testing.assert_array_equal(augmentation.apply(images[some], some, 3, 1, *scale(3)), whole[some])


def test_epoch_seed_and_sample_each_change_the_outcome():
    augmentation = Augmentation()
    images, samples = np.repeat(noise(1, 32, 32, 3), 16, axis=0), np.arange(16)
    reference = augmentation.apply(images, samples, 0, 0, *scale(3))
    for samples_, epoch, seed in ((samples + 16, 0, 0), (samples, 1, 0), (samples, 0, 1)):
        assert (augmentation.apply(images, samples_, epoch, seed, *scale(3)) != reference).any()
    assert len({image.tobytes() for image in reference}) > 8


def test_switching_one_part_leaves_the_draws_of_the_others():
    images, samples = noise(32, 8, 8, 1), np.arange(32)
    without = Augmentation(True, 2, 0).apply(images, samples, 0, 0, *scale(1))
    with_cutout = Augmentation(True, 2, 4).apply(images, samples, 0, 0, *scale(1))
    np.testing.assert_array_equal(with_cutout[with_cutout != 0], without[with_cutout != 0])


@given(augmentation=ALL_AUGMENTATIONS, shape=SHAPES, epoch=st.integers(0, 99), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_every_combination_is_finite_repeatable_and_leaves_the_input(
    augmentation: Augmentation, shape: tuple[int, int, int, int], epoch: int, seed: int
):
    images, samples = noise(*shape), np.arange(shape[0])
    count, height, width, channels = shape
    found = augmentation.apply(images, samples, epoch, seed, *scale(channels))
    assert found.dtype == np.float32
    assert found.shape == (count, channels, height, width)
    assert found.flags.c_contiguous
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(images, noise(*shape))
    np.testing.assert_array_equal(augmentation.apply(images, samples, epoch, seed, *scale(channels)), found)


@pytest.mark.parametrize(
    ("augmentation", "digest"),
    [
        (Augmentation(), "dd0958405d2ea28d993b4e6293fb9768b247969ad0649690b34c99b054f6456d"),
        (Augmentation(True, 2, 5), "a0b52aca4be05409872985385ad27c6d0bc4fe49c9c1f7267e42492317fb5e45"),
        (Augmentation(False, 0, 3), "20a01f19b3a65794c14472dfacb7025bed401807f2e67d793b7c6b89fdd344fc"),
    ],
)
def test_batches_of_stored_plans_keep_every_byte(augmentation: Augmentation, digest: str):
    images = (np.arange(5 * 12 * 10 * 3, dtype=np.int64) * 7919 % 256).astype(np.uint8).reshape(5, 12, 10, 3)
    found = augmentation.apply(images, np.arange(5) * 1000 + 7, 3, 11, *scale(3))
    assert hashlib.sha256(found.astype("<f4").tobytes()).hexdigest() == digest


def test_padding_is_black_not_mean():
    white = np.full((64, 8, 8, 3), 255, np.uint8)
    mean, std = scale(3)
    found = Augmentation(False, 3).apply(white, np.arange(64), 0, 0, mean, std)
    values = np.unique(found[:, 0])
    np.testing.assert_allclose(values, [-mean[0] / std[0], (1 - mean[0]) / std[0]], rtol=1e-5)


def test_shares_and_ranges_of_the_draws():
    column = np.zeros((4000, 4, 4, 1), np.uint8)
    column[:, 1, 0] = 255
    samples, mean, std = np.arange(4000), np.zeros(1, np.float32), np.ones(1, np.float32)
    flipped = Augmentation(True, 0).apply(column, samples, 0, 0, mean, std)[:, 0, 1, 3]
    assert 0.46 < flipped.mean() < 0.54
    place = Augmentation(False, 1).apply(column, samples, 0, 0, mean, std)[:, 0]
    shares = place.mean(0)
    # The column moves by −1, 0 or 1 in each direction, a third each; moved left it is gone.
    np.testing.assert_allclose(shares[:3, :2], 1 / 9, atol=0.03)
    assert shares[3].sum() == shares[:, 2:].sum() == 0
    cut = Augmentation(False, 0, 2).apply(np.full_like(column, 255), samples, 0, 0, mean, std)[:, 0] == 0
    assert set(np.unique(cut.sum((1, 2)))) == {1, 2, 4}
    np.testing.assert_allclose(cut.mean(0)[1:3, 1:3], 4 / 16, atol=0.04)


@given(shape=SHAPES)
@settings(max_examples=20, deadline=None)
def test_normalise_is_the_formula_and_leaves_the_input(shape: tuple[int, int, int, int]):
    images = noise(*shape)
    mean, std = scale(shape[3])
    found = normalise(images, mean, std)
    expected = ((images / 255.0 - mean) / std).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(images, noise(*shape))


def test_no_augmentation_is_normalisation():
    images = noise(3, 5, 6, 3)
    found = Augmentation(False, 0, 0).apply(images, np.arange(3), 0, 0, *scale(3))
    np.testing.assert_array_equal(found, normalise(images, *scale(3)))


def test_negative_sizes_are_refused():
    with pytest.raises(UsageError, match="crop is -1"):
        Augmentation(crop=-1)
    with pytest.raises(UsageError, match="cutout is -2"):
        Augmentation(cutout=-2)
