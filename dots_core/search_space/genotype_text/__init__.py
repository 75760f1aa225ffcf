"""Genotypes as the world writes them, read without evaluating anything.

The forms are listed in ``docs/genotypes.md``. What can be read in two ways is refused, and a text
that says more than a genotype is read with a remark about what was left aside.
"""

from __future__ import annotations

import codecs
import json
import os
import warnings
from typing import Any

from dots_core.errors import CorruptFile, UsageError, nearest, quoted
from dots_core.search_space.genotype import Genotype
from dots_core.search_space.genotype_text import nni
from dots_core.search_space.genotype_text.edges import FIELDS, Reading, genotype_of
from dots_core.search_space.genotype_text.find import EXPECTED, Found, find, is_record
from dots_core.search_space.genotype_text.values import NotLiteral
from dots_core.storage.reading import parse_json, read_file

TEXT_LIMIT = 1 << 20
"""Bytes of a text at most: a thousand genotypes, or the log of a search."""

__all__ = [
    "TEXT_LIMIT",
    "Reading",
    "SeveralGenotypes",
    "load_genotype",
    "parse_genotype",
    "read_genotype",
    "read_text",
]


class SeveralGenotypes(UsageError):
    """A text holds several genotypes, or not the one that was asked for.

    Attributes
    ----------
    pick : str or None
        What would pick one of them; empty if nothing would, None if nothing is to be picked.
    """

    def __init__(self, message: str, pick: str | None) -> None:
        super().__init__(message)
        self.pick = pick


def parse_genotype(text: str, name: str | int | None = None) -> Genotype:
    """Return the genotype in a text, as `read_text` reads it; remarks are told by a `UserWarning`.

    Parameters
    ----------
    text : str
    name : str or int, optional
        Which of several: its name, or the number of the line on which it begins.

    Raises
    ------
    UsageError
        As `read_text`.
    """
    try:
        return _told(read_text(text, _pick(name)))
    except SeveralGenotypes as error:
        example = "" if not error.pick else f", for example dots.parse_genotype(text, {quoted(repr(error.pick))})"
        raise UsageError(f"the text {error}{example}") from None


def load_genotype(path: str | os.PathLike[str], name: str | int | None = None) -> Genotype:
    """Return the genotype in a file, as `read_genotype` reads it; remarks are told by a `UserWarning`.

    Parameters
    ----------
    path : path
        Or ``"FILE:NAME"`` for one of several in a file.
    name : str or int, optional
        Which of several: its name, or the number of the line on which it begins.

    Raises
    ------
    CorruptFile, UsageError
        As `read_genotype`.
    """
    return _told(read_genotype(path, _pick(name)))


def _pick(name: str | int | None) -> str | None:
    if name is not None and (isinstance(name, bool) or not isinstance(name, (str, int))):
        raise UsageError(f"which genotype is meant is said by its name or the number of its line, not {quoted(name)}")
    return None if name is None else str(name)


def _told(reading: Reading) -> Genotype:
    for remark in reading.remarks:
        warnings.warn(remark, stacklevel=3)
    return reading.genotype


def read_genotype(path: str | os.PathLike[str], pick: str | None = None) -> Reading:
    """Read a genotype's file.

    Parameters
    ----------
    path : path
        Or ``"FILE:NAME"``, which picks as well; a file of that whole name comes first.
    pick : str, optional
        Which of several: its name, or the number of the line on which it begins.

    Raises
    ------
    CorruptFile
        If the file is no regular file, too large, not text, or holds no genotype that can be read.
    UsageError
        If it cannot be opened, or which of several genotypes is meant is not said.
    """
    try:
        name = os.fspath(path)
        if not isinstance(name, str):
            raise TypeError
        file, colon, named = name.rpartition(":")
        if pick is None and colon and not os.path.lexists(name) and os.path.lexists(file):
            name, pick = file, named
        content = read_file(name, TEXT_LIMIT)
    except (TypeError, ValueError):  # no path at all, or one with a null character
        raise UsageError(f"expected the path of a genotype's file, not {quoted(path)}") from None
    except OSError as error:
        raise UsageError(f"cannot read the genotype {quoted(name)}: {error.strerror}") from None
    except CorruptFile as error:
        raise CorruptFile(f"{error}: a genotype is read from a genotype.json, or from the lines that hold it") from None
    shown = quoted(name)
    try:
        return read_text(_decoded(content), pick)
    except UnicodeDecodeError:
        raise CorruptFile(f"{shown} is a binary file, not a genotype; give a genotype.json") from None
    except SeveralGenotypes as error:
        example = shown if error.pick is None else f"{shown}:{quoted(error.pick)}"
        raise UsageError(f"{shown} {error}" + ("" if error.pick == "" else f", for example {example}")) from None
    except UsageError as error:
        raise CorruptFile(f"{shown}: {error}") from None


def read_text(text: str, pick: str | None = None) -> Reading:
    """Read a genotype's text: our JSON, or a form in which others write cells.

    Raises
    ------
    SeveralGenotypes
        If it holds several and ``pick`` names none of them.
    UsageError
        If it holds none that can be read; the message says what was found and what can be read.
    """
    if not isinstance(text, str):
        raise UsageError(f"not a genotype: expected text, not {quoted(type(text).__name__)}")
    if len(text) > TEXT_LIMIT:
        raise UsageError(f"not a genotype: {len(text):,} characters; give the part with the genotype alone")
    text = text.removeprefix("\ufeff")
    try:
        return _read(text, pick)
    except RecursionError:
        raise UsageError("not a genotype: the text is nested too deeply; give the genotype alone") from None


def _read(text: str, pick: str | None) -> Reading:
    if text.lstrip()[:1] in ("{", "["):
        try:
            value = parse_json(text)
        except ValueError as error:
            return _python(text, pick, f"not a genotype: the text is not JSON ({quoted(str(error))})")
        inner = value.get("genotype") if isinstance(value, dict) else None
        if is_record(value) or is_record(inner) or not find(text):
            return _value(value, pick)
    return _python(text, pick)


def _python(text: str, pick: str | None, otherwise: str | None = None) -> Reading:
    found = find(text)
    if not found:
        raise UsageError(otherwise or f"not a genotype: {_what(text)}; {EXPECTED}")
    chosen = _choose(found, pick)
    try:
        fields = chosen.fields()
    except NotLiteral as error:
        raise UsageError(f"not a genotype: {chosen.place}{error}") from None
    if "format" in fields:  # ours, but not in JSON
        raise UsageError(otherwise or "not a genotype: what dots writes is JSON, and this text is not JSON")
    return _record(fields)


def _value(value: Any, pick: str | None = None) -> Reading:
    """Read what a JSON text holds."""
    if isinstance(value, dict) and "format" not in value and isinstance(value.get("genotype"), dict):
        value = value["genotype"]  # what `dots show --json` and `dots search --json` print
    if pick is not None:
        raise SeveralGenotypes(f"holds one genotype without a name, not '{quoted(pick)}'; leave the name out", None)
    if isinstance(value, list) and len(value) == len(FIELDS):  # a named tuple in JSON
        value = dict(zip(FIELDS, value, strict=True))
    if isinstance(value, dict):
        return _record(value)
    raise UsageError(f"not a genotype: found {quoted(json.dumps(value)[:1000])}; {EXPECTED}")


def _record(record: dict[str, Any]) -> Reading:
    if "format" in record:
        return Reading(Genotype.from_record(record))
    if nni.exported(record):
        return nni.genotype_of_export(record)
    return genotype_of(record)


def _choose(found: list[Found], pick: str | None) -> Found:
    if pick is None:
        named = found
    else:
        named = [one for one in found if pick in (one.name, str(one.line))]
        if not named:
            names = [one.name for one in found if one.name]
            hint = nearest(quoted(pick), names)
            raise _several(f"holds no genotype '{quoted(pick)}'{hint}; it holds", found)
    if len(named) > 1 and len({one.key for one in named}) > 1:
        raise _several(f"holds {len(named)} genotypes{f' named {quoted(pick)}' if pick else ''}:", named)
    return named[0]


def _several(message: str, found: list[Found]) -> SeveralGenotypes:
    """List genotypes so that any of them can be picked: by their names, or where these are no names by their lines."""
    names = list(dict.fromkeys(one.name for one in found if one.name))
    if len(names) == len(found):
        return SeveralGenotypes(f"{message} {quoted(', '.join(names))}; pick one by its name", names[-1])
    lines = [str(one.line) for one in found]
    if len(set(lines)) < len(lines):
        return SeveralGenotypes(f"{message} those on lines {quoted(', '.join(lines))}; give the one meant alone", "")
    return SeveralGenotypes(f"{message} those on lines {quoted(', '.join(lines))}; pick one by its line", lines[-1])


def _what(text: str) -> str:
    """Say what a text without a genotype is, as far as that can be told."""
    import re

    if not text.strip():
        return "the text is empty"
    if re.search(r"\|\w{1,40}~\d", text):
        return (
            "found a cell of NAS-Bench-201, whose nodes and operations are not those of the DARTS space and "
            "cannot be written in it"
        )
    return f"found {quoted(repr(text.strip()[:1000]))}"


def _decoded(content: bytes) -> str:
    """Decode UTF-8, or UTF-16 with the byte-order mark that some consoles write."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16")
    return content.decode("utf-8-sig")
