"""Lets the tests of this folder import its helper modules, and lends them finished runs."""

import fcntl
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """The uninterrupted run of an engine, a tiny ``search`` or ``train``; made once for all, not to be changed."""
    from command import dots, tiny_search, tiny_training

    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent

    def made(backend, kind="search"):
        run = folder / f"whole-{kind}-{backend}"
        with open(f"{run}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not run.exists():
                build = {"search": tiny_search, "train": tiny_training}[kind]
                done = dots(*build(backend, f"{run}.new", "-q"), timeout=1200)
                assert done.returncode == 0, done.stderr
                os.rename(f"{run}.new", run)
        return run

    return made


@pytest.fixture(scope="session", autouse=True)
def kernels_compiled(backends, whole):
    """Run Jittor's kernels before they are listened to: it compiles each at its first use, and says so on stderr."""
    if "jittor" in backends:
        whole("jittor", "search")
        whole("jittor", "train")
