"""Which files of a folder are train images, which are test images, and of which classes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dots_core.data.account import Account, Tally, listed
from dots_core.data.files.annotations import ANNOTATIONS, SOLUTION, annotated_images, find_annotations
from dots_core.data.files.listing import class_folders, count_beside, list_classes, list_images, subfolders
from dots_core.data.files.pixels import SUFFIXES
from dots_core.data.held_out import SHARE_REMEDY, HeldOut
from dots_core.errors import DataMissing, quoted

TEST_NAMES = ("test", "val", "validation")
_TRAIN_NAMES = ("train",)
# As `training`, `train2017`, `Test_set`; with a train-like folder beside it, a test-like one is no class.
_TRAIN_LIKE = re.compile(r"train(ing)?([-_ ]?(set|data|images|split|\d+))*", re.IGNORECASE)
_TEST_LIKE = re.compile(r"(test(ing)?|valid(ation)?|val)([-_ ]?(set|data|images|split|\d+))*", re.IGNORECASE)
_FEW_FOLDERS = 4
"""Above a data set there are fewer folders than classes in one."""


@dataclass(frozen=True)
class Part:
    """The files of a split.

    Attributes
    ----------
    folder : str
        A folder above all of them.
    files : list of str, length N
    labels : int64 array, shape (N,)
    """

    folder: str
    files: list[str]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Layout:
    """The files of a data set, labelled by positions in ``classes``."""

    classes: tuple[str, ...]
    train: Part
    test: Part
    account: Account


def has_train_folder(root: Path) -> bool:
    """Tell whether a folder has a train folder in it."""
    return _named(root, _TRAIN_NAMES) != []


def find_layout(root: Path, held_out: HeldOut) -> Layout:
    """Find the train and test images of a folder.

    With a folder ``train``, its folders are the classes, and test images come from the first of
    ``test``, ``val`` and ``validation`` whose folders are all classes of it, or whose images a file
    annotates (:func:`.annotations.find_annotations`); otherwise the folders of ``root`` are the classes.
    Where there are no test images, a share of each class's is held out if that is asked for.
    The case of these names does not matter.

    Raises
    ------
    DataMissing
        If there are no train or no test images to be had, or only one class.
    UsageError
        If a share is to be held out though there are test images.
    """
    tally = Tally()
    named = _named(root, _TRAIN_NAMES)
    train_folder = root / named[0] if named else root
    if not named:
        _check_flat(root)
    found = list_classes(train_folder, root, tally)
    files = {name: paths for name, paths in found.items() if paths}
    hollow = [name for name in found if name not in files]
    if not files:
        raise DataMissing(_no_images(train_folder, hollow, tally))
    if len(files) == 1:
        raise DataMissing(_single(root, train_folder, next(iter(files)), hollow, bool(named)))
    if hollow:
        tally.warnings.append(
            f"{_folder(hollow, train_folder)} without images, left out of the classes; add images or delete the folder"
        )
    classes = tuple(files)
    train = _part(train_folder, classes, files)
    if named:
        count_beside(root, tally)
    chosen = _test_folder(root, train_folder, set(found), held_out, tally) if named else ""
    if chosen:
        held_out.check_unneeded(str(root), f"{chosen}/")
        test = _test_part(root / chosen, root, classes, tally)
    elif held_out.share is None:
        held_out.check_split(str(root), [])
        raise DataMissing(
            f"{root}: class folders ({listed(list(classes))}) but no train/ and test/ above them; {SHARE_REMEDY}, "
            "or sort the images into train/<class>/ and test/<class>/"
        )
    else:
        train, test = _divided(train, held_out, tally)
    return Layout(classes, train, test, tally.closed())


def _named(root: Path, names: tuple[str, ...]) -> list[str]:
    """The folders of these names in whatever case, in the order of the names; first those in the same case."""
    found = subfolders(root)
    return [
        folder
        for name in names
        for folder in sorted(found, key=lambda each: each != name)
        if folder.lower() == name.lower()
    ]


def _part(folder: Path, classes: tuple[str, ...], files: dict[str, list[str]]) -> Part:
    counts = [len(files.get(name, ())) for name in classes]
    labels = np.repeat(np.arange(len(classes), dtype=np.int64), counts)
    return Part(str(folder), [file for name in classes for file in files.get(name, ())], labels)


def _divided(part: Part, held_out: HeldOut, tally: Tally) -> tuple[Part, Part]:
    chosen = held_out.mask(part.labels, part.folder)
    tally.notes.append(held_out.told(f"{Path(part.folder).name}/"))

    def some(which: NDArray[np.bool_]) -> Part:
        return Part(part.folder, [part.files[n] for n in np.flatnonzero(which).tolist()], part.labels[which])

    return some(~chosen), some(chosen)


def _test_folder(root: Path, train_folder: Path, train: set[str], held_out: HeldOut, tally: Tally) -> str:
    """Choose the folder with the test images; empty if a share of the train images is to be held out instead."""
    others = [name for name in subfolders(root) if name != train_folder.name]
    held_out.check_split(str(root), others)
    candidates = _named(root, TEST_NAMES if held_out.split is None else (held_out.split,))
    unfit: dict[str, str] = {}
    chosen = ""
    for name in candidates:
        problem = _misfit(root / name, root, train)
        if not problem:
            chosen = name
            break
        unfit[name] = problem
    passed = "; ".join(f"{name}/ {why}" for name, why in unfit.items())
    if chosen or held_out.share is not None:
        if chosen and (unfit or chosen.lower() != TEST_NAMES[0]):
            tally.notes.append(f"test images from {chosen}/" + (f", as {passed}" if unfit else ""))
        elif passed:
            tally.notes.append(passed)
        if unused := [f"{name}/" for name in others if name not in (chosen, *unfit)]:
            tally.notes.append(f"{listed(unused)} not used")
        return chosen
    fit = [name for name in (*_named(root, TEST_NAMES), *others) if not _misfit(root / name, root, train)]
    remedy = SHARE_REMEDY
    if not candidates:
        remedy += f", or take {fit[0]}/: --set test_split={fit[0]}" if fit else ""
        raise DataMissing(
            f"{root}: no folder 'test' (nor 'val' nor 'validation') beside '{train_folder.name}'; "
            f"add test/<class>/ images, or {remedy}"
        )
    if held_out.split is not None:
        remedy += " --set test_split=null"
    if fit:
        usual = fit[0].lower() in TEST_NAMES
        remedy = f"take {fit[0]}/: --set test_split={'null' if usual else fit[0]}"
    raise DataMissing(
        f"{root}: no test images of the classes of {train_folder.name}/ ({listed(sorted(train))}): {passed}; "
        f"give test images the same class folders as train images{_annotate(root, unfit)}, or {remedy}"
    )


def _annotate(root: Path, unfit: Iterable[str]) -> str:
    """Say how the images of a folder without class folders can be told their classes."""
    flat = next((name for name in unfit if not subfolders(root / name)), None)
    if flat is None:
        return ""
    imagenet = any(name.startswith("ILSVRC2012_val_") for name in os.listdir(root / flat))
    also = f", or put Kaggle's {SOLUTION} beside {flat}/" if imagenet else ""
    return f", or write {flat}/{ANNOTATIONS} with a line 'file<TAB>class' for each image{also}"


def _misfit(folder: Path, root: Path, train: set[str]) -> str:
    """Say why a folder does not hold test images of the train folder's classes; empty if it does."""
    if find_annotations(folder, root) is not None:
        return ""
    names = class_folders(folder)
    foreign = [name for name in names if name not in train]
    if not names:
        return "has no class folders"
    if foreign:
        return f"has folder {quoted(listed(foreign))}, which is no class of train images"
    if not any(list_images(path, folder, Tally()) for path in names.values()):
        return "has no images"
    return ""


def _test_part(folder: Path, root: Path, classes: tuple[str, ...], tally: Tally) -> Part:
    annotations = find_annotations(folder, root)
    if annotations is not None:
        files = annotated_images(folder, annotations, classes, root, tally)
    else:
        files = {name: paths for name, paths in list_classes(folder, root, tally).items() if paths}
    unlearned = [name for name in files if name not in classes]
    if unlearned:
        raise DataMissing(
            f"{folder.parent}: {_folder(unlearned, folder)} with images, though the train folder has none of that "
            "class; add train images, or delete the folder"
        )
    return _part(folder, classes, files)


def _check_flat(root: Path) -> None:
    """Refuse a folder whose folders are no classes."""
    names = subfolders(root)
    if len(names) > 1 and all(has_train_folder(root / name) and _is_split_in_class(root / name) for name in names):
        raise DataMissing(
            f"{root}: each class has its own splits ({names[0]}/train); sort the images into train/<class>/ and "
            "test/<class>/"
        )
    if (inner := _data_set_in(root, names)) is not None:
        name = quoted(os.path.relpath(inner, root))
        raise DataMissing(f"{root}: holds the data set '{name}'; give that folder itself: {inner}")
    train = [name for name in names if _TRAIN_LIKE.fullmatch(name)]
    test = [name for name in names if _TEST_LIKE.fullmatch(name)]
    if test and (train or any(name.lower() in TEST_NAMES for name in test)):
        remedy = "add train/<class>/ images"
        if train:
            remedy = (
                f"rename {quoted(train[0])} to train and {quoted(test[0])} to test, with a folder for each class in it"
            )
        raise DataMissing(f"{root}: no folder 'train' beside {listed(names)}; {remedy}")


def _is_split_in_class(folder: Path) -> bool:
    """Whether a folder with a train folder is that of a class: its train folder has no class folders."""
    return not subfolders(folder / _named(folder, _TRAIN_NAMES)[0])


def _data_set_in(root: Path, names: list[str], levels: int = 3) -> Path | None:
    """Return the first folder with a train folder: directly below, or below few folders, as in Kaggle's ImageNet."""
    for name in names:
        if has_train_folder(root / name):
            return root / name
    if levels > 1 and len(names) <= _FEW_FOLDERS:
        for name in names:
            if (found := _data_set_in(root / name, subfolders(root / name), levels - 1)) is not None:
                return found
    return None


def _no_images(folder: Path, hollow: list[str], tally: Tally) -> str:
    account = tally.closed().text()
    seen = f" ({account})" if account else ""
    suffixes = f"files ending in {', '.join(sorted(SUFFIXES))}"
    if not hollow:
        return f"{folder}: no class folders{seen}; put the images in {folder.name}/<class>/: {suffixes}"
    return f"{folder}: no images in {_folder(hollow, folder)}{seen}; add {suffixes}"


def _single(root: Path, folder: Path, name: str, hollow: list[str], split: bool) -> str:
    beside = f" with images ({_folder(hollow, folder)} without)" if hollow else ""
    text = f"{folder}: only one class folder{beside}, '{quoted(name)}', and a network learns to tell classes apart; "
    inner = class_folders(folder)[name]
    if not split and len(subfolders(Path(inner))) > 1:
        return f"{text}if its folders are the classes, give that folder itself: {inner}"
    return f"{text}add images of another class in a folder beside it"


def _folder(names: list[str], folder: Path) -> str:
    return f"{'folder' if len(names) == 1 else f'{len(names)} folders'} {listed([f'{folder.name}/{n}' for n in names])}"
