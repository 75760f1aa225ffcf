"""Making a directory a run: where it can be done, where not, and what is left of an attempt cut short."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from crashes import contents, run

from dots.config.schema import SearchConfig
from dots.run_directory.layout import RunExists, is_run, owned, read_run_config
from dots.run_directory.new import check_place, create_run, create_unnamed_run
from dots_core.errors import CorruptFile, DotsError, UsageError

CONFIG = SearchConfig(data="digits")
MADE = {".lock", "config.yaml", "run.json"}


def create(path: Path) -> None:
    create_run(path, CONFIG).close()


def assert_made(path: Path, *more: str) -> None:
    assert set(os.listdir(path)) == MADE | set(more)
    assert read_run_config(path) == CONFIG


@pytest.mark.parametrize("name", ["run", "deep/er/run", "there", "link", "link/run", "there/../run"])
def test_where_a_run_can_be_made(tmp_path, name):
    (tmp_path / "there").mkdir()
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to("target")
    create(tmp_path / name)
    assert_made(tmp_path / name)
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("name", [".", "", "../here"])
def test_the_current_directory_becomes_a_run(tmp_path, monkeypatch, name):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    create(Path(name))
    assert_made(tmp_path / "here")


def test_a_fresh_file_system_counts_as_empty(tmp_path):
    (tmp_path / "lost+found").mkdir()
    create(tmp_path)
    assert_made(tmp_path, "lost+found")


@contextlib.contextmanager
def unprivileged():
    """Be a user whom permissions bind, which they do not the superuser."""
    if os.getuid() != 0:
        yield
        return
    os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


@pytest.fixture
def open_to_all():
    """A directory that any user can look into; pytest's own is shut to others."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


class TestRefused:
    """Before anything is written, with advice that leads on."""

    @pytest.fixture(autouse=True)
    def _untouched(self, tmp_path):
        (tmp_path / "file").write_text("text")
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "config.yaml").write_text("channels: 8")
        (tmp_path / "nowhere").symlink_to("missing")
        (tmp_path / "round").symlink_to("round")
        before = contents(tmp_path)
        yield
        assert contents(tmp_path) == before

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("file", "file is a file"),
            ("file/run", "file is a file"),
            ("file/deep/run", "file is a file"),
            ("mine", "mine exists and is not a run of dots: it holds config.yaml"),
            ("nowhere", "nowhere is a link to .*missing, which does not exist; make that directory"),
            ("nowhere/run", "nowhere is a link to .*missing, which does not exist; make that directory"),
            ("round", "round is a link to"),
            ("n" * 300, "File name too long"),
        ],
    )
    def test_what_cannot_be_a_run(self, tmp_path, name, words):
        for attempt in (check_place, create):
            with pytest.raises(UsageError, match=words) as refused:
                attempt(tmp_path / name)
            assert "--out" in str(refused.value)

    def test_many_files_are_not_all_named(self, tmp_path_factory):
        folder = tmp_path_factory.mktemp("many")
        for number in range(9):
            (folder / f"{number}\x1b[31m").touch()
        with pytest.raises(UsageError, match="and 6 more") as refused:
            check_place(folder)
        assert "\x1b" not in str(refused.value)


def test_a_link_to_nowhere_is_used_once_its_target_is_made(tmp_path):
    """The remedy that the refusal names."""
    (tmp_path / "link").symlink_to("missing")
    with pytest.raises(UsageError, match=f"{tmp_path / 'missing'}, which does not exist; make that directory"):
        check_place(tmp_path / "link")
    (tmp_path / "missing").mkdir()
    create(tmp_path / "link")
    assert_made(tmp_path / "missing")


@pytest.mark.parametrize("name", ["", "run", "deep/run"])
def test_a_directory_that_may_not_be_written_to_is_refused_until_it_may(open_to_all, name):
    shut = open_to_all / "shut"
    shut.mkdir(mode=0o555)
    with unprivileged(), pytest.raises(UsageError, match="shut is a directory that may not be written to"):
        check_place(shut / name)
    assert os.listdir(shut) == []
    shut.chmod(0o777)
    with unprivileged():
        create(shut / name)
        assert_made(shut / name)


def test_a_run_is_not_made_twice(tmp_path):
    create(tmp_path / "run")
    before = contents(tmp_path)
    with pytest.raises(RunExists, match="--resume"):
        create(tmp_path / "run")
    assert contents(tmp_path) == before


def test_a_run_is_held_from_its_first_moment(tmp_path):
    with create_run(tmp_path / "run", CONFIG), pytest.raises(RunExists, match="another process or thread"):
        owned(tmp_path / "run")
    owned(tmp_path / "run").close()


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: path.symlink_to("missing")], ids=range(3))
def test_a_lock_that_is_no_file_is_refused_and_the_remedy_leads_on(tmp_path, make):
    create(tmp_path)
    (tmp_path / ".lock").unlink()
    make(tmp_path / ".lock")
    with pytest.raises(CorruptFile, match=r"\.lock is no regular file.*; remove it"):
        owned(tmp_path)
    (tmp_path / ".lock").rmdir() if (tmp_path / ".lock").is_dir() else (tmp_path / ".lock").unlink()
    owned(tmp_path).close()


def test_who_only_looks_whether_a_run_is_held_keeps_nobody_from_it(tmp_path):
    create(tmp_path / "run")
    with open(tmp_path / "run" / ".lock", "rb") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        timer = threading.Timer(0.03, lambda: fcntl.flock(looking, fcntl.LOCK_UN))
        timer.start()
        owned(tmp_path / "run").close()
        timer.join()


@pytest.mark.parametrize("there", [False, True], ids=["new", "empty"])
def test_what_a_crash_leaves_is_taken_up(tmp_path, there):
    left = []
    for point in itertools.count(1):
        path = tmp_path / str(point) / "above" / "run"
        path.mkdir(parents=True) if there else path.parent.parent.mkdir()
        disk = run(lambda path=path: create(path), tmp_path / str(point), point)
        if not disk.failed:
            assert not disk.unsynced
            break
        if path.exists():
            left.append(frozenset(os.listdir(path)))
        # A run that was made is whole; anything else is no run, and the same command makes it one.
        if not is_run(path):
            create(path)
        assert_made(path)
    assert point > 8
    assert {".lock", ".run.json.new"} in left
    assert {".lock", ".run.json.new", "config.yaml"} in left


@pytest.mark.parametrize("there", [False, True], ids=["new", "empty"])
def test_a_full_disk_leaves_everything_as_it_was(tmp_path, there):
    for point in itertools.count(1):
        root = tmp_path / str(point)
        path = root / "above" / "run"
        path.mkdir(parents=True) if there else root.mkdir()
        before = contents(root)
        errors = []

        def attempt(path=path, errors=errors):
            try:
                create(path)
            except DotsError as error:
                errors.append(str(error))

        disk = run(attempt, root, point, OSError)
        if not disk.failed:
            break
        assert "No space left on device" in errors[0]
        if not is_run(path):
            assert contents(root) == before
            create(path)
        assert_made(path)
    assert point > 8


def test_threads_without_names_each_get_a_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def several(_):
        paths = []
        for _ in range(10):
            path, held = create_unnamed_run("smoke", CONFIG)
            held.close()
            paths.append(path)
        return paths

    with ThreadPoolExecutor(8) as pool:
        made = [path for paths in pool.map(several, range(8)) for path in paths]
    assert len(set(made)) == len(made) == 80
    assert {path.name for path in made} == {f"search-smoke-{number}" for number in range(1, 81)}
    for path in made:
        assert_made(path)


def test_processes_without_names_each_get_a_run(tmp_path):
    script = """
from dots.config.schema import SearchConfig
from dots.run_directory.new import create_unnamed_run
for _ in range(10):
    path, held = create_unnamed_run("smoke", SearchConfig(data="digits"))
    print(path)
"""
    command = [sys.executable, "-c", script]
    processes = [subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    made = [line for process in processes for line in process.communicate(timeout=120)[0].split()]
    assert [process.returncode for process in processes] == [0] * 4
    assert len(set(made)) == len(made) == 40
    for path in made:
        assert_made(tmp_path / path)


def test_threads_that_want_one_directory_leave_it_to_one(tmp_path):
    def attempt(_):
        try:
            return create_run(tmp_path / "run", CONFIG)
        except RunExists:
            return None

    with ThreadPoolExecutor(8) as pool:
        held = [file for file in pool.map(attempt, range(8)) if file is not None]
    assert len(held) == 1
    held[0].close()
    assert_made(tmp_path / "run")


def test_what_a_crash_left_of_a_run_without_a_name_is_taken_up(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, left in (("1", [".lock", ".run.json.new", "config.yaml"]), ("2", ["thesis.tex"])):
        (tmp_path / "runs" / f"search-smoke-{name}").mkdir(parents=True)
        for file in left:
            (tmp_path / "runs" / f"search-smoke-{name}" / file).touch()
    made = [create_unnamed_run("smoke", CONFIG) for _ in range(2)]
    assert [path.name for path, _ in made] == ["search-smoke-1", "search-smoke-3"]
    for path, held in made:
        assert_made(path)
        held.close()


def test_where_files_cannot_be_locked_only_new_directories_are_taken_without_a_name(tmp_path, monkeypatch):
    """There, what looks given up may be another's who is at work."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fcntl.flock", lambda *_: (_ for _ in ()).throw(OSError("no locks")))
    half = tmp_path / "runs" / "search-smoke-1"
    half.mkdir(parents=True)
    (half / ".lock").touch()
    path, held = create_unnamed_run("smoke", CONFIG)
    held.close()
    assert path.name == "search-smoke-2"
    assert os.listdir(half) == [".lock"]
    create(half)
    assert_made(half)
