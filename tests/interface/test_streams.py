"""Closed, full and broken streams: the exit code says how it ended, and nothing else is said."""

from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
import sys

import pytest
from commands import refused, told

from dots.cli import main as cli
from dots.console.streams import Guarded
from dots_core.errors import CorruptFile

COMMAND = [sys.executable, "-m", "dots"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
# Streams that hold nothing back have nothing to lose at the interpreter's end.
ENVIRONMENT.pop("PYTHONUNBUFFERED", None)
CLOSED = "dots: error: cannot write the output: Bad file descriptor\n"
FULL = "dots: error: cannot write the output: No space left on device\n"
DRY = "--preset smoke-reference --backend reference --set train_images=32 --set batch=8 --out /tmp/no-run"


def shell(line):
    """Run a line of the shell in which ``dots`` is our command."""
    script = f'dots() {{ "{sys.executable}" -m dots "$@"; }}\n{line}'
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=ENVIRONMENT, timeout=120)


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("dots presets list >&-", 1, CLOSED),
        ("dots presets list <&- >&-", 1, CLOSED),
        ("dots presets list 2>&-", 0, ""),
        ("dots presets list <&- >&- 2>&-", 1, ""),
        ("dots presets list >/dev/full", 1, FULL),
        ("dots presets list >/dev/full 2>/dev/full", 1, ""),
        ("dots presets >/dev/full", 1, FULL),
        ("dots --help >/dev/full", 1, FULL),
        ("dots --version >&-", 1, CLOSED),
        ("dots cells --json >&-", 1, CLOSED),
        ("dots cells --json >/dev/full", 1, FULL),
        ("dots presets show gdas-cifar10 >&-", 1, CLOSED),
        ("dots show DARTS_V2 >/dev/full", 1, FULL),
        ("dots env --json >&-", 1, CLOSED),
        (f"dots search {DRY} --dry-run >&-", 1, CLOSED),
        (f"dots search {DRY} --dry-run --quiet >&-", 0, ""),
        ("dots show NOTHING >&- 2>&-", 2, ""),
        ("dots show NOTHING 2>/dev/full", 2, ""),
        ("{ dots presets list; echo $? >&3; } 3>&2 | true", 0, "1\n"),
        ("{ dots show NOTHING; echo $? >&3; } 3>&1 2>&1 | true", 0, ""),
        ("PYTHONIOENCODING=ascii dots show DARTS_V2 >/dev/null", 0, ""),
    ],
)
def test_streams_that_cannot_be_written(line, code, said):
    done = shell(line)
    assert (done.returncode, done.stderr) == (code, said)


def test_what_is_no_text_is_refused_before_anything_is_done(tmp_path):
    for arguments in ([b"search", b"--out", b"\xff\xfe"], [b"show", b"\xff"], [b"search", b"--data", b"a\xe9"]):
        done = subprocess.run([*COMMAND, *arguments], capture_output=True, cwd=tmp_path, env=ENVIRONMENT, timeout=120)
        assert done.returncode == 2
        assert b"is not UTF-8 text" in done.stderr
        assert done.stderr.count(b"\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_names_that_are_too_long(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for option in ("--out", "--data", "--preset"):
        for name in ("a" * 300, "a/" * 3000, "a" * 300 + ".yaml"):
            refused(told(capsys, "search", option, name), 2)
    refused(told(capsys, "train", "--cell", "a" * 300), 2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("gone", ["2>&-", "2>/dev/full", "broken pipe"])
def test_a_stopped_run_keeps_its_exit_code_where_nobody_listens(gone, tmp_path):
    run = tmp_path / "run"
    settings = "--set train_images=0 --set operation.epochs=500 --set checkpoint_every=1"
    command = (
        f"exec '{sys.executable}' -m dots search --preset smoke-reference --backend reference {settings} --out {run}"
    )
    reader, writer = os.pipe()
    os.close(reader)
    redirected = f"{command} {gone}" if gone != "broken pipe" else command
    process = subprocess.Popen(["bash", "-c", redirected], stdout=subprocess.DEVNULL, stderr=writer, env=ENVIRONMENT)
    os.close(writer)
    try:
        for _ in range(600):
            if len(list((run / "checkpoints").glob("0*"))) > 1 or process.poll() is not None:
                break
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 143
    finally:
        process.kill()
    assert (run / "checkpoints").is_dir()


class Failing(io.StringIO):
    """A stream whose reader has left."""

    def write(self, text):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    flush = close = lambda self: None


def test_talk_that_nobody_hears_is_lost_and_nothing_else():
    for stream in (Failing(), None):
        talk = Guarded(stream)
        assert talk.write("anything") == 8
        talk.flush()
        assert not talk.isatty()
        assert (talk.lost is None) == (stream is None)
    heard = io.StringIO()
    talk = Guarded(heard)
    print("something", file=talk)
    assert heard.getvalue() == "something\n"
    heard.close()
    print("anything", file=talk)
    assert talk.lost.errno == errno.EBADF


def test_data_that_is_lost_is_told_however_much_there_is(capsys, monkeypatch):
    """Of more than a stream holds back, writing itself fails, not only its end."""
    for text in ("a", "a" * 10**6):
        monkeypatch.setattr(cli, "app", lambda text=text, **_: print(text))
        with open("/dev/full", "w") as full, monkeypatch.context() as within:
            within.setattr(sys, "stdout", full)
            found = told(capsys, "anything")
        assert (found.code, found.err) == (1, FULL)


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a\x1b[2Jb"), 1, ["No space left", "a\\x1b[2Jb", "--resume"]),
        (OSError(errno.EACCES, "Permission denied", "x"), 1, ["Permission denied: x"]),
        (MemoryError(), 1, ["--dry-run"]),
        (CorruptFile("a member '\x1b]0;owned\x07' \u202e of " + "x" * 10**6), 5, ["\\x1b]0;owned\\x07", "…"]),
    ],
    ids=range(4),
)
def test_what_went_wrong_is_one_bounded_line_that_a_terminal_shows(error, code, words, capsys, monkeypatch):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(cli, "app", fail)
    found = told(capsys, "anything")
    assert found.code == code
    assert found.err[:-1].isprintable()
    assert len(found.err) < 4100
    for word in words:
        assert word in found.err
