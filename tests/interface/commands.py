"""Running the command in this process, as far as its exit code and what it says go."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import pytest

from dots.cli import main as cli

TINY = {
    "train_images": 48, "test_images": 20, "batch": 8, "channels": 2, "space.nodes": 2,
    "operation.epochs": 1, "operation.warmup": 0, "operation.layers": 3,
    "topology.epochs": 1, "topology.warmup": 0, "topology.layers": 3,
}  # fmt: skip
"""Settings that make a search on the reference engine a matter of seconds."""


@dataclass
class Told:
    """How a command ended."""

    code: int
    out: str
    err: str


def told(capsys: pytest.CaptureFixture[str], *arguments: Any) -> Told:
    """Run ``dots`` with arguments."""
    before, sys.argv = sys.argv, ["dots", *map(str, arguments)]
    code = 0
    try:
        cli.main()
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.argv = before
    captured = capsys.readouterr()
    return Told(code, captured.out, captured.err)


def refused(found: Told, code: int, *words: str) -> None:
    """Check that a command was refused in one bounded, printable line with these words, and said nothing else."""
    assert (found.code, found.out) == (code, ""), found
    assert found.err.startswith("dots: error: ")
    assert found.err.endswith("\n")
    line = found.err[:-1]
    assert line.isprintable(), line
    assert len(line) < 1500
    assert "unexpected" not in line
    for word in words:
        assert word in line, line
