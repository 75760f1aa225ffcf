"""Files are read only if regular, only up to a size, and JSON without surprises."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dots_core.errors import QUOTED, CorruptFile, printable, quoted
from dots_core.storage.reading import read_file, read_json


def test_a_file_is_read_whole(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    assert read_file(tmp_path / "file", 7) == b"content"


def test_a_larger_file_is_refused_before_it_is_read(tmp_path):
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(60 << 30)
    with pytest.raises(CorruptFile, match="64,424,509,440 bytes"):
        read_file(tmp_path / "sparse", 1000)


def test_what_grows_while_it_is_read_is_refused():
    """Files of /proc claim to be empty."""
    with pytest.raises(CorruptFile, match="over the limit"):
        read_file("/proc/self/maps", 10)


def test_a_pipe_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CorruptFile, match="pipe or device"):
        read_file(tmp_path / "pipe", 1000)


def test_a_device_does_not_go_on_for_ever():
    with pytest.raises(CorruptFile, match="pipe or device"):
        read_file("/dev/zero", 1000)


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), lambda path: None])
def test_what_cannot_be_opened_is_an_os_error(tmp_path, make):
    make(tmp_path / "path")
    with pytest.raises(OSError, match="path"):
        read_file(tmp_path / "path", 1000)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"a": 1, "a": 2}',
        "[NaN]",
        "[-Infinity]",
        "[1e999]",
        "[" * 100_000,
        "1" * 5000,
        "12345678901234567890",
        "\x00",
    ],
)
def test_json_with_surprises_is_refused(tmp_path, text):
    path: Path = tmp_path / "file.json"
    path.write_text(text)
    with pytest.raises(CorruptFile, match=r"file\.json is damaged"):
        read_json(path)


def test_binary_is_no_json(tmp_path):
    (tmp_path / "file.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CorruptFile, match="not JSON"):
        read_json(tmp_path / "file.json")


def test_json_may_begin_with_a_byte_order_mark(tmp_path):
    (tmp_path / "file.json").write_bytes(b'\xef\xbb\xbf{"a": [1, 2.5, null, "\xc3\xa9"]}')
    assert read_json(tmp_path / "file.json") == {"a": [1, 2.5, None, "é"]}


@pytest.mark.parametrize("character", ["\x00", "\x07", "\x1b", "\x7f", "\x9b", "\u202e", "\udcff", "\r"])
def test_what_a_terminal_obeys_is_escaped(character):
    assert printable(f"a{character}b") == f"a{ascii(character)[1:-1]}b"
    assert character not in quoted(f"a{character}b")


def test_what_a_terminal_shows_is_left():
    text = "α′ → Größe 中文 – “quoted” 'so'"
    assert printable(text) == quoted(text) == text


def billion_laughs():
    value = ["ha"] * 10
    for _ in range(20):
        value = [value] * 10
    return value


LONG = ["x" * 10**6, "\x1b" * 10**6, billion_laughs(), 10**4000, 10**5000, [10**5000], {"k" * 1000: b"v" * 1000}]


@pytest.mark.parametrize("value", LONG, ids=range(len(LONG)))
def test_long_values_are_shortened(value):
    assert len(quoted(value)) <= QUOTED
