from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dots_core.data import arrays, from_arrays, load
from dots_core.errors import CorruptFile, DataMissing, UsageError


def some(**changes: Any) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "train_images": rng.integers(0, 256, (4, 6, 5, 3), dtype=np.uint8),
        "train_labels": np.array([0, 1, 2, 1]),
        "test_images": rng.integers(0, 256, (2, 6, 5, 3), dtype=np.uint8),
        "test_labels": np.array([1, 3]),
        **changes,
    }


def test_arrays_arrive_unchanged_with_numbered_classes():
    given = some()
    found = from_arrays(**given)
    np.testing.assert_array_equal(found.train.images, given["train_images"])
    np.testing.assert_array_equal(found.test.labels, [1, 3])
    assert found.classes == ("0", "1", "2", "3")
    assert found.name == "arrays"
    assert found.shape == (3, 6, 5)


def test_grey_images_may_lack_the_channel():
    given = some()
    grey = some(train_images=given["train_images"][..., 0], test_images=given["test_images"][..., 0])
    found = from_arrays(**grey, classes=["a", "b", "c", "d"], name="mine")
    assert found.shape == (1, 6, 5)
    assert found.classes == ("a", "b", "c", "d")
    assert found.name == "mine"
    np.testing.assert_array_equal(found.train.images[..., 0], given["train_images"][..., 0])


@pytest.mark.parametrize("labels", [[0, 1, 2, 1], np.array([0, 1, 2, 1], np.uint8), np.array([0, 1, 2, 1], np.int32)])
def test_labels_of_any_whole_number_type_become_int64(labels: Any):
    found = from_arrays(**some(train_labels=labels))
    assert found.train.labels.dtype == np.int64
    np.testing.assert_array_equal(found.train.labels, [0, 1, 2, 1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_images": np.zeros((4, 6, 5, 3))}, "train_images float64 and test_images uint8: give uint8"),
        ({"test_images": np.zeros((2, 6, 5, 2), np.uint8)}, "test_images is uint8 of shape (2, 6, 5, 2)"),
        ({"test_images": np.zeros((6, 5), np.uint8)}, "test_images is uint8 of shape (6, 5)"),
        ({"train_images": [[1], [2, 3]]}, "train_images cannot be made an array"),
        ({"train_images": None}, "train_images is object of shape ()"),
        ({"train_labels": np.array([0, 0.5, 1, 1])}, "train_labels is float64"),
        ({"train_labels": np.array([0, np.nan, 1, 1])}, "train_labels is float64"),
        ({"test_labels": np.array([0, -1])}, "have labels -1 to 2, outside 0"),
        ({"test_labels": np.array([0, 2**31])}, "have labels 0 to 2147483648, outside 0"),
        ({"test_labels": np.array([0, 2**64 - 1], np.uint64)}, "test_labels is uint64"),
        ({"classes": 4}, "classes is 4; give a sequence of names"),
        ({"classes": ["a", "b", "c"]}, "label 3 has no name among 3 classes"),
    ],
)
def test_unacceptable_arrays_are_usage_errors(change: dict[str, Any], message: str):
    with pytest.raises(UsageError, match=re.escape(message)):
        from_arrays(**some(**change))


@pytest.mark.parametrize(
    "change",
    [
        {"train_labels": np.array([0, 1])},
        {"train_images": np.zeros((0, 6, 5, 3), np.uint8), "train_labels": np.zeros(0, int)},
        {"test_images": np.zeros((2, 6, 6, 3), np.uint8)},
        {"train_labels": np.full(4, 3), "test_labels": np.full(2, 3)},
    ],
)
def test_arrays_that_do_not_fit_together_are_missing_data(change: dict[str, Any]):
    with pytest.raises(DataMissing, match=r"^arrays: "):
        from_arrays(**some(**change))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_file_gives_the_same_as_its_arrays(tmp_path: Path, save: Any):
    path = tmp_path / "birds.npz"
    save(path, **some(), classes=np.array(list("abcd")), other=np.zeros(3))
    found = load(path)
    assert found.fingerprint == from_arrays(**some(), classes="abcd").fingerprint
    assert found.name == "birds"
    assert found.origin == str(path)


def test_missing_arrays_are_named(tmp_path: Path):
    given = some()
    del given["test_labels"]
    np.savez(tmp_path / "a.npz", **given)
    with pytest.raises(DataMissing, match=r"a\.npz: no array test_labels"):
        load(tmp_path / "a.npz")


def test_unacceptable_array_in_a_file_names_the_file(tmp_path: Path):
    np.savez(tmp_path / "a.npz", **some(train_labels=np.full(4, 0.5)))
    with pytest.raises(UsageError, match=r"a\.npz: train_labels is float64"):
        load(tmp_path / "a.npz")


def test_pickled_objects_are_refused(tmp_path: Path):
    np.savez(tmp_path / "a.npz", **some(train_labels=np.array([0, None, 1, 1], object)))
    with pytest.raises(CorruptFile, match=r"a\.npz: .*pickled objects"):
        load(tmp_path / "a.npz")


@pytest.mark.parametrize("content", [b"", b"text", pickle.dumps(some())], ids=["empty", "text", "pickle"])
def test_other_contents_are_corrupt(tmp_path: Path, content: bytes):
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    with pytest.raises(CorruptFile, match=re.escape(str(path))):
        load(path)


def test_truncated_and_altered_files_are_corrupt(tmp_path: Path):
    path = tmp_path / "a.npz"
    np.savez(path, **some())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorruptFile):
        load(path)
    pixels = some()["train_images"].tobytes()
    path.write_bytes(whole.replace(pixels, bytes(len(pixels))))
    with pytest.raises(CorruptFile, match="CRC"):
        load(path)


def test_size_is_checked_before_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, **some())
    monkeypatch.setattr(arrays, "BYTE_LIMIT", 500)
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("read in spite of its size"))
    with pytest.raises(CorruptFile, match="over the limit"):
        load(path)
