"""What the command line says on stdout, and what it completes."""

from __future__ import annotations

import json
from typing import Any


def print_json(kind: str, document: dict[str, Any]) -> None:
    """Print one JSON document with its schema's name and the version of dots."""
    from dots import __version__

    print(json.dumps({"schema": f"dots/{kind}/1", "version": __version__, **document}, indent=2))


def complete_backend(incomplete: str) -> list[str]:
    """Return the engines whose name begins so."""
    from dots_core.backends import backends

    return [backend.name for backend in backends() if backend.name.startswith(incomplete)]
