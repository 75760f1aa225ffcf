"""An engine in a package of its own, of which nothing in dots knows, is an engine like any other."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from command import command, tiny_search
from dots_conformance.engine_suite import EngineSuite
from stranger import LOOPBACK, install, pytest_run, run, seeing


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which dots-loopback is installed."""
    return install(LOOPBACK, tmp_path_factory.mktemp("site"))


def suite_size() -> int:
    """How many tests the suite holds, its parameters multiplied out."""
    tests = [getattr(EngineSuite, name) for name in dir(EngineSuite) if name.startswith("test_")]
    return sum(
        math.prod(len(list(mark.args[1])) for mark in getattr(test, "pytestmark", ()) if mark.name == "parametrize")
        for test in tests
    )


def test_without_the_package_there_is_no_such_engine(tmp_path: Path) -> None:
    done = run(command("doctor", "--backend", "loopback"), tmp_path)
    assert done.returncode == 2
    assert "unknown backend 'loopback'" in done.stderr


def test_listing_engines_loads_the_record_and_not_the_engine(site: Path, tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from dots_core.engine.registry import backends, choose_backend\n"
        "(found,) = [backend for backend in backends() if backend.name == 'loopback']\n"
        "print(found.available, found.description, choose_backend(None).name, sep='; ')\n"
        "print(*sorted(name for name in sys.modules if name.startswith('dots_loopback')))\n"
    )
    done = run([sys.executable, "-c", script], tmp_path, site)
    record, modules = done.stdout.splitlines()
    assert record.startswith("True; the reference engine in a process of its own; ")
    assert not record.endswith("loopback")  # it is nobody's default
    assert modules == "dots_loopback dots_loopback.info"


def test_env_lists_it(site: Path, tmp_path: Path) -> None:
    listed = json.loads(run(command("env", "--json"), tmp_path, site).stdout)["backends"]
    (found,) = [backend for backend in listed if backend["name"] == "loopback"]
    assert found["available"]
    assert found["tried"] == "CPU"


def test_doctor_finds_that_it_works(site: Path, tmp_path: Path) -> None:
    done = run(command("doctor", "--backend", "loopback"), tmp_path, site)
    assert done.returncode == 0, done.stderr
    assert "loopback: works" in done.stdout


@pytest.mark.release
def test_it_passes_the_whole_suite_from_an_empty_folder(site: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    folder = tmp_path / "empty"
    folder.mkdir()
    done = pytest_run("--dots-backend", "loopback", "-q", f"--junitxml={report}", cwd=folder, site=site)
    assert done.returncode == 0, done.stdout
    found = ElementTree.parse(report).getroot()[0].attrib
    assert int(found["tests"]) == suite_size() > 50
    assert (found["failures"], found["errors"]) == ("0", "0")
    # The identity, which has no layers to apply, and exact steps of second order, which it does not have.
    assert int(found["skipped"]) == 2


def test_a_search_on_it_writes_what_a_search_on_the_reference_writes(site: Path, tmp_path: Path) -> None:
    for backend in ("reference", "loopback"):
        done = run(command(*tiny_search(backend, tmp_path / backend, "-q")), tmp_path, site)
        assert done.returncode == 0, done.stderr
    written = [path.relative_to(tmp_path / "reference") for path in (tmp_path / "reference").rglob("*.safetensors")]
    assert written
    for name in ("genotype.json", "metrics.jsonl", *written):
        first, second = ((tmp_path / backend / name).read_bytes() for backend in ("reference", "loopback"))
        assert first == second, name


START = "from dots_loopback.engine import engine; engine.versions(); print('started', flush=True); "


def test_the_other_process_ends_when_this_one_is_killed(site: Path, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", START + "import time; time.sleep(600)"],
        cwd=tmp_path,
        env=seeing(site),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"started\n"
        process.send_signal(signal.SIGKILL)
        # Both processes hold the other end of standard error: it ends when neither is left.
        _, errors = process.communicate(timeout=30)
    assert errors == b""


def test_the_other_process_ended_too_early(site: Path, tmp_path: Path) -> None:
    script = (
        "import os, signal\n"
        "from dots_core.errors import DotsError\n"
        "(child,) = open(f'/proc/{os.getpid()}/task/{os.getpid()}/children').read().split()\n"
        "os.kill(int(child), signal.SIGKILL)\n"
        "try:\n"
        "    engine.devices()\n"
        "except DotsError as error:\n"
        "    print(error)\n"
    )
    done = run([sys.executable, "-c", START + "\n" + script], tmp_path, site)
    assert done.returncode == 0, done.stderr
    assert "ended with code -9 while 'devices' was asked of it" in done.stdout
    assert done.stderr == ""
