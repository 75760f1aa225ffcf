"""A bundle: everything one engine did on a set of cases, as files any machine can judge.

A folder with ``manifest.json`` and one safetensors file for each case that was recorded. The
manifest says on what machine, engine, device and precision it was made, how each case ended,
and the sha256 of every file; it is written last. Nothing in a bundle is code.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dots_conformance.cases import Recording
from dots_core.bounds import CHECKPOINT_BYTES
from dots_core.errors import CorruptFile, UsageError, quoted
from dots_core.storage.atomic import to_json, write_atomic, writing
from dots_core.storage.checkpoint import pack_arrays, unpack_arrays
from dots_core.storage.reading import read_file, read_json

FORMAT = "dots-conformance-bundle"
VERSION = 1
MANIFEST = "manifest.json"
_ARRAYS = "cases"

RECORDED, REFUSED, RAISED, CRASHED, TIMED_OUT = "recorded", "refused", "raised", "crashed", "timed out"
"""How a case can end: with arrays; the engine said it cannot; an exception; the process died; it took too long."""


@dataclass(frozen=True)
class Ending:
    """How one case ended.

    Attributes
    ----------
    status : str
    seconds : float
    message : str
        What went wrong.
    decisions : tuple of records
        See `dots_conformance.cases.Recording`.
    sha256 : str
        Of the case's file, empty where there is none.
    """

    status: str
    seconds: float = 0.0
    message: str = ""
    decisions: tuple[dict[str, Any], ...] = ()
    sha256: str = ""

    @classmethod
    def of(cls, record: dict[str, Any]) -> Ending:
        """Read what `dataclasses.asdict` made of one."""
        return cls(**{**record, "decisions": tuple(record.get("decisions", ()))})


@dataclass
class Manifest:
    """What is said of a bundle besides its arrays.

    Attributes
    ----------
    backend, device, precision : str
    seed : int
        Of the cases (`dots_conformance.cases.all_cases`).
    draw : int
        Number of the reference engine's draw (`dots_conformance.rounding`); 0 for other engines.
    suite : str
        Version of dots the cases are of.
    versions, environment : dict
        The engine's and the machine's.
    cases : dict
        `Ending` by case name.
    """

    backend: str
    device: str
    precision: str
    seed: int
    draw: int
    suite: str
    versions: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    cases: dict[str, Ending] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Short name for people, for example ``"mindspore float32"``."""
        return f"{self.backend} {self.precision}" + ("" if self.device == "cpu" else f" {self.device}")


class Bundle:
    """A bundle on disk.

    Parameters
    ----------
    folder : Path
    manifest : Manifest
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest

    @classmethod
    def open(cls, folder: Path) -> Bundle:
        """Open a finished bundle.

        Raises
        ------
        UsageError
            If there is none.
        CorruptFile
            If the manifest is damaged or of another format.
        """
        path = folder / MANIFEST
        if not path.is_file():
            raise UsageError(
                f"{folder} holds no conformance bundle (no {MANIFEST}); record one, or record it again if it was "
                f"interrupted: dots conformance run --backend … --out {folder}"
            )
        try:
            record = read_json(path)
            if record.pop("format") != FORMAT or record.pop("version") != VERSION:
                raise ValueError("another format or version")
            cases = {name: Ending.of(ending) for name, ending in record.pop("cases").items()}
            manifest = Manifest(**record, cases=cases)
            _check_types(manifest)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CorruptFile(
                f"{path} is no manifest of a conformance bundle this release reads: {quoted(str(error))}"
            ) from None
        return cls(folder, manifest)

    def read(self, case: str) -> Recording | None:
        """Return what was recorded of a case, or None.

        Raises
        ------
        CorruptFile
            If the file is missing or is not the one the manifest describes.
        """
        ending = self.manifest.cases.get(case)
        if ending is None or ending.status != RECORDED:
            return None
        path = case_file(self.folder, case)
        if not path.is_file():
            raise CorruptFile(f"{path} is missing from the bundle; copy the whole folder, or record it again")
        content = read_file(path, CHECKPOINT_BYTES)
        if hashlib.sha256(content).hexdigest() != ending.sha256:
            raise CorruptFile(f"{path} is not what was recorded (sha256 differs); copy it again, or record it again")
        return Recording(unpack_arrays(content, path), ending.decisions)

    def write_manifest(self) -> None:
        """Write the manifest, which makes the bundle whole."""
        record = {"format": FORMAT, "version": VERSION, **asdict(self.manifest)}
        write_atomic(self.folder / MANIFEST, to_json(record))


def _check_types(manifest: Manifest) -> None:
    """Raise ValueError unless every part is of the type it is declared with."""
    texts = [manifest.backend, manifest.device, manifest.precision, manifest.suite]
    for mapping in (manifest.versions, manifest.environment):
        texts += [*mapping.keys(), *mapping.values()]
    for ending in manifest.cases.values():
        texts += [ending.status, ending.message, ending.sha256]
        if type(ending.seconds) not in (int, float) or not all(isinstance(each, dict) for each in ending.decisions):
            raise ValueError("the ending of a case is of another form")
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("something that is a text is none")
    if type(manifest.seed) is not int or type(manifest.draw) is not int:
        raise ValueError("its seed or draw is no whole number")


def case_file(folder: Path, case: str) -> Path:
    """Where a case's arrays are kept; names hold only letters, digits and ``-``, ``_``, ``.``."""
    return folder / _ARRAYS / (re.sub(r"[^A-Za-z0-9._-]+", "__", case) + ".safetensors")


def write_recording(folder: Path, case: str, recording: Recording) -> str:
    """Write a case's arrays and return the file's sha256."""
    path = case_file(folder, case)
    content = pack_arrays(recording.arrays)
    with writing(path, "record again"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()
