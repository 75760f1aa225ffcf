"""CIFAR-10 and CIFAR-100 in the two forms their authors distribute, binary and Python."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dots_core.data.account import Tally, listed
from dots_core.data.files.archive import is_archive, read_files
from dots_core.data.files.listing import subfolders
from dots_core.data.files.safe_pickle import load_dict
from dots_core.data.images import ImageData, Split
from dots_core.errors import CorruptFile, DataMissing

_PIXELS = 3 * 32 * 32
_Part = tuple[NDArray[np.uint8], NDArray[np.int64]]


@dataclass(frozen=True)
class _Form:
    """One of the four forms: its files, and how a data file and the names file are read."""

    name: str
    classes: int
    train: tuple[str, ...]
    test: str
    names_file: str
    read: Callable[[bytes, str], _Part]
    read_names: Callable[[bytes, str], list[str]]

    @property
    def files(self) -> tuple[str, ...]:
        return (*self.train, self.test)


def is_cifar(path: Path) -> bool:
    """Tell whether a path is an archive, or a folder with a CIFAR data file or with a folder torchvision makes."""
    if path.is_dir():
        return _has_data_file(path) or any(_has_data_file(path / name) for name in _FOLDERS)
    return path.is_file() and is_archive(path)


def _has_data_file(folder: Path) -> bool:
    return any((folder / name).is_file() for form in _FORMS for name in form.files)


def _own_folder(root: Path, tally: Tally) -> Path:
    """The folder with the data files: the given one, or the one in it as the archives unpack to."""
    if not root.is_dir() or _has_data_file(root):
        return root
    found = [root / name for name in _FOLDERS if _has_data_file(root / name)]
    if len(found) > 1 and len({name.name.split("-")[1] for name in found}) > 1:
        raise DataMissing(f"{root}: holds {listed([folder.name for folder in found])}; give one of them: {found[0]}")
    if unused := [f"{name}/" for name in subfolders(root) if name != found[0].name]:
        tally.notes.append(f"{listed(unused)} not used")
    return found[0]


def load_cifar(path: str | os.PathLike[str]) -> ImageData:
    """Load CIFAR-10 or CIFAR-100 from a folder or an archive, binary or Python version.

    The folder may also be the one above, into which the original archive was unpacked.
    CIFAR-100 has its hundred fine classes. Classes are named as the names file says, or by
    their numbers if it is missing.

    Parameters
    ----------
    path : path of the folder or archive

    Returns
    -------
    ImageData

    Raises
    ------
    DataMissing
        If there are no CIFAR files, or only some of them.
    CorruptFile
        If a file is cut short, damaged or not to be trusted.
    """
    tally = Tally()
    root = _own_folder(Path(path), tally)
    wanted = {name for form in _FORMS for name in (*form.files, form.names_file)}
    found = read_files(root, wanted)
    form = next((form for form in _FORMS if any(name in found for name in form.files)), None)
    if form is None:
        raise DataMissing(
            f"{root}: no CIFAR files such as data_batch_1.bin or data_batch_1; download CIFAR-10 or -100, "
            "or unpack the archive if it holds an image folder"
        )
    missing = [name for name in form.files if name not in found]
    if missing:
        raise DataMissing(f"{root}: {form.name} without {', '.join(missing)}; add the missing files from the original")
    classes = tuple(map(str, range(form.classes)))
    if form.names_file in found:
        where = f"{root}/{form.names_file}"
        classes = tuple(form.read_names(found[form.names_file], where))
        if len(classes) != form.classes:
            raise CorruptFile(f"{where}: {len(classes)} class names instead of {form.classes}; restore the original")
    train = _joined([_read_one(form, found.pop(name), f"{root}/{name}") for name in form.train])
    test = _joined([_read_one(form, found.pop(form.test), f"{root}/{form.test}")])
    return ImageData(form.name, classes, train, test, str(root), tally.closed())


def _read_one(form: _Form, content: bytes, where: str) -> _Part:
    rows, labels = form.read(content, where)
    if len(labels) == 0 or labels.min() < 0 or labels.max() >= form.classes:
        raise CorruptFile(f"{where}: labels are not all in 0 to {form.classes - 1}; download the file again")
    return rows, labels


def _joined(parts: list[_Part]) -> Split:
    """Turn rows of 3072 channel-first values into one array with the channels last."""
    labels = np.concatenate([labels for _, labels in parts])
    images = np.empty((len(labels), 32, 32, 3), np.uint8)
    start = 0
    for rows, _ in parts:
        images[start : start + len(rows)] = rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        start += len(rows)
    return Split(images, labels)


def _read_binary(content: bytes, where: str, label_bytes: int) -> _Part:
    record = label_bytes + _PIXELS
    if not content or len(content) % record:
        raise CorruptFile(
            f"{where}: {len(content)} bytes are no whole number of {record}-byte records; download the file again"
        )
    rows = np.frombuffer(content, np.uint8).reshape(-1, record)
    # CIFAR-100 puts the coarse label before the fine one.
    return rows[:, label_bytes:], rows[:, label_bytes - 1].astype(np.int64)


def _read_lines(content: bytes, where: str) -> list[str]:
    return [line.strip() for line in content.decode("utf-8", "replace").splitlines() if line.strip()]


def _read_python(content: bytes, where: str, label_key: str) -> _Part:
    values = load_dict(content, where)
    rows, labels = _entry(values, "data", where), _entry(values, label_key, where)
    if not isinstance(rows, np.ndarray) or rows.dtype != np.uint8 or rows.ndim < 1 or rows.size != len(rows) * _PIXELS:
        raise CorruptFile(f"{where}: 'data' is no uint8 array of shape (N, {_PIXELS}); download the file again")
    if isinstance(labels, np.ndarray):
        labels = labels.tolist()
    if not isinstance(labels, list) or not all(type(label) is int and 0 <= label < 1 << 31 for label in labels):
        raise CorruptFile(f"{where}: '{label_key}' is no list of class numbers; download the file again")
    if len(labels) != len(rows):
        raise CorruptFile(f"{where}: {len(rows)} images have {len(labels)} labels; download the file again")
    return rows.reshape(-1, _PIXELS), np.array(labels, np.int64)


def _read_python_names(content: bytes, where: str, key: str) -> list[str]:
    names = _entry(load_dict(content, where), key, where)
    if not isinstance(names, list) or not all(isinstance(name, (str, bytes)) for name in names):
        raise CorruptFile(f"{where}: '{key}' is no list of class names; download the file again")
    return [name.decode("utf-8", "replace") if isinstance(name, bytes) else name for name in names]


def _entry(values: dict[Any, Any], key: str, where: str) -> Any:
    """Look up a key that Python 2 wrote as bytes and Python 3 as text."""
    for name in (key.encode(), key):
        if name in values:
            return values[name]
    raise CorruptFile(f"{where}: no entry '{key}'; download the file again")


_FOLDERS = ("cifar-10-batches-bin", "cifar-10-batches-py", "cifar-100-binary", "cifar-100-python")
_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
# Binary forms come first: where both are present there is no need to read a pickle.
_FORMS = (
    _Form(
        name="cifar10",
        classes=10,
        train=tuple(f"{name}.bin" for name in _BATCHES),
        test="test_batch.bin",
        names_file="batches.meta.txt",
        read=partial(_read_binary, label_bytes=1),
        read_names=_read_lines,
    ),
    _Form(
        name="cifar100",
        classes=100,
        train=("train.bin",),
        test="test.bin",
        names_file="fine_label_names.txt",
        read=partial(_read_binary, label_bytes=2),
        read_names=_read_lines,
    ),
    _Form(
        name="cifar10",
        classes=10,
        train=_BATCHES,
        test="test_batch",
        names_file="batches.meta",
        read=partial(_read_python, label_key="labels"),
        read_names=partial(_read_python_names, key="label_names"),
    ),
    _Form(
        name="cifar100",
        classes=100,
        train=("train",),
        test="test",
        names_file="meta",
        read=partial(_read_python, label_key="fine_labels"),
        read_names=partial(_read_python_names, key="fine_label_names"),
    ),
)
