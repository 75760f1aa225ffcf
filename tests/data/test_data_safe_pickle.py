from __future__ import annotations

import collections
import contextlib
import os
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dots_core.data.files.safe_pickle import load_dict
from dots_core.errors import CorruptFile

PLAIN = {b"none": None, b"flag": True, "text": "ä", b"numbers": [1, -(2**70), 2.5], b"nested": {1: (b"x", [b"y"])}}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_and_arrays_survive_in_every_protocol(protocol: int):
    arrays = {
        b"bytes": np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
        b"fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        b"swapped": np.arange(5, dtype=">i4"),
        b"empty": np.zeros((0, 3), np.int64),
        b"strided": np.arange(10, dtype=np.uint16)[::2],
    }
    found = load_dict(pickle.dumps({**PLAIN, **arrays}, protocol), "f")
    assert {key: value for key, value in found.items() if key not in arrays} == PLAIN
    for key, array in arrays.items():
        np.testing.assert_array_equal(found[key], array)
        assert found[key].dtype == array.dtype


def test_arrays_written_by_numpy_two_are_read():
    content = pickle.dumps({b"data": np.arange(4, dtype=np.uint8)}, 2)
    renamed = re.sub(rb"numpy\.(_?)core", b"numpy._core", content)
    older = re.sub(rb"numpy\.(_?)core", b"numpy.core", content)
    for variant in (renamed, older):
        np.testing.assert_array_equal(load_dict(variant, "f")[b"data"], [0, 1, 2, 3])


class Calls:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_commands_are_refused_and_not_run(tmp_path: Path, protocol: int):
    marker = tmp_path / "ran"
    content = pickle.dumps({b"data": Calls(os.system, f"touch {marker}")}, protocol)
    with pytest.raises(CorruptFile, match=r"some/file: refers to '(posix|nt)\.system'"):
        load_dict(content, "some/file")
    assert not marker.exists()


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (Calls(eval, "1"), "builtins.eval"),
        (Calls(getattr, "", "join"), "builtins.getattr"),
        (np.load, "numpy.load"),
        (collections.OrderedDict(), "collections.OrderedDict"),
    ],
)
def test_any_other_name_is_refused(value: object, name: str):
    with pytest.raises(CorruptFile, match=re.escape(name)):
        load_dict(pickle.dumps({b"data": value}, 4), "f")


@pytest.mark.parametrize(
    "array",
    [
        np.array([None, "x"], object),
        np.array(["text"]),
        np.zeros(2, [("a", "u1")]),
        np.zeros(2, "M8[s]"),
        np.zeros(2, np.complex64),
    ],
    ids=lambda array: str(array.dtype),
)
@pytest.mark.parametrize("protocol", [2, 5])
def test_arrays_of_anything_but_numbers_are_refused(array: np.ndarray, protocol: int):
    with pytest.raises(CorruptFile):
        load_dict(pickle.dumps({b"data": array}, protocol), "f")


def test_object_array_refusal_names_the_type():
    with pytest.raises(CorruptFile, match="array of type 'O8', only numbers are admitted"):
        load_dict(pickle.dumps({b"data": np.array([None])}, 2), "f")


def test_array_whose_shape_contradicts_its_contents_is_refused():
    content = pickle.dumps({b"data": np.arange(200, dtype=np.uint8)}, 2)
    altered = content.replace(b"K\xc8\x85", b"K\xc9\x85")
    assert altered != content
    with pytest.raises(CorruptFile, match=r"shape \(201,\) has 200 values"):
        load_dict(altered, "f")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"\x80\x02c_codecs\nencode\nN}X\x01\x00\x00\x00aK\x01s\x86b.", id="attributes of a stand-in"),
        pytest.param(b"\x80\x02}r\xff\xff\xff\x7f.", id="memo of gigabytes"),
        pytest.param(b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00hex\x86R.", id="other codec"),
        pytest.param(b"\x80\x04\x82\x01.", id="extension registry"),
        pytest.param(b"\x80\x02c__builtin__\nbytes\nJ\xff\xff\xff\x7f\x85R.", id="bytes of gigabytes"),
        pytest.param(b"\x80\x02U\x01xQ.", id="persistent name"),
        pytest.param(pickle.dumps([1, 2]), id="no dict"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"no pickle at all", id="text"),
    ],
)
def test_crafted_contents_are_refused(content: bytes):
    with pytest.raises(CorruptFile, match=r"^f: ") as caught:
        load_dict(content, "f")
    assert "\n" not in str(caught.value)


@given(cut=st.integers(0, 10**6), place=st.integers(0, 10**6), value=st.integers(0, 255))
@settings(max_examples=150, deadline=None)
def test_damage_gives_corrupt_file_or_a_dict(cut: int, place: int, value: int):
    content = bytearray(pickle.dumps({**PLAIN, b"data": np.arange(30, dtype=np.uint8)}, 2))
    with pytest.raises(CorruptFile):
        load_dict(bytes(content[: cut % len(content)]), "f")
    content[place % len(content)] = value
    # A changed byte may also give another valid value; nothing but these two may happen.
    with contextlib.suppress(CorruptFile):
        assert isinstance(load_dict(bytes(content), "f"), dict)
