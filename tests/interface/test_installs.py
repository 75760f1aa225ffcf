"""What a user is told to install: it exists, and it is what the package itself asks for."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from dots.study.jobs.cluster import Submitter
from dots.study.questions.correlation import need_scipy
from dots_core.engine.registry import backends
from dots_core.errors import UsageError

ROOT = Path(__file__).parents[2]
EXTRA = re.compile(r"extra == '(\w+)'")


def asked_by(extra: str) -> set[str]:
    """The requirements of an extra, as pyproject declares them."""
    declared = [Requirement(line) for line in requires("dots-nas") or () if f"extra == '{extra}'" in line]
    assert declared, f"pyproject has no extra {extra}"
    return {f"{requirement.name}{requirement.specifier}" for requirement in declared}


def installed_by(message: str) -> set[str]:
    """What the command at the message's end installs."""
    command = re.search(r"pip install ((?:'[^']+' ?)+)", message)
    assert command, message
    return set(shlex.split(command[1]))


@pytest.mark.parametrize("name", ["torch", "mindspore", "jittor"])
def test_an_engine_is_installed_as_its_extra_has_it(name):
    (backend,) = (backend for backend in backends() if backend.name == name)
    assert installed_by(backend.install) == asked_by(name)


def test_a_missing_package_of_the_studies_is_installed_as_its_extra_has_it(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError) as refusal:
        need_scipy()
    assert installed_by(str(refusal.value)) == asked_by("study")
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UsageError) as refusal:
        Submitter(tmp_path, {}, print)
    assert installed_by(str(refusal.value)) == asked_by("submitit")


def test_nothing_sends_a_user_to_an_index_for_dots_itself():
    """It is on none; from a checkout, `pip install '.[extra]'` installs it, with extras that there are."""
    places = ["README.md", "docs", "dots", "dots_core", "backends", "reference", "conformance", "benchmarks"]
    texts = [path for place in places for path in (ROOT / place, *(ROOT / place).rglob("*")) if path.is_file()]
    read = {path: path.read_text("utf-8") for path in texts if path.suffix in (".md", ".py")}
    assert len(read) > 100
    extras = {found for line in requires("dots-nas") or () for found in EXTRA.findall(line)}
    for path, text in read.items():
        assert not re.search(r"pip install[^\n]*dots-nas", text), path
        for named in re.findall(r"pip install '\.\[([\w,]+)\]'", text):
            assert set(named.split(",")) <= extras, path
