"""Genotypes as the world writes them: read, or refused with what was found and what would make it readable."""

from __future__ import annotations

import codecs
import contextlib
import dataclasses
import json
import os
import re
import resource
import time

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import DERIVABLE, DIALECTS, genotypes, quick, written

import dots
from dots_core.errors import CorruptFile, UsageError
from dots_core.search_space.genotype import Genotype
from dots_core.search_space.genotype_text import TEXT_LIMIT, SeveralGenotypes, parse_genotype, read_genotype, read_text
from dots_core.search_space.named_cells import named_cell, named_cells
from dots_core.search_space.operations import DARTS, OPERATIONS

NORMAL = "normal=[('sep_conv_3x3', 0), ('dil_conv_5x5', 1)], normal_concat=[2]"
REDUCE = "reduce=[('max_pool_3x3', 0), ('skip_connect', 1)], reduce_concat=[2]"
FLAT = f"Genotype({NORMAL}, {REDUCE})"
CELL = Genotype(
    ((("sep_conv_3x3", 0), ("dil_conv_5x5", 1)),), (2,), ((("max_pool_3x3", 0), ("skip_connect", 1)),), (2,)
)
OTHER = dataclasses.replace(CELL, reduce=CELL.normal)
OTHER_TEXT = f"Genotype({NORMAL}, {NORMAL.replace('normal', 'reduce')})"
NODES = "normal=[[('sep_conv_3x3', 0)], [('skip_connect', 0), ('skip_connect', 1), ('dil_conv_3x3', 2)]]"
NODES_CELL = ((("sep_conv_3x3", 0),), (("skip_connect", 0), ("skip_connect", 1), ("dil_conv_3x3", 2)))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_is_written_in_a_dialect_is_read_again(dialect):
    found = 0

    @quick
    @given(genotypes(pairs=dialect in ("flat", "weights"), whole="nni" in dialect))
    def check(genotype):
        nonlocal found
        text = written(genotype, dialect)
        assume(text is not None)
        found += 1
        assert read_text(text).genotype == genotype
        assert read_text("\ufeff\n  " + text + " \n").genotype == genotype
        if dialect != "json":
            assert read_text(text.replace(", ", ",\n   ")).genotype == genotype
        if dialect not in ("json", "tuple", "nni1", "nni2"):
            assert read_text(f"2020-03-01 10:12:13,123 genotype = {text}".replace("'", '"')).genotype == genotype

    check()
    assert found >= 10


@pytest.mark.parametrize("name", named_cells())
def test_published_cells_are_read_in_every_dialect(name):
    cell = named_cell(name)
    for dialect in DIALECTS:
        assert read_text(written(cell, dialect)).genotype == cell
    for concat in (
        "range(2, 6)",
        "(2, 3, 4, 5)",
        "{5, 2, 3, 4}",
        "list(range(2, 6))",
        "array([2, 3, 4, 5])",
        "set([2, 3, 4, 5])",
    ):
        assert read_text(written(cell, "flat").replace("[2, 3, 4, 5]", concat)).genotype == cell


@pytest.mark.parametrize("number", ["np.int64({})", "int({})", "numpy.int32({})", "tensor({}, device='cuda:0')"])
def test_numbers_as_numpy_and_pytorch_print_them(number):
    for dialect in ("flat", "nested", "targets", "weights"):
        text = written(named_cell("DOTS_C10"), dialect, number.format)
        assert read_text(text).genotype == named_cell("DOTS_C10")


MODULE = f'''"""Cells."""
from collections import namedtuple
import os, sys

Genotype = namedtuple("Genotype", "normal normal_concat reduce reduce_concat")
PRIMITIVES = [
    "none",
]
# OLD = {OTHER_TEXT}
"""
OLDER = {OTHER_TEXT}
"""
MINE = {FLAT}
BEST = MINE

def f():
    return {OTHER_TEXT}

if __name__ == "__main__":
    print(MINE)
'''

READ = {
    "a line of a log in colours": "\x1b[1;32mINFO\x1b[0m " + FLAT.replace(", 0", ", \x1b[36m0\x1b[0m") + "\x1b[0m",
    "a page in HTML": f"<p>DARTS = {FLAT.replace(chr(39), '&#39;')}</p>",
    "another page in HTML": f"<code>{FLAT.replace(chr(39), '&quot;')}</code> is the cell.",
    "a string within a string": FLAT.replace("'", "\\'"),
    "a log in lines of JSON": "\n".join(json.dumps({"epoch": n, "genotype": FLAT.replace("'", '"')}) for n in range(3)),
    "an assignment": f"DARTS = {FLAT}",
    "an annotated assignment": f"DARTS: Genotype = {FLAT}",
    "a name in a module": FLAT.replace("Genotype", "genotypes.Genotype"),
    "a semicolon": FLAT + ";",
    "a line of DARTS' log": f"2018-09-27 12:14:58,123 genotype = {FLAT}",
    "a line of a log with a colon": f"[2021-04-07 10:12] (train.py:81) INFO genotype: {FLAT}",
    "a line that looks like an annotation": f"genotype: {FLAT}",
    "a log in which it does not change": "\n".join(f"epoch {n} lr 1e-3\ngenotype = {FLAT}\ndon't" for n in range(9)),
    "prose before and after": f"It's the cell that we found (see fig. 3): {FLAT}, and it is good.",
    "the end of a sentence": f"The cell is {FLAT}.",
    "Markdown": f"# Cells\n\n```python\nDARTS = {FLAT}\n```\n",
    "several lines": FLAT.replace("), (", "),\n  (").replace("], ", "],\n"),
    "comments within": FLAT.replace("), (", "), # step 1: (\n  ("),
    "comments within, in prose": "we found\n" + FLAT.replace("), (", "), # step 1: (\n  ("),
    "typographic quotation marks": FLAT.replace("('", "(‘").replace("',", "’,"),
    "double quotation marks": FLAT.replace("'", '"'),
    "spaces that do not break": FLAT.replace(" ", "\u00a0"),
    "Windows' line ends": FLAT.replace("), (", "),\r\n  (") + "\r\n",
    "a byte-order mark": "\ufeff" + FLAT,
    "tuples": FLAT.replace("[", "(").replace("]", ",)"),
    "arguments by position": re.sub(r"\w+=", "", FLAT),
    "arguments by position in another order": "from collections import namedtuple\n"
    "Genotype = namedtuple('Genotype', ['reduce', 'reduce_concat', 'normal', 'normal_concat', 'layout'])\n"
    + f"X = Genotype({re.sub('[a-z_]+=', '', REDUCE)}, {re.sub('[a-z_]+=', '', NORMAL)}, layout='cell')",
    "arguments by position in a class's order": "class Genotype(NamedTuple):\n    '''A cell.'''\n    reduce: list\n"
    "    reduce_concat: range\n    normal: list\n    normal_concat: range\n"
    + f"X = Genotype({re.sub('[a-z_]+=', '', REDUCE)}, {re.sub('[a-z_]+=', '', NORMAL)})",
    "a field more": FLAT[:-1] + ", layout='cell', connectN=None, other=print(1))",
    "a named tuple in JSON": json.dumps([CELL.normal, [2], CELL.reduce, [2]]),
    "a dictionary in JSON": json.dumps({**CELL.to_record(), "format": 0, "version": 0}).replace(
        '"format": 0, "version": 0, ', ""
    ),
    "a dictionary that is assigned": "arch = " + written(CELL, "dictionary"),
    "what `dots show --json` prints": json.dumps({"schema": "dots/show/1", "genotype": CELL.to_record(), "params": 1}),
    "a text in JSON": json.dumps({"epoch": 5, "genotype": FLAT}),
    "weights": FLAT.replace("0)", "0, 0.13017)").replace("1)", "1, 1e-3)"),
    "weights, one of them whole": FLAT.replace("0)", "0, 0.5)").replace("1)", "1, 1)"),
    "edges in a list a node with weights": FLAT.replace("0)", "0, 0.13)")
    .replace("1)", "1, 0.12)")
    .replace("[(", "[[(")
    .replace(")]", ")]]"),
    "targets": FLAT.replace("', 0)", "', 2, 0)").replace("', 1)", "', 2, 1)"),
    "AutoDL-Projects' names": FLAT.replace("sep_conv", "dua_sepc").replace("dil_conv", "dil_sepc"),
    "a whole genotypes.py": MODULE,
    "a line of AutoDL-Projects' log": "<<<--->>> The 049-050-th epoch : " + written(CELL, "dictionary"),
    "texts as NumPy prints them": FLAT.replace("('", "(np.str_('").replace("',", "'),"),
    "a text somewhere in JSON": json.dumps({"epoch": 5, "best": {"cell": FLAT}}),
    "JSON of named cells": json.dumps({"MINE": {"source": "me", **CELL.to_record()}}).replace(
        '"format": "dots-genotype", "version": 1, ', ""
    ),
    "lines of JSON": "\n".join(json.dumps({"epoch": n, "genotype": FLAT}) for n in range(3)),
    "a text that is assigned in parts": 'CELL = "' + FLAT.replace(", (", ', " \\\n    "(') + '"\n',
    "a dictionary of texts": f'CELLS = {{"mine": "{FLAT}", "other": None}}',
    "an option on a command line": f'python train.py --name a --genotype \\\n"{FLAT}" --layers 20',
    "within a function": f"def cell():\n    CELL = {FLAT}\n    return CELL",
    "lists of four beside it": f"STAGES = [[1], [2], [3], [4]]\nCELL = {FLAT}",
    "names for one another": f"A = B\nB = A\nC = B\nD = C\nCELL = {FLAT}\nE = CELL\nF = E",
    "a dictionary of one genotype": f"CELLS = {{'mine': {FLAT}}}",
}
"""Texts that hold CELL, by what they are."""


@pytest.mark.filterwarnings("error::SyntaxWarning", "error::DeprecationWarning")
@pytest.mark.parametrize("text", READ.values(), ids=READ)
def test_texts_that_are_read(text, tmp_path):
    assert read_text(text).genotype == CELL
    (tmp_path / "cell.txt").write_text(text, "utf-8", newline="")
    assert read_genotype(tmp_path / "cell.txt").genotype == CELL


@pytest.mark.filterwarnings("ignore:operations under another name", "ignore:an architecture from NNI")
@pytest.mark.parametrize(
    ("text", "remark"),
    [
        (FLAT[:-1] + ", layout='cell', connectN=None)", "left aside: layout, connectN"),
        (READ["weights"], r"the weights in \(operation, source, weight\) were left aside"),
        (READ["AutoDL-Projects' names"], "dua_sepc_3x3 as sep_conv_3x3, dil_sepc_5x5 as dil_conv_5x5"),
        (written(CELL, "nni1"), "does not say what a cell concatenates: all nodes"),
        (written(CELL, "nni1").replace("{", '{"width": 16, ', 1), "left aside: width"),
    ],
)
def test_what_is_left_aside_is_said(text, remark):
    assert re.search(remark, "\n".join(read_text(text).remarks))
    assert read_text(text).genotype == CELL
    with pytest.warns(UserWarning, match=remark):
        assert parse_genotype(text) == CELL


def test_nothing_is_said_where_nothing_is_left_aside():
    for dialect in ("json", "flat", "nested", "targets", "positional", "dictionary"):
        assert read_text(written(CELL, dialect)).remarks == ()


def replaced(old: str, new: str) -> str:
    assert old in FLAT
    return FLAT.replace(old, new)


REFUSED = {
    "nothing": ("", "the text is empty"),
    "prose": ("This is a cell.", "found 'This is a cell.'; expected a genotype.json of dots, Genotype"),
    "a call of another name": (FLAT.replace("Genotype", "Genotyp"), "found .Genotyp"),
    "no arguments": ("Genotype()", "fields are missing: normal, normal_concat, reduce, reduce_concat .found: none"),
    "a recurrent cell": (
        "Genotype(recurrent=[('relu', 0), ('tanh', 1)], concat=range(1, 3))",
        "fields are missing.*found: recurrent, concat",
    ),
    "the reduction cell is missing": (f"Genotype({NORMAL})", "missing: reduce, reduce_concat"),
    "an empty cell": (
        replaced("[('max_pool_3x3', 0), ('skip_connect', 1)]", "[]"),
        "reduce cell: expected a list of edges",
    ),
    "parallel edges": (
        replaced("('skip_connect', 1)", "('skip_connect', 0)"),
        "node 2: edge 0-2 appears twice, with max_pool_3x3 and skip_connect; parallel edges are not supported",
    ),
    "parallel edges in a list a node": (
        f"Genotype(normal=[(('sep_conv_5x5', 0), ('max_pool_3x3', 0))], normal_concat=[2], {REDUCE})",
        "normal cell: node 2: edge 0-2 appears twice.*parallel edges are not supported",
    ),
    "an operation of NASNet": (
        replaced("sep_conv_3x3", "sep_conv_7x7"),
        "node 2: operation 'sep_conv_7x7' is not supported",
    ),
    "another operation of NASNet": (
        replaced("max_pool_3x3", "conv_7x1_1x7"),
        "reduce cell: node 2: operation 'conv_7x1_1x7' is not",
    ),
    "a misspelt operation": (
        replaced("skip_connect", "skip_conect"),
        "'skip_conect'; did you mean 'skip_connect'.*known: max_pool",
    ),
    "none": (replaced("dil_conv_5x5", "none"), "node 2 holds 'none'.*leave that edge out.*list a node"),
    "an input in concat": (
        replaced("normal_concat=[2]", "normal_concat=range(1, 3)"),
        "normal_concat names 1, an input of the cell.*leave 1 out",
    ),
    "a node that is not there in concat": (
        replaced("reduce_concat=[2]", "reduce_concat=range(2, 6)"),
        "reduce_concat names 3, no node.*2 to 2.*two edges a node",
    ),
    "an odd number of edges": (
        replaced("('sep_conv_3x3', 0), ", ""),
        "normal cell: 1 edges in a flat list, which has two edges a node.*a list a node",
    ),
    "a node that leads nowhere": (
        f"Genotype(normal={[('skip_connect', 0), ('skip_connect', 1)] * 2}, normal_concat=[2], {REDUCE})",
        "4 edges, two a node, make 2 nodes, of which 3 leads nowhere.*write a list a node",
    ),
    "a source that comes later": (
        replaced("dil_conv_5x5', 1", "dil_conv_5x5', 2"),
        "node 2: edge 2-2 does not lead forward.*0 to 1.*two edges a node",
    ),
    "a node without edges, by targets": (
        f"Genotype(normal=[('sep_conv_3x3', 2, 0), ('sep_conv_3x3', 4, 0)], normal_concat=range(2, 5), {REDUCE})",
        "normal cell: node 3 has no incoming edge; renumber the nodes",
    ),
    "third entries of neither sense": (
        f"Genotype(normal=[('sep_conv_3x3', 0, 2), ('sep_conv_3x3', 1, 2)], normal_concat=[2], {REDUCE})",
        r"normal cell: \['sep_conv_3x3', 0, 2\] is neither .operation, target, source.* nor .operation, source, weight",
    ),
    "a weight without a point": (
        f"Genotype(normal=[('sep_conv_3x3', 0, 1), ('sep_conv_3x3', 1, 1)], normal_concat=[2], {REDUCE})",
        r"is neither .operation, target, source.* where the weight is a decimal",
    ),
    "a text for a weight": (
        f"Genotype(normal=[('sep_conv_3x3', 0, 'a'), ('sep_conv_3x3', 1, 'a')], normal_concat=[2], {REDUCE})",
        r"'a'\] is neither",
    ),
    "targets in the wrong list": (
        f"Genotype(normal=[[('sep_conv_3x3', 2, 0)], [('sep_conv_3x3', 2, 0)]], normal_concat=[2, 3], {REDUCE})",
        "list 2 holds the edges of node 3, but ends some in 2",
    ),
    "pairs and triples": (replaced("5', 1)", "5', 2, 1)"), r"found \['dil_conv_5x5', 2, 1\] among edges of 2 entries"),
    "quadruples": (replaced("5', 1)", "5', 2, 1, 0)"), "found .* among edges of 2 entries"),
    "edges and lists of edges": (
        replaced("('sep_conv_3x3', 0)", "[('sep_conv_3x3', 0)]"),
        "all in one list or all in a list a node; found",
    ),
    "sources before operations": (
        replaced("('sep_conv_3x3', 0)", "(0, 'sep_conv_3x3')"),
        r"normal cell: expected edges \(operation, source\).*found \[0, 'sep_conv_3x3'\]",
    ),
    "a source that is a text": (replaced("5', 1)", "5', '1')"), "a source node is not an integer: '1'"),
    "a source that is no whole number": (replaced("5', 1)", "5', 1.5)"), "a source node is not an integer: 1.5"),
    "a thousand nodes": (
        f"Genotype(normal={[[('skip_connect', 0)]] * 1000}, normal_concat=[1001], {REDUCE})",
        "normal cell: 1,000 nodes; a cell has at most 64",
    ),
    "a thousand nodes in a flat list": (
        f"Genotype(normal={[('skip_connect', 0), ('skip_connect', 1)] * 1000}, normal_concat=[1001], {REDUCE})",
        "normal cell: 1,000 nodes; a cell has at most 64",
    ),
    "a name for concat": (
        replaced("normal_concat=[2]", "normal_concat=CONCAT"),
        "only literals and range.*not CONCAT .line 1.; write out the value",
    ),
    "a computed range": (replaced("normal_concat=[2]", "normal_concat=range(2, 2 + n)"), r"not 2 \+ n"),
    "a range beyond any cell": (replaced("normal_concat=[2]", "normal_concat=range(2, 2000)"), "at most 64 nodes"),
    "a huge range": (replaced("normal_concat=[2]", "normal_concat=range(10**9)"), "only literals and range"),
    "a loop": (replaced("normal_concat=[2]", "normal_concat=[i for i in (2,)]"), "only literals and range"),
    "an ellipsis": (replaced("('sep_conv_3x3', 0)", "..."), "not ..."),
    "something that is done with it": (
        FLAT + "._replace(reduce_concat=[2])",
        "something follows the genotype, ._replace",
    ),
    "a computed genotype": (
        f"X = mutated({FLAT})",
        r"'X' .line 1.: it is computed, mutated\(Genotype.*; write out the Genotype",
    ),
    "a genotype that breaks off": (FLAT[:-30], "is not closed; give all of it, up to its last bracket"),
    "a genotype broken within a name": (replaced("sep_conv", "sep_\nconv"), "is not Python|not closed"),
    "an argument twice": (f"Genotype({NORMAL}, {NORMAL}, {REDUCE})", "repeated or unnamed: normal; give each once"),
    "an argument by position and by name": (f"Genotype([], {NORMAL}, {REDUCE})", "repeated or unnamed: normal"),
    "unpacked arguments": (f"Genotype(**cells, {REDUCE})", r"repeated or unnamed: \*\*"),
    "too many arguments by position": (
        "Genotype(" + "[], " * 6 + ")",
        "6 arguments without a name, where normal, normal_concat.* are known",
    ),
    "a cell of NAS-Bench-201": (
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|skip_connect~1|skip_connect~2|",
        "NAS-Bench-201.*cannot be written in it",
    ),
    "an ENAS architecture": ("0 1 0 4 0 3 1 0 1 2 0 0", "found '0 1 0 4"),
    "JSON of something else": ('{"accuracy": 0.97}', "fields are missing.*found: accuracy"),
    "a number in JSON": ("[1, 2]", r"found \[1, 2\]; expected"),
    "our form, but not in JSON": (str(CELL.to_record()), "not JSON"),
    "our form with a comma too many": (CELL.to_json().replace("}", ",}"), "not JSON"),
    "NNI without a switch": (
        json.dumps({"normal_n2_p0": "maxpool"}),
        "normal_n2_switch is missing; it lists the edges",
    ),
    "NNI with numbers": (
        json.dumps({"normal_n2_p0": 2, "normal_n2_switch": ["normal_n2_p0"]}),
        'normal_n2_p0 is 2; operations are read by name.*"sepconv3x3"',
    ),
    "NNI with masks": (
        json.dumps({"normal_n2_p0": [False, True], "normal_n2_switch": ["normal_n2_p0"]}),
        r"normal_n2_p0 is \[False, True\]; operations are",
    ),
    "NNI without an operation": (
        json.dumps({"normal_n2_p1": "maxpool", "normal_n2_switch": ["normal_n2_p0"]}),
        "normal_n2_p0 is missing",
    ),
    "NNI with a switch of another node": (
        json.dumps({"normal_n2_p0": "maxpool", "normal_n2_switch": ["normal_n3_p0"]}),
        "normal_n2_switch names normal_n3_p0, which is no edge into node 2",
    ),
    "NNI with a node left out": (
        json.dumps({"normal_n3_p0": "maxpool", "normal_n3_switch": [0]}),
        "found the nodes 3 where 2, 3, … were expected",
    ),
    "NNI without a reduction cell": (
        json.dumps({"normal_n2_p0": "maxpool", "normal_n2_switch": [0]}),
        "reduce cell: found the nodes none",
    ),
    "NNI without an input": (
        json.dumps({"normal/op_2_0": "skip_connect"}),
        "normal/input_2_0 is missing; it is the number",
    ),
    "NNI without an operation beside an input": (json.dumps({"normal/input_2_0": 1}), "normal/op_2_0 is missing"),
    "NNI in both ways": (json.dumps({"normal/input_2_0": 1, "normal_n2_p0": "maxpool"}), "in two ways; give one"),
    "NNI's ENAS": (
        json.dumps(
            {
                f"{k}/{f}_{n}_0": v
                for k in ("normal", "reduce")
                for n in range(2, 7)
                for f, v in (("op", "skip_connect"), ("input", n - 1))
            }
        ),
        "5 nodes, and NNI's spaces of other than 4 differ in which nodes they concatenate",
    ),
}
"""Texts that are refused, by what they are, with what is said."""


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED)
def test_texts_that_are_refused(text, message, tmp_path):
    with pytest.raises(UsageError, match=message) as caught:
        read_text(text)
    assert len(str(caught.value)) < 900
    assert "\n" not in str(caught.value).replace("sep_\nconv", "")
    (tmp_path / "cell.txt").write_text(text, "utf-8")
    with pytest.raises(CorruptFile, match=r"cell\.txt: ") as caught:
        read_genotype(tmp_path / "cell.txt")
    assert re.search(message, str(caught.value))


REMEDIES = {
    "none": "normal=[[('sep_conv_3x3', 0)]], normal_concat=[2]",
    "an input in concat": NORMAL,
    "an odd number of edges": "normal=[[('dil_conv_5x5', 1)]], normal_concat=[2]",
    "a node that leads nowhere": NODES + ", normal_concat=[2]",
    "a node without edges, by targets": "normal=[('sep_conv_3x3', 2, 0), ('sep_conv_3x3', 3, 0)], normal_concat=[2, 3]",
    "third entries of neither sense": "normal=[('sep_conv_3x3', 2, 0), ('sep_conv_3x3', 2, 1)], normal_concat=[2]",
    "a weight without a point": "normal=[('sep_conv_3x3', 0, 1.0), ('sep_conv_3x3', 1, 1.0)], normal_concat=[2]",
    "targets in the wrong list": "normal=[[('sep_conv_3x3', 2, 0)], [('sep_conv_3x3', 3, 0)]], normal_concat=[2, 3]",
    "a name for concat": NORMAL,
    "unpacked arguments": NORMAL,
}


@pytest.mark.parametrize("case", REMEDIES)
def test_what_a_refusal_asks_for_is_read(case):
    assert case in REFUSED
    read_text(f"Genotype({REMEDIES[case]}, {REDUCE})")


def test_edges_in_a_list_a_node_may_be_of_any_number():
    read = read_text(f"Genotype({NODES}, normal_concat=[2, 3], {REDUCE})").genotype
    assert read.normal == NODES_CELL


class TestSeveral:
    MODULE = f"ONE = {FLAT}\n\nTWO = {OTHER_TEXT}\nTHREE = {FLAT}\nTWO_AGAIN = TWO\n"
    LOG = "\n".join(f"epoch {n}\n2020-01-01 genotype = {FLAT if n % 2 else OTHER_TEXT}\nlr 1e-{n}" for n in range(4))

    def test_the_names_are_listed(self, tmp_path):
        path = tmp_path / "genotypes.py"
        path.write_text(self.MODULE)
        with pytest.raises(UsageError, match=r"genotypes\.py holds 4 genotypes: ONE, TWO, THREE, TWO_AGAIN; pick") as e:
            read_genotype(path)
        assert type(e.value) is UsageError
        example = re.search(r"for example (.*)$", str(e.value))[1]
        assert example == f"{path}:TWO_AGAIN"
        with pytest.raises(UsageError, match="holds no genotype 'THRE'; did you mean 'THREE'"):
            read_genotype(path, "THRE")

    def test_a_name_or_a_line_picks_one(self):
        for pick, cell in (("ONE", CELL), ("TWO", OTHER), ("TWO_AGAIN", OTHER), ("1", CELL), ("3", OTHER)):
            assert read_text(self.MODULE, pick).genotype == cell

    def test_the_lines_of_a_log_are_listed(self):
        with pytest.raises(
            SeveralGenotypes, match=r"holds 4 genotypes: those on lines 2, 5, 8, 11; pick one by its line"
        ):
            read_text(self.LOG)
        with pytest.raises(SeveralGenotypes, match="holds 4 genotypes named genotype: those on lines 2, 5, 8, 11"):
            read_text(self.LOG, "genotype")
        assert [read_text(self.LOG, str(line)).genotype for line in (2, 5, 8, 11)] == [OTHER, CELL, OTHER, CELL]

    def test_python_picks_one_as_the_messages_say(self, tmp_path):
        path = tmp_path / "genotypes.py"
        path.write_text(self.MODULE)
        with pytest.raises(UsageError, match=r"the text holds 4 genotypes: .*, for example (.*)$") as caught:
            dots.parse_genotype(self.MODULE)
        example = str(caught.value).split("for example ")[1]
        assert eval(example, {"dots": dots, "text": self.MODULE}) == OTHER
        with pytest.raises(UsageError) as caught:
            dots.load_genotype(path)
        assert dots.load_genotype(str(caught.value).split("for example ")[1]) == OTHER
        for name, cell in (("ONE", CELL), ("TWO", OTHER), (1, CELL), (3, OTHER)):
            assert dots.parse_genotype(self.MODULE, name) == dots.load_genotype(path, name) == cell
            assert dots.load_genotype(f"{path}:{name}") == read_genotype(f"{path}:{name}").genotype == cell
        with pytest.raises(UsageError, match="holds no genotype 'THRE'; did you mean 'THREE'"):
            dots.load_genotype(f"{path}:THRE")
        with pytest.raises(UsageError, match="holds no genotype 'X'"):
            dots.parse_genotype(self.MODULE, "X")
        for name in (True, 1.5, b"ONE"):
            with pytest.raises(UsageError, match="by its name or the number of its line, not"):
                dots.load_genotype(path, name)
        (tmp_path / "genotypes.py:ONE").write_text(OTHER_TEXT)
        assert dots.load_genotype(f"{path}:ONE") == OTHER

    def test_a_name_assigned_twice_is_picked_by_line(self):
        text = f"X = {FLAT}\nX = {OTHER_TEXT}\nY = {FLAT}"
        with pytest.raises(SeveralGenotypes, match="holds 2 genotypes named X: those on lines 1, 2"):
            read_text(text, "X")
        assert read_text(text, "2").genotype == OTHER

    def test_one_that_cannot_be_read_does_not_hinder_the_others(self):
        text = self.MODULE + f"NASNet = {FLAT.replace('sep_conv_3x3', 'sep_conv_7x7')}\nBAD = mutated({FLAT})\n"
        assert read_text(text, "ONE").genotype == CELL
        with pytest.raises(UsageError, match="sep_conv_7x7"):
            read_text(text, "NASNet")
        with pytest.raises(UsageError, match=r"'BAD' \(line 7\): it is computed"):
            read_text(text, "BAD")

    def test_those_that_share_a_line_cannot_be_picked_by_it(self, tmp_path):
        (tmp_path / "cells.txt").write_text(f"[{FLAT}, {OTHER_TEXT}]")
        message = "holds 2 genotypes: those on lines 1, 1; give the one meant alone$"
        with pytest.raises(UsageError, match=message):
            read_text(f"[{FLAT}, {OTHER_TEXT}]")
        with pytest.raises(UsageError, match=message):
            read_genotype(tmp_path / "cells.txt")
        with pytest.raises(UsageError, match=message):
            dots.parse_genotype(f"[{FLAT}, {OTHER_TEXT}]")

    def test_a_dictionary_of_genotypes_is_picked_from_by_key(self):
        text = f"CELLS = {{'a': {FLAT},\n 'b': {OTHER_TEXT}}}"
        assert read_text(text, "a").genotype == CELL
        assert read_text(text, "b").genotype == OTHER

    def test_a_file_of_one_needs_no_name_and_has_none(self, tmp_path):
        (tmp_path / "genotype.json").write_text(CELL.to_json())
        with pytest.raises(UsageError, match=r"one genotype without a name, not 'X'; leave the name out") as caught:
            read_genotype(tmp_path / "genotype.json", "X")
        assert str(caught.value).endswith(f"for example {tmp_path / 'genotype.json'}")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_files_may_begin_with_a_byte_order_mark(tmp_path, encoding):
    for text in (FLAT, CELL.to_json(), f"X = {FLAT}  # α"):
        (tmp_path / "cell").write_bytes(text.encode(encoding))
        assert read_genotype(tmp_path / "cell").genotype == CELL
    (tmp_path / "cell").write_bytes(codecs.BOM_UTF16_BE + FLAT.encode("utf-16-be"))
    assert read_genotype(tmp_path / "cell").genotype == CELL


def test_other_names_of_operations_stand_for_ours():
    assert set(OPERATIONS.spellings.values()) <= set(DERIVABLE)
    assert not set(OPERATIONS.spellings) & set(DARTS)
    for other, ours in OPERATIONS.spellings.items():
        assert read_text(FLAT.replace("skip_connect", other)).genotype.reduce[0][1] == (ours, 1)


def test_choices_of_nni_that_are_not_kept_are_left_out():
    text = written(CELL, "nni1").replace("{", '{"normal_n2_p7": "sepconv5x5", "reduce_n2_p5": [], ', 1)
    assert read_text(text).genotype == CELL
    numbers = written(CELL, "nni1").replace('["normal_n2_p0", "normal_n2_p1"]', "[1, 0]")
    assert numbers != written(CELL, "nni1")
    assert read_text(numbers).genotype == CELL


LONG = {
    "a list": "normal=[" + "(1)," * 20000 + "]",
    "assignments": "normal=1;" * 10000,
    "calls": "Genotype(b)\n" * 7000,
    "unclosed calls": "Genotype(" * 20000,
    "mentions": "Genotype\n" * 100000,
    "backslashes": "Genotype(" + "'\\" * (1 << 16),
    "a word": "normal" * 170000,
    "empty genotypes": "x y\n" + "Genotype()\n" * 30000,
    "a genotype of forty thousand numbers": "Genotype(normal=" + "1," * 40000 + ")",
    "signs": "Genotype(normal=" + "-" * 200000 + "1)",
    "brackets": "Genotype(normal=" + "[" * 500000,
    "signs that can be parsed": f"Genotype({'-' * 2500}1, {NORMAL})",
    "JSON brackets": "[" * 500000,
    "JSON objects": '{"genotype":' * 40000,
    "a long number": f"Genotype(normal=0x{'f' * 100000}, {REDUCE})",
    "a long name": f"Genotype(normal=[('{'x' * 900000}', 0)])",
    "line ends": "Genotype(" + "\n" * 900000,
    "a string within a string": '{"genotype": ' + json.dumps(json.dumps(json.dumps(FLAT))) + "}",
}


@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
def test_long_texts_are_refused_in_little_time_and_memory(text):
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with contextlib.suppress(UsageError):
        read_text(text)
    assert time.process_time() - began < 5
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < 200 << 10


def test_texts_over_the_limit_are_refused(tmp_path):
    with pytest.raises(UsageError, match="characters; give the part with the genotype alone"):
        read_text(FLAT + " " * TEXT_LIMIT)
    (tmp_path / "log.txt").write_text(FLAT + " " * TEXT_LIMIT)
    with pytest.raises(CorruptFile, match=r"log\.txt has 1,048,\d+ bytes.*from the lines that hold it"):
        read_genotype(tmp_path / "log.txt")


def test_no_file_and_no_regular_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(60 << 30)
    for name in (tmp_path / "pipe", "/dev/zero", tmp_path / "sparse"):
        with pytest.raises(CorruptFile, match="genotype is read from"):
            read_genotype(name)
    for name in (tmp_path / "missing", tmp_path, "x" * 5000):
        with pytest.raises(UsageError, match="cannot read the genotype"):
            read_genotype(name)
    with pytest.raises(UsageError, match="expected the path"):
        read_genotype("a\0b")


pieces = st.sampled_from(
    [
        *(
            "Genotype",
            "Genotype(",
            "normal=",
            "reduce=",
            "normal_concat=",
            "reduce_concat=[2]",
            "range(2, 6)",
            "(",
            ")",
        ),
        *(
            "[",
            "]",
            "{",
            "}",
            ",",
            "'",
            '"',
            "'skip_connect'",
            "'none'",
            "0",
            "1",
            "-1",
            "0.5",
            ":",
            "=",
            "\n",
            " ",
            "#",
        ),
        *("X", ".", "\\", "\0", "\ufeff", "‘", "np.int64(2)", "import x\n", '"normal_n2_p0"', '"normal_n2_switch"'),
        *(
            '"normal/op_2_0"',
            '"normal/input_2_0"',
            '"maxpool"',
            '"genotype"',
            "null",
            "namedtuple",
            "lambda: ",
            "*",
            "**",
        ),
        *('"format"', '"dots-genotype"', "|nor_conv_3x3~0|", "1e999", "10**9", "9" * 30, "False", "α", "\U0001f600"),
    ]
)


def is_read_or_refused(text):
    try:
        reading = read_text(text)
    except UsageError as error:
        if not 0 < len(str(error)) < 1200:
            raise AssertionError(f"a message of {len(str(error))} characters") from error
        return
    again = read_text(reading.genotype.to_json())
    assert again.genotype == reading.genotype
    assert again.remarks == ()


@quick
@given(st.lists(pieces, max_size=40).map("".join) | st.text(max_size=50))
def test_any_text_is_read_or_refused(text):
    is_read_or_refused(text)


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A genotype's text with a few pieces put in, taken out or moved."""
    text = written(draw(genotypes(pairs=True, whole=True)), draw(st.sampled_from(DIALECTS))) or FLAT
    for _ in range(draw(st.integers(1, 4))):
        start, length = draw(st.integers(0, len(text))), draw(st.integers(0, 20))
        kept = text[start : start + length]
        put = draw(pieces | st.just("") | st.just(kept + kept))
        text = text[:start] + put + text[start + length :]
    return text


@quick
@given(mutated())
def test_any_mutation_of_a_genotype_is_read_or_refused(text):
    is_read_or_refused(text)


@quick
@given(st.binary(max_size=60) | mutated().map(lambda text: text.encode("utf-16", "surrogatepass")))
def test_any_file_is_read_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "genotype"
    path.write_bytes(content)
    with contextlib.suppress(UsageError, CorruptFile):
        read_genotype(path)


@pytest.mark.parametrize(
    ("number", "message"),
    [
        ("9" * 5000, "a number of 5000 digits; sources are node numbers"),
        ("-" + "9" * 5000, "a number of 5000 digits"),
        (f"np.int64({'9' * 5000})", "a number of 5000 digits"),
        ("9" * 20, "a source node is out of range: 99999999999999999999; a cell has at most 64 nodes"),
        ("0x" + "f" * 5000, "a source node is out of range: an int too long to show; a cell has at most 64 nodes"),
        ("9" * 250 + ".0", "a source node is not an integer: 1e+250"),
        ("[" * 300 + "]" * 300, "its values are nested 303 deep, where a genotype's are at most five"),
    ],
)
def test_what_pythons_parser_refuses_is_named_as_what_it_is(number, message):
    text = FLAT.replace("0)", f"{number})", 1)
    for form in (text, f"X = {text}"):
        with pytest.raises(UsageError, match=re.escape(message)):
            read_text(form)
