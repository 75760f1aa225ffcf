from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from dots_core.data import Augmentation
from dots_core.data.batches.jitter import jittered
from dots_core.errors import UsageError

FACTOR = st.floats(0, 2)
LUMA = np.array([0.299, 0.587, 0.114])


def pictures(channels: int) -> st.SearchStrategy[NDArray[np.uint8]]:
    return arrays(np.uint8, st.tuples(st.integers(1, 3), st.integers(4, 9), st.integers(4, 9), st.just(channels)))


IMAGES = st.sampled_from([1, 3]).flatmap(pictures)


def noise(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(2).integers(0, 256, shape, dtype=np.uint8)


def exact(image: NDArray[np.uint8], brightness: float, contrast: float, saturation: float) -> NDArray[np.float64]:
    """The three steps in real numbers, without rounding at the end."""
    weights = LUMA if image.shape[2] == 3 else np.ones(1)
    values = np.clip(image * brightness, 0, 255)
    mean = (values @ weights).mean()
    values = np.clip(mean + contrast * (values - mean), 0, 255)
    grey = (values @ weights)[..., None]
    return np.clip(grey + saturation * (values - grey), 0, 255)


@given(images=IMAGES, factors=st.tuples(FACTOR, FACTOR, FACTOR))
@settings(max_examples=80, deadline=None)
def test_equals_the_formulas_rounded(images: NDArray[np.uint8], factors: tuple[float, float, float]):
    found = jittered(images, np.tile(factors, (len(images), 1)))
    assert found.dtype == np.uint8
    assert found.shape == images.shape
    for image, result in zip(images, found, strict=True):
        assert np.abs(result - exact(image, *factors)).max() <= 0.5 + 1e-3


@given(images=IMAGES)
@settings(max_examples=40, deadline=None)
def test_factors_of_one_change_nothing(images: NDArray[np.uint8]):
    np.testing.assert_array_equal(jittered(images, np.ones((len(images), 3))), images)


@given(images=pictures(1), factor=FACTOR)
@settings(max_examples=20, deadline=None)
def test_grey_images_have_no_saturation(images: NDArray[np.uint8], factor: float):
    np.testing.assert_array_equal(jittered(images, np.tile([1, 1, factor], (len(images), 1))), images)


@given(images=pictures(3), factors=st.tuples(FACTOR, FACTOR, FACTOR))
@settings(max_examples=30, deadline=None)
def test_mirroring_before_and_after_is_the_same(images: NDArray[np.uint8], factors: tuple[float, float, float]):
    each = np.tile(factors, (len(images), 1))
    np.testing.assert_array_equal(jittered(images[:, :, ::-1], each), jittered(images, each)[:, :, ::-1])


def test_a_factor_of_zero_takes_each_property_away():
    images = noise(2, 8, 8, 3)
    assert not jittered(images, np.tile([0.0, 1, 1], (2, 1))).any()
    flat = jittered(images, np.tile([1, 0.0, 1], (2, 1)))
    assert all(len(np.unique(image)) == 1 for image in flat)
    grey = jittered(images, np.tile([1, 1, 0.0], (2, 1)))
    np.testing.assert_array_equal(grey, np.repeat(grey[..., :1], 3, axis=3))


@pytest.mark.parametrize("factors", [(0.6, 1, 1), (1, 1.4, 1), (1, 0.6, 1), (1, 1, 1.4), (1.2, 0.7, 1.3)])
def test_agrees_with_another_implementation(factors: tuple[float, float, float]):
    images = noise(1, 40, 40, 3)
    found = jittered(images, np.array([factors]))[0].astype(int)
    other = Image.fromarray(images[0])
    for enhance, factor in zip(
        (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color), factors, strict=True
    ):
        other = enhance(other).enhance(factor)
    # Pillow rounds after each of the steps, a later step enlarges the difference.
    assert np.abs(np.asarray(other).astype(int) - found).max() <= 4


def test_each_factor_of_augmentation_is_uniform_within_its_strength():
    count, strength = 4000, 0.4
    images = np.full((count, 4, 4, 1), 120, np.uint8)
    mean, std = np.zeros(1, np.float32), np.full(1, 1 / 255, np.float32)
    augmentation = Augmentation(flip=False, crop=0, jitter=strength)
    # An even image has no contrast and no saturation, so its level tells the brightness.
    factors = augmentation.apply(images, np.arange(count), 0, 0, mean, std)[:, 0, 0, 0] / 120
    assert factors.min() >= 1 - strength - 0.01
    assert factors.max() <= 1 + strength + 0.01
    shares = np.histogram(factors, bins=8, range=(1 - strength, 1 + strength))[0] / count
    np.testing.assert_allclose(shares, 1 / 8, atol=0.025)


def test_augmentation_is_determined_by_seed_epoch_and_sample():
    augmentation = Augmentation(flip=False, crop=0, jitter=0.4)
    images, samples = np.repeat(noise(1, 8, 8, 3), 12, axis=0), np.arange(12)
    mean, std = np.full(3, 0.5, np.float32), np.full(3, 0.25, np.float32)
    whole = augmentation.apply(images, samples, 3, 1, mean, std)
    assert whole.dtype == np.float32
    assert whole.shape == (12, 3, 8, 8)
    assert whole.flags.c_contiguous
    some = np.array([7, 2, 11])
    np.testing.assert_array_equal(augmentation.apply(images[some], some, 3, 1, mean, std), whole[some])
    assert len({image.tobytes() for image in whole}) == 12
    for samples_, epoch, seed in ((samples + 12, 3, 1), (samples, 4, 1), (samples, 3, 2)):
        assert (augmentation.apply(images, samples_, epoch, seed, mean, std) != whole).any()


@pytest.mark.parametrize("strength", [-0.1, 1.5, math.nan])
def test_a_strength_outside_its_range_is_refused(strength: float):
    with pytest.raises(UsageError, match="jitter is"):
        Augmentation(jitter=strength)
