"""Files that say of which class each image of a flat folder is, as Tiny-ImageNet and Kaggle's ImageNet have them."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

from dots_core.data.account import Tally, listed
from dots_core.data.files.listing import list_images, subfolders
from dots_core.data.messages import reason
from dots_core.errors import CorruptFile, DataMissing, quoted
from dots_core.storage.reading import read_file

ANNOTATIONS = "val_annotations.txt"
SOLUTION = "LOC_val_solution.csv"
_HEADER = "ImageId,PredictionString"
_LIMIT = 64 << 20
# Kaggle's archive has the folders of images here below the solution.
_BELOW_SOLUTION = ("ILSVRC", "Data", "CLS-LOC")


def find_annotations(folder: Path, root: Path) -> Path | None:
    """Return the file that says which class each image of a folder belongs to.

    It is ``val_annotations.txt`` in the folder, or for one without class folders Kaggle's
    ``LOC_val_solution.csv``: in it, beside it, or where Kaggle's archive unpacks it.
    """
    path = folder / ANNOTATIONS
    if path.is_file():
        return path
    if subfolders(folder):
        return None
    places = [folder]
    if folder.name.lower() in ("val", "validation"):
        places.append(root)
        above = Path(os.path.abspath(root))
        if above.parts[-3:] == _BELOW_SOLUTION:
            places.append(above.parents[2])
    return next((place / SOLUTION for place in places if (place / SOLUTION).is_file()), None)


def annotated_images(
    folder: Path, annotations: Path, classes: tuple[str, ...], root: Path, tally: Tally
) -> dict[str, list[str]]:
    """Return the image files of each class in a folder.

    Raises
    ------
    DataMissing
        If the file cannot be read, or names a class without train images or an image that is not there.
    CorruptFile
        If the file has another form.
    """
    solution = annotations.name == SOLUTION
    class_of = _solution(annotations) if solution else _annotations(annotations)
    foreign = sorted(set(class_of.values()) - set(classes))
    if foreign:
        raise DataMissing(
            f"{annotations} names a class without train images, {quoted(listed(foreign))}; "
            "add train images of it, or delete its lines"
        )
    tally.notes.append(f"classes of {folder.name}/ by {os.path.relpath(annotations, root)}")
    files: dict[str, list[str]] = {}
    images = folder / "images" if (folder / "images").is_dir() else folder
    for path in list_images(os.fspath(images), root, tally):
        name = os.path.basename(path)
        label = class_of.pop(os.path.splitext(name)[0] if solution else name, None)
        if label is None:
            tally.pass_over(f"not in {annotations.name}", path[len(str(root)) + 1 :])
        else:
            files.setdefault(label, []).append(path)
    if class_of:
        raise DataMissing(
            f"{annotations} names files that are not in {images}: {quoted(listed(sorted(class_of)))}; "
            "restore them from the original archive, or delete their lines"
        )
    return files


def _annotations(path: Path) -> dict[str, str]:
    rows = [line.split("\t") for line in _lines(path) if line.strip()]
    if not rows or not all(len(row) >= 2 for row in rows):
        raise CorruptFile(f"{path}: a line is not 'file<TAB>class'; take the file from the original archive")
    return _unique(path, [(row[0], unicodedata.normalize("NFC", row[1].strip())) for row in rows])


def _solution(path: Path) -> dict[str, str]:
    """Read lines ``ILSVRC2012_val_00000001,n01751748 110 59 360 265``: an image, its class and boxes in it."""
    header, *rest = _lines(path) or [""]
    rows = [(file.strip(), said.split()) for file, _, said in (line.partition(",") for line in rest if line.strip())]
    if header.strip() != _HEADER or not rows or not all(file and said for file, said in rows):
        raise CorruptFile(
            f"{path}: is not a line '{_HEADER}' and a line 'image,class …' for each image; take the file from the "
            "original archive"
        )
    return _unique(path, [(file, said[0]) for file, said in rows])


def _unique(path: Path, pairs: list[tuple[str, str]]) -> dict[str, str]:
    class_of: dict[str, str] = {}
    for file, label in pairs:
        if class_of.setdefault(file, label) != label:
            raise CorruptFile(
                f"{path}: says of {quoted(file)} that it is of two classes, {quoted(class_of[file])} and "
                f"{quoted(label)}; delete the wrong line"
            )
    return class_of


def _lines(path: Path) -> list[str]:
    try:
        return read_file(path, _LIMIT).decode("utf-8-sig", "surrogateescape").splitlines()
    except OSError as error:
        raise DataMissing(f"{path}: cannot be read ({reason(error)}); check the file and its permissions") from error
