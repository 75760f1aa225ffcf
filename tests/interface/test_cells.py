"""The cell that a user means: a run, a file, a text or a published name."""

from __future__ import annotations

import json
import re
from collections import namedtuple
from typing import Any

import pytest
from typer.testing import CliRunner

from dots.cli import main as cli
from dots.cli.main import app
from dots.run.cells import find_cell, one_cell
from dots.run_directory.layout import MARKER
from dots_core.errors import CorruptFile, UsageError
from dots_core.search_space.genotype import Genotype
from dots_core.search_space.genotype_text import parse_genotype
from dots_core.search_space.named_cells import cell_source, named_cell, named_cells

V2 = named_cell("DARTS_V2")
TEXT = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('dil_conv_5x5', 1)], normal_concat=range(2, 3), "
    "reduce=[('max_pool_3x3', 0), ('skip_connect', 1)], reduce_concat=range(2, 3))"
)
SMALL = parse_genotype(TEXT)


def run_of(cell: Genotype | None, path):
    path.mkdir()
    (path / MARKER).write_text("{}")
    if cell is not None:
        (path / "genotype.json").write_text(cell.to_json())
    return path


def test_every_way_of_giving_a_cell(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = run_of(SMALL, tmp_path / "run")
    (tmp_path / "cell.json").write_text(SMALL.to_json())
    (tmp_path / "noending").write_text(TEXT)
    (tmp_path / "genotypes.py").write_text(f"A = {TEXT}\nB = {TEXT.replace('dil_conv', 'sep_conv')}\n")
    ways = [run, str(run), "run", "run/", "cell.json", tmp_path / "cell.json", "noending", "./noending"]
    ways += ["genotypes.py:A", "./genotypes.py:1", SMALL, TEXT, f"X = {TEXT}", f"\n{TEXT}\n", SMALL.to_json()]
    for way in ways:
        assert find_cell(way) == SMALL, way
    assert find_cell("DARTS_V2") == V2


def test_a_published_name_is_no_folder_that_happens_to_be_called_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "DARTS_V2").mkdir()
    assert find_cell("DARTS_V2") == V2
    run_of(SMALL, tmp_path / "PDARTS")
    assert find_cell("PDARTS") == SMALL


@pytest.mark.parametrize(
    ("cell", "error", "message"),
    [
        ("DOTS_C11", UsageError, "unknown cell 'DOTS_C11'; did you mean 'DOTS_C10'.*`dots cells` lists"),
        ("", UsageError, "`dots cells` lists"),
        ("x" * 10000, UsageError, "unknown cell 'xxx"),
        ("a\x1b[31m", UsageError, r"\\x1b\[31m"),
        ("nowhere/cell.json", UsageError, "cannot read the genotype nowhere/cell.json: No such file"),
        ("runs (copy)/normal/cell", UsageError, "cannot read the genotype runs .copy./normal/cell: No such"),
        ("nowhere.py:NAME", UsageError, "cannot read the genotype nowhere.py:NAME: No such file"),
        ("folder", UsageError, "folder is a directory but no run of dots; give a run's, or a genotype's file"),
        ("unfinished", UsageError, "unfinished holds no genotype: it is no search, or one to go on with by --resume"),
        ("genotypes.py", UsageError, "holds 2 genotypes: A, B; pick one by its name, for example genotypes.py:B"),
        ("genotypes.py:C", UsageError, "genotypes.py holds no genotype 'C'"),
        ("picture.png", CorruptFile, "picture.png is a binary file, not a genotype"),
        (TEXT[:-1], UsageError, "is not closed"),
        ("/dev/zero", CorruptFile, "pipe or device"),
        (None, UsageError, "a cell is a name, a path, a text or a Genotype, not NoneType"),
        (5, UsageError, "not int"),
        (namedtuple("Genotype", "normal")([]), UsageError, r"give the text, str\(genotype\)"),
    ],
)  # fmt: skip
def test_what_is_no_cell_is_refused(cell, error, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    run_of(None, tmp_path / "unfinished")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n")
    (tmp_path / "genotypes.py").write_text(f"A = {TEXT}\nB = {TEXT.replace('dil_conv', 'sep_conv')}\n")
    with pytest.raises(error, match=message) as caught:
        find_cell(cell)
    assert type(caught.value) is error
    assert len(str(caught.value)) < 600


def test_a_missing_path_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"cannot read the genotype .*gone"):
        find_cell(tmp_path / "gone")
    with pytest.raises(UsageError, match="cannot read the genotype"):
        find_cell((tmp_path / "gone").with_name("DARTS_V2"))  # a path is never a name


def test_another_librarys_genotype_is_read_from_its_text():
    theirs = namedtuple("Genotype", "normal normal_concat reduce reduce_concat")(
        [("sep_conv_3x3", 0), ("dil_conv_5x5", 1)], range(2, 3), [("max_pool_3x3", 0), ("skip_connect", 1)], range(2, 3)
    )
    assert find_cell(str(theirs)) == SMALL


def test_what_is_left_aside_is_said():
    told: list[str] = []
    assert find_cell(TEXT[:-1] + ", layout='cell')", told.append) == SMALL
    assert told == ["fields that are no part of a genotype were left aside: layout"]
    with pytest.warns(UserWarning, match="left aside: layout"):
        find_cell(TEXT[:-1] + ", layout='cell')")


def test_argument_and_option_may_both_be_given_if_they_agree(tmp_path):
    (tmp_path / "cell.json").write_text(SMALL.to_json())
    told: list[str] = []
    assert one_cell(None, None, told.append) is None
    assert one_cell("DARTS_V2", None, told.append) == one_cell(None, "DARTS_V2", told.append) == V2
    assert one_cell(TEXT, str(tmp_path / "cell.json"), told.append) == SMALL
    with pytest.raises(
        UsageError, match="two cells are given, DARTS_V2 and --cell DARTS_V1, and they differ; give one"
    ):
        one_cell("DARTS_V2", "DARTS_V1", told.append)
    assert not told


def answer(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


def test_the_published_cells_are_listed():
    listed = answer("cells")
    assert [line.split(maxsplit=1) for line in listed.stdout.splitlines()] == [
        [name, cell_source(name)] for name in named_cells()
    ]
    document = json.loads(answer("cells", "--json").stdout)
    assert document["schema"] == "dots/cells/1"
    for name, cell in document["cells"].items():
        assert Genotype.from_record(cell["genotype"]) == named_cell(name)
        assert cell["source"] == cell_source(name)


def test_show_takes_a_text_and_says_what_it_left_aside():
    shown = answer("show", TEXT[:-1] + ", layout='\x1b')", "--json")
    assert json.loads(shown.stdout)["genotype"] == SMALL.to_record()
    assert shown.stderr == "dots: note: fields that are no part of a genotype were left aside: layout\n"


def test_show_without_a_cell_says_what_to_give():
    refused = answer("show")
    assert isinstance(refused.exception, UsageError)
    assert re.search("give the cell to show.*`dots cells` lists", str(refused.exception))


def test_train_takes_the_cell_as_show_does(tmp_path, monkeypatch):
    (tmp_path / "genotypes.py").write_text(f"A = {TEXT[:-1]}, layout=1)\n")
    given = f"{tmp_path}/genotypes.py:A"
    asked: list[Any] = []
    monkeypatch.setattr(cli, "_carry_out", lambda request, *_: asked.append(request))
    for cell in ([given], ["--cell", given], [given, "--cell", TEXT]):
        done = answer("train", *cell)
        assert asked.pop().cell == SMALL
        assert "left aside: layout" in done.stderr
    assert answer("train", given, "--quiet").stderr == ""
    assert asked.pop().cell == SMALL
    assert isinstance(answer("train", given, "--cell", "DARTS_V2").exception, UsageError)
    assert not asked


def test_train_without_a_cell_says_what_to_give():
    none = answer("train", "--backend", "reference", "--preset", "smoke", "--dry-run")
    assert re.search("a training needs a cell.*--cell", str(none.exception))
