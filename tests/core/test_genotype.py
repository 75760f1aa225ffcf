from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pickle
import random
import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import genotypes, quick

from dots_core.errors import CorruptFile, DotsError, UsageError
from dots_core.search_space.genotype import Genotype
from dots_core.search_space.genotype_text import load_genotype, parse_genotype
from dots_core.search_space.named_cells import named_cell, named_cells
from dots_core.search_space.operations import UNSUPPORTED

SEP = "sep_conv_3x3"
SMALL = Genotype((((SEP, 0), ("skip_connect", 1)),), (2,), ((("max_pool_3x3", 1),),), (2,))


def darts_text(genotype: Genotype, concat: str = "range(2, 6)") -> str:
    """The form in which DARTS' code prints a genotype."""
    fields = []
    for kind in ("normal", "reduce"):
        edges = ", ".join(f"('{o}', {s})" for node in getattr(genotype, kind) for o, s in node)
        fields.append(f"{kind}=[{edges}], {kind}_concat={concat}")
    return f"Genotype({', '.join(fields)})"


def changed(**fields) -> str:
    """SMALL's JSON with fields replaced, or removed where they are None."""
    record = {**SMALL.to_record(), **fields}
    return json.dumps({key: value for key, value in record.items() if value is not None})


@quick
@given(genotypes())
def test_json_round_trip(genotype):
    text = genotype.to_json()
    again = Genotype.from_json(text)
    assert again == genotype == parse_genotype(" \n" + text)
    assert again.to_json() == text
    assert text.endswith("}\n")
    assert Genotype.from_record(genotype.to_record()) == genotype


def test_json_form_is_pinned():
    """Files written by any release stay readable."""
    text = """{"format": "dots-genotype", "version": 1,
        "normal": [[["sep_conv_3x3", 0], ["skip_connect", 1]]], "normal_concat": [2],
        "reduce": [[["max_pool_3x3", 1]]], "reduce_concat": [2]}"""
    assert Genotype.from_json(text) == SMALL
    assert SMALL.to_record() == json.loads(text)
    assert list(SMALL.to_record()) == list(json.loads(text))


@quick
@given(genotypes(), st.randoms(use_true_random=False))
def test_order_of_edges_does_not_matter(genotype, order: random.Random):
    def shuffled(nodes):
        return tuple(tuple(order.sample(node, len(node))) for node in nodes)

    other = Genotype(
        shuffled(genotype.normal), genotype.normal_concat, shuffled(genotype.reduce), genotype.reduce_concat
    )
    assert other == genotype
    assert hash(other) == hash(genotype)
    assert other.to_json() == genotype.to_json()


@quick
@given(genotypes(), genotypes())
def test_equal_only_if_the_text_is(one, other):
    assert (one == other) == (one.to_json() == other.to_json())


def test_a_single_difference_is_seen():
    for field, value in [
        ("normal", (((SEP, 0),),)),
        ("normal", (((SEP, 0), (SEP, 1)),)),
        ("reduce", ((("max_pool_3x3", 0),),)),
    ]:
        assert dataclasses.replace(SMALL, **{field: value}) != SMALL
    wide = Genotype((((SEP, 0),), ((SEP, 1),)), (2, 3), SMALL.reduce, (2,))
    assert dataclasses.replace(wide, normal_concat=(3,)) != wide


def test_genotypes_are_immutable_and_hold_no_lists():
    made = Genotype([[[SEP, 0]]], [2], [[[SEP, 1]]], [2])
    assert made.normal == (((SEP, 0),),)
    assert {made: 1}[Genotype((((SEP, 0),),), (2,), (((SEP, 1),),), (2,))] == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.normal = ()


@quick
@given(genotypes())
def test_cells_of_a_genotype(genotype):
    for kind in ("normal", "reduce"):
        cell = genotype.cell(kind)
        nodes = getattr(genotype, kind)
        assert not cell.mixed
        assert cell.matrix is None
        assert cell.concat == getattr(genotype, f"{kind}_concat")
        found = {(e.target, e.source, e.operations) for e in cell.edges}
        assert found == {(j, s, (o,)) for j, node in enumerate(nodes, start=2) for o, s in node}


@pytest.mark.parametrize("name", named_cells())
def test_named_cells_round_trip_from_their_darts_text(name):
    cell = named_cell(name)
    for concat in ("range(2, 6)", "[2, 3, 4, 5]", "(2, 3, 4, 5)"):
        assert parse_genotype(darts_text(cell, concat)) == cell
    assert Genotype.from_json(cell.to_json()) == cell


def test_an_assignment_is_read_without_being_made(tmp_path, monkeypatch):
    """Publications print `DARTS_V1 = Genotype(…)`."""
    monkeypatch.chdir(tmp_path)
    cell = named_cell("DARTS_V1")
    assert parse_genotype("DARTS_V1 = " + darts_text(cell)) == cell
    for text in ("open('CAUGHT', 'w').name = ", "x: open('CAUGHT', 'w') = ", "x[open('CAUGHT', 'w')] = "):
        with contextlib.suppress(UsageError):
            parse_genotype(text + darts_text(cell))
        assert not (tmp_path / "CAUGHT").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (changed(extra=1), "unknown keys: extra"),
        (changed(normal=None), "keys: normal"),
        (changed(version=2), "version 2 is not known"),
        (changed(version=None), "version None"),
        (changed(version="1"), "version '1'"),
        (changed(version=True), "version True"),
        (changed(format="genotype"), "not a genotype"),
        (changed().replace('"version": 1,', '"version": 1, "version": 1,'), "repeated"),
        (changed(normal=[[[SEP, True]]]), "normal cell: node 2: a source node is not an integer: True"),
        (changed(normal=[[[SEP, 0.0]]]), "normal cell: node 2: a source node is not an integer: 0.0"),
        (changed(normal=[[[SEP, "0"]]]), "normal cell: node 2: a source node is not an integer: '0'"),
        (changed(normal=[[[SEP, None]]]), "normal cell: node 2: a source node is not an integer: None"),
        (changed(normal=[[[SEP, 0, 1]]]), "normal cell: node 2: expected"),
        (changed(normal=[[[0, SEP]]]), "normal cell: node 2: expected"),
        (changed(normal=[[[[SEP], 0]]]), "normal cell: node 2: expected"),
        (changed(normal=[SEP]), "normal cell: expected"),
        (changed(normal={"0": 1}), "normal cell: expected"),
        (changed(normal="sep"), "normal cell: expected"),
        (changed(normal=[[["none", 0]]]), "'none'"),
        (changed(reduce=[[["sep_conv_3x4", 0]]]), "'sep_conv_3x4'; did you mean 'sep_conv_3x3'"),
        (changed(reduce=[[["skip", 0]]]), "reduce cell: node 2: unknown operation 'skip'"),
        (changed(normal=[[[SEP, 0], ["skip_connect", 0]]]), "0-2 appears twice"),
        (changed(normal=[[[SEP, 2]]]), "2-2"),
        (changed(normal=[[[SEP, 5]]]), "5-2"),
        (changed(normal=[[[SEP, -1]]]), "-1-2"),
        (changed(normal=[[[SEP, 10**30]]]), "a number of 31 digits"),
        (changed(normal=[[[SEP, 10**9]]]), "a source node is out of range"),
        (changed(normal=[[[SEP, 0]]] * 65), "65 nodes; a cell has at most 64"),
        (changed(normal=[[[SEP, 0]]] * 1000), "1,000 nodes; a cell has at most 64"),
        (changed(normal_concat=[2] * 10000), "names 10,000 nodes"),
        (changed(normal_concat=[2, 2]), "names a node twice"),
        (changed(normal=[[]]), "node 2 has no incoming edge"),
        (changed(normal=[[[SEP, 0]], []]), "node 3 has no incoming edge"),
        (changed(normal=[]), "at least one intermediate node"),
        (changed(normal_concat=[]), "concat"),
        (changed(normal_concat=[1]), "concat"),
        (changed(normal_concat=[3]), "concat"),
        (changed(normal_concat=[True]), "normal_concat: a node is not an integer: True"),
        (changed(normal_concat=2), "normal_concat: expected"),
        (changed(normal_concat="2"), "normal_concat: expected"),
        ("{}", "not a genotype"),
        ("[]", "not a genotype"),
        ("", "not a genotype"),
        ("{", "not JSON"),
        ("{'format': 'dots-genotype'}", "not JSON"),
        (changed() + "x", "not JSON"),
        ('{"a":' * 100000, "not JSON"),
        ('{"a": ' + "9" * 5000 + "}", "not a genotype"),
        ('{"format": NaN}', "not a genotype"),
        ("null", "not a genotype"),
        ("\x00", "not a genotype"),
        ("\ud800", "not a genotype"),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_malformed_text_is_refused(text, message):
    with pytest.raises(UsageError, match=message):
        parse_genotype(text)


GOOD = "normal=[('skip_connect', 0), ('skip_connect', 1)], normal_concat=[2]"
MORE = "reduce=[('skip_connect', 0), ('skip_connect', 1)], reduce_concat=[2]"


@pytest.mark.parametrize(
    "text",
    [
        f"Genotype({GOOD})",
        f"Genotype({GOOD}, **{{'reduce': []}})",
        f"Genotype(1, {GOOD}, {MORE})",
        f"Genotyp({GOOD}, {MORE})",
        f"x = Genotyp({GOOD}, {MORE})",
        f"y = mutated(Genotype({GOOD}, {MORE}))",
        f"y = Genotype({GOOD}, {MORE})._replace(normal_concat=[2])",
        f"Genotype({GOOD}, {MORE}) or 1",
        f"Genotype({GOOD}, {MORE}).normal",
        f"Genotype({GOOD}, {GOOD}, {MORE})",
        f"Genotype({GOOD}, {MORE})".replace("[2]", "range(10**9)"),
        f"Genotype({GOOD}, {MORE})".replace("[2]", "range(1000000000)"),
        f"Genotype({GOOD}, {MORE})".replace("[2]", "range(2, 100)"),
        f"Genotype({GOOD}, {MORE})".replace("[2]", "range(2, 6, 1)"),
        f"Genotype({GOOD}, {MORE})".replace("[2]", "range(True, 3)"),
        f"Genotype({GOOD}, {MORE})".replace("[2]", "range(2, stop=3)"),
        f"Genotype({GOOD}, {MORE})".replace("[2]", "range()"),
        f"Genotype({GOOD}, {MORE})".replace("[2]", "{[]: 1}"),
        f"Genotype({GOOD}, {MORE})".replace("[2]", "[2 for _ in range(3)]"),
        f"Genotype({GOOD}, {MORE})".replace("[2]", "[2][0:]"),
        f"Genotype({GOOD}, {MORE})".replace("'skip_connect'", "f'skip_connect'"),
        f"Genotype({GOOD}, {MORE})".replace("'skip_connect'", "b'skip_connect'"),
        f"Genotype({GOOD}, {MORE})".replace(" 0", " False"),
        f"Genotype({GOOD}, {MORE})".replace(" 0", " 0.0"),
        f"Genotype({GOOD}, {MORE})".replace("('skip_connect', 0), ", ""),
        f"Genotype({GOOD}, {MORE})".replace("[('skip_connect', 0), ('skip_connect', 1)]", "[]"),
        f"Genotype({GOOD}, {MORE})".replace("skip_connect", "none"),
        f"Genotype({GOOD}, {MORE})".replace(" 0)", " 1)"),
        "Genotype(normal=" + "[" * 5000 + "]" * 5000 + ")",
        "Genotype(normal='\ud800')",
        "lambda: Genotype()",
        "Genotype",
    ],
    ids=lambda text: ascii(text)[:100],
)
def test_darts_text_is_read_strictly(text):
    assert parse_genotype(f"Genotype({GOOD}, {MORE})").normal == ((("skip_connect", 0), ("skip_connect", 1)),)
    with pytest.raises(UsageError):
        parse_genotype(text)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('touch CAUGHT')",
        f"Genotype({GOOD}, {MORE})".replace("[2]", "__import__('os').system('touch CAUGHT')"),
        f"Genotype({GOOD}, {MORE})".replace("[2]", "range(__import__('os').system('touch CAUGHT'))"),
        f"Genotype(open('CAUGHT', 'w'), {GOOD}, {MORE})",
        f"Genotype({GOOD}, {MORE}, **open('CAUGHT', 'w'))",
        f"x = mutated(Genotype({GOOD}, {MORE}), open('CAUGHT', 'w'))",
    ],
)
def test_darts_text_is_refused_unexecuted(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "genotype.txt"
    path.write_text(text)
    with pytest.raises(UsageError, match="genotype"):
        parse_genotype(text)
    with pytest.raises(CorruptFile, match=r"genotype\.txt"):
        load_genotype(path)
    assert not (tmp_path / "CAUGHT").exists()


@pytest.mark.parametrize(
    "text",
    [
        f"Genotype({GOOD}, {MORE}, x=open('CAUGHT', 'w'))",
        f"open('CAUGHT', 'w') and Genotype({GOOD}, {MORE})",
        f"open('CAUGHT', 'w'); Genotype({GOOD}, {MORE})",
        f"x = open('CAUGHT', 'w'), Genotype({GOOD}, {MORE})",
        f"x += Genotype({GOOD}, {MORE}, open=open('CAUGHT', 'w'))",
        f"import antigravity\nGenotype({GOOD}, {MORE})",
        f"from os import *\nopen('CAUGHT', 'w')\nx = Genotype({GOOD}, {MORE})",
        f"Genotype = open('CAUGHT', 'w')\nx = Genotype({GOOD}, {MORE})",
        f"@open('CAUGHT', 'w')\nclass Genotype(open('CAUGHT', 'w')): pass\nx = Genotype({GOOD}, {MORE})",
    ],
)
@pytest.mark.filterwarnings("ignore:fields that are no part")
def test_what_surrounds_a_genotype_is_passed_over_unexecuted(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert parse_genotype(text) == parse_genotype(f"Genotype({GOOD}, {MORE})")
    assert not (tmp_path / "CAUGHT").exists()
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize("nesting", ["-", "(", "[", "not ", "x(", "1+"])
def test_deep_nesting_neither_crashes_nor_hangs(nesting):
    """In a process of its own: a parser that overflows its stack takes the process along."""
    script = (
        "from dots_core.search_space.genotype_text import parse_genotype; from dots_core.errors import UsageError\n"
        f"try: parse_genotype('Genotype(normal=' + {nesting!r} * 200000 + '1)')\n"
        "except UsageError: print('refused')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20)
    assert done.stdout == "refused\n", (done.returncode, done.stderr[-300:])


@quick
@given(st.text(max_size=30) | st.text("Genotype(normal=[]'_,)12{}\" ", max_size=40) | st.binary().map(str))
def test_any_text_is_a_genotype_or_refused(text):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        with contextlib.suppress(UsageError):
            parse_genotype(text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from([SEP, "none", "x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
)


@quick
@given(st.sampled_from(sorted(SMALL.to_record())), json_values)
def test_any_value_in_any_field_is_valid_or_refused(key, value):
    try:
        made = Genotype.from_record({**SMALL.to_record(), key: value})
    except UsageError:
        return
    assert made.to_record() == {**SMALL.to_record(), key: value} or key in ("normal", "reduce")


class TestLoad:
    def test_both_forms(self, tmp_path):
        cell = named_cell("DOTS_C10")
        (tmp_path / "a.json").write_text(cell.to_json())
        (tmp_path / "a.txt").write_text(darts_text(cell) + "\n")
        assert load_genotype(tmp_path / "a.json") == load_genotype(str(tmp_path / "a.txt")) == cell

    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_pickles_are_refused_unopened(self, tmp_path, protocol, monkeypatch):
        monkeypatch.chdir(tmp_path)
        path = tmp_path / "genotype.json"
        path.write_bytes(pickle.dumps(Trap(), protocol))
        with pytest.raises(CorruptFile, match=r"genotype\.json"):
            load_genotype(path)
        assert not (tmp_path / "CAUGHT").exists()

    def test_huge_files_are_refused_unread(self, tmp_path, monkeypatch):
        path = tmp_path / "genotype.json"
        with open(path, "wb") as file:
            file.truncate(1 << 33)
        with pytest.raises(CorruptFile, match=r"genotype\.json has 8,589,934,592 bytes.*genotype is read from"):
            load_genotype(path)

    def test_pipes_and_devices_are_refused_unread(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        for path in (tmp_path / "pipe", "/dev/zero"):
            with pytest.raises(CorruptFile, match="pipe or device"):
                load_genotype(path)

    @pytest.mark.parametrize("content", [b"\xff\xfe{}", b"\x80", b"", b"{}", b"\x89PNG\r\n", b"PK\x03\x04"])
    def test_other_files_are_refused_by_name(self, tmp_path, content):
        path = tmp_path / "genotype.json"
        path.write_bytes(content)
        with pytest.raises(CorruptFile, match=r"genotype\.json"):
            load_genotype(path)

    @pytest.mark.parametrize("length", range(0, 200, 7))
    def test_truncated_files_are_refused(self, tmp_path, length):
        path = tmp_path / "genotype.json"
        path.write_bytes(SMALL.to_json().encode()[:length])
        with pytest.raises(CorruptFile, match=r"genotype\.json"):
            load_genotype(path)

    def test_missing_files_and_folders(self, tmp_path):
        with pytest.raises(DotsError, match=r"missing\.json.*No such file"):
            load_genotype(tmp_path / "missing.json")
        with pytest.raises(DotsError, match="cannot read the genotype"):
            load_genotype(tmp_path)


class Trap:
    """Leaves a trace when unpickled."""

    def __reduce__(self):
        return open, ("CAUGHT", "w")


def test_the_constructor_checks_as_well():
    cases = [
        ((((SEP, 0),), ()), "node 3 has no incoming edge"),
        (((("none", 0),),), "'none'"),
        (((("sep", 0),),), "unknown operation 'sep'"),
        ((((SEP, True),),), "not an integer"),
        ((((SEP, 2),),), "2-2"),
        ((((SEP, 0), (SEP, 0)),), "appears twice"),
    ]
    for nodes, message in cases:
        with pytest.raises(UsageError, match=message):
            Genotype(nodes, (2,), (((SEP, 0),),), (2,))
        with pytest.raises(UsageError, match=message):
            Genotype((((SEP, 0),),), (2,), nodes, (2,))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"normal": 5}, "normal cell: expected.*not 5"),
        ({"normal": None}, "normal cell: expected.*not None"),
        ({"normal": [5]}, "normal cell: expected"),
        ({"normal": [[5]]}, "node 2: expected.*not 5"),
        ({"normal": [[(SEP,)]]}, "node 2: expected"),
        ({"normal": [[(SEP, 10**5000)]]}, "out of range"),
        ({"normal": [[("x" * 10**6, 0)]]}, "unknown operation 'xxx"),
        ({"normal": [[("\x1b[31m", 0)]]}, r"unknown operation '\\x1b"),
        ({"normal": 10**5000}, "an int too long to show"),
        ({"normal": np.zeros((1, 1, 2))}, "normal cell: expected"),
        ({"normal_concat": 2}, "normal_concat: expected"),
        ({"normal_concat": [None]}, "not an integer"),
        ({"normal_concat": {2}}, "normal_concat: expected"),
    ],
    ids=lambda value: ascii(value)[:30] if isinstance(value, str) else "",
)
def test_wrong_types_are_usage_errors(fields, message):
    with pytest.raises(UsageError, match=message) as caught:
        dataclasses.replace(SMALL, **fields)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("value", [None, 5, b"{}", ["x"], object()])
def test_wrong_types_of_text_and_path_are_usage_errors(value):
    for read in (parse_genotype, Genotype.from_json, Genotype.from_record):
        with pytest.raises(UsageError, match="not a genotype"):
            read(value)
    with pytest.raises(DotsError):
        load_genotype(value)
    with pytest.raises(UsageError, match="no type of cell"):
        SMALL.cell(value)


def test_whole_numbers_of_numpy_number_nodes():
    made = Genotype([[(SEP, np.int64(0)), ("skip_connect", np.uint8(1))]], [np.int32(2)], SMALL.reduce, (2,))
    assert made == SMALL
    assert json.loads(made.to_json())["normal"] == [[[SEP, 0], ["skip_connect", 1]]]


@pytest.mark.parametrize("operation", UNSUPPORTED)
def test_operations_of_wider_spaces_are_refused_as_such(operation):
    with pytest.raises(
        UsageError,
        match=f"node 2: operation '{operation}' is not supported; install a package .* another.*sep_conv_3x3",
    ):
        Genotype((((operation, 0),),), (2,), SMALL.reduce, (2,))
