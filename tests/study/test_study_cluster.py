"""Runs handed to submitit: by a stand-in of it, and by itself where it is installed."""

from __future__ import annotations

import contextlib
import fcntl
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from stand_in import events

from dots.study.jobs import cluster
from dots.study.jobs.processes import Job
from dots.study.questions.paths import all_paths, first_cell
from dots_core.errors import UsageError

STAND_IN = [sys.executable, "-S", str(Path(__file__).with_name("stand_in.py"))]


class Executor:
    """What `Submitter` uses of submitit's AutoExecutor; its jobs run when they are asked for."""

    made: list[Executor] = []  # noqa: RUF012

    def __init__(self, folder, cluster=None):
        self.folder, self.cluster, self.parameters, self.batches, self.submitted = folder, cluster, {}, 0, []
        self.made.append(self)

    def update_parameters(self, **parameters):
        if "color" in parameters:
            raise NameError("Unknown argument 'color'")
        self.parameters |= parameters

    @contextlib.contextmanager
    def batch(self):
        self.batches += 1
        yield

    def submit(self, function):
        self.submitted.append(function)
        return SimpleNamespace(job_id=f"7_{len(self.submitted)}", exception=function, stderr=lambda: function.said)


class CommandFunction:
    def __init__(self, command):
        self.command = command

    def __call__(self):
        done = subprocess.run(self.command, capture_output=True, text=True)
        self.said = done.stderr
        return None if done.returncode == 0 else RuntimeError("the job failed\nsee its log")


@pytest.fixture
def submitit(monkeypatch):
    helpers = SimpleNamespace(CommandFunction=CommandFunction)
    monkeypatch.setitem(sys.modules, "submitit", SimpleNamespace(AutoExecutor=Executor, helpers=helpers))
    Executor.made.clear()


@pytest.fixture
def jobs(monkeypatch, tmp_path):
    """Three jobs, of which b fails; as under a scheduler, nothing says how many threads they may have."""
    monkeypatch.setattr(cluster, "dots_command", lambda: STAND_IN)
    monkeypatch.setenv("STAND_IN_FAILS", "b")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    (tmp_path / "runs").mkdir()
    cell = tmp_path / "cell.json"
    cell.write_text(first_cell(all_paths()[0]).to_json())
    runs = {name: tmp_path / "runs" / name for name in "abc"}
    return [
        Job(name, ["train", "--cell", str(cell), "--out", str(run)], run, tmp_path / f"{name}.txt")
        for name, run in runs.items()
    ]


def test_jobs_are_one_batch_and_failures_are_told(submitit, jobs, tmp_path):
    said = []
    submitter = cluster.Submitter(tmp_path / "logs", {"cluster": "local", "timeout_min": 5}, said.append)
    assert submitter(jobs) == {"b": "job 7_2: the loss became nan"}
    (executor,) = Executor.made
    assert (executor.folder, executor.cluster, executor.parameters) == (tmp_path / "logs", "local", {"timeout_min": 5})
    assert executor.batches == 1
    assert events(tmp_path) == {"a": ["started"], "c": ["started"]}
    assert said[0] == "submitted 3 jobs: 7_1 to 7_3"
    assert submitter([]) == {}
    assert executor.batches == 1


def test_a_run_in_another_process_hands_is_waited_for_not_submitted_again(submitit, jobs, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "_PAUSE", 0.01)
    held = {}
    for job in jobs[:2]:
        job.run.mkdir()
        held[job.name] = open(job.run / ".lock", "a+b")  # noqa: SIM115 (closed when the run is to be free)
        fcntl.flock(held[job.name], fcntl.LOCK_EX)
    said = []

    def hear(line):
        said.append(line)
        if line == "c: done":  # a comes to its end in the other process, b is killed there
            (jobs[0].run / "summary.json").write_text("{}")
            for lock in held.values():
                lock.close()

    monkeypatch.setenv("STAND_IN_FAILS", "")
    assert cluster.Submitter(tmp_path / "logs", {}, hear)(jobs) == {}
    (executor,) = Executor.made
    submitted = [Path(function.command[function.command.index("--out") + 1]).name for function in executor.submitted]
    assert submitted == ["c", "b"]
    assert [line for line in said if "waiting" in line] == [
        f"{name}: another process has it in hand; waiting for that one" for name in "ab"
    ]
    assert events(tmp_path) == {"b": ["resumed"], "c": ["started"]}


def test_a_job_refused_because_another_was_quicker_is_no_failure(submitit, jobs, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "_PAUSE", 0.01)
    (_, quick, _) = jobs
    lock = None

    def hear(line):
        nonlocal lock
        if line.startswith("submitted"):  # between submission and start, the job submitted before begins
            quick.run.mkdir()
            lock = open(quick.run / ".lock", "a+b")  # noqa: SIM115 (closed below)
            fcntl.flock(lock, fcntl.LOCK_EX)
        elif "waiting" in line:
            (quick.run / "summary.json").write_text("{}")
            lock.close()

    assert cluster.Submitter(tmp_path / "logs", {}, hear)([quick]) == {}
    (executor,) = Executor.made
    assert len(executor.submitted) == 1


def test_submitit_itself_runs_the_jobs_and_refuses_in_one_line(jobs, tmp_path):
    pytest.importorskip("submitit", reason="pip install 'submitit>=1.5'")
    said = []
    submitter = cluster.Submitter(tmp_path / "logs", {"cluster": "local", "timeout_min": 5}, said.append)
    (problem,) = submitter(jobs).items()
    assert problem[0] == "b"
    assert problem[1].endswith(": the loss became nan")
    assert events(tmp_path) == {"a": ["started"], "c": ["started"]}
    assert said[0].startswith("submitted 3 jobs: ")
    assert submitter([job for job in jobs if job.name != "b"]) == {}
    with pytest.raises(UsageError, match="color") as refused:
        cluster.Submitter(tmp_path / "logs", {"cluster": "local", "color": "red"}, said.append)
    assert "\n" not in str(refused.value)


def test_a_parameter_submitit_refuses_is_told(submitit, tmp_path):
    with pytest.raises(UsageError, match="color"):
        cluster.Submitter(tmp_path, {"color": "red"}, print)


def test_a_missing_submitit_is_told_with_its_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UsageError, match=r"pip install 'submitit.*--commands"):
        cluster.Submitter(tmp_path, {}, print)
