"""How templates become text: nothing foreign in them is markup, and a name that they lack is an error."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

_TERMINAL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
# What XML 1.0 has no way to write: a process's last words may hold anything.
_UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def writable(text: str) -> str:
    """Return text without terminal colours; characters that no document may hold become ``�``."""
    return _UNWRITABLE.sub("�", _TERMINAL.sub("", text))


def render(package: str, template: str, **values: Any) -> Markup:
    """Fill a template.

    Parameters
    ----------
    package : str
        Whose folder ``templates`` holds it. It may extend, include and import those of `dots.pages`.
    values
        What the template names. A string is text and is escaped, unless it is `markupsafe.Markup`.

    Raises
    ------
    jinja2.UndefinedError
        If the template names something that was not given.
    """
    return Markup(_environment(package).get_template(template).render(values))


def phrase(words: str, *values: Any) -> Markup:
    """Fill markup as `str.format` does, with what templates would write for the values."""
    return Markup(words).format(*map(_written, values))


@cache
def _environment(package: str) -> Environment:
    return Environment(
        loader=ChoiceLoader([PackageLoader(name) for name in dict.fromkeys((package, __package__))]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_written,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _written(value: Any) -> Any:
    return writable(value) if isinstance(value, str) and not isinstance(value, Markup) else value
