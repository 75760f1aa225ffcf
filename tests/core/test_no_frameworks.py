"""The core stands alone: it loads no framework and knows no other package."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import dots_core

FOREIGN = {"torch", "mindspore", "jittor", "PIL", "safetensors", "pydantic", "matplotlib"}
PACKAGES = {"dots", "dots_torch", "dots_mindspore", "dots_jittor", "dots_reference", "dots_conformance"}

SCRIPT = """
import importlib, pkgutil, sys
import dots_core
names = [m.name for m in pkgutil.walk_packages(dots_core.__path__, "dots_core.", onerror=print)]
for name in names:
    importlib.import_module(name)
print(*names)
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_importing_everything_loads_no_framework():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    submodules, loaded = (set(line.split()) for line in done.stdout.splitlines())
    assert {"dots_core.search.runner", "dots_core.storage.checkpoint", "dots_core.data.batches.loader"} <= submodules
    assert "numpy" in loaded
    assert not loaded & (FOREIGN | PACKAGES)


ROOT = Path(dots_core.__path__[0])
SOURCES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_imports_another_room_or_an_engines_framework(path):
    """Not even inside a function."""
    imported = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            imported.add((node.module or "").partition(".")[0])
    assert not imported & (PACKAGES | {"torch", "mindspore", "jittor"})
