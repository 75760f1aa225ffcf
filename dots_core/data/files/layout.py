"""Which files of a folder are train images, which are test images, and of which classes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dots_core.data.account import Account, Tally, listed
from dots_core.data.files.listing import list_classes, list_images, subfolders
from dots_core.data.files.pixels import SUFFIXES
from dots_core.data.held_out import SHARE_REMEDY, HeldOut
from dots_core.data.messages import reason
from dots_core.errors import CorruptFile, DataMissing, quoted
from dots_core.storage.reading import read_file

TEST_NAMES = ("test", "val", "validation")
_TRAIN_NAMES = ("train",)
_ANNOTATIONS_LIMIT = 64 << 20


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
    ``test``, ``val`` and ``validation`` whose folders are all classes of it, or that has a file
    ``val_annotations.txt`` as Tiny-ImageNet's; otherwise the folders of ``root`` are the classes.
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
    """The folders of these names in whatever case, in the order of the names."""
    found = subfolders(root)
    return [folder for name in names for folder in found if folder.lower() == name]


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
    names = TEST_NAMES if held_out.split is None else (held_out.split.lower(),)
    held_out.check_split(str(root), [name for name in subfolders(root) if name != train_folder.name])
    candidates = _named(root, names)
    unfit: dict[str, str] = {}
    for number, name in enumerate(candidates):
        problem = _misfit(root / name, train)
        if not problem:
            if unfit:
                passed = "; ".join(f"{other}/ {why}" for other, why in unfit.items())
                tally.notes.append(f"test images from {name}/, as {passed}")
            elif name.lower() != TEST_NAMES[0]:
                tally.notes.append(f"test images from {name}/")
            unused = [other for other in _named(root, TEST_NAMES) if other not in (*candidates[: number + 1], *unfit)]
            if unused:
                tally.notes.append(f"{listed([f'{other}/' for other in unused])} not used")
            return name
        unfit[name] = problem
    passed = "; ".join(f"{name}/ {why}" for name, why in unfit.items())
    if held_out.share is not None:
        if unfit:
            tally.notes.append(passed)
        return ""
    if not candidates:
        raise DataMissing(
            f"{root}: no folder 'test' (nor 'val' nor 'validation') beside '{train_folder.name}'; "
            f"add test/<class>/ images, or {SHARE_REMEDY}"
        )
    remedy = SHARE_REMEDY
    if held_out.split is not None:
        remedy += " --set test_split=null"
        others = [name for name in _named(root, TEST_NAMES) if name not in unfit and not _misfit(root / name, train)]
        if others:
            remedy = f"leave out test_split to take {others[0]}/: --set test_split=null"
    raise DataMissing(
        f"{root}: no test images of the classes of {train_folder.name}/ ({listed(sorted(train))}): {passed}; "
        f"give test images the same class folders as train images, or {remedy}"
    )


def _misfit(folder: Path, train: set[str]) -> str:
    """Say why a folder does not hold test images of the train folder's classes; empty if it does."""
    if _annotations(folder) is not None:
        return ""
    names = subfolders(folder)
    foreign = [name for name in names if name not in train]
    if not names:
        return "has no class folders"
    if foreign:
        return f"has folder {quoted(listed(foreign))}, which is no class of train images"
    if not any(list_images(os.fspath(folder / name), folder, Tally()) for name in names):
        return "has no images"
    return ""


def _test_part(folder: Path, root: Path, classes: tuple[str, ...], tally: Tally) -> Part:
    annotations = _annotations(folder)
    if annotations is not None:
        files = _annotated(folder, annotations, classes, root, tally)
    else:
        files = {name: paths for name, paths in list_classes(folder, root, tally).items() if paths}
    unlearned = [name for name in files if name not in classes]
    if unlearned:
        raise DataMissing(
            f"{folder.parent}: {_folder(unlearned, folder)} with images, though the train folder has none of that "
            "class; add train images, or delete the folder"
        )
    return _part(folder, classes, files)


def _annotations(folder: Path) -> Path | None:
    """The file that says which class each image of a validation folder belongs to, as Tiny-ImageNet has it."""
    path = folder / "val_annotations.txt"
    return path if path.is_file() else None


def _annotated(
    folder: Path, annotations: Path, classes: tuple[str, ...], root: Path, tally: Tally
) -> dict[str, list[str]]:
    try:
        lines = read_file(annotations, _ANNOTATIONS_LIMIT).decode("utf-8", "surrogateescape").splitlines()
    except OSError as error:
        raise DataMissing(
            f"{annotations}: cannot be read ({reason(error)}); check the file and its permissions"
        ) from error
    rows = [line.split("\t") for line in lines if line.strip()]
    if not rows or not all(len(row) >= 2 for row in rows):
        raise CorruptFile(f"{annotations}: a line is not 'file<TAB>class'; take the file from the original archive")
    class_of = {row[0]: row[1].strip() for row in rows}
    foreign = sorted(set(class_of.values()) - set(classes))
    if foreign:
        raise DataMissing(
            f"{annotations} names a class without train images, {quoted(listed(foreign))}; "
            "add train images of it, or delete its lines"
        )
    files: dict[str, list[str]] = {}
    images = folder / "images" if (folder / "images").is_dir() else folder
    for path in list_images(os.fspath(images), root, tally):
        name = class_of.pop(os.path.basename(path), None)
        if name is None:
            tally.pass_over(f"not in {annotations.name}", path[len(str(root)) + 1 :])
        else:
            files.setdefault(name, []).append(path)
    if class_of:
        raise DataMissing(
            f"{annotations} names files that are not in {images}: {quoted(listed(sorted(class_of)))}; "
            "restore them from the original archive, or delete their lines"
        )
    return files


def _check_flat(root: Path) -> None:
    """Refuse a folder whose folders are no classes."""
    names = subfolders(root)
    for name in names:
        if has_train_folder(root / name):
            raise DataMissing(f"{root}: holds the data set '{quoted(name)}'; give that folder itself: {root / name}")
    if any(name.lower() in TEST_NAMES for name in names):
        raise DataMissing(f"{root}: no folder 'train' beside {listed(names)}; add train/<class>/ images")


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
    if not split and len(subfolders(root / name)) > 1:
        return f"{text}if its folders are the classes, give that folder itself: {root / name}"
    return f"{text}add images of another class in a folder beside it"


def _folder(names: list[str], folder: Path) -> str:
    return f"{'folder' if len(names) == 1 else f'{len(names)} folders'} {listed([f'{folder.name}/{n}' for n in names])}"
