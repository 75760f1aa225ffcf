"""Which engines the tests run on."""

from __future__ import annotations

import os

import pytest

from dots_core.backends import backends

# Engines that must be tested; one that is named and missing fails, it is never skipped.
_NAMED = os.environ.get("DOTS_TEST_ENGINES")
ENGINES = _NAMED.split(",") if _NAMED else [backend.name for backend in backends() if backend.available]


def pytest_report_header() -> str:
    return f"dots engines: {', '.join(ENGINES)}"


@pytest.fixture
def backends() -> list[str]:
    """All engines that are tested."""
    return ENGINES


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" in metafunc.fixturenames:
        metafunc.parametrize("backend", ENGINES)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "engine(name): runs only when that engine is among those tested")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = [item for item in items if any(m.args[0] not in ENGINES for m in item.iter_markers("engine"))]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
