from __future__ import annotations

import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dots_core.data import from_arrays, load
from dots_core.data.sources import arrays, conversions, scaling
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
        (
            {"train_images": np.zeros((4, 6, 5, 3))},
            "test_images uint8 with values 0 to 255, of different types or scales",
        ),
        ({"test_images": np.zeros((2, 6, 5, 2), np.uint8)}, "test_images is uint8 of shape (2, 6, 5, 2)"),
        ({"test_images": np.zeros((6, 5), np.uint8)}, "test_images is uint8 of shape (6, 5)"),
        ({"train_images": [[1], [2, 3]]}, "train_images cannot be made an array"),
        ({"train_images": None}, "train_images is None, not an array"),
        ({"train_labels": np.array([0, 0.5, 1, 1])}, "train_labels is float64"),
        ({"train_labels": np.array([0, np.nan, 1, 1])}, "train_labels holds 1 NaN, the first at [1]"),
        ({"classes": {0: "a", 1: "b"}}, "classes is a mapping, {0: 'a', 1: 'b'}; give the names in the order"),
        ({"classes": {"a", "b"}}, "classes is a set, which has no order"),
        ({"train_images": "pictures"}, "train_images is the text 'pictures', not an array; give a place of images to"),
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


def both(**changes: Any) -> dict[str, Any]:
    """The arrays of `some` with changes that hold for train and test: functions of what is there."""
    given = some()
    for what, change in changes.items():
        for part in ("train", "test"):
            given[f"{part}_{what}"] = change(given[f"{part}_{what}"])
    return given


def told(data: Any, words: str) -> None:
    assert any(words in note for note in data.account.notes), data.account.notes


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"images": lambda x: x.transpose(0, 3, 1, 2)}, "channels moved behind"),
        ({"images": lambda x: x.astype(np.float32) / 255}, "values 0 to 1 scaled"),
        ({"images": lambda x: x.astype(np.float64) / 255}, "values 0 to 1 scaled"),
        ({"images": lambda x: x.astype(np.float32)}, "values 0 to 255 stored as uint8"),
        ({"images": lambda x: x.astype(np.int64)}, "values 0 to 255 stored as uint8"),
        ({"images": lambda x: x.astype(np.float32).transpose(0, 3, 1, 2) / 255}, "channels moved behind"),
        ({"labels": lambda y: y.astype(np.float32)}, "labels of float32 taken as whole numbers"),
        ({"labels": lambda y: np.eye(4)[y]}, "one-hot labels"),
        ({"labels": lambda y: np.eye(4, dtype=bool)[y]}, "one-hot labels"),
    ],
)
def test_other_conventions_are_converted_and_told(changes: dict[str, Any], note: str):
    found = from_arrays(**both(**changes))
    assert found.fingerprint == from_arrays(**some()).fingerprint
    told(found, note)
    assert note in found.summary


def test_column_of_labels_needs_no_word():
    found = from_arrays(**both(labels=lambda y: y[:, None]))
    assert found.fingerprint == from_arrays(**some()).fingerprint
    assert found.account.notes == ()


def test_truth_values_become_black_and_white():
    given = both(images=lambda x: x > 99)
    found = from_arrays(**given)
    np.testing.assert_array_equal(found.train.images, given["train_images"] * np.uint8(255))


def test_scaling_is_the_same_whatever_the_pieces(monkeypatch: pytest.MonkeyPatch):
    values = np.random.default_rng(0).random((50, 6, 5, 3))
    given = some(train_images=values, train_labels=np.arange(50) % 4, test_images=values)
    given["test_labels"] = given["train_labels"]
    whole = from_arrays(**given).fingerprint
    np.testing.assert_array_equal(from_arrays(**given).train.images, np.rint(values * 255))
    monkeypatch.setattr(scaling, "_CHUNK", 7 * 90)
    assert from_arrays(**given).fingerprint == whole


@pytest.mark.parametrize("labels", [lambda y: y + 1, lambda y: y * 10, lambda y: y * 7000 + 3])
def test_labels_with_gaps_keep_their_numbers_as_names(labels: Any):
    found = from_arrays(**both(labels=labels))
    np.testing.assert_array_equal(found.train.labels, [0, 1, 2, 1])
    assert found.classes == tuple(str(labels(number)) for number in range(4))
    told(found, "with gaps: 4 classes, named by their numbers")


def test_labels_from_one_with_a_name_each_are_counted_from_zero():
    found = from_arrays(**both(labels=lambda y: y + 1), classes=list("abcd"))
    assert found.fingerprint == from_arrays(**some(), classes="abcd").fingerprint
    told(found, "labels 1 to 4 counted from 0")


def test_classes_of_one_hot_labels_are_their_columns_whether_used_or_not():
    assert from_arrays(**both(labels=lambda y: np.eye(6)[y])).classes == tuple("012345")


def each(kind: str, code: str, given: dict[str, Any]) -> dict[str, Any]:
    """Carry out a message's code, which speaks of `images` or `labels`, for train and test."""
    done = dict(given)
    for part in ("train", "test"):
        names = {"numpy": np, kind: given[f"{part}_{kind}"]}
        if code.startswith(f"{kind} = "):
            exec(code, names)
            done[f"{part}_{kind}"] = names[kind]
        else:
            done[f"{part}_{kind}"] = eval(code, names)
    return done


def by_name(code: str, given: dict[str, Any]) -> dict[str, Any]:
    """Carry out a message's code that speaks of `train_images` and so on."""
    names = {"numpy": np, **given}
    exec(code, names)
    return {name: names[name] for name in given}


def unique(code: str, given: dict[str, Any]) -> dict[str, Any]:
    names: dict[str, Any] = {"numpy": np, "labels": np.concatenate([given["train_labels"], given["test_labels"]])}
    exec(code, names)
    count = len(given["train_labels"])
    labels, classes = names["labels"], names["classes"].astype(str)
    return {**given, "train_labels": labels[:count], "test_labels": labels[count:], "classes": classes}


UNIQUE = "classes, labels = numpy.unique(labels, return_inverse=True)"
NAN = "images = numpy.nan_to_num(images, nan=0.0, posinf=1.0, neginf=0.0)"


def objects(values: Any) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = list(values)
    return array


@pytest.mark.parametrize(
    ("given", "kind", "code"),
    [
        (both(labels=lambda y: y * 10**8), "unique", UNIQUE),
        (both(labels=lambda y: y - 1), "unique", UNIQUE),
        (both(labels=lambda y: np.array(list("abcd"))[y]), "unique", UNIQUE),
        (both(labels=lambda y: np.array(list("abcd"), object)[y]), "labels", "labels.astype(str)"),
        (both(labels=lambda y: y.astype(object)), "labels", "labels.astype(int)"),
        (both(labels=lambda y: y + 0j), "labels", "labels.real"),
        (both(labels=lambda y: np.eye(4)[y] * 0.9), "labels", "labels.argmax(axis=1)"),
        (both(labels=lambda y: y + 0.25), "labels", "labels.astype(int)"),
        (both(labels=lambda y: y[None]), "labels", "numpy.ravel(labels)"),
        (both(labels=lambda y: y[:, None, None]), "labels", "numpy.ravel(labels)"),
        (some(train_labels=np.eye(4)[[0, 1, 2, 1]]), "columns", "labels.argmax(axis=1)"),
        (both(images=lambda x: np.concatenate([x, x[..., :1]], axis=3)), "images", "images[..., :3]"),
        (both(images=lambda x: x[..., :2]), "images", "images[..., :1]"),
        (
            both(images=lambda x: np.concatenate([x, x[..., :1]], axis=3).transpose(0, 3, 1, 2)),
            "images",
            "images[:, :3]",
        ),
        (both(images=lambda x: x[:, None]), "images", "numpy.squeeze(images)"),
        (both(images=lambda x: {"cat": x}), "images", "images['cat']"),
        (both(images=lambda x: [(image, 0) for image in x]), "images", "numpy.array([numpy.asarray(pair[0]) for pair"),
        (
            both(labels=lambda y: [(np.zeros((2, 2)), label) for label in y]),
            "labels",
            "numpy.array([numpy.asarray(pair[1]) for",
        ),
        (both(images=lambda x: x[:, :5].reshape(len(x), -1)), "images", "images.reshape(-1, 3, 5, 5)"),
        (both(images=lambda x: x[:, :5, :, 0].reshape(len(x), -1)), "images", "images.reshape(-1, 5, 5)"),
        (both(images=lambda x: objects(x)), "images", "numpy.stack(images)"),
        (both(images=lambda x: x + 0j), "images", "numpy.abs(images)"),
        (both(images=lambda x: x.view([("grey", np.uint8)])), "images", "images['grey']"),
        (both(images=lambda x: iter(x)), "images", "numpy.array(list(images))"),
        (
            both(images=lambda x: x / 127.5 - 1),
            "images",
            "((images.astype('float64') - (-1)) * (255 / 2)).round().clip(0, 255).astype('uint8')",
        ),
        (
            both(images=lambda x: x.astype(np.int8)),
            "images",
            "((images.astype('float64') - (-128)) * (255 / 255)).round().clip(0, 255).astype('uint8')",
        ),
        (
            both(images=lambda x: x.astype(np.uint16) * 257),
            "images",
            "(images.astype('float64') * (255 / 65535)).round().clip(0, 255).astype('uint8')",
        ),
        (
            both(images=lambda x: x / 1000 + 1e6),
            "images",
            "((images.astype('float64') - (1e+06)) * (255 / 0.2550000000046566)).round().clip(0, 255).astype('uint8')",
        ),
        (
            both(images=lambda x: x / 16 + 0.01),
            "images",
            "(images.astype('float64') * (255 / 15.9475)).round().clip(0, 255).astype('uint8')",
        ),
        (both(images=lambda x: x + 0.25), "images", "images.round().clip(0, 255).astype('uint8')"),
        (both(images=lambda x: x * 1.05 - 6), "images", "images.round().clip(0, 255).astype('uint8')"),
        (both(images=lambda x: x / 255 * 1.0000001), "images", "(images.clip(0, 1) * 255.0).round().astype('uint8')"),
        (both(images=lambda x: x / 248 - 0.01), "images", "(images.clip(0, 1) * 255.0).round().astype('uint8')"),
        (
            both(images=lambda x: (x / 250).astype("f4")),
            "images",
            "(images.clip(0, 1) * 255.0).round().astype('uint8')",
        ),
        (
            both(images=lambda x: (x % 2).astype(np.int8)),
            "images",
            "(images.clip(0, 1) * 255.0).round().astype('uint8')",
        ),
        (both(images=lambda x: np.where(x > 250, np.nan, x / 255)), "images", NAN[9:]),
        (both(images=lambda x: np.where(x > 250, np.inf, x / 255)), "images", NAN[9:]),
        (both(images=lambda x: np.where(x < 9, -np.inf, x / 255).astype("f2")), "images", NAN[9:]),
    ],
)
def test_what_is_not_clear_is_refused_with_code_that_makes_it_so(given: dict[str, Any], kind: str, code: str):
    with pytest.raises(UsageError) as caught:
        from_arrays(**given)
    message = str(caught.value)
    assert code in message.replace("train_", "")
    assert "\n" not in message
    if code.endswith(" for") or code.endswith(" pair"):
        code = message.replace("train_", "").split(" = ")[1]
    if kind == "columns":
        done = {**given, "train_labels": eval(code, {"labels": given["train_labels"]})}
    else:
        done = unique(code, given) if kind == "unique" else each(kind, code, given)
    try:
        data = from_arrays(**done)
    except UsageError as error:  # the values of what is an array at last
        done = unique(UNIQUE, done) if "have labels" in str(error) or UNIQUE in str(error) else done
        further = re.search(r"images = (.*)", str(error))
        data = from_arrays(**(each("images", further[1], done) if further else done))
    assert len(data.train) == 4
    assert np.ptp(data.train.images) > 200
    np.testing.assert_array_equal(data.train.labels, [0, 1, 2, 1])


@pytest.mark.parametrize(
    ("train", "test", "code"),
    [
        (lambda x: x / 255, lambda x: x * 1.0, "train_images = (train_images.clip(0, 1) * 255.0).round()"),
        (lambda x: x / 250, lambda x: x + 0.5, "; test_images = test_images.round().clip(0, 255).astype('uint8')"),
        (lambda x: x / 255, lambda x: x, "(train_images.clip(0, 1) * 255.0).round().astype('uint8')"),
        (lambda x: x, lambda x: x / 127.5 - 1, "test_images = ((test_images.astype('float64') - (-1)) * (255 / 2))"),
        (lambda x: x / 127.5 - 1, lambda x: x + 0.0, "train_images = ((train_images.astype('float64') - (-1))"),
        (lambda x: x / 127.5 - 1, lambda x: x / 255, "test_images = (test_images.clip(0, 1) * 255.0)"),
        (lambda x: x > 99, lambda x: x, "train_images = train_images.astype('uint8') * 255"),
        (lambda x: (x > 99) * np.uint8(1), lambda x: x / 255, "train_images = (train_images.clip(0, 1) * 255.0)"),
        (lambda x: (x > 99) * 1, lambda x: x * 1, "train_images = (train_images.clip(0, 1) * 255.0)"),
        (lambda x: x.astype("u2") * 257, lambda x: x.astype("u2"), "test_images = test_images.round().clip(0, 255)"),
    ],
)
def test_splits_of_different_scales_are_refused_with_code_for_each(train: Any, test: Any, code: str):
    given = some()
    given = some(train_images=train(given["train_images"]), test_images=test(given["test_images"]))
    with pytest.raises(UsageError, match="of different types or scales") as caught:
        from_arrays(**given)
    assert code in str(caught.value)
    data = from_arrays(**by_name(str(caught.value).split("here perhaps ")[1], given))
    assert np.ptp(data.train.images) > 200
    assert np.ptp(data.test.images) > 200


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_values_that_are_no_numbers_are_found_wherever_they_are(part: str, value: float, dtype: Any):
    given = both(images=lambda x: (x / 255).astype(dtype))
    for place in ((0, 0, 0, 0), (1, 5, 4, 2)):
        images = given[f"{part}_images"].copy()
        images[place] = images[1, 5, 4, 2] = value
        count = len({place, (1, 5, 4, 2)})
        kind = f"{count} NaN" if np.isnan(value) else f"{count} ±inf"
        message = f"arrays: {part}_images holds {kind}, the first at {list(place)}; look"
        with pytest.raises(UsageError, match=re.escape(message)):
            from_arrays(**{**given, f"{part}_images": images})


def test_labels_that_are_no_numbers_can_be_left_out_with_their_images():
    for labels in (np.array([0, np.nan, 1, 2]), np.array([[0], [np.inf], [1], [2]])):
        given = some(train_labels=labels, test_labels=np.array([0, 1]))
        with pytest.raises(UsageError, match=r"train_labels holds 1 (NaN|±inf), the first at \[1") as caught:
            from_arrays(**given)
        data = from_arrays(**by_name(str(caught.value).split("leave these images out: ")[1], given))
        np.testing.assert_array_equal(data.train.labels, [0, 1, 2])


def test_images_of_several_classes_can_be_left_out():
    rows = np.array([[1, 0], [1, 1], [0, 1], [0, 0]])
    with pytest.raises(UsageError, match=r"rows mark 0 to 2; leave the others out: keep = .*labels\[keep\]$") as caught:
        from_arrays(**some(train_labels=rows, test_labels=np.eye(2)))
    code = str(caught.value).split("others out: ")[1].replace(", images[keep], labels[keep]", "")
    names = {"labels": rows}
    exec(code, names)
    left = {"train_images": some()["train_images"][names["keep"]], "train_labels": rows[names["keep"]]}
    assert len(from_arrays(**some(**left, test_labels=np.eye(2))).train) == 2


@pytest.mark.parametrize("side", [1, 2, 3])
def test_images_too_small_can_be_enlarged(tmp_path: Path, side: int):
    given = both(images=lambda x: x[:, :side, :side])
    np.savez(tmp_path / "a.npz", **given)
    for attempt in (lambda: from_arrays(**given), lambda: load(tmp_path / "a.npz", 32)):
        with pytest.raises(DataMissing, match=r"give larger images, e\.g\. images\.repeat") as caught:
            attempt()
    enlarged = from_arrays(**each("images", str(caught.value).split("e.g. ")[1], given))
    assert min(enlarged.shape[1:]) >= 4


def test_grey_images_can_be_made_colour_ones():
    for cut in (slice(1), 0):
        given = some(test_images=some()["test_images"][..., cut])
        with pytest.raises(DataMissing, match="3 channels but test images are 5x6 with 1 channel") as caught:
            from_arrays(**given)
        code = str(caught.value).split("as colour: ")[1][:-1]
        colour = {**given, "test_images": eval(code, {"numpy": np, "images": given["test_images"]})}
        np.testing.assert_array_equal(from_arrays(**colour).test.images[..., 2], some()["test_images"][..., 0])


def test_one_image_is_not_taken_for_many():
    given = both(images=lambda x: x[0])
    with pytest.raises(UsageError, match=r"here perhaps train_images = train_images\[None\]$"):
        from_arrays(**given)
    given = {**both(images=lambda x: x[0][None]), "train_labels": [0], "test_labels": [1]}
    assert len(from_arrays(**given).train) == 1


@pytest.mark.parametrize(
    ("name", "remedied"),
    [
        ("train_images", lambda x: np.stack(x)),
        ("train_labels", lambda x: x.astype(int)),
        ("class_names", lambda x: x.astype(str)),
    ],
)
def test_pickled_objects_of_a_file_are_named(tmp_path: Path, name: str, remedied: Any):
    given = some(class_names=np.array(list("abcd")))
    given[name] = objects(given[name])
    np.savez(tmp_path / "a.npz", **given)
    with pytest.raises(CorruptFile, match=rf"a\.npz: {name} was saved as pickled objects.*here perhaps ") as caught:
        load(tmp_path / "a.npz")
    values = eval(str(caught.value).split("here perhaps ")[1], {"numpy": np, name: given[name]})
    np.testing.assert_array_equal(values, remedied(given[name]))
    np.savez(tmp_path / "a.npz", **{**given, name: values})
    assert len(load(tmp_path / "a.npz").train) == 4


def test_images_without_a_label_can_be_left_out():
    given = some(train_labels=np.array([0, -1, 1, -1]), test_labels=np.array([0, 1]))
    with pytest.raises(UsageError, match=r"leave these out: keep = labels >= 0, images\[keep\], labels\[keep\]"):
        from_arrays(**given)
    keep = given["train_labels"] >= 0
    kept = {name: given[name][keep] for name in ("train_images", "train_labels")}
    assert len(from_arrays(**{**given, **kept}).train) == 2


@pytest.mark.parametrize("name", ["train_images", "test_images", "train_labels", "test_labels"])
def test_masked_values_are_not_taken_for_values(name: str):
    given = some()
    bare = np.ma.MaskedArray(given[name], mask=False)
    assert from_arrays(**{**given, name: bare}).fingerprint == from_arrays(**given).fingerprint
    masked = np.ma.MaskedArray(given[name], mask=False)
    masked[1] = np.ma.masked
    with pytest.raises(UsageError, match=f"{name} is masked at {given[name][1].size} of {given[name].size}") as caught:
        from_arrays(**{**given, name: masked})
    names = {name: masked}
    exec(re.search(r"e\.g\. (.*), or leave", str(caught.value))[1], names)
    assert len(from_arrays(**{**given, name: names[name]}).train) == 4
    with pytest.raises(UsageError, match=r"\[part.filled\(0\) for part in"):
        from_arrays(**{**given, name: list(masked)} if given[name].ndim > 1 else {**given, name: [masked]})


class Kept:
    """Does not let go of its values, as an array on another device."""

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise RuntimeError("on another device")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Kept(), "cannot be made an array (on another device); give a NumPy array"),
        ([Kept()], "cannot be made an array (on another device); give rows of one length, images of one size"),
        (object(), "is of the type object, not an array; give a NumPy array"),
        (np.array([None, 1, 2, 3]), "(NoneType, int), the first None being number 0; give a number for each"),
        (objects([np.zeros((5, 5)), np.zeros((5, 6))]), "of shapes (5, 5), (5, 6), …; bring all to one shape"),
        (np.zeros(4, "datetime64[s]"), "datetime64[s]"),
        (np.zeros(4, "V3"), "|V3"),
        (np.array(list("abcd"), np.bytes_), "|S1"),
    ],
)
@pytest.mark.parametrize("name", ["train_images", "test_labels"])
def test_what_holds_no_numbers_is_named(given: Any, message: str, name: str):
    with pytest.raises(UsageError) as caught:
        from_arrays(**some(**{name: given}))
    assert f"{name} " in str(caught.value)
    assert message in str(caught.value)
    assert "; give" in str(caught.value) or "; bring" in str(caught.value)


def test_tensors_that_keep_their_values_are_refused_with_code_that_frees_them():
    torch = pytest.importorskip("torch")
    for form in (
        lambda x: torch.tensor(x / 255, requires_grad=True),
        lambda x: torch.tensor(x / 255).to(torch.bfloat16),
        lambda x: torch.tensor(x).to_sparse(),
        lambda x: list(torch.tensor(x / 255, requires_grad=True)),
    ):
        given = both(images=form)
        with pytest.raises(UsageError, match="train_images cannot be made an array") as caught:
            from_arrays(**given)
        code = str(caught.value).split("its values: ")[1].replace("train_", "")
        assert np.ptp(from_arrays(**each("images", code, given)).train.images) > 200


def test_truth_values_as_labels_are_told():
    found = from_arrays(**both(labels=lambda y: y > 1))
    assert found.classes == ("0", "1")
    told(found, "labels of bool taken as 0 (False) and 1 (True)")


@pytest.mark.parametrize(
    ("names", "message", "remedied"),
    [
        (["a", "b", "a", "c"], "a names more than one class; give each class a name of its own", list("abcd")),
        (["é", "e\u0301", "a", "c"], "é names more than one class", list("abcd")),
        (["a", "", "b", " "], "class 1 has a blank name, '', 2 of 4 do; give each class a name", list("abcd")),
        (["a", None, "b", "c"], "class 1 has a blank name", list("abcd")),
    ],
)
def test_class_names_are_given_and_differ(tmp_path: Path, names: list[Any], message: str, remedied: list[str]):
    with pytest.raises(DataMissing, match=re.escape(message)):
        from_arrays(**some(), classes=names)
    assert from_arrays(**some(), classes=remedied).classes == tuple(remedied)
    if None not in names:
        for key in ("classes", "class_names"):
            np.savez(tmp_path / "a.npz", **some(), **{key: np.array(names)})
            with pytest.raises(DataMissing, match=re.escape(message)):
                load(tmp_path / "a.npz")


def test_class_names_may_be_bytes(tmp_path: Path):
    np.savez(tmp_path / "a.npz", **some(), class_names=np.array([b"ant", b"cat", b"cow", b"dog"]))
    assert load(tmp_path / "a.npz").classes == ("ant", "cat", "cow", "dog")


@pytest.mark.parametrize("again", ["train_images.npy", "train_images", "Train_Images.npy"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_array_stored_twice_is_refused(tmp_path: Path, again: str):
    path = tmp_path / "a.npz"
    np.savez(path, **some())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(again, archive.read("test_images.npy"))
    with pytest.raises(CorruptFile, match=r"holds more than one array train_images, .*numpy\.savez"):
        load(path)


def test_arrays_that_are_not_used_are_told(tmp_path: Path):
    np.savez(tmp_path / "a.npz", **some(), weights=np.zeros(3), x_train=some()["train_images"])
    assert "weights, x_train not used" in load(tmp_path / "a.npz").summary


def test_huge_label_is_refused_before_memory_is_taken(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(conversions.np, "unique", lambda *_: pytest.fail("counted in spite of its size"))
    with pytest.raises(UsageError, match="labels 0 to 100000000, outside 0 to 65535"):
        from_arrays(**some(train_labels=np.array([0, 1, 2, 10**8])))


@pytest.mark.parametrize(
    "names", [("x_train", "y_train", "x_test", "y_test"), ("X_train", "Y_train", "X_test", "y_test")]
)
def test_names_of_keras_are_read(tmp_path: Path, names: tuple[str, ...]):
    np.savez(tmp_path / "mnist.npz", **dict(zip(names, some().values(), strict=True)))
    assert load(tmp_path / "mnist.npz").fingerprint == from_arrays(**some()).fingerprint


def test_file_of_medmnist_is_read_and_its_validation_images_can_be_chosen(tmp_path: Path):
    given = both(labels=lambda y: y[:, None].astype(np.uint8))
    validation = {"val_images": given["train_images"][:3], "val_labels": given["train_labels"][:3]}
    np.savez(tmp_path / "pathmnist.npz", **given, **validation)
    found = load(tmp_path / "pathmnist.npz")
    assert found.fingerprint == from_arrays(**some()).fingerprint
    told(found, "val_images, val_labels not used")
    chosen = load(tmp_path / "pathmnist.npz", test_split="val")
    assert len(chosen.test) == 3
    told(chosen, "test images are val_images")
    told(chosen, "test_images, test_labels not used")


def test_arrays_without_test_images_are_divided_when_asked(tmp_path: Path):
    images = np.random.default_rng(0).integers(0, 256, (20, 6, 5, 3), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", x_train=images, y_train=np.arange(20) % 2)
    with pytest.raises(DataMissing, match=r"no arrays test_images and test_labels.*--set test_share=0\.2"):
        load(tmp_path / "a.npz")
    found = load(tmp_path / "a.npz", test_share=0.2)
    np.testing.assert_array_equal(np.bincount(found.test.labels), [2, 2])
    np.testing.assert_array_equal(np.bincount(found.train.labels), [8, 8])
    every = np.concatenate([found.train.images, found.test.images])
    assert {image.tobytes() for image in every} == {image.tobytes() for image in images}
    told(found, "0.2 of each class of x_train")


def test_foreign_file_says_what_it_holds(tmp_path: Path):
    np.savez(tmp_path / "a.npz", features=np.zeros(3), target=np.zeros(3))
    with pytest.raises(DataMissing, match="the file holds features, target"):
        load(tmp_path / "a.npz")


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_view_of_more_than_memory_holds_is_refused(dtype):
    images, few = np.broadcast_to(np.zeros(1, dtype), (100_000, 1000, 1000, 3)), np.zeros((4, 8, 8, 3), np.uint8)
    with pytest.raises(UsageError, match=r"train_images stands for 300,000,000,000 values, over the limit of 17,179,8"):
        from_arrays(images, np.zeros(100_000, int), images, np.zeros(100_000, int))
    with pytest.raises(UsageError, match=r"train_labels stands for 100,000,000,000 values"):
        from_arrays(few, np.broadcast_to(dtype(0), (10**11,)), few, np.arange(4))
