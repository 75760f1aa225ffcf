"""Lets the tests of this folder import its helper module, and lends them a finished run."""

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def searched(tmp_path_factory):
    """A finished search on the reference engine; not to be changed."""
    from commands import TINY

    import dots

    run = tmp_path_factory.mktemp("searched") / "run"
    dots.search("smoke-reference", backend="reference", settings=TINY, out=run, verbose=False)
    return run


@pytest.fixture
def run(searched, tmp_path):
    """A copy of it of one's own."""
    shutil.copytree(searched, tmp_path / "run")
    return tmp_path / "run"
