"""The queue of processes: how many at a time, what becomes of failures, signals and runs in another's hands."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from stand_in import events

from dots.study.jobs import processes
from dots.study.jobs.processes import Job, ProcessQueue, divided_threads, is_held
from dots.study.questions.paths import all_paths, first_cell

STAND_IN = [sys.executable, "-S", str(Path(__file__).with_name("stand_in.py"))]


@pytest.fixture
def jobs(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "dots_command", lambda: STAND_IN)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    (tmp_path / "runs").mkdir()
    cell = tmp_path / "cell.json"
    cell.write_text(first_cell(all_paths()[0]).to_json())
    found = []
    for name in "abcd":
        run = tmp_path / "runs" / name
        found.append(
            Job(name, ["train", "--cell", str(cell), "--out", str(run)], run, tmp_path / "logs" / f"{name}.txt")
        )
    return found


def begun(job):
    """Whether a run holds its lock; asking for the lock itself could keep the run from it."""
    return (job.run / "threads").exists()


def soon(true):
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_all_are_done_with_no_more_at_a_time_than_asked(jobs, monkeypatch, tmp_path):
    monkeypatch.setenv("STAND_IN_SECONDS", "0.2")
    monkeypatch.setattr(processes, "cores", lambda: 8)
    most = 0

    def watch():
        nonlocal most
        while not all(job.done for job in jobs):
            most = max(most, sum(begun(job) and not job.done for job in jobs))
            time.sleep(0.005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    said = []
    assert ProcessQueue(2, said.append)(jobs) == {}
    watcher.join()
    assert most == 2
    assert [line.partition(":")[0] for line in said if "done" in line] != []
    assert events(tmp_path) == {name: ["started"] for name in "abcd"}
    assert {(job.run / "threads").read_text() for job in jobs} == {"4"}


def test_a_failure_is_told_and_the_others_go_on(jobs, monkeypatch):
    monkeypatch.setenv("STAND_IN_FAILS", "b")
    assert ProcessQueue(1, lambda line: None)(jobs) == {"b": "the loss became nan"}
    assert [job.done for job in jobs] == [True, False, True, True]


def test_a_killed_process_is_told_and_goes_on_next_time(jobs, monkeypatch, tmp_path):
    monkeypatch.setenv("STAND_IN_SECONDS", "5")

    def kill():
        soon(lambda: begun(jobs[0]))
        pids = [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit() and _runs(p, jobs[0].run)]
        monkeypatch.setenv("STAND_IN_SECONDS", "0")
        os.kill(pids[0], signal.SIGKILL)

    threading.Thread(target=kill).start()
    problems = ProcessQueue(1, lambda line: None)(jobs)
    assert problems == {"a": "was killed by SIGKILL; what it had saved stands"}
    assert ProcessQueue(1, lambda line: None)([job for job in jobs if not job.done]) == {}
    assert events(tmp_path) == {"a": ["started", "resumed"], "b": ["started"], "c": ["started"], "d": ["started"]}


def _runs(process: Path, run: Path) -> bool:
    try:
        return str(run).encode() in (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_processes_cleanly_and_begins_no_more(jobs, monkeypatch, number, tmp_path):
    monkeypatch.setenv("STAND_IN_SECONDS", "20")

    def interrupt():
        soon(lambda: begun(jobs[0]) and begun(jobs[1]))
        os.kill(os.getpid(), number)

    threading.Thread(target=interrupt).start()
    before = signal.getsignal(number)
    queue = ProcessQueue(2, lambda line: None)
    assert queue(jobs) == {}
    assert queue.stopped == number
    assert signal.getsignal(number) == before
    assert sorted(events(tmp_path)) == ["a", "b"]
    assert all((job.run / "saved").exists() for job in jobs[:2])
    assert not any(is_held(job.run) for job in jobs)


def test_a_run_in_another_process_hands_is_waited_for_not_done_again(jobs, monkeypatch, tmp_path):
    jobs[0].run.mkdir()
    lock = open(jobs[0].run / ".lock", "a+b")  # noqa: SIM115 (another thread closes it)
    fcntl.flock(lock, fcntl.LOCK_EX)

    def other():
        soon(lambda: all(job.done for job in jobs[1:]))
        (jobs[0].run / "summary.json").write_text("{}")
        lock.close()

    threading.Thread(target=other).start()
    said = []
    assert ProcessQueue(1, said.append)(jobs) == {}
    assert any("waiting" in line for line in said)
    assert sorted(events(tmp_path)) == ["b", "c", "d"]


def test_threads_are_divided_and_never_more_than_the_user_says(monkeypatch):
    monkeypatch.setattr(processes, "cores", lambda: 8)
    assert divided_threads(3, {})["OMP_NUM_THREADS"] == "2"
    one = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    assert divided_threads(3, {"OMP_NUM_THREADS": "1"}) == one
    assert divided_threads(3, {"MKL_NUM_THREADS": "1"})["OMP_NUM_THREADS"] == "2"
    assert divided_threads(3, {"OMP_NUM_THREADS": "16"})["OMP_NUM_THREADS"] == "2"
    assert divided_threads(16, {"PATH": "x"}) == {
        "PATH": "x",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }
