"""Known deviations: what an engine's framework does differently, in which versions, and why.

An entry excuses the tensors it names, nothing else. One that excuses nothing any more is stale:
the framework was mended, and the entry must go.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from dots_core.errors import CorruptFile, quoted
from dots_core.storage.reading import read_json

FORMAT = "dots-conformance-ledger"
PATH = Path(__file__).with_name("ledger.json")


@dataclass(frozen=True)
class Entry:
    """One known deviation.

    Attributes
    ----------
    backend : str
    package : str
        The key of the engine's versions that ``versions`` speaks of.
    versions : str
        A version specifier, for example ``">=2.9,<2.11"``.
    cases, tensors : str
        Shell patterns of case names and of keys of arrays. A case that ended without arrays
        is excused by ``tensors`` of ``"*"`` only.
    devices : str
        Shell pattern of device names.
    reason : str
        What the framework does, in a sentence.
    link : str
        Where that is documented or reported.
    """

    backend: str
    package: str
    versions: str
    cases: str
    tensors: str
    reason: str
    link: str = ""
    devices: str = "*"

    def concerns(self, backend: str, device: str, versions: Mapping[str, str]) -> bool:
        """Whether it speaks of this engine, device and version."""
        if self.backend != backend or not fnmatchcase(device, self.devices) or self.package not in versions:
            return False
        try:
            return SpecifierSet(self.versions).contains(Version(versions[self.package]), prereleases=True)
        except InvalidVersion:
            return False

    def excuses(self, case: str, tensor: str) -> bool:
        """Whether it names a tensor of a case; the tensor of a case without arrays is ``"*"``."""
        return fnmatchcase(case, self.cases) and (tensor == self.tensors or fnmatchcase(tensor, self.tensors))


def read_ledger(path: Path = PATH) -> tuple[Entry, ...]:
    """Read a ledger.

    Raises
    ------
    CorruptFile
        If it is not one, or an entry lacks a reason.
    """
    try:
        record: Any = read_json(path)
        if record["format"] != FORMAT or record["version"] != 1:
            raise ValueError("another format or version")
        entries = tuple(Entry(**entry) for entry in record["entries"])
        if not all(isinstance(part, str) for entry in entries for part in vars(entry).values()):
            raise ValueError("a part of an entry is no text")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptFile(f"{path} is no ledger of known deviations: {quoted(str(error))}") from None
    for entry in entries:
        if not entry.reason:
            raise CorruptFile(f"{path}: the entry for {entry.backend}, {entry.cases} gives no reason")
    return entries


def stale(entries: Iterable[Entry], used: set[Entry], cases: Iterable[str]) -> tuple[Entry, ...]:
    """Return the entries that could have excused something among these cases, and did not."""
    names = list(cases)
    return tuple(e for e in entries if e not in used and any(fnmatchcase(name, e.cases) for name in names))
