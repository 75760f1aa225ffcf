from __future__ import annotations

import itertools
import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from crashes import contents, run
from hypothesis import given
from hypothesis import strategies as st
from strategies import quick, small_network

from dots_core.engine.state import check_state, state_shapes
from dots_core.errors import CorruptFile, DotsError
from dots_core.storage.atomic import MANIFEST, to_json, write_folder
from dots_core.storage.checkpoint import (
    KEPT,
    Checkpoint,
    checkpoints,
    newest_checkpoint,
    pack_arrays,
    read_checkpoint,
    tidy_checkpoints,
    unpack_arrays,
    write_checkpoint,
)

FILES = ["state.safetensors", "progress.json", MANIFEST]


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def checkpoint(number: int) -> Checkpoint:
    state = {
        "weights/a": np.arange(6, dtype=np.float32).reshape(2, 3) + number,
        "weights/b": np.full((1,), number, np.float64),
    }
    return Checkpoint(state, {"step": number, "cells": {"normal": [1.5, None, "x"]}})


def same(one: Checkpoint, other: Checkpoint) -> bool:
    return (
        one.progress == other.progress
        and set(one.state) == set(other.state)
        and all(
            one.state[k].dtype == v.dtype and one.state[k].shape == v.shape and (one.state[k] == v).all()
            for k, v in other.state.items()
        )
    )


def write(folder: Path, *numbers: int) -> None:
    for number in numbers:
        write_checkpoint(folder, number, checkpoint(number))


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def repack(path: Path, state: bytes | None = None, progress: bytes | None = None) -> None:
    """Replace files of a checkpoint under a manifest that fits them."""
    files = {name: (path / name).read_bytes() for name in FILES[:2]}
    if state is not None:
        files[FILES[0]] = state
    if progress is not None:
        files[FILES[1]] = progress
    write_folder(path, files)


class TestArrays:
    @quick
    @given(st.integers(0, 3), st.sampled_from(["float32", "float64", "float16", "int64", "bool"]), st.booleans())
    def test_round_trip(self, dimensions, dtype, transposed):
        array = np.random.RandomState(dimensions).normal(size=(2, 3, 4)[:dimensions]).astype(dtype)
        array = array.T if transposed else array
        found = unpack_arrays(pack_arrays({"x": array}), Path("x"))["x"]
        assert found.dtype == array.dtype
        assert found.shape == array.shape
        assert found.tobytes() == array.tobytes()

    def test_special_values_survive(self):
        array = np.array([np.nan, np.inf, -np.inf, -0.0, 5e-324])
        assert unpack_arrays(pack_arrays({"x": array}), Path("x"))["x"].tobytes() == array.tobytes()

    def test_a_networks_state_round_trips(self):
        """Scalars stay scalars: engines check the shape of every array before they go on."""
        spec = small_network()
        state = {
            key: np.zeros(shape, np.int64 if key.startswith("adam.steps/") else np.float32)
            for key, shape in state_shapes(spec).items()
        }
        check_state(spec, unpack_arrays(pack_arrays(state), Path("x")))

    def test_equal_arrays_give_equal_bytes(self):
        one, other = np.zeros((2, 3)), np.ones(4)
        assert pack_arrays({"a": one, "b": other}) == pack_arrays({"b": other, "a": one})
        assert pack_arrays({"a": one.T}) == pack_arrays({"a": np.zeros((3, 2))})
        assert unpack_arrays(pack_arrays({}), Path("x")) == {}

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"\0" * 8,
            b"\xff" * 8,
            b"\xff" * 100,
            pickle.dumps({"a": 1}),
            (2).to_bytes(8, "little") + b"{}" + b"x",
            b"x" * 1000,
            json.dumps({}).encode(),
        ],
        ids=lambda content: str(content[:12]),
    )
    def test_other_content_is_refused(self, content):
        with pytest.raises(CorruptFile, match=r"some/state is not a safetensors file"):
            unpack_arrays(content, Path("some/state"))

    @quick
    @given(st.sampled_from(["F32", "BF16", "F8_E4M3", "I64", "X1", "", "F4"]), st.integers(-1, 9), st.integers(-1, 9))
    def test_any_header_is_read_or_refused(self, dtype, start, end):
        header = json.dumps({"a": {"dtype": dtype, "shape": [2], "data_offsets": [start, end]}}).encode()
        content = len(header).to_bytes(8, "little") + header + b"12345678"
        try:
            assert unpack_arrays(content, Path("x"))["a"].shape == (2,)
        except CorruptFile as error:
            assert "x is not a safetensors file" in str(error)  # noqa: PT017


class TestRoundTrip:
    def test_newest(self, tmp_path):
        assert newest_checkpoint(tmp_path / "none") is None
        assert newest_checkpoint(tmp_path) is None
        assert checkpoints(tmp_path / "none") == []
        assert write_checkpoint(tmp_path, 7, checkpoint(7)) == tmp_path / "00000007"
        write(tmp_path, 10, 9)
        path, found = newest_checkpoint(tmp_path)
        assert path == tmp_path / "00000010"
        assert same(found, checkpoint(10))
        assert same(read_checkpoint(tmp_path / "00000009"), checkpoint(9))

    def test_only_the_newest_two_are_kept(self, tmp_path):
        assert KEPT == 2
        for number in range(1, 6):
            write(tmp_path, number)
            assert names(tmp_path) == [f"{n:08d}" for n in range(max(1, number - 1), number + 1)]

    def test_what_is_kept_is_not_written_again(self, tmp_path):
        write(tmp_path, 3)
        write_checkpoint(tmp_path, 3, checkpoint(4))
        assert same(read_checkpoint(tmp_path / "00000003"), checkpoint(3))

    def test_leftovers_of_a_crash_are_removed_and_nothing_else(self, tmp_path):
        write(tmp_path, 1, 2)
        for name in (".00000003.new", ".00000001.new"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "state.safetensors").write_bytes(b"half")
        (tmp_path / "notes").mkdir()
        (tmp_path / "7").write_bytes(b"a file, not a checkpoint")
        assert [p.name for p in checkpoints(tmp_path)] == ["00000001", "00000002"]
        tidy_checkpoints(tmp_path)
        assert names(tmp_path) == ["00000001", "00000002", "7", "notes"]
        tidy_checkpoints(tmp_path / "none")

    def test_non_finite_progress_is_refused_before_anything_is_written(self, tmp_path):
        with pytest.raises(ValueError, match="not JSON compliant"):
            write_checkpoint(tmp_path, 1, Checkpoint({}, {"loss": float("nan")}))
        assert names(tmp_path) == []


class TestCrashes:
    @pytest.mark.parametrize("before", [(), (1,), (1, 2)], ids=["first", "second", "third"])
    def test_a_crash_leaves_the_old_or_the_new(self, tmp_path, before):
        new = len(before) + 1
        outcomes = set()
        for point in itertools.count(1):
            folder = tmp_path / str(point)
            folder.mkdir()
            write(folder, *before)
            disk = run(lambda folder=folder: write(folder, new), folder, point)
            for _ in range(2):  # before and after tidying
                newest = newest_checkpoint(folder)
                if newest is None:
                    assert before == ()
                else:
                    number = int(newest[0].name)
                    assert number in (*before[-1:], new)
                    assert same(newest[1], checkpoint(number))
                outcomes.add(newest and number)
                tidy_checkpoints(folder)
            kept = [int(name) for name in names(folder)]
            assert kept in (list(before)[-2:], [*before, new][-2:])
            write(folder, new)
            assert same(newest_checkpoint(folder)[1], checkpoint(new))
            if not disk.failed:
                break
        assert point > 8
        assert outcomes == {before[-1] if before else None, new}

    def test_a_crash_while_tidying_is_tidied_up(self, tmp_path):
        for point in itertools.count(1):
            folder = tmp_path / str(point)
            write(folder, 3, 4)
            shutil.copytree(folder / "00000003", folder / "00000001")
            shutil.copytree(folder / "00000003", folder / ".00000005.new")
            disk = run(lambda folder=folder: tidy_checkpoints(folder), folder, point)
            assert same(newest_checkpoint(folder)[1], checkpoint(4))
            tidy_checkpoints(folder)
            assert names(folder) == ["00000003", "00000004"]
            if not disk.failed:
                break
        assert point > 5

    def test_a_full_disk_loses_nothing(self, tmp_path):
        raw = []
        for point in itertools.count(1):
            folder = tmp_path / str(point)
            write(folder, 1, 2)
            errors = []

            def attempt(folder=folder, errors=errors):
                try:
                    write(folder, 3)
                except (DotsError, OSError) as failure:
                    errors.append(failure)

            disk = run(attempt, folder, point, OSError)
            number = int(newest_checkpoint(folder)[0].name)
            assert number == 3 or (errors and number == 2)
            for error in errors:
                if not isinstance(error, DotsError) or str(folder) not in str(error):
                    raw.append((point, error))
            if not disk.failed:
                break
        assert point > 8
        assert not raw, "a failure without the path and what to do about it"


class TestDamage:
    @pytest.fixture
    def folder(self, tmp_path):
        write(tmp_path, 1, 2)
        return tmp_path

    @pytest.mark.parametrize("name", FILES)
    def test_flipped_bits_are_seen(self, folder, name):
        path = folder / "00000002" / name
        content = path.read_bytes()
        for place in range(len(content)):
            damaged = bytearray(content)
            damaged[place] ^= 1 << place % 8
            path.write_bytes(damaged)
            with pytest.raises(CorruptFile, match="00000002"):
                read_checkpoint(folder / "00000002")
        assert same(read_checkpoint(folder / "00000001"), checkpoint(1))

    @pytest.mark.parametrize("name", FILES)
    def test_truncations_are_seen(self, folder, name):
        path = folder / "00000002" / name
        content = path.read_bytes()
        for length in range(0, len(content) - 1, 3):
            path.write_bytes(content[:length])
            with pytest.raises(CorruptFile, match="00000002"):
                read_checkpoint(folder / "00000002")

    @pytest.mark.parametrize("name", FILES)
    def test_a_damaged_newest_names_the_older(self, folder, name):
        (folder / "00000002" / name).unlink()
        before = contents(folder)
        with pytest.raises(CorruptFile, match=r"00000002.*to go on from 00000001 instead, delete .*00000002"):
            newest_checkpoint(folder)
        assert contents(folder) == before
        shutil.rmtree(folder / "00000001")
        with pytest.raises(CorruptFile, match="is damaged: put one back from a copy") as caught:
            newest_checkpoint(folder)
        assert "instead" not in str(caught.value)

    @pytest.mark.parametrize("whole", [None, 1, 2, 3])
    @pytest.mark.parametrize("name", FILES)
    def test_only_a_whole_one_is_named_as_the_way_out(self, folder, name, whole):
        for number in (3, 4):
            shutil.copytree(folder / "00000002", folder / f"{number:08d}")
        for number in range(1, 5):
            if number != whole:
                (folder / f"{number:08d}" / name).write_bytes(b"{")
        if whole is None:
            with pytest.raises(CorruptFile, match=r"00000004.*are all damaged: put one back from a copy"):
                newest_checkpoint(folder)
            return
        with pytest.raises(CorruptFile, match=f"to go on from {whole:08d} instead, delete ") as caught:
            newest_checkpoint(folder)
        for path in str(caught.value).partition("delete ")[2].split(" and "):
            shutil.rmtree(path)
        assert newest_checkpoint(folder)[0].name == f"{whole:08d}"

    def test_a_damaged_older_one_does_not_matter(self, folder):
        (folder / "00000001" / FILES[0]).write_bytes(b"")
        assert same(newest_checkpoint(folder)[1], checkpoint(2))

    @pytest.mark.parametrize("name", FILES[:2])
    def test_files_that_the_manifest_leaves_out_are_missed(self, folder, name):
        path = folder / "00000002"
        other = next(n for n in FILES[:2] if n != name)
        write_folder(path, {other: (path / other).read_bytes()})
        with pytest.raises(CorruptFile, match=f"not a checkpoint: it lacks {name}"):
            read_checkpoint(path)

    def test_a_manifest_that_leads_elsewhere_is_refused(self, folder):
        path = folder / "00000002"
        sums = json.loads((path / MANIFEST).read_bytes())["sha256"]
        sums["../00000001/progress.json"] = sums.pop("progress.json")
        (path / MANIFEST).write_text(to_json({"sha256": sums}))
        with pytest.raises(CorruptFile, match="outside its folder"):
            read_checkpoint(path)

    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_pickles_are_refused_unopened(self, folder, protocol, monkeypatch):
        monkeypatch.chdir(folder)
        content = pickle.dumps(Trap(), protocol)
        repack(folder / "00000002", state=content)
        with pytest.raises(CorruptFile, match=r"state\.safetensors"):
            read_checkpoint(folder / "00000002")
        repack(folder / "00000001", progress=content)
        with pytest.raises(CorruptFile, match=r"progress\.json"):
            read_checkpoint(folder / "00000001")
        assert not (folder / "CAUGHT").exists()

    @pytest.mark.parametrize(
        "progress",
        [b"", b"[]", b"null", b'"x"', b"3", b"{}", b"\xff", b'{"format": "dots-checkpoint"}', b"[" * 100000],
        ids=lambda progress: str(progress[:12]),
    )
    def test_other_progress_is_refused(self, folder, progress):
        repack(folder / "00000002", progress=progress)
        with pytest.raises(CorruptFile, match=r"progress\.json is not a checkpoint's progress"):
            read_checkpoint(folder / "00000002")

    @pytest.mark.parametrize(
        ("kind", "version"), [("dots-checkpoint", 3), ("dots-checkpoint", 0), ("dots-genotype", 1), ("x", None)]
    )
    def test_other_formats_and_newer_versions_are_refused(self, folder, kind, version):
        repack(folder / "00000002", progress=json.dumps({"format": kind, "version": version}).encode())
        with pytest.raises(CorruptFile, match=f"of format {kind} {version}; this release reads dots-checkpoint 1"):
            read_checkpoint(folder / "00000002")


class Trap:
    """Leaves a trace when unpickled."""

    def __reduce__(self):
        return open, ("CAUGHT", "w")
