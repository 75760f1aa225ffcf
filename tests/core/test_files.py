from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import pickle
import shutil
from pathlib import Path

import pytest
from crashes import contents, run

from dots_core.errors import CorruptFile, DotsError
from dots_core.storage.atomic import (
    MANIFEST,
    cannot_write,
    read_folder,
    recover_folder,
    sync_directory,
    to_json,
    write_atomic,
    write_folder,
)

OLD = {"a.bin": b"old old old", "b.json": b"{}"}
NEW = {"a.bin": b"new new new new", "c.txt": b"more", "empty": b""}
NEWER = {"d.bin": b"newer"}


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def fresh(tmp_path: Path, number: int) -> Path:
    root = tmp_path / str(number)
    root.mkdir()
    return root


def crash_points(action, tmp_path: Path, prepare):
    """Crash an action at every call that changes the disk; yield each root left behind, in a fresh folder each."""
    for point in itertools.count(1):
        root = fresh(tmp_path, point)
        prepare(root)
        disk = run(lambda root=root: action(root), root, point)
        if not disk.failed:
            assert point > 3, "hardly any call was seen"
            return
        yield root


class TestWriteAtomic:
    def test_replaces_text_and_bytes(self, tmp_path):
        path = tmp_path / "x.json"
        write_atomic(path, "é")
        assert path.read_bytes() == "é".encode()
        write_atomic(path, b"\xff")
        assert path.read_bytes() == b"\xff"
        assert os.listdir(tmp_path) == ["x.json"]

    @pytest.mark.parametrize("exists", [True, False])
    def test_a_crash_leaves_the_old_or_the_new(self, tmp_path, exists):
        outcomes = set()

        def prepare(root):
            if exists:
                (root / "x.json").write_bytes(b"old content")

        for root in crash_points(lambda root: write_atomic(root / "x.json", b"new content"), tmp_path, prepare):
            path = root / "x.json"
            outcomes.add(path.read_bytes() if path.exists() else None)
            write_atomic(path, b"newer")
            assert path.read_bytes() == b"newer"
            assert os.listdir(root) == ["x.json"]
        assert outcomes == {b"old content" if exists else None, b"new content"}

    def test_everything_is_synced(self, tmp_path):
        disk = run(lambda: write_atomic(tmp_path / "x", b"1"), tmp_path)
        assert not disk.unsynced
        assert disk.trace[-1] == ("fsync", tmp_path.stat().st_ino)

    def test_a_full_disk_loses_nothing(self, tmp_path):
        for point in itertools.count(1):
            root = fresh(tmp_path, point)
            path = root / "x.json"
            path.write_bytes(b"old")
            failed = []

            def attempt(path=path, failed=failed):
                try:
                    write_atomic(path, b"new new")
                except DotsError as error:
                    failed.append(str(error))

            disk = run(attempt, root, point, OSError)
            if not disk.failed:
                break
            assert failed, "the failure was hidden"
            assert str(path) in failed[0]
            assert "No space left on device" in failed[0]
            assert path.read_bytes() in (b"old", b"new new")
            assert os.listdir(root) == ["x.json"]
        assert point > 4

    def test_an_impossible_place_is_an_error_with_its_path(self, tmp_path):
        with pytest.raises(DotsError, match=r"missing/x: No such file"):
            write_atomic(tmp_path / "missing" / "x", b"")
        (tmp_path / "folder").mkdir()
        with pytest.raises(DotsError, match="folder: Is a directory"):
            write_atomic(tmp_path / "folder", b"")
        assert os.listdir(tmp_path) == ["folder"]

    def test_a_file_in_place_of_a_folder_is_an_error_with_its_path(self, tmp_path):
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(DotsError, match=r"file/x: Not a directory"):
            write_atomic(tmp_path / "file" / "x", b"")


class TestWriteFolder:
    @pytest.fixture(params=[True, False], ids=["replacing", "creating"])
    def old(self, request):
        return OLD if request.param else None

    @staticmethod
    def prepare(old):
        return lambda root: old is not None and write_folder(root / "best", old)

    @staticmethod
    def content(folder):
        return read_folder(folder) if folder.exists() else None

    def test_round_trip(self, tmp_path, monkeypatch):
        monkeypatch.undo()  # wait for the disk this once
        for content in (OLD, NEW, {}, NEW):
            write_folder(tmp_path / "deep" / "best", content)
            assert read_folder(tmp_path / "deep" / "best") == content
            assert os.listdir(tmp_path / "deep") == ["best"]

    def test_a_crash_leaves_the_old_or_the_new(self, tmp_path, old):
        outcomes = []
        for root in crash_points(lambda root: write_folder(root / "best", NEW), tmp_path, self.prepare(old)):
            recover_folder(root / "best")
            outcomes.append(self.content(root / "best"))
            assert os.listdir(root) == (["best"] if outcomes[-1] is not None else [])
            recover_folder(root / "best")
            assert self.content(root / "best") == outcomes[-1]
        assert all(outcome in (old, NEW) for outcome in outcomes)
        assert old in outcomes
        assert NEW in outcomes

    def test_a_crash_in_the_recovery_is_recovered_from(self, tmp_path):
        seen = []
        for outer in itertools.count(1):
            for inner in itertools.count(1):
                root = fresh(tmp_path, 1000 * outer + inner)
                write_folder(root / "best", OLD)
                first = run(lambda root=root: write_folder(root / "best", NEW), root, outer)
                if inner == 1:
                    if contents(root) in seen:
                        break
                    seen.append(contents(root))
                second = run(lambda root=root: recover_folder(root / "best"), root, inner)
                recover_folder(root / "best")
                assert read_folder(root / "best") in (OLD, NEW)
                assert os.listdir(root) == ["best"]
                if not second.failed:
                    break
            if not first.failed:
                break
        assert len(seen) > 6

    def test_a_crash_in_the_next_write_is_recovered_from(self, tmp_path, old):
        seen = []
        for outer in itertools.count(1):
            for inner in itertools.count(1):
                root = fresh(tmp_path, 1000 * outer + inner)
                self.prepare(old)(root)
                first = run(lambda root=root: write_folder(root / "best", NEW), root, outer)
                if inner == 1:
                    if contents(root) in seen:
                        break
                    seen.append(contents(root))
                second = run(lambda root=root: write_folder(root / "best", NEWER), root, inner)
                recover_folder(root / "best")
                assert self.content(root / "best") in ((old, NEW, NEWER) if second.failed else (NEWER,))
                assert os.listdir(root) in (["best"], [] if old is None else ["best"])
                if not second.failed:
                    break
            if not first.failed:
                break
        assert len(seen) > 6

    def test_everything_is_synced_and_the_manifest_comes_last(self, tmp_path, monkeypatch):
        written = []
        monkeypatch.setattr("dots_core.storage.atomic.write_synced", recording(written))
        write_folder(tmp_path / "best", NEW)
        assert written == [*NEW, MANIFEST]
        monkeypatch.undo()
        disk = run(lambda: write_folder(tmp_path / "best", OLD), tmp_path)
        assert not disk.unsynced
        renames = [n for n, (name, _) in enumerate(disk.trace) if name == "rename"]
        here = tmp_path.stat().st_ino
        assert [disk.trace[n][1] for n in renames] == [here, here]
        assert ("fsync", (tmp_path / "best").stat().st_ino) in disk.trace[: renames[0]]
        assert disk.trace[renames[-1] + 1] == ("fsync", here)

    def test_a_full_disk_loses_nothing(self, tmp_path, old):
        """Without any recovery: the message promises that what was saved before stands."""
        lost = []
        for point in itertools.count(1):
            root = fresh(tmp_path, point)
            self.prepare(old)(root)
            folder, failed = root / "best", []

            def attempt(folder=folder, failed=failed):
                try:
                    write_folder(folder, NEW)
                except DotsError as error:
                    failed.append(str(error))

            disk = run(attempt, root, point, OSError)
            if not disk.failed:
                break
            if failed:
                assert str(folder) in failed[0]
                assert "No space left on device" in failed[0]
            if self.content(folder) not in ((old, NEW) if failed else (NEW,)):
                lost.append((point, os.listdir(root)))
        assert point > 10
        assert not lost

    def test_an_impossible_place_is_an_error_with_its_path(self, tmp_path):
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(DotsError, match=r"file/best: "):
            write_folder(tmp_path / "file" / "best", OLD)


def recording(written):
    def write(path: Path, content: bytes) -> None:
        written.append(path.name)
        path.write_bytes(content)

    return write


class TestReadFolder:
    @pytest.fixture
    def folder(self, tmp_path):
        write_folder(tmp_path / "best", OLD)
        return tmp_path / "best"

    @pytest.mark.parametrize("name", [*OLD, MANIFEST])
    def test_every_flipped_bit_is_seen(self, folder, name):
        path = folder / name
        content = path.read_bytes()
        for place in range(len(content)):
            for bit in range(8) if name != MANIFEST else {place % 8, 5}:
                damaged = bytearray(content)
                damaged[place] ^= 1 << bit
                path.write_bytes(damaged)
                with pytest.raises(CorruptFile, match="best"):
                    read_folder(folder)
        path.write_bytes(content)
        assert read_folder(folder) == OLD

    @pytest.mark.parametrize("name", [*OLD, MANIFEST])
    def test_every_truncation_is_seen(self, folder, name):
        content = (folder / name).read_bytes()
        end = len(content.rstrip())
        for length in range(end):
            (folder / name).write_bytes(content[:length])
            with pytest.raises(CorruptFile, match=name.split(".")[0]):
                read_folder(folder)

    @pytest.mark.parametrize("name", [*OLD, MANIFEST])
    def test_missing_files_are_seen(self, folder, name):
        (folder / name).unlink()
        with pytest.raises(CorruptFile, match=r"best.*No such file"):
            read_folder(folder)

    def test_a_longer_file_is_seen(self, folder):
        (folder / "a.bin").write_bytes(OLD["a.bin"] + b"\0")
        with pytest.raises(CorruptFile, match=r"a\.bin is damaged"):
            read_folder(folder)

    def test_a_file_that_is_not_listed_is_refused(self, folder):
        (folder / "stranger.bin").write_bytes(b"x")
        with pytest.raises(CorruptFile, match=r"stranger\.bin"):
            read_folder(folder)

    @pytest.mark.parametrize(
        "name", ["../outside", "/etc/hostname", "a/../../outside", "..", ".", "", "sub/file", "a\0b", "\ud800"]
    )
    def test_names_that_lead_elsewhere_are_refused(self, folder, name):
        content = b"secret"
        (folder.parent / "outside").write_bytes(content)
        (folder / "sub").mkdir()
        (folder / "sub" / "file").write_bytes(content)
        sums = {"sha256": {name: hashlib.sha256(content).hexdigest()}}
        (folder / MANIFEST).write_text(json.dumps(sums))
        with pytest.raises(CorruptFile, match="best"):
            read_folder(folder)

    @pytest.mark.parametrize(
        "manifest",
        [
            b"",
            b"{}",
            b"[]",
            b"null",
            b"3",
            b"\xff\xfe",
            b'{"sha256": null}',
            b'{"sha256": 3}',
            b'{"sha256": ["a.bin"]}',
            b'{"sha256": ["a.bin", 3]}',
            b'{"sha256": "a"}',
            b'{"sha256": {"a.bin": null}}',
            b'{"sha256": {"a.bin": {}}}',
            b'{"sha256": ' + b"[" * 100000,
            pickle.dumps({"sha256": {}}),
        ],
        ids=lambda manifest: str(manifest[:30]),
    )
    def test_other_manifests_are_refused(self, folder, manifest):
        (folder / MANIFEST).write_bytes(manifest)
        with pytest.raises(CorruptFile, match=r"best"):
            read_folder(folder)

    def test_a_missing_folder_or_a_file_in_its_place(self, tmp_path):
        with pytest.raises(CorruptFile, match="nowhere"):
            read_folder(tmp_path / "nowhere")
        (tmp_path / "file").write_bytes(b"x")
        with pytest.raises(CorruptFile, match="file"):
            read_folder(tmp_path / "file")

    def test_a_folder_in_place_of_a_file(self, folder):
        (folder / "a.bin").unlink()
        (folder / "a.bin").mkdir()
        with pytest.raises(CorruptFile, match=r"a\.bin"):
            read_folder(folder)


def test_recovery_of_nothing_does_nothing(tmp_path):
    recover_folder(tmp_path / "best")
    assert os.listdir(tmp_path) == []
    write_folder(tmp_path / "best", OLD)
    write_folder(tmp_path / "other", NEW)
    recover_folder(tmp_path / "best")
    assert read_folder(tmp_path / "best") == OLD
    assert sorted(os.listdir(tmp_path)) == ["best", "other"]


def test_recovery_prefers_the_new_folder_once_it_is_in_place(tmp_path):
    write_folder(tmp_path / "best", NEW)
    write_folder(tmp_path / "x", OLD)
    shutil.move(tmp_path / "x", tmp_path / ".best.old")
    recover_folder(tmp_path / "best")
    assert read_folder(tmp_path / "best") == NEW
    assert os.listdir(tmp_path) == ["best"]


def test_to_json():
    assert to_json({"b": 1, "a": [1.5, None]}) == to_json(json.loads(to_json({"b": 1, "a": [1.5, None]})))
    assert to_json({}).endswith("\n")
    for number in (math.nan, math.inf, -math.inf):
        with pytest.raises(ValueError, match="not JSON compliant"):
            to_json({"x": number})


def test_sync_directory_syncs_the_directory_and_closes_it(tmp_path):
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
    disk = run(lambda: sync_directory(tmp_path), tmp_path)
    assert disk.trace == [("fsync", tmp_path.stat().st_ino)]
    run(lambda: sync_directory(tmp_path), tmp_path, 1)
    if before is not None:
        assert len(os.listdir("/proc/self/fd")) == before


def test_the_message_of_a_failed_write():
    text = str(cannot_write(Path("runs/x"), OSError(28, "No space left on device")))
    assert "runs/x: No space left on device" in text
    assert "--resume" in text
    assert "broken" in str(cannot_write(Path("x"), OSError("broken")))
