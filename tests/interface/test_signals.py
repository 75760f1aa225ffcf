"""How a command is asked to end, and when it does not listen."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from commands import refused, told

from dots.console.signals import ending_by

LONG = [
    "search", "--preset", "smoke-reference", "--backend", "reference", "--set", "operation.epochs=500",
    "--set", "train_images=96", "--set", "checkpoint_every=1", "--set", "channels=2",
]  # fmt: skip
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def wait_for(condition):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def saved(run):
    return len(list(run.glob("checkpoints/0*")))


@pytest.mark.parametrize(
    ("line", "interrupted", "code"),
    [("{} & wait $!", False, 143), ("nohup {} & wait $!", False, 143), ("exec {}", True, 130)],
    ids=["background", "nohup", "foreground"],
)
def test_what_a_shell_puts_into_the_background_ignores_an_interrupt_and_no_other_signal(
    line, interrupted, code, tmp_path
):
    run = tmp_path / "run"
    command = f"'{sys.executable}' -m dots {' '.join(LONG)} --out '{run}'"
    shell = subprocess.Popen(
        ["sh", "-c", line.format(command)], env=ENVIRONMENT, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        wait_for(lambda: saved(run) > 1 or shell.poll() is not None)
        child = int(shell.pid if interrupted else _child(shell.pid))
        os.kill(child, signal.SIGINT)
        if not interrupted:
            before = max(path.name for path in run.glob("checkpoints/0*"))
            wait_for(lambda: before < max((path.name for path in run.glob("checkpoints/0*")), default=""))
            os.kill(child, signal.SIGTERM)
        errors = shell.communicate(timeout=120)[1]
        assert shell.returncode == code, errors
        assert b"go on with --resume" in errors
    finally:
        os.killpg(shell.pid, signal.SIGKILL) if shell.poll() is None else None


def _child(shell):
    with open(f"/proc/{shell}/task/{shell}/children") as children:
        return children.read().split()[0]


def test_an_interrupt_is_told_wherever_it_comes(capsys, monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr("dots_core.search_space.named_cells.named_cells", interrupted)
    refused(told(capsys, "cells"), 130, "interrupted")


def test_handlers_are_put_back_and_what_is_ignored_stays_so():
    heard = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with ending_by(heard.append):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)
        assert heard == [signal.SIGINT, signal.SIGTERM]
        assert {number: signal.getsignal(number) for number in before} == before
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with ending_by(heard.append):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)
        assert heard[2:] == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
