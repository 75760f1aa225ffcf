"""Calls from Python with arguments of other types, and places no file can have, are usage errors."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest

import dots
from dots.config.presets import nested
from dots.run.api import Request
from dots.run.cells import find_cell
from dots_core.errors import QUOTED, CorruptFile, DataMissing, UsageError

LONG = "a" * 5000

ARGUMENTS = [
    *(
        {"preset": wrong}
        for wrong in (5, b"smoke", ["smoke"], Path("nowhere.yaml"), "\udcff.yaml", LONG, "a\0.yaml", "")
    ),
    *({"out": wrong} for wrong in (3, b"run", ["run"], "\udcff", Path("\udcff"), LONG, Path("a" * 300), "a\0b", "")),
    *({"data": wrong} for wrong in (3, b"images", ["images"], {"train": 1}, "\udcff", LONG, "a\0b", "")),
    *({"seed": wrong} for wrong in ("x", "0", 1.5, True, -1, 1 << 70, [0])),
    *(
        {"settings": wrong}
        for wrong in ([1], "batch=8", 5, {1: 2}, {("batch",): 8}, {"batch": object()}, {"batch": [8]})
    ),
    *({"settings": {key: 1}} for key in (LONG, "a." * 100_000, "", "\x1b[2J")),
    {"settings": {"channels": 10**5000}},
    {"settings": {"data": ""}},
    *({"scale": wrong} for wrong in ("0.1", True, [0.1], float("nan"), 0, -1)),
    {"backend": 3},
    {"backend": LONG},
    {"device": 3},
    {"resume": True},
]


@pytest.mark.parametrize("given", ARGUMENTS, ids=lambda given: next(iter(given)))
def test_a_search_asked_for_in_another_way(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as caught:
        dots.search(**{"backend": "reference", **given})
    assert len(str(caught.value)) < 5 * QUOTED
    assert str(caught.value).isprintable()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("cell", [Path("nowhere"), Path("nowhere.json"), 5, None, b"x", [1], LONG, "\udcff", "a\0b"])
def test_a_training_of_no_cell(cell, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError):
        dots.train(cell, backend="reference")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [5, None, [1], {}, b"DARTS_V2", LONG, "\x1b[2J"])
def test_no_name_of_a_cell(name):
    with pytest.raises(UsageError, match="unknown cell") as caught:
        dots.named_cell(name)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("images", [[[1, 2], [3]], "x", None, object(), 5])
def test_arrays_that_are_none(images):
    with pytest.raises(UsageError):
        dots.from_arrays(images, [0, 1], images, [0, 1])


def test_a_preset_may_be_a_path(tmp_path):
    (tmp_path / "mine.yaml").write_text("extends: smoke-reference\nchannels: 1000000\n")
    with pytest.raises(UsageError, match=r"mine\.yaml: channels"):
        dots.search(tmp_path / "mine.yaml", backend="reference", out=tmp_path / "run")


def test_numbers_of_numpy_are_numbers():
    request = Request("search", seed=np.int64(3), scale=np.float64(0.5))
    assert (type(request.seed), request.seed) == (int, 3)
    assert (type(request.scale), request.scale) == (float, 0.5)
    with pytest.raises(UsageError, match="seed is a whole number"):
        Request("search", seed=np.float64(3))


@pytest.mark.parametrize(
    "settings",
    [
        {"operation": {"epochs": 1}, "operation.epochs": 2},
        {"operation.epochs": 2, "operation": {"epochs": 1}},
        {"operation.temperature": {"schedule": "linear"}, "operation": {"temperature": {"schedule": "constant"}}},
        {"space.nodes": 2, "space": 5},
    ],
)
def test_a_setting_given_twice_is_not_dropped(settings):
    with pytest.raises(UsageError, match=r"give '.*' twice"):
        dots.search("smoke-reference", backend="reference", settings=settings)


def test_settings_of_one_section_come_together():
    assert nested({"operation": {"epochs": 1, "warmup": 0}, "operation.layers": 2, "space": {}}) == {
        "operation": {"epochs": 1, "warmup": 0, "layers": 2},
        "space": {},
    }


class TestHome:
    """A ``~`` that no shell has taken the place of, as in ``--out=~/run`` and from Python."""

    @pytest.fixture(autouse=True)
    def _home(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        (tmp_path / "home").mkdir()
        (tmp_path / "work").mkdir()
        monkeypatch.chdir(tmp_path / "work")

    def test_is_the_home(self, tmp_path):
        home = tmp_path / "home"
        (home / "cell.txt").write_text(str(dots.named_cell("DARTS_V2")))
        (home / "mine.yaml").write_text("extends: smoke-reference\nchannels: 1000000\n")
        assert Request("search", out=Path("~/run")).out == home / "run"
        assert find_cell("~/cell.txt") == find_cell(Path("~/cell.txt")) == dots.named_cell("DARTS_V2")
        with pytest.raises(UsageError, match=r"mine\.yaml: channels"):
            dots.search("~/mine.yaml", backend="reference")
        with pytest.raises(DataMissing, match=str(home / "images")):
            dots.search(backend="reference", data="~/images")

    def test_of_nobody_is_a_name_like_others(self, tmp_path):
        with pytest.raises(DataMissing, match="~nobody-of-this-name/images: does not exist"):
            dots.search(backend="reference", data="~nobody-of-this-name/images")
        assert Request("search", out="~nobody-of-this-name").out == Path("~nobody-of-this-name")


@pytest.mark.parametrize("address", ["https://example.org/cifar-10-binary.tar.gz", "s3://bucket/images"])
def test_images_at_an_address_are_not_taken_for_a_path(address):
    with pytest.raises(DataMissing, match=f"{address} is an address, and nothing is downloaded"):
        dots.search(backend="reference", data=address)


def test_a_preset_that_is_no_regular_file_is_told_as_what_it_is(tmp_path):
    (tmp_path / "folder.yaml").mkdir()
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(UsageError, match="Is a directory"):
        dots.search(tmp_path / "folder.yaml")
    with pytest.raises(CorruptFile, match="pipe or device"):
        dots.search(tmp_path / "pipe.yaml")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"operation": 5}, "operation: input should be a section of keys and values, not 5"),
        ({"operation.betas": "ab"}, "operation.betas: input should be a list, not 'ab'"),
        ({"space.operations": 5}, "space.operations: input should be a text or a list, not 5"),
        ({"space.groups": [[1]]}, "space.groups.0.0: input should be a text, not 1"),
        ({"space.groups": [5]}, "space.groups.0: input should be a list, not 5"),
        ({"space.attention": {"skip_connect": "x"}}, "space.attention.skip_connect: input should be a number, not 'x'"),
        ({"space.attention": 5}, "space.attention: input should be a text or keys and values, not 5"),
        ({"data": 3}, "data: input should be a text, not 3"),
    ],
)
def test_a_wrong_type_is_told_in_the_words_of_settings(settings, told):
    with pytest.raises(UsageError, match=re.escape(told)):
        dots.search("smoke-reference", backend="reference", settings=settings)
