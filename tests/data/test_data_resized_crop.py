from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from dots_core.data import Augmentation, normalise
from dots_core.data.batches.resized_crop import DRAWS, WIDEST, random_boxes, resized_crops
from dots_core.errors import UsageError
from dots_core.random import Stream

SIDES = st.integers(4, 40)
SHARES = st.floats(0.01, 1)


def noise(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)


def boxes(count: int, height: int, width: int, smallest: float, seed: int = 0) -> NDArray[np.int64]:
    return random_boxes(Stream(seed, "boxes").uniform_per(np.arange(count), DRAWS), height, width, smallest)


def exact(image: NDArray[np.uint8], box: NDArray[np.int64]) -> NDArray[np.float64]:
    """Bilinear interpolation in real numbers, one axis after the other."""
    top, left, tall, wide = box
    part = image[top : top + tall, left : left + wide].astype(np.float64)
    for axis, size in enumerate(image.shape[:2]):
        length = part.shape[axis]
        positions = (np.arange(size) + 0.5) * length / size - 0.5
        part = np.apply_along_axis(lambda line, at=positions: np.interp(at, np.arange(len(line)), line), axis, part)
    return part


@given(height=SIDES, width=SIDES, smallest=SHARES, seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_boxes_lie_inside_the_image_and_keep_to_their_limits(height: int, width: int, smallest: float, seed: int):
    found = boxes(64, height, width, smallest, seed)
    assert found.dtype == np.int64
    top, left, tall, wide = found.T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (tall >= 1).all()
    assert (wide >= 1).all()
    assert (top + tall <= height).all()
    assert (left + wide <= width).all()
    # Sides are rounded to whole pixels, so limits hold for sides half a pixel longer or shorter.
    assert ((wide - 0.5) / (tall + 0.5) <= WIDEST + 1e-9).all()
    assert ((tall - 0.5) / (wide + 0.5) <= WIDEST + 1e-9).all()
    if height == width:
        assert ((tall + 0.5) * (wide + 0.5) >= smallest * height * width * (1 - 1e-9)).all()


@given(side=SIDES, seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_the_whole_of_a_square_is_the_only_part_with_all_of_its_area(side: int, seed: int):
    np.testing.assert_array_equal(boxes(16, side, side, 1.0, seed), np.tile([0, 0, side, side], (16, 1)))


def test_areas_ratios_and_places_are_uniform():
    side, count = 2000, 20000
    top, left, tall, wide = boxes(count, side, side, 0.08).T
    areas = tall * wide / side**2
    # A part of up to 3/4 of a square fits at every ratio, so there the areas keep their uniform law.
    small = areas[areas < 0.75]
    shares = np.histogram(small, bins=10, range=(0.08, 0.75))[0] / len(small)
    np.testing.assert_allclose(shares, 0.1, atol=0.01)
    assert areas.min() < 0.09
    assert areas.max() > 0.98
    ratios = np.log(wide / tall)[areas < 0.75] / math.log(WIDEST)
    shares = np.histogram(ratios, bins=8, range=(-1, 1))[0] / len(ratios)
    np.testing.assert_allclose(shares, 1 / 8, atol=0.012)
    for start, length in ((top, tall), (left, wide)):
        room = side - length
        place = start[room > side / 2] / room[room > side / 2]
        np.testing.assert_allclose(np.histogram(place, bins=5, range=(0, 1))[0] / len(place), 0.2, atol=0.02)


def test_without_a_fitting_size_the_largest_central_part_is_taken():
    found = boxes(50, 10, 100, 0.5)
    np.testing.assert_array_equal(found, np.tile([0, 43, 10, 13], (50, 1)))
    np.testing.assert_array_equal(boxes(50, 100, 10, 0.5), np.tile([43, 0, 13, 10], (50, 1)))


@given(st.tuples(st.integers(0, 4), SIDES, SIDES, st.sampled_from([1, 3])))
@settings(max_examples=30, deadline=None)
def test_a_box_around_everything_gives_the_image_back(shape: tuple[int, int, int, int]):
    images = noise(*shape)
    whole = np.tile([0, 0, shape[1], shape[2]], (shape[0], 1))
    found = resized_crops(images, whole)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, images)


@given(side=st.integers(4, 24), channels=st.sampled_from([1, 3]), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_interpolation_is_about_a_level_from_exact(side: int, channels: int, seed: int):
    images, places = noise(4, side, side + 3, channels), boxes(4, side, side + 3, 0.08, seed)
    found = resized_crops(images, places)
    for image, box, result in zip(images, places, found, strict=True):
        assert np.abs(result - exact(image, box)).max() <= 1.01


def test_interpolation_agrees_with_another_implementation():
    images, places = noise(6, 60, 60, 3), boxes(6, 60, 60, 0.08)
    for image, (top, left, tall, wide), result in zip(images, places, resized_crops(images, places), strict=True):
        part = Image.fromarray(image[top : top + tall, left : left + wide])
        other = np.asarray(part.resize((60, 60), Image.Resampling.BILINEAR)).astype(int)
        # Pillow rounds twice, and about one level may be lost here.
        assert np.abs(other - result).max() <= 2
        assert (np.abs(other - result) <= 1).mean() > 0.99


@given(level=st.integers(0, 255), side=SIDES)
@settings(max_examples=30, deadline=None)
def test_an_even_surface_stays_even(level: int, side: int):
    even = np.full((3, side, side, 3), level, np.uint8)
    np.testing.assert_array_equal(resized_crops(even, boxes(3, side, side, 0.1)), even)


def test_augmentation_is_determined_by_seed_epoch_and_sample():
    augmentation = Augmentation(flip=False, crop=0, resized_crop=0.08)
    images, samples = np.repeat(noise(1, 16, 16, 3), 12, axis=0), np.arange(12)
    mean, std = np.full(3, 0.5, np.float32), np.full(3, 0.25, np.float32)
    whole = augmentation.apply(images, samples, 3, 1, mean, std)
    assert whole.dtype == np.float32
    assert whole.shape == (12, 3, 16, 16)
    assert whole.flags.c_contiguous
    some = np.array([7, 2, 11])
    np.testing.assert_array_equal(augmentation.apply(images[some], some, 3, 1, mean, std), whole[some])
    assert len({image.tobytes() for image in whole}) == 12
    for samples_, epoch, seed in ((samples + 12, 3, 1), (samples, 4, 1), (samples, 3, 2)):
        assert (augmentation.apply(images, samples_, epoch, seed, mean, std) != whole).any()


def test_a_share_of_one_is_normalisation_of_a_square():
    images = noise(5, 9, 9, 3)
    mean, std = np.full(3, 0.5, np.float32), np.full(3, 0.25, np.float32)
    found = Augmentation(flip=False, crop=0, resized_crop=1.0).apply(images, np.arange(5), 0, 0, mean, std)
    np.testing.assert_array_equal(found, normalise(images, mean, std))


@pytest.mark.parametrize("share", [-0.1, 1.5, math.nan])
def test_a_share_outside_its_range_is_refused(share: float):
    with pytest.raises(UsageError, match="resized_crop is"):
        Augmentation(resized_crop=share)
