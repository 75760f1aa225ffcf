"""How the packages are built: folders of few entries, and no circle of imports between modules or between folders."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from pathlib import Path

import grimp
import pytest

OURS = ("dots", "dots_core", "dots_torch", "dots_mindspore", "dots_jittor", "dots_reference", "dots_conformance")
ENTRIES = 12


@pytest.fixture(scope="module")
def arrows() -> set[tuple[str, str]]:
    """Which module imports which."""
    graph = grimp.build_graph(*OURS, cache_dir=None)
    return {(module, found) for module in graph.modules for found in graph.find_modules_directly_imported_by(module)}


def circle(arrows: Iterable[tuple[str, str]]) -> list[str]:
    """Return what lies on a circle of arrows or between two circles; nothing if there is none."""
    left = {(a, b) for a, b in arrows if a != b}
    while True:
        begins, ends = {a for a, _ in left}, {b for _, b in left}
        kept = {(a, b) for a, b in left if a in ends and b in begins}
        if kept == left:
            return sorted({a for a, _ in left})
        left = kept


def test_a_circle_is_found():
    assert circle([("a", "b"), ("b", "c"), ("c", "b"), ("c", "d")]) == ["b", "c"]
    assert circle([("a", "b"), ("b", "c"), ("a", "c")]) == []


def test_no_modules_import_each_other_in_a_circle(arrows):
    assert circle(arrows) == []


@pytest.mark.parametrize("package", OURS)
def test_no_folders_import_each_other_in_a_circle(arrows, package):
    """A folder is a package inside another, or a module beside one."""
    inside = {(a, b) for a, b in arrows if a.startswith(f"{package}.") and b.startswith(f"{package}.")}
    depth = max((a.count(".") for a, _ in inside), default=0)
    for level in range(2, depth + 1):
        folders = {(".".join(a.split(".")[:level]), ".".join(b.split(".")[:level])) for a, b in inside}
        assert circle(folders) == []


def folders(package: str) -> list[Path]:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    top = Path(spec.origin).parent
    return [top, *(path for path in top.rglob("*") if path.is_dir() and path.name != "__pycache__")]


@pytest.mark.parametrize("package", ["dots", "dots_core"])
def test_a_room_has_few_entries(package):
    counts = {path: sum(entry.name != "__pycache__" for entry in path.iterdir()) for path in folders(package)}
    assert {path: count for path, count in counts.items() if count > ENTRIES and path.parent.name != "presets"} == {}
