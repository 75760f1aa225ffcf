"""What lies in a folder of images: which part is for testing, what is read, and that the rest is accounted for."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dots_core.data import ImageData, from_arrays, load
from dots_core.data.account import PassedOver
from dots_core.data.sources import folder as folder_module
from dots_core.errors import CorruptFile, DataMissing, DotsError, UsageError

Write = Callable[..., Path]


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def pictures(*names: str) -> dict[str, np.ndarray]:
    return {name: noise(6, 5, 3, seed=seed) for seed, name in enumerate(names)}


def classes(*parts: str, count: int = 2, names: tuple[str, ...] = ("cat", "dog")) -> dict[str, np.ndarray]:
    return pictures(*(f"{part}/{name}/{n}.png" for part in parts for name in names for n in range(count)))


def passed_over(data: ImageData) -> dict[str, tuple[int, tuple[str, ...]]]:
    return {group.reason: (group.count, group.examples) for group in data.account.passed_over}


@pytest.mark.parametrize("unlabelled", ["test/0.png", "test/images/0.png"])
@pytest.mark.parametrize("name", ["val", "Val", "validation"])
def test_unlabelled_test_images_hide_no_validation_folder(write_images: Write, unlabelled: str, name: str):
    found = load(write_images({**classes("train", name, count=3), unlabelled: noise(6, 5, 3)}))
    assert len(found.test) == 6
    assert f"test images from {name}/, as test/ has" in found.summary


@pytest.mark.parametrize(("train", "test"), [("Train", "TEST"), ("TRAIN", "Validation")])
def test_case_of_the_names_of_splits_does_not_matter(write_images: Write, train: str, test: str):
    assert len(load(write_images(classes(train, test))).test) == 4


def test_setting_chooses_the_split_and_the_account_says_what_is_left(write_images: Write):
    root = write_images({**classes("train", "test"), **classes("val", "extra", count=3)})
    first = load(root)
    assert len(first.test) == 4
    assert "val/ not used" in first.summary
    for name in ("val", "VAL", "extra"):
        assert len(load(root, test_split=name).test) == 6
    assert "test images from val/; extra/, test/ not used" in load(root, test_split="val").summary


def test_flat_class_folder_is_divided_by_its_own_seed(write_images: Write):
    sizes = {"cat": 10, "dog": 5, "cow": 2, "ant": 1}
    names = [f"{name}/{number:02}.png" for name, count in sizes.items() for number in range(count)]
    root = write_images(pictures(*names))
    found = load(root, test_share=0.2)
    assert found.classes == ("ant", "cat", "cow", "dog")
    np.testing.assert_array_equal(np.bincount(found.test.labels), [0, 2, 1, 1])
    np.testing.assert_array_equal(np.bincount(found.train.labels), [1, 8, 1, 4])
    every = {*found.train.files, *found.test.files}
    assert every == {str(root / name) for name in names}
    assert load(root, test_share=0.2).fingerprint == found.fingerprint
    assert load(root, test_share=0.2, test_seed=1).fingerprint != found.fingerprint
    assert "0.2 of each class of pictures/, drawn with test_seed 0" in found.summary
    assert any("no test images of class ant" in warning for warning in found.warnings)


def test_held_out_images_are_always_the_same_ones(write_images: Write):
    root = write_images(classes("train", count=10))
    found = load(root, test_share=0.3)
    assert [Path(file).name for file in found.test.files] == ["0.png", "2.png", "6.png", "3.png", "6.png", "7.png"]


def test_tiny_imagenet_is_read_as_it_arrives(write_images: Write):
    rows = [("val_0.png", "n02"), ("val_1.png", "n01"), ("val_2.png", "n02")]
    names = [f"train/{name}/images/{name}_{n}.JPEG" for name in ("n01", "n02") for n in range(2)]
    root = write_images(pictures(*names, *(f"val/images/{file}" for file, _ in rows), "test/images/test_0.png"))
    for name in ("n01", "n02"):
        (root / "train" / name / f"{name}_boxes.txt").write_text("boxes")
    (root / "val" / "val_annotations.txt").write_text("".join(f"{file}\t{name}\t0\t0\t9\t9\n" for file, name in rows))
    (root / "wnids.txt").write_text("n01\nn02\n")
    found = load(root)
    assert found.classes == ("n01", "n02")
    assert [
        (Path(file).name, found.classes[label]) for file, label in zip(found.test.files, found.test.labels, strict=True)
    ] == [
        ("val_1.png", "n01"),
        ("val_0.png", "n02"),
        ("val_2.png", "n02"),
    ]
    assert len(found.train) == 4
    assert passed_over(found) == {"with an unknown suffix": (2, ("train/n01/n01_boxes.txt", "train/n02/n02_boxes.txt"))}
    assert "test images from val/, as test/ has folder images, which is no class of train images" in found.summary


KAGGLE = "ILSVRC/Data/CLS-LOC"
SOLUTION = "ImageId,PredictionString\nv_1,n02 110 59 360 265 n02 1 2 3 4 \nv_0,n01 1 2 3 4 \nv_2,n02 1 2 3 4 \n"


@pytest.mark.parametrize("place", ["", "val/", "../../../"])
def test_imagenet_is_read_as_kaggle_ships_it(write_images: Write, place: str):
    names = [f"train/{name}/{name}_{n}.JPEG" for name in ("n01", "n02") for n in range(2)]
    names += [f"val/v_{n}.JPEG" for n in range(3)] + ["test/t_0.JPEG", "val/odd.JPEG"]
    top = write_images(pictures(*(f"{KAGGLE}/{name}" for name in names)))
    root = top / KAGGLE
    (root / place / "LOC_val_solution.csv").write_text(SOLUTION)
    found = load(root)
    assert [(Path(file).name, label) for file, label in zip(found.test.files, found.test.labels, strict=True)] == [
        ("v_0.JPEG", 0),
        ("v_1.JPEG", 1),
        ("v_2.JPEG", 1),
    ]
    assert "test images from val/, as test/ has no class folders" in found.summary
    assert f"classes of val/ by {place}LOC_val_solution.csv" in found.summary
    assert passed_over(found)["not in LOC_val_solution.csv"] == (1, ("val/odd.JPEG",))
    with pytest.raises(DataMissing, match=re.escape(f"holds the data set '{KAGGLE}'; give that folder itself: {root}")):
        load(top)


def test_class_folders_of_imagenet_need_no_solution(write_images: Write):
    root = write_images(classes("train", "val"))
    (root / "LOC_val_solution.csv").write_text(SOLUTION)
    assert len(load(root).test) == 4


@pytest.mark.parametrize("text", ["", "ImageId,PredictionString\n", "v_0,n01\n", SOLUTION + "v_3,\n", SOLUTION + "v_3"])
def test_wrong_solution_is_named(write_images: Write, text: str):
    root = write_images({**classes("train", names=("n01", "n02")), **pictures("val/v_0.png")})
    (root / "LOC_val_solution.csv").write_text(text)
    with pytest.raises(CorruptFile, match="is not a line 'ImageId,PredictionString'"):
        load(root)


@pytest.mark.parametrize(("train", "test"), [("e\u0301te", "\u00e9te"), ("\u00e9te", "e\u0301te")])
def test_class_names_are_one_in_whatever_unicode_form(write_images: Write, train: str, test: str):
    root = write_images(pictures(f"train/{train}/0.png", "train/cat/0.png", f"test/{test}/0.png", "test/cat/0.png"))
    found = load(root)
    assert found.classes == ("cat", "\u00e9te")
    np.testing.assert_array_equal(found.test.labels, [0, 1])


def test_folders_of_one_name_in_two_unicode_forms_are_refused(write_images: Write):
    root = write_images({**pictures("train/e\u0301te/0.png", "train/\u00e9te/1.png"), **classes("train", "test")})
    with pytest.raises(DataMissing, match=r"two folders 'éte', .*put their images into one of them and delete"):
        load(root)
    shutil.move(root / "train" / "e\u0301te" / "0.png", root / "train" / "\u00e9te" / "0.png")
    (root / "train" / "e\u0301te").rmdir()
    assert load(root).classes == ("cat", "dog", "\u00e9te")


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (("train", "TRAIN", "test"), "TRAIN/ not used"),
        (("train", "test", "Test", "val", "extra"), "Test/, extra/, val/ not used"),
        (("train", "val", "holdout"), "test images from val/; holdout/ not used"),
    ],
)
def test_folders_that_are_not_used_are_told(write_images: Write, files: tuple[str, ...], told: str):
    root = write_images({**classes(*files), "stray.png": noise(6, 5, 3)})
    found = load(root)
    assert told in found.summary
    assert {Path(file).relative_to(root).parts[0] for file in found.train.files} == {"train"}
    assert passed_over(found)["beside the folders of the splits"] == (1, ("stray.png",))


def test_folders_that_are_not_used_are_told_where_images_are_held_out(write_images: Write):
    assert "extra/ not used" in load(write_images(classes("train", "extra")), test_share=0.5).summary


def test_split_is_named_in_its_own_case_first(write_images: Write):
    root = write_images({**classes("train", "val"), **classes("VAL", count=3)})
    assert (len(load(root, test_split="VAL").test), len(load(root, test_split="val").test)) == (6, 4)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("0.png n01\n", CorruptFile, "a line is not 'file<TAB>class'"),
        ("", CorruptFile, "a line is not"),
        ("0.png\tcat\n0.png\tdog\n", CorruptFile, "says of 0.png that it is of two classes, cat and dog"),
        ("0.png\tcat\n1.png\tcow\n", DataMissing, "names a class without train images, cow"),
        ("0.png\tcat\n7.png\tdog\n", DataMissing, "names files that are not in"),
    ],
)
def test_wrong_annotations_are_named(write_images: Write, text: str, error: type[DotsError], message: str):
    root = write_images({**classes("train"), **pictures("val/images/0.png", "val/images/1.png")})
    (root / "val" / "val_annotations.txt").write_text(text)
    with pytest.raises(error, match=re.escape(message)):
        load(root)


def test_images_in_nested_folders_are_read_and_links_in_circles_are_not_followed(write_images: Write):
    root = write_images({**classes("train", "test"), "train/cat/a/b/deep.png": noise(6, 5, 3)})
    os.symlink(root / "train" / "cat", root / "train" / "cat" / "a" / "circle")
    os.symlink("..", root / "train" / "cat" / "others")
    os.symlink(root, root / "train" / "dog" / "all")
    os.symlink(root / "test" / "cat", root / "train" / "dog" / "more")
    found = load(root)
    assert [Path(file).relative_to(root).as_posix() for file in found.train.files] == [
        *("train/cat/0.png", "train/cat/1.png", "train/cat/a/b/deep.png"),
        *("train/dog/0.png", "train/dog/1.png", "train/dog/more/0.png", "train/dog/more/1.png"),
    ]
    links = ("train/cat/a/circle", "train/cat/others", "train/dog/all")
    assert passed_over(found) == {"a link to a folder above it": (3, links)}


def test_very_deep_folders_end(write_images: Write):
    root = write_images(classes("train", "test"))
    top = deep = root / "train" / "cat"
    try:
        for _ in range(1200):
            deep = deep / "d"
            deep.mkdir()
        assert len(load(root).train) == 4
    finally:
        # Deeper than what removes the folders of tests can descend.
        while deep != top:
            deep.rmdir()
            deep = deep.parent


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM"])
def test_images_without_a_suffix_are_known_by_their_content(write_images: Write, form: str):
    root = write_images(classes("train", "test"))
    Image.fromarray(noise(6, 5, 3)).save(root / "train" / "cat" / "n01440764_10026", format=form)
    assert len(load(root).train) == 5


@pytest.mark.parametrize("suffix", [".jfif", ".JPE", ".webp"])
def test_rarer_suffixes_are_read(write_images: Write, suffix: str):
    root = write_images(classes("train", "test"))
    form = "WEBP" if suffix == ".webp" else "JPEG"
    Image.fromarray(noise(6, 5, 3)).save(root / "train" / "cat" / f"x{suffix}", format=form)
    assert len(load(root).train) == 5


def test_only_files_without_a_suffix_are_opened_to_be_known(write_images: Write, monkeypatch: pytest.MonkeyPatch):
    from dots_core.data.files import listing

    root = write_images(classes("train", "test"))
    seen = []
    monkeypatch.setattr(listing, "looks_like_image", lambda start: seen.append(start) or False)
    assert len(load(root).train) == 4
    assert seen == []


def test_everything_else_is_passed_over_and_accounted_for(write_images: Write):
    root = write_images(
        {
            **classes("train", "test"),
            "train/@eaDir/x.png": noise(9, 9, 3),
            "test/__MACOSX/x.png": noise(9, 9, 3),
            "train/cat/@EADIR/x.png": noise(9, 9, 3),
            "train/cat/._0.png": noise(9, 9, 3),
            "train/stray.png": noise(9, 9, 3),
        }
    )
    for name in ("train/.DS_Store", "train/dog/Thumbs.db", "train/dog/notes", "train/dog/a.heic", "train/dog/b.txt"):
        (root / name).write_bytes(b"BM is no image")
    os.mkfifo(root / "train" / "dog" / "pipe")
    found = load(root)
    assert len(found.train) == len(found.test) == 4
    assert passed_over(found) == {
        "hidden": (2, ("train/.DS_Store", "train/cat/._0.png")),
        "left by the system": (4, ("test/__MACOSX", "train/@eaDir", "train/cat/@EADIR")),
        "no regular file": (1, ("train/dog/pipe",)),
        "not in a class folder": (1, ("train/stray.png",)),
        "with an unknown suffix": (2, ("train/dog/a.heic", "train/dog/b.txt")),
        "without a suffix and no image": (1, ("train/dog/notes",)),
    }
    assert found.summary.startswith("pictures: 4 train and 4 test images of 5x6 in colour, 2 classes; 11 passed over: ")
    assert "4 left by the system (test/__MACOSX, train/@eaDir, train/cat/@EADIR, …)" in found.summary
    assert "\n" not in found.summary


def test_names_with_control_characters_are_told_without_them(write_images: Write):
    root = write_images(classes("train", "test"))
    (root / "train" / "cat" / "\x1b[2J\n.txt").write_text("no image")
    assert found_control_characters(load(root).summary) == []


def found_control_characters(text: str) -> list[str]:
    return [character for character in text if not character.isprintable()]


def test_account_is_bounded_however_much_is_passed_over(write_images: Write):
    root = write_images(classes("train", "test"))
    for number in range(300):
        (root / "train" / "cat" / f"{number:03}.txt").touch()
    found = load(root)
    group = PassedOver("with an unknown suffix", 300, ("train/cat/000.txt", "train/cat/001.txt", "train/cat/002.txt"))
    assert found.account.passed_over == (group,)
    assert len(found.summary) < 300


ORIENTATIONS = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: x.transpose(1, 0, 2)[:, ::-1],
    7: lambda x: x.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda x: x.transpose(1, 0, 2)[::-1],
    9: lambda x: x,
}


@pytest.mark.parametrize("form", ["png", "webp", "tif"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("on_demand", [False, True])
def test_images_are_turned_as_their_camera_was_held(
    write_images: Write, monkeypatch: pytest.MonkeyPatch, form: str, orientation: int, on_demand: bool
):
    if on_demand:
        monkeypatch.setattr(folder_module, "IN_MEMORY_LIMIT", 0)
    stored = noise(6, 5, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    root = write_images(classes("train", "test"))
    expected = ORIENTATIONS[orientation](stored)
    for path in [*root.glob("*/*/*.png")]:
        path.unlink()
        lossless = {"lossless": True} if form == "webp" else {}
        Image.fromarray(stored).save(path.with_suffix(f".{form}"), exif=exif, **lossless)
    found = load(root)
    assert found.shape == (3, *expected.shape[:2])
    np.testing.assert_array_equal(found.train.images[1], expected)


def test_jpeg_photographs_are_turned(write_images: Write):
    root = write_images(classes("train", "test"))
    exif = Image.Exif()
    exif[0x0112] = 6
    target = root / "train" / "cat" / "0.jpg"
    Image.fromarray(noise(5, 6, 3)).save(target, exif=exif)
    (root / "train" / "cat" / "0.png").unlink()
    expected = np.asarray(Image.open(target)).transpose(1, 0, 2)[:, ::-1]
    np.testing.assert_array_equal(load(root).train.images[0], expected)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_data_leaves_an_image_as_it_is(write_images: Write):
    root = write_images(classes("train", "test"))
    Image.fromarray(noise(6, 5, 3)).save(root / "train" / "cat" / "x.jpg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert len(load(root).train) == 5


def only(data: ImageData, about: str) -> str:
    found = [warning for warning in data.warnings if about in warning]
    assert len(found) == 1, data.warnings
    return found[0]


@pytest.mark.parametrize("on_demand", [False, True])
def test_images_that_show_nothing_are_named(write_images: Write, monkeypatch: pytest.MonkeyPatch, on_demand: bool):
    if on_demand:
        monkeypatch.setattr(folder_module, "IN_MEMORY_LIMIT", 0)
    root = write_images(classes("train", "test", count=6))
    assert load(root).warnings == ()
    Image.fromarray(np.full((6, 5, 3), [9, 80, 3], np.uint8)).save(root / "train" / "cat" / "1.png")
    Image.fromarray(np.full((6, 5, 3), 7, np.uint8)).save(root / "test" / "dog" / "2.png")
    twelve_bits = np.random.default_rng(0).integers(0, 4096, (6, 5), dtype=np.uint16)
    Image.fromarray(twelve_bits).save(root / "train" / "dog" / "3.png")
    Image.fromarray(twelve_bits * 16).save(root / "train" / "dog" / "4.png")
    shape = np.zeros((6, 5, 4), np.uint8)
    shape[2:4, 1:3, 3] = 255
    Image.fromarray(shape).save(root / "train" / "cat" / "5.png")
    found = load(root)
    constant = [warning for warning in found.warnings if "of one colour" in warning]
    assert len(constant) == 2
    assert "1 (train/cat/1.png)" in constant[0]
    assert "1 (test/dog/2.png)" in constant[1]
    assert "1 (train/dog/3.png)" in only(found, "16 bits")
    assert "1 (train/cat/5.png)" in only(found, "transparency")
    assert len(found.warnings) == 4


def test_split_of_equal_images_and_many_constant_ones_are_told_in_bounded_words(write_images: Write):
    root = write_images(classes("train", "test", count=9))
    for path in root.glob("test/*/*.png"):
        shutil.copy(root / "train/cat/0.png", path)
    for path in root.glob("train/cat/*.png"):
        Image.fromarray(np.full((6, 5, 3), int(path.stem), np.uint8)).save(path)
    found = load(root)
    assert "test images are all the same" in only(found, "all the same")
    assert "9 (train/cat/0.png, train/cat/1.png, train/cat/2.png and 6 more)" in only(found, "of one colour")


def test_arrays_that_show_nothing_are_numbered():
    train, test = noise(4, 6, 5, 3), np.zeros((2, 6, 5, 3), np.uint8)
    train[2] = 5
    found = from_arrays(train, [0, 1, 0, 1], test, [0, 1])
    assert "1 (train image 2)" in found.warnings[0]
    assert "2 (test image 0, test image 1)" in found.warnings[1]
    assert "test images are all the same" in found.warnings[2]


def test_class_without_test_images_is_a_warning_that_names_it(write_images: Write):
    for remaining in ("empty", "gone"):
        root = write_images(classes("train", "test", names=("cat", "cow", "dog")))
        shutil.rmtree(root / "test" / "cow")
        if remaining == "empty":
            (root / "test" / "cow").mkdir()
        found = load(root)
        assert found.classes == ("cat", "cow", "dog")
        assert "no test images of class cow" in only(found, "class cow")


def test_class_without_train_images_is_left_out_and_named(write_images: Write):
    root = write_images(classes("train", "test"))
    (root / "train" / "cow").mkdir()
    found = load(root)
    assert found.classes == ("cat", "dog")
    assert "folder train/cow without images" in only(found, "cow")


def test_unknown_class_names_do_not_make_warnings_endless():
    labels = np.arange(2000)
    found = from_arrays(noise(2000, 4, 4, 1), labels, noise(2, 4, 4, 1), [0, 1])
    assert "1998 classes 2, 3, 4, 5, 6 and 1993 more" in only(found, "test images of")


# ---- what is refused, the remedy the message names, and that it leads on


def annotate(text: str) -> Callable[[Path], object]:
    return lambda root: (root / "val" / "val_annotations.txt").write_text(text)


def save(*names: str) -> Callable[[Path], object]:
    def change(root: Path) -> None:
        for seed, name in enumerate(names):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(noise(6, 5, 3, seed=seed)).save(root / name)

    return change


def delete(name: str) -> Callable[[Path], object]:
    return lambda root: shutil.rmtree(root / name) if (root / name).is_dir() else (root / name).unlink()


def move(**names: str) -> Callable[[Path], object]:
    return lambda root: [(root / old).rename(root / new) for old, new in names.items()]


def nothing(root: Path) -> None:
    pass


FLAT = pictures(*(f"{name}/{n}.png" for name in ("cat", "dog") for n in range(3)))
TRAIN = classes("train")
BOTH = classes("train", "test")
REMEDIES: dict[str, tuple[dict[str, np.ndarray], Callable[[Path], object], dict[str, Any], list[tuple[str, Any, Any]]]]
REMEDIES = {
    # files, what is done to them, settings, then: words of a remedy, what is done to the files, settings after it
    "flat folder": (
        FLAT,
        nothing,
        {},
        [
            ("--set test_share=0.2", nothing, {"test_share": 0.2}),
            (
                "sort the images into train/<class>/ and test/<class>/",
                lambda root: [
                    save(*TRAIN, *classes("test"))(root),
                    delete("cat")(root),
                    delete("dog")(root),
                ],
                {},
            ),
        ],
    ),
    "no test folder": (
        TRAIN,
        nothing,
        {},
        [
            ("--set test_share=0.2", nothing, {"test_share": 0.2}),
            ("add test/<class>/ images", save("test/cat/0.png", "test/dog/0.png"), {}),
        ],
    ),
    "test folder of another name": (
        {**TRAIN, **classes("dev")},
        nothing,
        {},
        [
            ("take dev/: --set test_split=dev", nothing, {"test_split": "dev"}),
            ("--set test_share=0.2", nothing, {"test_share": 0.2}),
        ],
    ),
    "test folder of another name beside one that does not fit": (
        {**TRAIN, **classes("dev"), "test/0.png": noise(6, 5, 3)},
        nothing,
        {},
        [("take dev/: --set test_split=dev", nothing, {"test_split": "dev"})],
    ),
    "folders named otherwise": (
        classes("Training", "testing"),
        nothing,
        {"test_share": 0.2},
        [("rename Training to train and testing to test", move(Training="train", testing="test"), {})],
    ),
    "folders named otherwise, and one as usual": (
        classes("Training", "Test"),
        nothing,
        {},
        [("rename Training to train and Test to test", move(Training="train"), {})],
    ),
    "splits below classes": (
        pictures(
            *(f"{name}/{part}/{n}.png" for name in ("cat", "dog") for part in ("train", "test") for n in range(2))
        ),
        nothing,
        {},
        [
            (
                "sort the images into train/<class>/ and test/<class>/",
                lambda root: [
                    (
                        (root / part).mkdir(exist_ok=True),
                        (root / name / part).rename(root / part / name),
                        (root / name).rmdir() if part == "test" else None,
                    )
                    for name in ("cat", "dog")
                    for part in ("train", "test")
                ],
                {},
            )
        ],
    ),
    "no train folder": (classes("test"), nothing, {}, [("add train/<class>/ images", save(*TRAIN), {})]),
    "unlabelled test images only": (
        {**TRAIN, "test/0.png": noise(6, 5, 3)},
        nothing,
        {},
        [
            ("--set test_share=0.2", nothing, {"test_share": 0.2}),
            ("the same class folders", save("test/cat/0.png"), {}),
            (
                "or write test/val_annotations.txt with a line 'file<TAB>class' for each image",
                lambda root: (root / "test" / "val_annotations.txt").write_text("0.png\tcat\n"),
                {},
            ),
        ],
    ),
    "foreign test class": (
        {**BOTH, "test/cow/0.png": noise(6, 5, 3)},
        nothing,
        {},
        [
            ("--set test_share=0.2", nothing, {"test_share": 0.2}),
            ("the same class folders", delete("test/cow"), {}),
            ("the same class folders", save("train/cow/0.png"), {}),
        ],
    ),
    "empty test class folders": (
        TRAIN,
        lambda root: [(root / "test" / name).mkdir(parents=True) for name in ("cat", "dog")],
        {},
        [
            ("--set test_share=0.2", nothing, {"test_share": 0.2}),
            ("the same class folders", save("test/cat/0.png"), {}),
        ],
    ),
    "test images of a class without train images": (
        {**BOTH, "test/cow/0.png": noise(6, 5, 3)},
        lambda root: (root / "train" / "cow").mkdir(),
        {},
        [("add train images", save("train/cow/0.png"), {}), ("delete the folder", delete("test/cow"), {})],
    ),
    "named split that is not there": (BOTH, nothing, {"test_split": "dev"}, [("--set test_split=null", nothing, {})]),
    "ImageNet's validation images without their classes": (
        {**TRAIN, "val/ILSVRC2012_val_00000001.JPEG": noise(6, 5, 3)},
        nothing,
        {},
        [
            ("write val/val_annotations.txt", annotate("ILSVRC2012_val_00000001.JPEG\tcat\n"), {}),
            (
                "put Kaggle's LOC_val_solution.csv beside val/",
                lambda root: (root / "LOC_val_solution.csv").write_text(
                    "ImageId,PredictionString\nILSVRC2012_val_00000001,cat 1 2 3 4 \n"
                ),
                {},
            ),
        ],
    ),
    "named split that does not fit": (
        {**BOTH, "val/0.png": noise(6, 5, 3)},
        nothing,
        {"test_split": "val"},
        [
            ("take test/: --set test_split=null", nothing, {}),
            ("the same class folders", save("val/cat/0.png"), {"test_split": "val"}),
        ],
    ),
    "named split that does not fit, and no other": (
        {**TRAIN, "val/0.png": noise(6, 5, 3)},
        nothing,
        {"test_split": "val"},
        [("--set test_share=0.2 --set test_split=null", nothing, {"test_share": 0.2})],
    ),
    "named split of a flat folder": (
        FLAT,
        nothing,
        {"test_split": "val"},
        [("--set test_split=null", nothing, {"expect": "--set test_share=0.2"})],
    ),
    "share of what has test images": (BOTH, nothing, {"test_share": 0.2}, [("--set test_share=null", nothing, {})]),
    "share and named split": (
        {**TRAIN, **classes("val")},
        nothing,
        {"test_share": 0.2, "test_split": "val"},
        [
            ("--set test_share=null", nothing, {"test_split": "val"}),
            ("--set test_split=null", delete("val"), {"test_share": 0.2}),
        ],
    ),
    "share of nothing": (TRAIN, nothing, {"test_share": 0.0}, [("--set test_share=0.2", nothing, {"test_share": 0.2})]),
    "share of single images": (
        pictures("cat/0.png", "dog/0.png"),
        nothing,
        {"test_share": 0.2},
        [("add images", save("cat/1.png"), {"test_share": 0.2})],
    ),
    "single class": (
        classes("train", "test", names=("cat",)),
        nothing,
        {},
        [("add images of another class in a folder beside it", save("train/dog/0.png"), {})],
    ),
    "single class with images": (
        classes("train", "test", names=("cat",)),
        lambda root: (root / "train" / "dog").mkdir(),
        {},
        [("add images of another class", save("train/dog/0.png"), {})],
    ),
    "folder around class folders": (
        {f"images/{name}": pixels for name, pixels in FLAT.items()},
        nothing,
        {"test_share": 0.2},
        [("give that folder itself", nothing, {"test_share": 0.2, "below": "images"})],
    ),
    "folder around a data set": (
        {f"mine/{name}": pixels for name, pixels in BOTH.items()},
        nothing,
        {},
        [("give that folder itself", nothing, {"below": "mine"})],
    ),
    "classes without any image": (
        classes("test"),
        lambda root: [(root / "train" / name).mkdir(parents=True) for name in ("cat", "dog")],
        {},
        [("add files ending in", save("train/cat/0.png", "train/dog/0.png"), {})],
    ),
    "images beside the class folders": (
        {"train/0.png": noise(6, 5, 3), **classes("test")},
        nothing,
        {},
        [("put the images in train/<class>/", save("train/cat/0.png", "train/dog/0.png"), {})],
    ),
    "annotations of files that are not there": (
        {**TRAIN, "val/images/0.png": noise(6, 5, 3)},
        annotate("0.png\tcat\n1.png\tdog\n"),
        {},
        [("restore them", save("val/images/1.png"), {}), ("delete their lines", annotate("0.png\tcat\n"), {})],
    ),
    "annotations of an unknown class": (
        {**TRAIN, "val/images/0.png": noise(6, 5, 3)},
        annotate("0.png\tcow\n"),
        {},
        [
            ("add train images of it", save("train/cow/0.png"), {}),
            ("delete its lines", annotate("0.png\tcat\n"), {}),
        ],
    ),
    "two sizes": (
        {**BOTH, "test/cat/0.png": noise(9, 9, 3)},
        nothing,
        {},
        [("--set image_size=32", nothing, {"image_size": 32})],
    ),
    "too small": (
        {name: noise(3, 3, 3) for name in BOTH},
        nothing,
        {},
        [("--set image_size=32", nothing, {"image_size": 32})],
    ),
    "damaged file": (
        BOTH,
        lambda root: (root / "train/cat/0.png").write_bytes(b"damage"),
        {},
        [
            ("replace or delete the file", delete("train/cat/0.png"), {}),
            ("replace or delete the file", save("train/cat/0.png"), {}),
        ],
    ),
}


@pytest.mark.parametrize("case", REMEDIES)
def test_every_remedy_of_a_refusal_leads_on(write_images: Write, case: str):
    files, change, asked, remedies = REMEDIES[case]
    root = write_images(files)
    change(root)
    with pytest.raises(DotsError) as caught:
        load(root, **asked)
    message = str(caught.value)
    assert "\n" not in message
    for words, remedy, settings in remedies:
        assert words in message
        copy = root.with_name("remedied")
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(root, copy)
        remedy(copy)
        after = dict(settings)
        source, expect = copy / after.pop("below", ""), after.pop("expect", None)
        if expect is None:
            assert len(load(source, **after).train) > 0
        else:
            with pytest.raises(DataMissing, match=re.escape(expect)):
                load(source, **after)


def test_sources_with_a_test_split_of_their_own_need_no_other():
    with pytest.raises(UsageError, match=r"digits: has test images already.*--set test_share=null"):
        load("digits", test_share=0.2)
    with pytest.raises(DataMissing, match=r"digits: no split 'val' to test on; there is test.*--set test_split=null"):
        load("digits", test_split="val")
    with pytest.raises(UsageError, match="test_share=null"):
        load(load("digits"), test_share=0.2)
    assert len(load("digits", test_split="test").test) == 355
