"""``pytest --dots-backend NAME``: the tests every engine must pass, on any installed engine, without a test file.

pytest loads this module in every session of the environment it is installed in. So nothing but
pytest is imported before the option is given.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

SUITE = Path(__file__).with_name("installed_engine.py")

pytest.register_assert_rewrite("dots_conformance.engine_suite", "dots_conformance.closeness")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that name an engine, a device and a precision."""
    group = parser.getgroup("dots", "engines of dots")
    group.addoption("--dots-backend", metavar="NAME", help="run the tests every engine must pass on this engine")
    group.addoption("--dots-device", metavar="NAME", help="with --dots-backend: the device (default: cpu)")
    group.addoption("--dots-precision", metavar="NAME", help="with --dots-backend: the precision (default: float32)")


def pytest_configure(config: pytest.Config) -> None:
    """Where an engine is named, add its tests to those that the command line asks for.

    Raises
    ------
    pytest.UsageError
        If the engine is unknown or does not load, or the device or precision is not to be had.
    """
    backend, device, precision = (config.getoption(f"dots_{name}") for name in ("backend", "device", "precision"))
    if backend is None:
        if device is not None or precision is not None:
            raise pytest.UsageError("--dots-device and --dots-precision go with --dots-backend, which is not given")
        return
    config.option.dots_device = device = device or "cpu"
    config.option.dots_precision = precision = precision or "float32"
    if not hasattr(config, "workerinput"):  # the workers of pytest-xdist come after this check
        _check(backend, device, precision)
    config.pluginmanager.register(_SuiteCollection(), "dots-engine-suite")
    if config.args_source is not pytest.Config.ArgsSource.ARGS:
        config.args = [str(SUITE)]
    elif not any(_path(argument, config) == SUITE.resolve() for argument in config.args):
        config.args.append(str(SUITE))


def _path(argument: str, config: pytest.Config) -> Path:
    return (config.invocation_params.dir / argument.partition("::")[0]).resolve()


def _check(backend: str, device: str, precision: str) -> None:
    from dots_conformance.thresholds import FLOORS
    from dots_core.engine.protocol import Runtime
    from dots_core.engine.registry import choose_backend, load_engine
    from dots_core.errors import DotsError

    if precision not in FLOORS:
        raise pytest.UsageError(f"unknown precision '{precision}'; --dots-precision takes {', '.join(FLOORS)}")
    try:
        load_engine(choose_backend(backend).name).check(Runtime(device, precision))
    except DotsError as error:
        raise pytest.UsageError(str(error)) from None


class _SuiteCollection:
    """Collects the suite by its own naming rules: those of the folder pytest runs in may be others."""

    def pytest_pycollect_makeitem(self, collector: pytest.Module | pytest.Class, name: str, obj: Any) -> Any:
        if collector.path != SUITE or not isinstance(collector, pytest.Module):
            return None
        if name != "TestInstalledEngine":
            return []
        options = collector.config.option
        obj.backend, obj.device, obj.precision = options.dots_backend, options.dots_device, options.dots_precision
        # Outside the folder pytest runs in, a module's name is empty, and its tests could not be named.
        nodeid = f"{collector.nodeid or SUITE}::{name}"
        return _SuiteClass.from_parent(collector, name=name, obj=obj, nodeid=nodeid)

    def pytest_report_header(self, config: pytest.Config) -> str:
        options = config.option
        return f"dots engine: {options.dots_backend} on {options.dots_device} in {options.dots_precision}"


class _SuiteClass(pytest.Class):
    def funcnamefilter(self, name: str) -> bool:
        return name.startswith("test_")
