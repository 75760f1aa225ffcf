"""The pieces of a run's page: charts, the terminal's summary, the planned number of epochs."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
from commands import refused, told
from hypothesis import example, given
from hypothesis import strategies as st
from jinja2 import UndefinedError

from dots.config.plan import plan_of
from dots.config.presets import preset_values
from dots.config.schema import SearchConfig, parse_config
from dots.console.progress import planned_epochs, standing_text
from dots.console.summary import search_summary
from dots.pages.charts import Frame, Line, Mark, drawn
from dots.pages.environment import render
from dots.pages.scales import decade_ticks, decades, linear_ticks
from dots.report import evolution
from dots.report.cells import drawing, layout
from dots.report.cells.drawing import drawings
from dots.report.page import html_page
from dots.report.record import RunRecord
from dots_core.plan.plan import Phase, Plan, Stage, Update
from dots_core.search.progress import Progress
from dots_core.search_space.cell import search_cell
from dots_core.search_space.genotype import Genotype
from dots_core.search_space.named_cells import named_cell

values = st.floats(-1e6, 1e6).filter(lambda value: value == 0 or abs(value) > 1e-6)
positive = st.floats(1e-12, 1e12)


@given(values, values)
@example(-400001.0, 1.0)
def test_linear_ticks_are_few_even_and_enclose(a, b):
    low, high = sorted((a, b))
    ticks = linear_ticks(low, high)
    slack = 1e-6 * max(1.0, abs(low), abs(high))
    assert 2 <= len(ticks) <= 6
    assert ticks[0] <= low + slack
    assert ticks[-1] >= high - slack
    steps = [second - first for first, second in pairwise(ticks)]
    assert steps == pytest.approx([steps[0]] * len(steps), rel=1e-6)


def test_linear_ticks_are_round():
    assert linear_ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert linear_ticks(0, 0.16) == [0, 0.05, 0.1, 0.15, 0.2]
    assert linear_ticks(3, 3) == [1, 2, 3, 4, 5]
    assert linear_ticks(0, 0) == [-0.5, -0.25, 0, 0.25, 0.5]


@given(st.lists(positive, min_size=1, max_size=5))
def test_decades_are_few_powers_of_ten_and_enclose(found):
    ticks = [10.0**power for power in decade_ticks(*decades(found))]
    assert 2 <= len(ticks) <= 6
    assert ticks[0] <= min(found) * (1 + 1e-6)
    assert ticks[-1] >= max(found) * (1 - 1e-6)
    assert all(math.log10(tick) == pytest.approx(round(math.log10(tick))) for tick in ticks)


@given(
    st.lists(
        st.lists(st.tuples(st.integers(1, 99), st.floats(allow_nan=True, width=32)), max_size=4).map(
            lambda points: tuple((float(epoch), value) for epoch, value in points)
        ),
        max_size=3,
    ),
    st.booleans(),
    st.booleans(),
)
def test_whatever_is_drawn_is_xml_inside_its_frame(series, logarithmic, small):
    lines = [Line(f"s{number}", "a < b & c", points) for number, points in enumerate(series)]
    root = ElementTree.fromstring(drawn(lines, Frame(logarithmic=logarithmic, small=small), "<title>"))
    width, height = map(float, root.get("viewBox").split()[2:])
    for path in root.iter("path"):
        if path.get("class").startswith("s"):
            for x, y in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", path.get("d")):
                assert 0 <= float(x) <= width
                assert 0 <= float(y) <= height


def test_a_line_rises_with_its_values():
    svg = drawn([Line("s0", "x", ((1, 0.0), (2, 0.5), (3, 1.0)))], Frame(limits=(0, 1)), "x")
    ((_, first), (_, second), (_, third)) = re.findall(r"[ML]([\d.]+) ([\d.]+)", svg[svg.index('class="s0"') :])
    assert float(first) > float(second) > float(third)
    assert float(first) - float(second) == pytest.approx(float(second) - float(third), abs=0.2)


def test_single_points_are_not_joined():
    points = ((1.0, 0.2), (2.0, 0.4))
    joined, single = (drawn([Line("s0", "x", points, alone)], Frame(), "x") for alone in (False, True))
    assert "L" in joined.partition('class="s0"')[2].partition("/>")[0]
    assert single.partition('class="s0 points"')[2].count("h.01") == 2


ROW = {
    "validation_accuracy": 0.875, "validation_split": "test", "derived_accuracy": 0.5, "discretisation_gap": 0.375,
    "skip_count_normal": 3, "skip_count_reduce": 1, "alpha_entropy_normal": 0.5, "alpha_entropy_reduce": 0.7,
}  # fmt: skip


def test_the_summary_reads_like_this():
    margins = {"alpha.normal": 0.25, "alpha.reduce": 0.001, "beta.normal": 0.5}
    assert search_summary(ROW, margins, ["beware"], ["early"]).splitlines() == [
        "supernet accuracy  87.50% (test images)",
        "derived from it    50.00% without retraining (gap +37.5 points)",
        "skip connections   3 (normal), 1 (reduction)",
        "entropy of α       0.50 (normal), 0.70 (reduction)",
        "smallest margin    0.25 (normal), 0.001 (reduction) of operations",
        "smallest margin    0.5 (normal) of combinations",
        "stopped early      early",
        "warning            beware",
    ]
    assert search_summary({}, {}, [], []) == ""
    assert search_summary({}, {}, [], [], "it collapsed") == "NOT USABLE         it collapsed"


def test_the_progress_line_shows_entropies_and_skips():
    assert standing_text(ROW) == "H(α) 0.60  skips 3/1"
    assert standing_text({"alpha_margin_normal": 0.02, "beta_margin_reduce": 0.0012}) == "margin 0.0012"
    assert standing_text({"train_loss": 1.0}) == ""


def test_epochs_that_an_early_stop_spared_are_planned_no_more():
    warm, search = (Phase(name, 5, (Update(("w",), "all"),)) for name in ("warm-up", "search"))
    stages = [Stage(name, search_cell(1), 3, (warm, search)) for name in ("operation", "topology")]
    plan = Plan(tuple(stages))

    def planned(**place):
        return planned_epochs(plan, Progress({}, {}, "", "", **place))

    assert planned() == 20
    assert planned(phase=1, epoch=2, global_epoch=7) == 20
    assert planned(stage=1, global_epoch=7) == 17
    assert planned(stage=1, phase=1, epoch=1, global_epoch=13) == 17
    assert planned(stage=2, global_epoch=17) == 17


@pytest.mark.parametrize(("skips", "usable"), [(6, False), (2, True)])
def test_the_headline_of_a_collapsed_search_says_that_its_cell_is_not_usable(skips, usable):
    config = parse_config(SearchConfig, preset_values("search", "smoke-reference"), "test")
    held = {"alpha_entropy_normal": 0.5, "alpha_entropy_reduce": 0.5, "train_loss": 1.0, "train_accuracy": 0.5}
    phases = [(s.name, p.name) for s in plan_of(config).stages for p in s.phases for _ in range(p.epochs)]
    rows = [{**held, "epoch": n, "stage": stage, "phase": phase} for n, (stage, phase) in enumerate(phases, 1)]
    operations = ["skip_connect"] * skips + ["sep_conv_3x3"] * (8 - skips)
    nodes = [[[operations[2 * n], 0], [operations[2 * n + 1], 1]] for n in range(4)]
    record = {"format": "dots-genotype", "version": 1}
    genotype = Genotype.from_record(
        {**named_cell("DARTS_V2").to_record(), **record, "normal": nodes, "normal_concat": [2, 3, 4, 5]}
    )
    page = html_page(RunRecord(config, rows, [], genotype))
    headline, title = (re.search(f"<{tag}>(.*?)</{tag}>", page)[1] for tag in ("h1", "title"))
    verdict = "cell found is not usable: the search has collapsed"
    assert (headline == f"The {verdict}.") is not usable
    assert (verdict in title) is not usable
    assert ("the search has collapsed" in page) is not usable


KINDS = ("normal", "reduce")
HOSTILE = '"><img src=x onerror=alert(1)><script>alert(1)</script>\x1b[31m'


def searched_record(operations=("skip_connect", "sep_conv_3x3"), flat=False, **told) -> RunRecord:
    """Two stages of two epochs each, measured on different images."""
    config = parse_config(SearchConfig, preset_values("search", "smoke-reference"), "test")
    genotype = named_cell("DARTS_V2")
    rows, evolution = [], []
    weights = dict(zip(operations, (0.5, 0.5) if flat else (0.2, 0.8), strict=True))
    for epoch, (stage, split) in enumerate([("operation", "half-b")] * 2 + [("topology", "test")] * 2, 1):
        measured = {"validation_split": split, "validation_accuracy": 0.1 * epoch, "validation_loss": 2.0}
        held = {f"skip_count_{kind}": 10 * epoch + place for place, kind in enumerate(KINDS)}
        rows.append({"epoch": epoch, "stage": stage, "phase": "search", **measured, **held, **told})
        alpha = {kind: {"0-2": weights, "1-2": {"skip_connect": 0.1, "sep_conv_3x3": 0.9}} for kind in KINDS}
        decision = {"by": "alpha", "cell": "normal", "place": "0-2", "chosen": operations[1], "rival": operations[0]}
        record = {"alpha": alpha, "genotype": genotype.to_record(), "decisions": [{**decision, "margin": 0.5}]}
        evolution.append({"epoch": epoch, "stage": stage, "phase": "search", **record})
    return RunRecord(config, rows, evolution, genotype)


def part(page: str, anchor: str) -> str:
    return page[page.index(f'<section id="{anchor}"') :].partition("</section>")[0]


def test_results_have_a_column_for_each_cell_of_each_stage():
    shown = part(html_page(searched_record()), "results")
    heads = re.findall(r'<th scope="colgroup" colspan="2">(\w+)</th>', shown)
    assert heads == ["operation", "topology"]
    row = re.search(r"<tr><th[^>]*>skip connections</th>(.*?)</tr>", shown)[1]
    assert re.findall(r">(\d+)<", row) == ["20", "21", "40", "41"]
    assert re.findall(r">((?:half B|test)[^<]*)<", shown) == ["half B of the training images", "test images"]


def test_accuracies_on_different_images_are_not_joined():
    curves = part(html_page(searched_record()), "curves")
    accuracy = next(figure for figure in curves.split("</figure>") if "<title>Accuracy</title>" in figure)
    lines = re.findall(r'<path class="(s\d)" d="(M[^"]*)"><title>([^<]*)</title>', accuracy)
    assert [(kind, label, path.count("L")) for kind, path, label in lines] == [
        ("s2", "half B of the training images", 1),
        ("s4", "test images", 1),
    ]


@pytest.mark.parametrize("flat", [True, False])
def test_undecided_edges_are_folded_and_one_legend_serves_all_of_alpha(flat):
    alpha = part(html_page(searched_record(flat=flat)), "alpha")
    assert alpha.count('class="keys"') == 1
    assert alpha.count("<figure>") == 2 * 2 * 2
    folded = re.findall("<details>.*?</details>", alpha, flags=re.DOTALL)
    assert [text.count("<figure>") for text in folded] == ([1] * 4 if flat else [])
    assert ("1 undecided edge<" in alpha) is flat


@pytest.mark.parametrize(
    ("weights", "undecided"),
    [([0.5, 0.5], True), ([0.13] * 7 + [0.09], True), ([0.9, 0.1], False), ([1.0], False), ([1.0, 0.0], False)],
)
def test_an_edge_is_undecided_where_its_operations_weigh_nearly_the_same(weights, undecided):
    assert evolution.undecided(weights) is undecided


def test_the_cell_of_a_page_has_the_colours_of_the_page():
    page = html_page(searched_record())
    cell = part(page, "cell")
    assert not re.search("#[0-9a-f]{6}|fill=|style=", cell)
    for name in set(re.findall(r"var\((--[\w-]+)\)", page)) - {"--stroke", "--fill"}:
        assert page.count(f"{name}:") == 2, f"{name} is not given for both, light and dark"
    assert cell.count("<rect") == 2 * (8 + 4 + 3)
    assert cell.count("sep_conv_3x3</text>") == 5


def test_a_page_needs_neither_the_network_nor_scripts():
    page = html_page(searched_record())
    assert not re.search(r"https?:|<script|<img|<link|@import|url\(", page)
    assert '<html lang="en">' in page
    assert all("<title>" in drawing for drawing in re.findall("<svg[^>]* role=.*?</svg>", page, flags=re.DOTALL))


def test_nothing_foreign_becomes_markup(monkeypatch):
    monkeypatch.setattr(evolution, "operation_style", lambda operation: "o0")
    monkeypatch.setattr(layout, "family", lambda operation: "skip")
    monkeypatch.setattr(drawing, "family", lambda operation: "skip")
    record = searched_record((HOSTILE, "sep_conv_3x3"), stopped_early=HOSTILE)
    config = record.config.model_copy(update={"backend": HOSTILE, "device": HOSTILE, "data": HOSTILE})
    rows = [{**row, "stage": HOSTILE, "phase": HOSTILE, "validation_split": HOSTILE} for row in record.rows]
    pages = [
        html_page(RunRecord(config, rows, [{**row, "stage": HOSTILE} for row in record.evolution], record.genotype)),
        *(drawing for _, drawing in drawings_with(HOSTILE)),
        drawn([Line("s0", HOSTILE, ((1, 1),))], Frame(marks=(Mark(1.5, HOSTILE),), axis=HOSTILE), HOSTILE),
    ]
    for page in pages:
        assert not re.search("<script|<img|\x1b", page)
        assert "&lt;script&gt;" in page
    assert pages[0].count("&lt;script&gt;") > 30


def drawings_with(operation: str) -> list[tuple[str, str]]:
    """Drawings of a cell whose operations have another name."""

    class Renamed(Genotype):
        def cell(self, kind):
            cell = super().cell(kind)
            edges = tuple(
                SimpleNamespace(source=e.source, target=e.target, operations=(operation,)) for e in cell.edges
            )
            return SimpleNamespace(nodes=cell.nodes, concat=cell.concat, edges=edges, incoming=cell.incoming)

    found = named_cell("DARTS_V2")
    return drawings(Renamed(found.normal, found.normal_concat, found.reduce, found.reduce_concat))


def test_a_template_that_lacks_a_name_is_an_error():
    with pytest.raises(UndefinedError, match="width"):
        render("dots.pages", "chart.svg.jinja", box={})


def test_a_report_that_cannot_be_written_is_to_be_asked_for_again(run, capsys):
    (run / "report.html").unlink()
    (run / "report.html").mkdir()
    found = told(capsys, "report", run)
    refused(found, 1, "report.html", "then run the same command again")
    assert "--resume" not in found.err
