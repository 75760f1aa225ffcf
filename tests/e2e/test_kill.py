"""Killing real runs at random moments, saves included, and going on."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time

import pytest
from command import command, contents, dots, environment, installed, tiny_search, tiny_training

KILLS, KILLS_FOR_A_RELEASE = 8, 20
"""Of each kind of run."""

KILLS_A_RUN = 4


def _start(arguments):
    command_line = command(*arguments, "--resume", "-q")
    return subprocess.Popen(command_line, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.release("mindspore", "jittor", "reference", "train")
@pytest.mark.parametrize("kind", ["search", "train"])
def test_killed_at_random_moments_ends_byte_equal(backend, kind, whole, tmp_path, pytestconfig):
    """One uninterrupted run against runs that together are killed many times, from start-up to the last file."""
    kills = KILLS_FOR_A_RELEASE if pytestconfig.getoption("release") else KILLS
    build = tiny_search if kind == "search" else tiny_training
    begin = time.monotonic()
    assert installed(*build(backend, tmp_path / "timed", "-q")).returncode == 0
    longest = time.monotonic() - begin
    expected = contents(whole(backend, kind))
    chance = random.Random(0)
    killed, number = 0, 0
    while killed < kills:
        # A resumed run gets a little further each time; after a few kills it is let finish.
        run, spared = tmp_path / f"killed-{number}", min(killed + KILLS_A_RUN, kills)
        while killed < spared:
            process = _start(build(backend, run))
            try:
                process.wait(timeout=chance.uniform(0.05, longest))
            except subprocess.TimeoutExpired:
                process.kill()
            _, errors = process.communicate()
            assert process.returncode in (0, -signal.SIGKILL), errors.decode()
            if process.returncode == 0:
                longest *= 0.8  # the machine has become faster: kill earlier
                break
            killed += 1
        done = dots(*build(backend, run, "--resume", "-q"))
        assert done.returncode == 0, done.stderr
        found = contents(run)
        assert found.keys() == expected.keys()
        assert [name for name in expected if found[name] != expected[name]] == []
        number += 1


@pytest.mark.release("130")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_finish_the_step_save_and_exit(backend, number, code, whole, tmp_path):
    run = tmp_path / "run"
    process = subprocess.Popen(
        command(*tiny_search(backend, run, "-q")), env=environment(), stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not list(run.glob("checkpoints/0*")) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == code, errors
    assert "--resume" in errors
    assert errors.count("\n") == 1
    done = dots(*tiny_search(backend, run, "--resume", "-q"))
    assert done.returncode == 0, done.stderr
    assert contents(run) == contents(whole(backend))


@pytest.mark.release("torch")
@pytest.mark.any_engine
@pytest.mark.parametrize("name", ["save", "rename"])
def test_killed_inside_a_save_the_newest_whole_checkpoint_stands(backend, name, whole, tmp_path):
    """The process kills itself at a chosen point of a chosen save."""
    expected = contents(whole(backend))
    point = {"save": "dots_core.storage.atomic.write_synced", "rename": "os.rename"}[name]
    for moment in {"save": (2, 5, 9, 14), "rename": (1, 2, 4, 7)}[name]:
        run = tmp_path / f"run-{moment}"
        arguments = [str(a) for a in tiny_search(backend, run, "-q")]
        script = f"""
import os, signal, sys, importlib
module, _, function = {point!r}.rpartition('.')
home = importlib.import_module(module)
original, calls = getattr(home, function), 0
def counted(*arguments, **keywords):
    global calls
    calls += 1
    if calls == {moment}:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments, **keywords)
setattr(home, function, counted)
sys.argv = ['dots', *{arguments!r}]
from dots.cli.main import main
main()
"""
        killed = subprocess.run([sys.executable, "-c", script], env=environment(), capture_output=True)
        assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
        done = dots(*tiny_search(backend, run, "--resume", "-q"))
        assert done.returncode == 0, done.stderr
        assert contents(run) == expected


@pytest.mark.release("torch", "reference")
def test_a_training_resumed_in_a_later_epoch_ends_byte_equal(backend, whole, tmp_path):
    """Killed as soon as the first epoch is saved: the first step of the new process already drops paths."""
    run = tmp_path / "run"
    script = f"""
import os, signal, sys
import dots_core.search.saving
original = dots_core.search.saving.write_checkpoint
def killing(folder, number, checkpoint):
    original(folder, number, checkpoint)
    if checkpoint.progress["global_epoch"] == 1:
        os.kill(os.getpid(), signal.SIGKILL)
dots_core.search.saving.write_checkpoint = killing
sys.argv = ['dots', *{[str(a) for a in tiny_training(backend, run, "-q")]!r}]
from dots.cli.main import main
main()
"""
    killed = subprocess.run([sys.executable, "-c", script], env=environment(), capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    done = dots(*tiny_training(backend, run, "--resume", "-q"))
    assert done.returncode == 0, done.stderr
    assert contents(run) == contents(whole(backend, "train"))
