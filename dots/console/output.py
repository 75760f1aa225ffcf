"""What the command line says on stdout, and what it completes."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import textwrap
import warnings
from typing import Any


def print_json(kind: str, document: dict[str, Any]) -> None:
    """Print one JSON document with its schema's name and the version of dots."""
    from dots import __version__

    print(json.dumps({"schema": f"dots/{kind}/1", "version": __version__, **document}, indent=2))


def hush_libraries() -> None:
    """Keep libraries' warnings off stderr: what is left there are errors and the warnings of dots itself.

    Who asks Python for warnings, by ``-W`` or ``PYTHONWARNINGS``, still gets them.
    """
    if not sys.warnoptions:
        # A filter would not do: importing a library may put its own before it.
        warnings.showwarning = lambda *_, **__: None
    logging.disable(logging.WARNING)


def beside(label: str, paragraph: str) -> str:
    """Return a paragraph beside its label: one line, or on a terminal as many as it takes, all indented."""
    if not sys.stdout.isatty():
        return label + paragraph
    indent = " " * len(label)
    width = max(shutil.get_terminal_size().columns, len(label) + 40)
    return textwrap.fill(paragraph, width, initial_indent=label, subsequent_indent=indent, break_long_words=False)


def complete_search_setting(incomplete: str) -> list[str]:
    """Return what a begun setting of a search can become."""
    from dots.config.completion import complete_setting

    return complete_setting("search", incomplete, os.environ)


def complete_train_setting(incomplete: str) -> list[str]:
    """Return what a begun setting of a training can become."""
    from dots.config.completion import complete_setting

    return complete_setting("train", incomplete, os.environ)


def complete_backend(incomplete: str) -> list[str]:
    """Return the engines whose name begins so."""
    from dots_core.engine.registry import backends

    return [backend.name for backend in backends() if backend.name.startswith(incomplete)]
