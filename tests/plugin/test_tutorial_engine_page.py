"""The engine that docs/tutorial-engine.md shows, put together from the page, is an engine like any other."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from command import command, tiny_search
from stranger import install, pytest_run, run

pytestmark = pytest.mark.engine("torch")

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "tutorial-engine.md"
MOST = 250
"""Lines of the whole package, its blank ones included."""


def files() -> dict[str, str]:
    """Return the files that the page shows: a line names one, and the blocks that follow are its parts."""
    found: dict[str, list[str]] = {}
    for line, block in re.findall(
        r"^`([\w./]+)`:$|^```(?:toml|python)\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S
    ):
        if line:
            parts = found.setdefault(line, [])
        else:
            # Two blank lines part definitions, and one the methods of a class.
            parts.append(("" if not parts else "\n" if block.startswith(" ") else "\n\n") + block)
    return {path: "".join(parts) for path, parts in found.items()}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package as the page describes it."""
    folder = tmp_path_factory.mktemp("dots-plain")
    (folder / "dots_plain").mkdir()
    for path, text in {"dots_plain/__init__.py": "", **files()}.items():
        (folder / path).write_text(text, "utf-8")
    return folder


@pytest.fixture(scope="module")
def site(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which it is installed."""
    return install(package, tmp_path_factory.mktemp("site"))


def test_it_is_as_short_as_its_title_says() -> None:
    assert f"{MOST} lines" in PAGE.read_text("utf-8").partition("\n")[0]
    assert set(files()) == {"pyproject.toml", "dots_plain/info.py", "dots_plain/engine.py"}
    assert sum(text.count("\n") for text in files().values()) <= MOST


def test_it_is_written_as_ours_are(package: Path) -> None:
    for check in (("check",), ("format", "--check")):
        options = ("--no-cache", "--config", str(ROOT / "pyproject.toml"), "dots_plain")
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *check, *options], cwd=package, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout


SOME = "versions or unsupported or round_trip or run_layers_agrees or gradients_agree and (pairs or partial)"


def test_it_passes_some_of_the_suite(site: Path, tmp_path: Path) -> None:
    done = pytest_run("--dots-backend", "plain", "-q", "-k", SOME, cwd=tmp_path, site=site)
    assert done.returncode == 0, done.stdout
    assert int(re.findall(r"(\d+) passed", done.stdout)[0]) > 20


@pytest.mark.release
def test_it_passes_the_whole_suite(site: Path, tmp_path: Path) -> None:
    done = pytest_run("--dots-backend", "plain", "-q", cwd=tmp_path, site=site)
    assert done.returncode == 0, done.stdout


@pytest.mark.release
def test_it_works_and_searches(site: Path, tmp_path: Path) -> None:
    done = run(command("doctor", "--backend", "plain"), tmp_path, site)
    assert done.returncode == 0, done.stderr
    assert "plain: works" in done.stdout
    done = run(command(*tiny_search("plain", tmp_path / "run", "-q")), tmp_path, site)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "genotype.json").exists()
