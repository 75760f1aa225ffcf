"""Which engines the tests run on."""

from __future__ import annotations

import os
import signal

import pytest

from dots_core.engine.registry import backends

# Tests put into the background by a shell ignore Ctrl-C, and so would all that they start and interrupt.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Engines that must be tested; one that is named and missing fails, it is never skipped.
_NAMED = os.environ.get("DOTS_TEST_ENGINES")
ENGINES = _NAMED.split(",") if _NAMED else [backend.name for backend in backends() if backend.available]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--kernel-sweep",
        choices=("sampled", "whole"),
        default="sampled",
        help="of the layer forms engines can be asked for: some of each kind, or all, in minutes",
    )

    parser.addoption(
        "--release", action="store_true", help="also what is long and what the rest makes likely: hours on two cores"
    )


def pytest_report_header() -> str:
    return f"dots engines: {', '.join(ENGINES)}"


@pytest.fixture(scope="session")
def backends() -> list[str]:
    """All engines that are tested."""
    return ENGINES


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" in metafunc.fixturenames:
        # What no engine has a part in is not tried on all.
        any_engine = metafunc.definition.get_closest_marker("any_engine") is not None
        few = ENGINES[: 2 if metafunc.config.getoption("release") else 1]
        metafunc.parametrize("backend", few if any_engine else ENGINES)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "any_engine: about what no engine has a part in; runs on one, for a release on two"
    )
    config.addinivalue_line(
        "markers", "release(*of, but): with --release only; of: these parameters; but: not these tests"
    )
    config.addinivalue_line("markers", "engine(name): runs only when that engine is among those tested")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = [
        item
        for item in items
        if any(m.args[0] not in ENGINES for m in item.iter_markers("engine"))
        or (not config.getoption("--release") and any(_for_a_release(item, m) for m in item.iter_markers("release")))
    ]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def _for_a_release(item: pytest.Item, mark: pytest.Mark) -> bool:
    """Whether a mark holds for a test: always, or where one of its parameters is named."""
    if getattr(item, "originalname", "") in mark.kwargs.get("but", ()):
        return False
    parameters = getattr(item, "callspec", None)
    return not mark.args or (parameters is not None and bool(set(parameters.id.split("-")) & set(mark.args)))
