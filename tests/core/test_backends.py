"""The registry of engines: what it says without loading any, and what it refuses."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from dots_core import backends
from dots_core.backends import Backend, choose_backend, load_engine
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
