"""The registry of engines: what it says without loading any, and what it refuses."""

from __future__ import annotations

import multiprocessing
import os
import sys
from types import ModuleType

import pytest

from dots_core.engine import registry as backends
from dots_core.engine.registry import Backend, choose_backend, computing, load_engine
from dots_core.errors import EngineMissing, UsageError


def test_the_reference_is_always_there():
    assert "reference" in {backend.name for backend in backends.backends() if backend.available}
    assert load_engine("reference").name == "reference"


def test_unknown_and_missing_engines(monkeypatch):
    with pytest.raises(UsageError, match=r"unknown backend 'refrence'; did you mean 'reference'"):
        choose_backend("refrence")
    absent = Backend("absent", framework="no_such_framework", install="pip install it")
    monkeypatch.setattr(backends, "backends", lambda: (absent,))
    with pytest.raises(EngineMissing, match="pip install it"):
        choose_backend("absent")
    with pytest.raises(EngineMissing, match="no engine"):
        choose_backend(None)


def test_an_engine_that_cannot_share_the_process_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "greedy", ModuleType("greedy"))
    monkeypatch.setattr(backends, "backends", lambda: (Backend("reference", not_beside=("greedy",)),))
    with pytest.raises(EngineMissing, match="in a process that has loaded greedy"):
        load_engine("reference")


@pytest.fixture
def forked(monkeypatch):
    """As in a process forked from one in which an engine has computed."""

    def record(name):
        monkeypatch.setitem(backends._computed_in, name, os.getppid())

    return record


def test_an_engine_that_has_computed_is_refused_in_a_forked_process(forked, monkeypatch):
    forked("reference")
    monkeypatch.setattr(backends, "backends", lambda: (Backend("reference"),))
    for use in (load_engine, computing):
        with pytest.raises(UsageError, match=r"start processes with the spawn method: multiprocessing.get_context"):
            use("reference")


def test_an_engine_that_survives_is_not(forked, monkeypatch):
    forked("reference")
    monkeypatch.setattr(backends, "backends", lambda: (Backend("reference", survives_fork=True),))
    computing("reference")
    assert load_engine("reference").name == "reference"


def test_an_engine_that_has_only_been_loaded_is_not(monkeypatch):
    monkeypatch.setattr(backends, "_computed_in", {})
    load_engine("reference")
    assert backends._computed_in == {}
    for _ in range(2):
        computing("stranger")
    assert backends._computed_in == {"stranger": os.getpid()}


def _child(name, found):
    try:
        computing(name)
    except UsageError as error:
        found.put(str(error))
    else:
        found.put("computes")


@pytest.mark.parametrize(("method", "said"), [("fork", "spawn method"), ("spawn", "computes")])
def test_the_record_goes_into_forked_processes_only(monkeypatch, method, said):
    """The second is the remedy that the message of the first names."""
    monkeypatch.setattr(backends, "_computed_in", {})
    computing("stranger")
    context = multiprocessing.get_context(method)
    found = context.Queue()
    process = context.Process(target=_child, args=("stranger", found))
    process.start()
    assert said in found.get(timeout=60)
    process.join()
