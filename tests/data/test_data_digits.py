from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from dots_core.data import load


def test_sizes_and_classes():
    digits = load("digits")
    assert digits.name == "digits"
    assert digits.classes == tuple("0123456789")
    assert digits.shape == (1, 8, 8)
    assert (len(digits.train), len(digits.test)) == (1442, 355)
    assert digits.train.images.shape == (1442, 8, 8, 1)


def test_every_class_gives_its_last_fifth_to_the_test_split():
    digits = load("digits")
    train, test = np.bincount(digits.train.labels), np.bincount(digits.test.labels)
    np.testing.assert_array_equal(test, (train + test) // 5)


def test_values_use_the_whole_range_in_seventeen_steps():
    found = np.unique(load("digits").train.images)
    np.testing.assert_array_equal(found, np.round(np.arange(17) * 255 / 16))


def test_contents_are_those_of_the_original():
    original = pytest.importorskip("sklearn.datasets").load_digits()
    digits = load("digits")
    both = np.concatenate([digits.train.images, digits.test.images])[..., 0]
    labels = np.concatenate([digits.train.labels, digits.test.labels])
    scaled = np.round(original.images * 255 / 16).astype(np.uint8)
    for label in range(10):
        np.testing.assert_array_equal(both[labels == label], scaled[original.target == label])


def test_importing_the_data_room_imports_neither_pillow_nor_a_framework():
    code = (
        "import sys, dots_core.data; print([m for m in ('PIL', 'torch', 'sklearn', 'mindspore') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
