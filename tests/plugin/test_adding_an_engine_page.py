"""What docs/adding-an-engine.md shows and names is what is there; what docs/tutorial-engine.md names is, too."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from stranger import LOOPBACK, install, pytest_run

from dots_core.engine.protocol import Engine, Network, UnrollingNetwork

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "adding-an-engine.md").read_text("utf-8")
BOTH = PAGE + (ROOT / "docs" / "tutorial-engine.md").read_text("utf-8")
FILES = re.findall(r"^`(tests/plugin/dots-loopback/\S+)`:\n\n```\w+\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("path", "shown"), FILES, ids=[path for path, _ in FILES])
def test_a_file_it_shows_is_the_file(path: str, shown: str) -> None:
    assert shown == (ROOT / path).read_text("utf-8")


def test_it_shows_both_files_that_register_an_engine() -> None:
    assert {Path(path).name for path, _ in FILES} == {"pyproject.toml", "info.py"}


def test_it_lists_every_verb_with_its_parameters() -> None:
    verbs = {"name"}
    for protocol in (Engine, Network, UnrollingNetwork):
        for name, verb in inspect.getmembers(protocol, inspect.isfunction):
            if not name.startswith("_"):
                parameters = list(inspect.signature(verb).parameters)[1:]
                verbs.add(f"{name}({', '.join(parameters)})")
    assert set(re.findall(r"^\| `(.+?)` \|", PAGE, re.MULTILINE)) == verbs


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(dots_core(?:\.\w+)+)[`(]", BOTH))))
def test_a_name_it_mentions_exists(name: str) -> None:
    module, _, rest = name.partition(".")
    found: Any = importlib.import_module(module)
    for part in rest.split("."):
        module = f"{module}.{part}"
        if importlib.util.find_spec(module) if hasattr(found, "__path__") else None:
            found = importlib.import_module(module)
        else:
            # A field without a default is no attribute of its class.
            found = getattr(found, part, None) or found.__annotations__[part]


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:\w+/)+[\w.-]+)`(?!:)", BOTH))))
def test_a_path_it_mentions_exists(path: str) -> None:
    assert (ROOT / path).exists() or (LOOPBACK / path).exists() or path.startswith("dots_plain/")


def test_the_test_file_it_shows_runs(tmp_path: Path) -> None:
    (test_file,) = re.findall(r"^```python\n(from dots_conformance.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / "test_loopback.py").write_text(test_file)
    site = install(LOOPBACK, tmp_path / "site")
    done = pytest_run("-q", "-k", "versions or twenty_steps and pairs", "test_loopback.py", cwd=tmp_path, site=site)
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout
