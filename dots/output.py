"""What the command line says on stdout, and what it completes."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from typing import Any


def print_json(kind: str, document: dict[str, Any]) -> None:
    """Print one JSON document with its schema's name and the version of dots."""
    from dots import __version__

    print(json.dumps({"schema": f"dots/{kind}/1", "version": __version__, **document}, indent=2))


def beside(label: str, paragraph: str) -> str:
    """Return a paragraph beside its label: one line, or on a terminal as many as it takes, all indented."""
    if not sys.stdout.isatty():
        return label + paragraph
    indent = " " * len(label)
    width = max(shutil.get_terminal_size().columns, len(label) + 40)
    return textwrap.fill(paragraph, width, initial_indent=label, subsequent_indent=indent, break_long_words=False)


def complete_backend(incomplete: str) -> list[str]:
    """Return the engines whose name begins so."""
    from dots_core.backends import backends

    return [backend.name for backend in backends() if backend.name.startswith(incomplete)]
