"""Processes that a user starts after a search and that search, too."""

from __future__ import annotations

import subprocess
import sys

import pytest
from command import environment

SETTINGS = {
    "train_images": 32, "test_images": 16, "batch": 8, "channels": 2, "space.nodes": 1, "operation.epochs": 1,
    "operation.warmup": 0, "operation.layers": 2, "topology.epochs": 0,
}  # fmt: skip

SCRIPT = """
import multiprocessing
import dots

def search(out):
    try:
        found = dots.search("smoke", backend=%r, settings=%r, out=out, verbose=False)
    except dots.DotsError as error:
        return error.exit_code, str(error)
    return 0, (found.run / "metrics.jsonl").read_text()

if __name__ == "__main__":
    mine = search("first")
    assert mine[0] == 0, mine
    for method in ("fork", "spawn"):
        with multiprocessing.get_context(method).Pool(1) as pool:
            code, said = pool.apply_async(search, (method,)).get(timeout=120)
        print(code, "equal" if said == mine[1] else said.strip())
"""


@pytest.mark.release("mindspore", "jittor")
def test_search_or_say_how_to_start_them(backend, tmp_path):
    """A fork leaves the threads of most frameworks behind; whatever waits for them waits for ever."""
    (tmp_path / "script.py").write_text(SCRIPT % (backend, SETTINGS))
    threads = {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env={**environment(), **threads},
        text=True,
        capture_output=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    forked, spawned = done.stdout.splitlines()
    if backend == "reference":
        assert forked == "0 equal"
    else:
        assert forked.startswith("2 this process was forked")
        assert "spawn method" in forked
    assert spawned == "0 equal"
