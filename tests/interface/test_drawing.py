from __future__ import annotations

import re
import shutil
import subprocess
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dots.report.cells import figure as drawing
from dots.report.cells.layout import Link, layout_of
from dots.report.cells.text import TITLES, dot_text, terminal_text
from dots_core.errors import UsageError
from dots_core.search_space.cell import CELL_TYPES
from dots_core.search_space.genotype import Genotype, Node
from dots_core.search_space.named_cells import named_cell, named_cells
from dots_core.search_space.operations import DARTS, NONE

CHOICES = [operation for operation in DARTS if operation != NONE]
NUMBER = {"c_{k-2}": 0, "c_{k-1}": 1, **{str(node): node + 2 for node in range(7)}}


@st.composite
def cells(draw: st.DrawFn) -> tuple[tuple[Node, ...], tuple[int, ...]]:
    count = draw(st.integers(1, 7))
    nodes = []
    for node in range(2, count + 2):
        sources = draw(st.sets(st.integers(0, node - 1), min_size=1))
        nodes.append(tuple((draw(st.sampled_from(CHOICES)), source) for source in sorted(sources)))
    concat = draw(st.sets(st.integers(2, count + 1), min_size=1))
    return tuple(nodes), tuple(sorted(concat))


@st.composite
def genotypes(draw: st.DrawFn) -> Genotype:
    return Genotype(*draw(cells()), *draw(cells()))


def full(count: int) -> Genotype:
    """Every node hears every node before it."""
    nodes = tuple(tuple((CHOICES[(i + j) % len(CHOICES)], i) for i in range(j)) for j in range(2, count + 2))
    return Genotype(nodes, tuple(range(2, count + 2)), nodes, (count + 1,))


def parse_dot(text: str) -> dict[str, tuple[list[str], list[tuple[str, int, int]], list[int]]]:
    """Nodes, edges as (operation, source, target) and concatenated nodes, by cell type; every line must be known."""
    head, *body, tail = text.splitlines()
    assert head == "digraph genotype {"
    assert tail == "}"
    found: dict[str, tuple[list[str], list[tuple[str, int, int]], list[int]]] = {}
    inside = ""
    for line in body:
        if match := re.fullmatch(r'  subgraph "cluster_(\w+)" \{', line):
            inside = match[1]
            found[inside] = ([], [], [])
            continue
        if not inside or line == "  }" or re.fullmatch(r'    label="[\w ]+";', line):
            inside = "" if line == "  }" else inside
            continue
        nodes, edges, concat = found[inside]
        if match := re.fullmatch(rf'    "{inside} ([^"]+)" \[label="([^"]+)"(?:, fillcolor=\w+)?\];', line):
            assert match[1] == match[2]
            nodes.append(match[1])
        elif match := re.fullmatch(rf'    "{inside} ([^"]+)" -> "{inside} ([^"]+)" \[label="(\w+)"\];', line):
            edges.append((match[3], NUMBER[match[1]], NUMBER[match[2]]))
        else:
            match = re.fullmatch(rf'    "{inside} ([^"]+)" -> "{inside} c_{{k}}";', line)
            assert match, line
            concat.append(NUMBER[match[1]])
    return found


@given(genotypes())
def test_dot_text_holds_exactly_the_genotype(genotype: Genotype) -> None:
    found = parse_dot(dot_text(genotype))
    assert list(found) == list(CELL_TYPES)
    for kind, (nodes, edges, concat) in found.items():
        cell = genotype.cell(kind)
        assert nodes == ["c_{k-2}", "c_{k-1}", *map(str, range(cell.nodes)), "c_{k}"]
        assert edges == [(edge.operations[0], edge.source, edge.target) for edge in cell.edges]
        assert tuple(concat) == cell.concat


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
def test_graphviz_takes_the_dot_text() -> None:
    for name in named_cells():
        text = dot_text(named_cell(name))
        done = subprocess.run(["dot", "-Tplain"], input=text, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0
        assert done.stderr == ""


@given(genotypes())
def test_terminal_text_holds_exactly_the_genotype(genotype: Genotype) -> None:
    blocks = terminal_text(genotype).rstrip("\n").split("\n\n")
    assert len(blocks) == 2
    for kind, block in zip(CELL_TYPES, blocks, strict=True):
        cell = genotype.cell(kind)
        title, *lines, last = block.splitlines()
        assert title == TITLES[kind]
        edges: list[tuple[str, int]] = []
        targets: list[int] = []
        joins: set[int] = set()
        for line in lines:
            match = re.fullmatch(r"  (\S+) ─+ (\w+) ─+[─┬┤┘](?:→ (\d))?", line)
            assert match, line
            edges.append((match[2], NUMBER[match[1]]))
            if match[3]:
                targets.append(NUMBER[match[3]])
                joins.add(line.index("→") - 1)
            else:
                joins.add(len(line) - 1)
        assert edges == [(edge.operations[0], edge.source) for edge in cell.edges]
        assert targets == list(range(2, cell.nodes + 2))
        assert len(joins) == 1, "the edges' ends stand in one column"
        assert re.sub(r" ─+→ c_\{k\}$", "", last).split() == ", ".join(str(n - 2) for n in cell.concat).split()


def test_terminal_text_reads_like_this() -> None:
    text = terminal_text(named_cell("DOTS_C10")).splitlines()
    assert text[:9] == [
        "Normal cell",
        "  c_{k-2} ─ skip_connect ─┬→ 0",
        "  c_{k-1} ─ sep_conv_3x3 ─┘",
        "  c_{k-2} ─ sep_conv_3x3 ─┬→ 1",
        "  c_{k-1} ─ sep_conv_3x3 ─┘",
        "  c_{k-2} ─ sep_conv_3x3 ─┬→ 2",
        "  c_{k-1} ─ sep_conv_3x3 ─┘",
        "  c_{k-1} ─ skip_connect ─┬→ 3",
        "  1 ─────── dil_conv_3x3 ─┘",
    ]
    assert text[9] == "  0, 1, 2, 3 ──────────────→ c_{k}"


def bezier(link: Link, t: float) -> tuple[float, float]:
    (x0, y0), (x1, y1) = link.start, link.end
    x = x0 * (1 - t) ** 3 + 3 * (x0 + x1) / 2 * t * (1 - t) + x1 * t**3
    return x, y0 * (1 - t) ** 2 * (1 + 2 * t) + y1 * t**2 * (3 - 2 * t)


def check_layout(genotype: Genotype, kind: str) -> None:
    cell = genotype.cell(kind)
    layout = layout_of(cell)
    labels = [box for box in layout.boxes if box.role == "operation"]
    assert sorted(box.text for box in labels) == sorted(edge.operations[0] for edge in cell.edges)
    assert len(layout.boxes) == len(cell.edges) + cell.nodes + 3
    for box in layout.boxes:
        assert box.left >= -1e-9
        assert box.top >= -1e-9
        assert box.left + box.width <= layout.width + 1e-9
        assert box.top + box.height <= layout.height + 1e-9
    for a, b in combinations(layout.boxes, 2):
        beside = a.left + a.width < b.left + 0.01 or b.left + b.width < a.left + 0.01
        above = a.top + a.height < b.top - 0.04 or b.top + b.height < a.top - 0.04
        assert beside or above, (a, b)
    for link in layout.links:
        points = [bezier(link, step / 20) for step in range(21)]
        if link.operation is None:  # an operation's line runs on under its own label
            points += [(link.end[0] + (link.until - link.end[0]) * step / 20, link.end[1]) for step in range(21)]
        for x, y in points:
            for box in layout.boxes:
                inside_x = box.left + 0.001 < x < box.left + box.width - 0.001
                assert not (inside_x and box.top - 0.04 < y < box.top + box.height + 0.04), (link, box)


@pytest.mark.parametrize("name", named_cells())
def test_named_cells_are_laid_out_without_overlaps(name: str) -> None:
    for kind in CELL_TYPES:
        check_layout(named_cell(name), kind)


@settings(max_examples=25, deadline=None)
@given(genotypes())
def test_any_cell_is_laid_out_without_overlaps(genotype: Genotype) -> None:
    check_layout(genotype, "normal")


@pytest.mark.parametrize("genotype", [named_cell("DOTS_C10"), full(4), full(1)], ids=["named", "full", "tiny"])
def test_png_shows_something(genotype: Genotype, tmp_path: Path) -> None:
    path = tmp_path / "cell.png"
    drawing.draw(genotype, path)
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        assert 800 <= image.width <= 6000
        assert 600 <= image.height <= 3000
        colours = image.convert("RGB").getcolors(1 << 24)
    assert colours is not None
    white = sum(count for count, colour in colours if colour == (255, 255, 255))
    assert 0.02 < 1 - white / sum(count for count, _ in colours) < 0.6


def test_svg_is_xml_with_every_label_as_text(tmp_path: Path) -> None:
    genotype = full(7)
    path = tmp_path / "cell.SVG"
    drawing.draw(genotype, path)
    root = ElementTree.parse(path).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    texts = ["".join(element.itertext()).strip() for element in root.iter("{http://www.w3.org/2000/svg}text")]
    expected = [edge.operations[0] for kind in CELL_TYPES for edge in genotype.cell(kind).edges]
    assert sorted(text for text in texts if text in DARTS) == sorted(expected)
    assert {"Normal cell", "Reduction cell"} <= set(texts)
    assert [text for text in texts if text.isdecimal()] == [str(node) for node in range(7)] * 2


@pytest.mark.parametrize("suffix", drawing.FORMATS)
def test_equal_genotypes_give_equal_bytes(suffix: str, tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}{suffix}" for name in ("one", "two")]
    for path in paths:
        drawing.draw(Genotype.from_json(named_cell("PDARTS").to_json()), path)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_picture_is_free_of_dates_and_of_global_state(tmp_path: Path) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    drawing.draw(named_cell("DOTS_C10"), tmp_path / "cell.svg")
    assert dict(matplotlib.rcParams) == before
    assert not re.search(r"dc:date|\b20\d\d-\d\d", (tmp_path / "cell.svg").read_text("utf-8"))


def test_an_unknown_suffix_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cell\.pdf.*\.png, \.svg or \.dot"):
        drawing.draw(named_cell("DOTS_C10"), tmp_path / "cell.pdf")
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"missing.cell\.png"):
        drawing.draw(named_cell("DOTS_C10"), tmp_path / "missing" / "cell.png")


def test_importing_the_module_loads_neither_matplotlib_nor_templates() -> None:
    import sys

    code = "import sys, dots.report.cells.figure; sys.exit(bool({'matplotlib', 'jinja2'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


def test_the_name_of_a_picture_chooses_among_three_formats(tmp_path):
    cell = named_cell("DARTS_V2")
    drawing.draw(cell, tmp_path / "cell.DOT")
    assert (tmp_path / "cell.DOT").read_text("utf-8") == dot_text(cell)
    with pytest.raises(UsageError, match="cannot write the picture"):
        drawing.draw(cell, tmp_path / "nowhere" / "cell.dot")
