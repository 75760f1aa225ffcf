"""Every command that README and docs show, read from their text, ends with exit code 0: on one thread and on two.

They run in the order of the page, in a folder that has what the page supposes, shortened by settings that
`written_commands` appends. Without the variable ``DOTS_TEST_COMMANDS=all``, what names MindSpore or Jittor runs on
PyTorch, `dots conformance` judges that engine alone, and studies stop after saying what they would run.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import subprocess
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
from command import command as command_line
from command import installed
from forked import Processes
from PIL import Image
from written_commands import (
    ELSEWHERE,
    EXAMPLE,
    OTHERWISE,
    PAGES,
    PYTHON_ELSEWHERE,
    SHORTENING,
    commands_of,
    untold_commands,
)

from dots_core.data import load

pytestmark = pytest.mark.engine("torch")

WHOLE = os.environ.get("DOTS_TEST_COMMANDS") == "all"
SECONDS = 1800 if WHOLE else 300
PAGES_THAT_RUN = [page for page in PAGES if any(command.runs_here for command in commands_of(page))]

SMALLER = """
import functools, dots

def smaller(function, sizes):
    @functools.wraps(function)
    def call(*given, settings, **others):
        return function(*given, settings={**settings, **sizes}, scale=0.001, **others)
    return call

sizes = {"train_images": 30, "test_images": 8, "batch": 10, "channels": 4}
stages = {"operation.epochs": 2, "operation.warmup": 1, "operation.layers": 3, "topology.layers": 3}
dots.search, dots.train = smaller(dots.search, {**sizes, **stages}), smaller(dots.train, {**sizes, "layers": 3})
"""


class Threads:
    """Runs commands on so many threads, each in a process of its own that has loaded PyTorch already."""

    def __init__(self, threads: int) -> None:
        self.variables = {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads), "NO_COLOR": "1"}
        # Threads that wait for one another by spinning would keep other tests from the cores.
        self.variables["OMP_WAIT_POLICY"] = "passive"
        self.processes = Processes({**os.environ, **self.variables}, "torch")

    def run(self, cwd: Path, env: dict[str, str] | None = None, **what: object) -> tuple[int, str]:
        """Return the exit code and what was said."""
        said = cwd / "said.txt"
        said.unlink(missing_ok=True)
        env = {**os.environ, **self.variables, **(env or {})}
        if WHOLE and "arguments" in what:
            with open(said, "w") as file:
                done = subprocess.run(
                    command_line(*what["arguments"]), cwd=cwd, env=env, stdout=file, stderr=file, timeout=SECONDS
                )
            code = done.returncode
        else:
            code = self.processes.run({"cwd": str(cwd), "env": env, **what}, said, said, SECONDS)
        return code, said.read_text()


@pytest.fixture(scope="module", params=[1, 2], ids=["one_thread", "two_threads"])
def processes(request):
    found = Threads(request.param)
    yield found
    found.processes.close()


@pytest.fixture(scope="module")
def supposed(tmp_path_factory):
    """What pages suppose to be there: real digits in folders and in CIFAR's archive, and a finished search."""
    folder = tmp_path_factory.mktemp("supposed")
    digits = load("digits", 32)
    for split, images, count in (("train", digits.train, 6), ("test", digits.test, 2)):
        for digit in range(10):
            place = folder / "my-images" / split / str(digit)
            place.mkdir(parents=True)
            for number, index in enumerate(np.flatnonzero(images.labels == digit)[:count]):
                Image.fromarray(np.repeat(images.images[index], 4 - images.images.shape[3], 2)[:, :, :3]).save(
                    place / f"{number}.png"
                )
    shutil.copytree(folder / "my-images", folder / "imagenet")
    with tarfile.open(folder / "cifar-10-binary.tar.gz", "w:gz") as archive:
        for file, split in [*((f"data_batch_{n}", digits.train) for n in range(1, 6)), ("test_batch", digits.test)]:
            pixels = np.broadcast_to(split.images[:20, :, :, :1], (20, 32, 32, 3)).transpose(0, 3, 1, 2)
            rows = np.concatenate([split.labels[:20, None].astype(np.uint8), pixels.reshape(20, -1)], axis=1)
            add(archive, f"cifar-10-batches-bin/{file}.bin", rows.tobytes())
        add(archive, "cifar-10-batches-bin/batches.meta.txt", "\n".join(f"digit {n}" for n in range(10)).encode())
    small = "--scale 0.001 --set train_images=30 --set test_images=8 --set batch=10"
    small += " --set operation.layers=3 --set topology.layers=3"
    done = installed("search", *small.split(), "--out", EXAMPLE, "-q", cwd=folder)
    assert done.returncode == 0, done.stderr
    shutil.copytree(folder / EXAMPLE, folder / "runs" / "search-dots-cifar10-1")
    return folder


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


@pytest.mark.release("two_threads")
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=str(page), marks=() if str(page) == "README.md" else pytest.mark.release)
        for page in PAGES_THAT_RUN
    ],
)
def test_every_command_of_a_page_ends_well(page, processes, supposed, tmp_path):
    folder = tmp_path / "here"
    shutil.copytree(supposed, folder)
    for command in commands_of(page):
        if not command.runs_here:
            continue
        begin = time.monotonic()
        if command.python:
            code, said = processes.run(folder, python=SMALLER + command.text)
        else:
            arguments = command.arguments(None if WHOLE else "torch")
            code, said = processes.run(folder, arguments=arguments, env=command.environment)
            if command.written_to:
                (folder / command.written_to).write_text(said)
        print(f"{time.monotonic() - begin:6.1f} s  {command.text.strip().splitlines()[0]}", flush=True)
        assert code == 0, f"{page}: {command.text}\n{said}"


def test_every_command_is_run_or_says_why_not():
    found = [command for page in PAGES for command in commands_of(page)]
    assert len([command for command in found if command.runs_here]) > 50
    for command in found:
        if command.runs_here and not command.python:
            assert command.text.partition("dots ")[0] in ("", "OMP_NUM_THREADS=1 "), f"how is it run: {command.text}"


def test_no_mark_is_stale():
    texts = {command.text for page in PAGES for command in commands_of(page)}
    assert set(ELSEWHERE) <= texts
    assert set(OTHERWISE) <= texts
    assert set(PYTHON_ELSEWHERE) <= {str(page) for page in PAGES}


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_blocks_with_commands_are_marked_as_shell(page):
    assert untold_commands(page) == []


def test_what_is_appended_only_shortens():
    for page in PAGES:
        for command in commands_of(page):
            if command.runs_here and not command.python:
                written = shlex.split(command.text)
                words = command.arguments("torch")
                appended = {word.partition("=")[0] for word in words if re.match(r"[\w.]+=", word)}
                appended -= {word.partition("=")[0] for word in written}
                stages = {f"{stage}.{key}" for stage in ("operation", "topology") for key in ("epochs", "warmup")}
                assert appended <= SHORTENING | (stages | {"epochs"} if "study" in written else set()), command.text
