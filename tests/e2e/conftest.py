"""Lets the tests of this folder import its helper module, and has engines compile before they are listened to."""

import fcntl
import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session", autouse=True)
def kernels_compiled(backends, tmp_path_factory):
    """Run Jittor's kernels once, in one process for all: it compiles each at its first use, and says so on stderr."""
    if "jittor" not in backends:
        return
    from command import dots, tiny_search, tiny_training

    folder = tmp_path_factory.mktemp("compiled")
    with open(Path(tempfile.gettempdir()) / "dots-tests-jittor.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for build in (tiny_search, tiny_training):
            done = dots(*build("jittor", folder / build.__name__, "-q"), timeout=1200)
            assert done.returncode == 0, done.stderr
