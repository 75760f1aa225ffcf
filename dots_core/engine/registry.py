"""Engines: which there are, which can run here, and how one is fetched.

An engine is an entry point of the group ``dots.backends``; an entry point of the same name in
``dots.backend_info`` leads to a plain record about it, so that listing engines loads none.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from importlib.metadata import entry_points
from importlib.util import find_spec

from dots_core.engine.protocol import Engine
from dots_core.errors import DotsError, EngineMissing, UsageError, nearest, quoted

ENGINES = "dots.backends"
INFO = "dots.backend_info"

_computed_in: dict[str, int] = {}
"""The process in which an engine first computed; a forked one inherits the record."""


@dataclass(frozen=True)
class Backend:
    """What is known of an engine without loading it.

    Attributes
    ----------
    framework : str
        The module it needs, empty if none.
    install : str
        How to install the framework.
    description : str
    tried : str
        On which devices it was tried.
    priority : int
        With no ``--backend``, the available engine of the highest priority is taken.
    search_preset, train_preset : str
        The preset that suits it when none is named.
    precisions : tuple of str
        Those of `dots_core.engine.protocol.PRECISIONS` that it computes in, on one device at least; if it names any,
        others are refused before it is loaded.
    not_beside : tuple of str
        Modules after which its framework cannot be loaded in the same process.
    survives_fork : bool
        Whether a process forked from one in which it has computed can compute, too. Most frameworks
        keep threads, which a forked process does not have, and wait for them for ever.
    """

    name: str
    framework: str = ""
    install: str = ""
    description: str = ""
    tried: str = ""
    priority: int = 0
    search_preset: str = "smoke"
    train_preset: str = "smoke"
    precisions: tuple[str, ...] = ()
    not_beside: tuple[str, ...] = ()
    survives_fork: bool = False

    @property
    def available(self) -> bool:
        """Whether the framework is installed."""
        return not self.framework or find_spec(self.framework) is not None

    def check_precision(self, precision: str) -> None:
        """Refuse a precision that the engine says it does not compute in.

        Raises
        ------
        UsageError
        """
        if self.precisions and precision not in self.precisions:
            others = ", ".join(each.name for each in backends() if precision in each.precisions)
            remedy = f", or an engine that does: {others}" if others else ""
            raise UsageError(
                f"the {self.name} engine does not compute in {precision}; set precision to "
                f"{' or '.join(self.precisions)}{remedy}"
            )


def backends() -> tuple[Backend, ...]:
    """Return every registered engine, the preferred first; loads none of them."""
    records = {point.name: point for point in entry_points(group=INFO)}
    found = []
    for name in sorted({point.name for point in entry_points(group=ENGINES)}):
        record = dict(records[name].load()) if name in records else {}
        found.append(Backend(name=name, **record))
    return tuple(sorted(found, key=lambda backend: (-backend.priority, backend.name)))


def choose_backend(name: str | None) -> Backend:
    """Return the engine of a name, or the preferred available one for None.

    Raises
    ------
    UsageError
        If the name is unknown.
    EngineMissing
        If its framework is not installed.
    """
    known = backends()
    if name is None:
        for backend in known:
            if backend.available:
                return backend
        raise EngineMissing("no engine is registered; install dots again, in a checkout of it: pip install .")
    for backend in known:
        if backend.name == name:
            if not backend.available:
                raise EngineMissing(
                    f"the {name} engine needs {backend.framework}, which is not installed; "
                    f"install it with: {backend.install}"
                )
            return backend
    names = [backend.name for backend in known]
    listing = ", ".join(b.name + ("" if b.available else f" (not installed: {b.install})") for b in known)
    raise UsageError(f"unknown backend '{quoted(name)}'{nearest(name, names)}; engines: {listing}")


def load_engine(name: str) -> Engine:
    """Load an engine and with it its framework.

    Raises
    ------
    EngineMissing
        If the framework fails to load, or cannot share this process with what it has loaded; the
        message says why.
    UsageError
        If this process was forked from one in which the engine has computed (`computing`).
    """
    backend = next(backend for backend in backends() if backend.name == name)
    _check_fork(backend)
    for module in backend.not_beside:
        if module in sys.modules:
            raise EngineMissing(
                f"the {name} engine cannot be loaded in a process that has loaded {module}, whose libraries would "
                f"take the place of its own; load {name} first, or use another process"
            )
    (point,) = (p for p in entry_points(group=ENGINES) if p.name == name)
    try:
        return point.load()
    except DotsError:
        raise
    except Exception as error:
        raise EngineMissing(
            f"the {name} engine does not load: {type(error).__name__}: {error}; see `dots doctor --backend {name}`"
        ) from error


def computing(name: str) -> None:
    """Take down that an engine is about to compute in this process.

    Raises
    ------
    UsageError
        If this process was forked from one in which it has computed, and it does not survive that.
    """
    if _computed_in.setdefault(name, os.getpid()) != os.getpid():
        _check_fork(next((backend for backend in backends() if backend.name == name), Backend(name)))


def _check_fork(backend: Backend) -> None:
    if not backend.survives_fork and _computed_in.get(backend.name, os.getpid()) != os.getpid():
        raise UsageError(
            f"this process was forked from one in which the {backend.name} engine has computed, and would wait for "
            "ever for threads that a fork leaves behind; start processes with the spawn method: "
            "multiprocessing.get_context('spawn')"
        )
