"""A study's directory: what was asked, kept so that it is resumed as it was begun or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dots_core.bounds import COUNT, SEEDS
from dots_core.errors import CorruptFile, UsageError, quoted
from dots_core.storage.atomic import to_json, write_atomic, writing
from dots_core.storage.reading import read_json

MARKER = "study.json"
FORMAT = "dots-study"
VERSION = 1

_COUNTED = ("seeds", "seed", "topologies", "best")


def is_study(path: Path) -> bool:
    """Whether a directory is a study of ours."""
    return (path / MARKER).is_file()


def read_asked(path: Path, study: str) -> dict[str, Any]:
    """Return what was asked of the study in a directory.

    Raises
    ------
    UsageError
        If it is another study.
    CorruptFile
        If its record is damaged or of another version.
    """
    marker = path / MARKER
    try:
        record = read_json(marker)
        known = record["format"] == FORMAT
        version, name, asked = record["version"], record["study"], dict(record["asked"])
        if known and version == VERSION:
            _check_types(name, asked)
    except (CorruptFile, ValueError, KeyError, TypeError):
        raise CorruptFile(f"{marker} is damaged; start a new study") from None
    if not known or version != VERSION:
        raise CorruptFile(f"{path} is a study of format {quoted(version)}, this release reads {VERSION}")
    if name != study:
        raise UsageError(
            f"{path} is the study '{quoted(name)}', not '{study}'; go on with it by: dots study {name} --resume"
        )
    return asked


def _check_types(study: object, asked: Mapping[str, Any]) -> None:
    """Raise ValueError unless every part of a request is what the command line gives: a mapping, a number or a text."""
    if not isinstance(study, str):
        raise ValueError
    for key, value in asked.items():
        if key.endswith("settings"):
            good = isinstance(value, dict)
        elif key in _COUNTED:
            good = type(value) is int and 0 <= value <= (SEEDS if key == "seeds" else COUNT)
        else:
            good = value is None or isinstance(value, str)
        if not good:
            raise ValueError


def settle(
    path: Path, study: str, given: Mapping[str, Any], defaults: Mapping[str, Any], resume: bool
) -> dict[str, Any]:
    """Return what is asked of a study: the saved request, or the given one filled up with defaults; writes nothing.

    Parameters
    ----------
    given : mapping
        What the user gave; None where nothing.
    defaults : mapping
        The same keys.

    Raises
    ------
    UsageError
        If the directory holds something else, a study that is not to be resumed, or one that was
        asked otherwise; the message names what differs. Where its images lie may differ.
    """
    if is_study(path):
        if not resume:
            raise UsageError(f"{path} is a study already; go on with it by --resume, or give another --out")
        saved = read_asked(path, study)
        changed = [
            f"{key}: {saved.get(key)} → {value}"
            for key, value in given.items()
            if value is not None and value != saved.get(key) and key != "data"
        ]
        if changed:
            raise UsageError(
                f"{path} was begun with another request ({'; '.join(changed)}); start a new study, "
                f"or go on as it was begun by: dots study {study} --out {path} --resume"
            )
        if saved.keys() != defaults.keys():
            odd = ", ".join(sorted(saved.keys() ^ defaults.keys()))
            raise CorruptFile(f"{path / MARKER} has missing or unknown keys: {odd}; start a new study")
        return saved if given.get("data") is None else {**saved, "data": given["data"]}
    if path.exists() and (not path.is_dir() or any(not p.name.startswith(".") for p in path.iterdir())):
        raise UsageError(f"{path} exists and is not a study of dots; give another --out")
    return {key: default if given.get(key) is None else given[key] for key, default in defaults.items()}


def create(path: Path, study: str, asked: Mapping[str, Any]) -> None:
    """Make the directory a study, or note where the images of one that is resumed lie now."""
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
        if not is_study(path) or read_asked(path, study) != asked:
            record = {"format": FORMAT, "version": VERSION, "study": study, "asked": dict(asked)}
            write_atomic(path / MARKER, to_json(record))
        (path / "runs").mkdir(exist_ok=True)
