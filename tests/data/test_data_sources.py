from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dots_core.data import from_arrays, load
from dots_core.errors import DataMissing, UsageError


def test_image_data_passes_through():
    digits = load("digits")
    assert load(digits) is digits
    assert load(digits, image_size=8) is digits


def test_image_size_applies_to_any_source():
    digits = load("digits")
    larger = load("digits", image_size=16)
    assert larger.shape == (1, 16, 16)
    expected = np.asarray(Image.fromarray(digits.test.images[7, ..., 0]).resize((16, 16), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(larger.test.images[7, ..., 0], expected)
    np.testing.assert_array_equal(larger.test.labels, digits.test.labels)
    assert load(digits, image_size=16).fingerprint == larger.fingerprint
    assert larger.classes == digits.classes


def test_colour_and_oblong_arrays_are_resized_too():
    images = np.random.default_rng(0).integers(0, 256, (2, 6, 12, 3), dtype=np.uint8)
    found = load(from_arrays(images, [0, 1], images, [0, 1]), image_size=6)
    np.testing.assert_array_equal(found.train.images, images[:, :, 3:9])


def test_resizing_keeps_within_memory():
    with pytest.raises(UsageError, match="digits: 1797 images of 50000x50000"):
        load("digits", image_size=50000)
    with pytest.raises(UsageError, match=r"image_size is 2"):
        load("digits", image_size=2)


@pytest.mark.parametrize("source", ["nowhere/at/all", Path("nowhere/at/all")])
def test_missing_path_lists_the_accepted_forms(source: str | os.PathLike[str]):
    with pytest.raises(DataMissing, match="nowhere/at/all: does not exist") as caught:
        load(source)
    for form in ("'digits'", "train/<class>/", ".tar.gz", ".npz"):
        assert form in str(caught.value)


def test_misspelt_name_gets_a_hint():
    with pytest.raises(DataMissing, match="did you mean 'digits'"):
        load("digit")


def test_unrecognised_file_and_folder_list_the_accepted_forms(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DataMissing, match="not recognised as images; give 'digits'"):
        load(tmp_path / "notes.txt")
    with pytest.raises(DataMissing, match="a folder that holds no folders of images; give 'digits'"):
        load(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataMissing, match="an empty folder; give 'digits'"):
        load(tmp_path / "empty")


def test_images_without_classes_are_told_where_to_go(tmp_path: Path):
    (tmp_path / "0.png").write_bytes(b"an image")
    with pytest.raises(DataMissing, match=r"1 images, not in folders of their classes; put them into .*/<class>/"):
        load(tmp_path)


def test_no_place_is_not_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataMissing, match="the place of the images is empty"):
        load("")


def test_home_folder_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    images = np.zeros((2, 4, 4), np.uint8)
    np.savez(tmp_path / "a.npz", train_images=images, train_labels=[0, 1], test_images=images, test_labels=[0, 1])
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert load("~/a.npz").name == "a"


@pytest.mark.parametrize(
    ("source", "settings", "message"),
    [
        (5, {}, "the place of the images is a text or a path, not 5"),
        (None, {}, "the place of the images is a text or a path, not None"),
        (b"digits", {}, "the place of the images is a text or a path, not b'digits'"),
        ("digits", {"test_share": "0.2"}, "test_share is '0.2', but must lie between 0 and 1"),
        ("digits", {"test_share": True}, "test_share is True, but must lie between 0 and 1"),
        ("digits", {"test_seed": "a"}, "test_seed is 'a', but must be a whole number"),
        ("digits", {"test_split": 3}, "test_split is 3, but must be the name of a split"),
    ],
)
def test_values_of_the_wrong_type_are_usage_errors(source: Any, settings: dict[str, Any], message: str):
    with pytest.raises(UsageError, match=re.escape(message)):
        load(source, **settings)


def test_an_address_is_not_fetched():
    with pytest.raises(
        DataMissing, match=r"^https://example\.org/a\.zip is an address, and nothing is downloaded; fetch it"
    ):
        load("https://example.org/a.zip")
