"""Does every report say which engines disagree and where, whatever a comparison holds?

Synthetic comparisons: no engine and no framework is needed.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from dots_conformance.bundle import CRASHED, RAISED, REFUSED, TIMED_OUT, Manifest
from dots_conformance.closeness import FAIL, ILL, PASS, TensorVerdict
from dots_conformance.comparison import KNOWN, CaseVerdict, Comparison, Curve, EngineVerdict
from dots_conformance.ledger import Entry
from dots_conformance.report.junit import junit_report
from dots_conformance.report.markdown import MOST, markdown_report
from dots_conformance.report.page import html_report
from dots_conformance.report.summary import SEVERITY, columns, findings, headline, ledger_use, sentence, spread, tally
from dots_conformance.report.wording import multiple_text, number_text
from hypothesis import given, settings
from hypothesis import strategies as st

from dots.pages.charts import Frame, Line, drawn
from dots.pages.environment import writable
from dots.pages.scales import decades

INF, NAN = math.inf, math.nan
WITHOUT_ARRAYS = (CRASHED, RAISED, TIMED_OUT, REFUSED)
HOSTILE = '</td><script>alert("1")</script>&amp;\'`|\x1b[31m\x00\n# '
VOID = {"meta", "input", "br", "wbr", "link", "img", "hr"}


def tensor(verdict: str = PASS, multiple: float = 0.25, key: str = "gradient/conv.weight") -> TensorVerdict:
    reason = "" if verdict == PASS else f"{multiple:g} times what is allowed, by norm"
    numbers = (3.5e-4, 0.0125, (0, 3, 2), 1.0329114, 1.0204114, (1.0, 17.0, 1203.0), 0.9999)
    return TensorVerdict(key, verdict, multiple, *numbers, reason)


def case(name: str, verdict: str = PASS, multiple: float = 0.25, message: str = "") -> CaseVerdict:
    """A case as `compare` would judge it."""
    if verdict in WITHOUT_ARRAYS:
        return CaseVerdict(name, verdict, INF, message=message or "the process was killed by SIGSEGV", seconds=1.5)
    worst = tensor({KNOWN: FAIL}.get(verdict, verdict), multiple)
    said = f"{worst.key}: {worst.reason}" if verdict == FAIL else message
    return CaseVerdict(name, verdict, multiple, (worst, tensor(PASS, 0.01, "output/y")), (), said, 1.5)


def engine(
    *cases: CaseVerdict,
    backend: str = "mindspore",
    ledger: tuple[Entry, ...] = (),
    stale: tuple[Entry, ...] = (),
    precision: str = "float32",
) -> EngineVerdict:
    versions, machine = {backend: "2.10.0", "threads": "1"}, {"python": "3.11.7", "cpus": "2"}
    manifest = Manifest(backend, "cpu", precision, 0, 0, "0.1.0", versions, machine)
    return EngineVerdict(manifest, {each.case: each for each in cases}, ledger, stale)


def comparison(*engines: EngineVerdict) -> Comparison:
    return Comparison(engines, 0, "0.1.0")


def entry(cases: str = "layers/pool*", link: str = "https://example.org/issues/1?a=1&b=2") -> Entry:
    return Entry("mindspore", "mindspore", ">=2.9", cases, "gradient/*", "Ties go to the last element.", link)


EVERY_VERDICT = comparison(
    engine(
        case("layers/relu/c4-3x3"),
        case("layers/relu/c4-7x9", FAIL, 35.0),
        case("layers/norm/c4-1x1", ILL, 0.5),
        case("layers/pool-max/tied", KNOWN, 3.5),
        case("operations/skip/c4", REFUSED, message="it has no such layer"),
        case("networks/mixed/1-cells", CRASHED),
        case("steps/levels/pairs", RAISED, message="ValueError: no"),
        case("search/two-stage", TIMED_OUT, message="it took more than 300 s and was stopped"),
        ledger=(entry(), entry("layers/relu*"), entry("growth/*")),
        stale=(entry("layers/relu*"),),
    ),
    engine(case("layers/relu/c4-3x3", multiple=0.5), backend="torch"),
)


class Page(HTMLParser):
    """What a browser would find, and whether every element is closed where it must be."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.said: list[str] = []
        self.opened_families: dict[str, bool] = {}
        self._family: bool | None = None
        self.feed(page)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attributes)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "details":
            self._family = ("open", None) in attributes

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attributes]

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> stands where another element is open"

    def handle_data(self, text: str) -> None:
        if self.open and self.open[-1] in ("script", "style"):
            return
        if self._family is not None and self.open[-2:] == ["summary", "b"]:
            family = self.opened_families
            name = next((key for key in family if key.endswith("/")), None)
            if name is not None:  # names may be broken after each slash
                family.pop(name)
                text = name + text
            family[text.strip()] = self._family
            if not text.endswith("/"):
                self._family = None
        self.said.append(text)

    @property
    def text(self) -> str:
        return "".join(self.said)

    def values(self, name: str) -> list[str]:
        return [value for _, attribute, value in self.attributes if attribute == name]


def check_html(report: str) -> Page:
    """A page that is well formed, leads nowhere it does not have, and needs nothing from elsewhere."""
    page = Page(report)
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    foreign = {"src", "srcset", "data", "action", "poster", "background", "xlink:href", "ping"}
    for tag, name, value in page.attributes:
        assert name not in foreign, (tag, name)
        assert not name.startswith("on"), (tag, name)
        if name == "href":
            assert tag == "a"
            assert value[1:] in ids if value.startswith("#") else re.match("https?://", value)
        else:
            assert "://" not in value or tag in ("html", "body"), (tag, name, value)
    assert page.tags["script"] == page.tags["style"] == 1
    assert not page.tags.keys() & {"link", "img", "iframe", "object", "embed"}
    style = report[report.index("<style>") : report.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    return page


def check_xml(report: str) -> ElementTree.Element:
    """A document whose counts are those of what it holds."""
    root = ElementTree.fromstring(report.encode())
    for suite in root:
        tests = suite.findall("testcase")
        assert int(suite.get("tests", "")) == len(tests)
        for key, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert int(suite.get(key, "")) == sum(test.find(tag) is not None for test in tests)
        assert all(len(test) <= 1 for test in tests)
    for key in ("tests", "failures", "errors", "skipped"):
        assert int(root.get(key, "")) == sum(int(suite.get(key, "")) for suite in root)
    return root


def check_markdown(report: str) -> None:
    """Tables whose rows have as many cells as their heads; nothing foreign outside code."""
    width = None
    for line in report.splitlines():
        cells = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("| ") else None
        assert width is None or cells is None or cells == width, line
        width = cells
    assert "<script" not in re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", report)


def flat(text: str) -> str:
    """Text as Markdown shows it in a line."""
    return " ".join(writable(text).split()).replace("|", "\\|")


NAMES = st.text(max_size=30)
FLOATS = st.floats(allow_nan=True, allow_infinity=True)
TENSORS = st.builds(
    TensorVerdict,
    NAMES,
    st.sampled_from([PASS, FAIL, ILL]),
    FLOATS,
    FLOATS,
    FLOATS,
    st.lists(st.integers(0, 99), max_size=4).map(tuple),
    FLOATS,
    FLOATS,
    st.tuples(FLOATS, FLOATS, FLOATS),
    FLOATS,
    NAMES,
)


@st.composite
def curves(draw: st.DrawFn) -> Curve:
    errors = draw(st.lists(st.tuples(FLOATS, FLOATS), max_size=5))
    steps = tuple(draw(st.sampled_from(["001", "7", "last"])) for _ in errors)
    sort = draw(st.sampled_from(["growth.loss", "growth.weights", "growth"]))
    return Curve(sort, steps, tuple(mine for mine, _ in errors), tuple(own for _, own in errors))


CASES = st.builds(
    CaseVerdict,
    st.text(min_size=1, max_size=30),
    st.sampled_from(SEVERITY),
    FLOATS,
    st.lists(TENSORS, max_size=3).map(tuple),
    st.lists(curves(), max_size=2).map(tuple),
    NAMES,
    st.floats(0, 1e4),
)


@st.composite
def engines(draw: st.DrawFn) -> EngineVerdict:
    cases = {each.case: each for each in draw(st.lists(CASES, max_size=4))}
    manifest = Manifest(
        draw(NAMES),
        draw(NAMES),
        draw(st.sampled_from(["float64", "float32", "bfloat16"])),
        0,
        0,
        draw(NAMES),
        draw(st.dictionaries(NAMES, NAMES, max_size=2)),
        draw(st.dictionaries(NAMES, NAMES, max_size=2)),
    )
    ledger = tuple(draw(st.lists(st.builds(Entry, *[NAMES] * 7), max_size=2)))
    return EngineVerdict(manifest, cases, ledger, ledger[: draw(st.integers(0, len(ledger)))])


COMPARISONS = st.builds(Comparison, st.lists(engines(), max_size=3).map(tuple), st.integers(0, 9), NAMES)


@settings(max_examples=60, deadline=None)
@given(COMPARISONS)
def test_reports_hold_for_any_comparison(compared: Comparison) -> None:
    page, markdown, xml = html_report(compared), markdown_report(compared), junit_report(compared)
    said = check_html(page).text
    check_markdown(markdown)
    root = check_xml(xml)
    for verdict in compared.engines:
        for each in verdict.cases.values():
            if not each.agrees:
                assert writable(each.case).replace("\r\n", "\n").replace("\r", "\n") in said.replace("\r", "\n")
                assert flat(each.case) in markdown
    assert len(root.findall("*/testcase")) == sum(len(e.cases) + len(e.stale) for e in compared.engines)
    again = replace(compared)
    assert (html_report(again), markdown_report(again), junit_report(again)) == (page, markdown, xml)


@pytest.mark.parametrize("write", [html_report, markdown_report, junit_report])
def test_every_case_against_an_engine_is_named(write) -> None:
    report = write(EVERY_VERDICT)
    for each in EVERY_VERDICT.engines[0].cases.values():
        if not each.agrees:
            assert each.case in report.replace("<wbr>", "")


@pytest.mark.parametrize("write", [html_report, markdown_report, junit_report])
def test_every_verdict_appears_with_its_reason(write) -> None:
    report = write(EVERY_VERDICT)
    for words in (
        "35 times what is allowed, by norm",
        "ill-conditioned",
        "known",
        "it has no such layer",
        "the process was killed by SIGSEGV",
        "ValueError: no",
        "it took more than 300 s and was stopped",
        "Ties go to the last element.",
    ):
        assert words in report, words


def test_the_page_shows_symbols_beside_colours() -> None:
    said = check_html(html_report(EVERY_VERDICT)).text
    for words in ("✓ 0.25", "✗ 35", "≈ 3.5", "○ ill", "⊘ refused", "! crashed", "! raised", "! timed out", "·"):
        assert words in said, words
    assert "✗ 1 of 2 engines does not agree: mindspore float32" in said


def test_the_page_gives_the_numbers_of_the_worst_tensor() -> None:
    said = check_html(html_report(EVERY_VERDICT)).text
    for number in ("gradient/conv.weight", "0.00035", "0.0125", "0, 3, 2", "1.0329114", "1.0204114", "1, 17, 1.2e+03"):
        assert number in said, number


def test_only_families_with_something_against_an_engine_are_open() -> None:
    cases = [case(f"layers/{layer}/{size}") for layer in ("relu", "norm") for size in ("3x3", "7x9")]
    cases[3] = case("layers/norm/7x9", FAIL, 2.0)
    passing = [case(each.case) for each in cases]
    page = check_html(html_report(comparison(engine(*cases), engine(*passing, backend="torch"))))
    assert page.opened_families == {"layers/relu": False, "layers/norm": True}


def test_a_decision_that_differs_is_told_although_every_tensor_passes() -> None:
    message = "operation, normal cell, edge 0-2, group 0: skip_connect, the reference max_pool_3x3"
    verdict = CaseVerdict("search/two-stage", FAIL, 0.5, (tensor(PASS, 0.5, "growth.loss/001"),), (), message, 1.0)
    compared = comparison(engine(verdict))
    assert "✗ decision" in check_html(html_report(compared)).text
    assert message in html_report(compared)
    assert message in markdown_report(compared)
    failure = check_xml(junit_report(compared)).find("*/testcase/failure")
    assert failure is not None
    assert failure.get("message") == message


def test_a_tensor_that_could_not_be_compared_has_no_numbers() -> None:
    key, reason = "output/y", "its shape is (2, 3), the reference has (3, 2)"
    verdict = CaseVerdict(
        "layers/a/b", FAIL, INF, (TensorVerdict(key, FAIL, INF, reason=reason),), (), f"{key}: {reason}"
    )
    row = next(line for line in markdown_report(comparison(engine(verdict))).splitlines() if reason in line)
    assert "| ∞ | `output/y` | — | — | — |" in row
    assert reason in check_html(html_report(comparison(engine(verdict)))).text


def test_sentences() -> None:
    good, bad = case("layers/a/b"), case("layers/a/c", FAIL, 3.0)
    crashed, known, ill = case("search/x", CRASHED), case("layers/a/d", KNOWN, 3.0), case("layers/a/e", ILL)

    def said(judged: EngineVerdict, total: int) -> str:
        return sentence(columns(comparison(judged))[0], total)

    assert said(engine(good), 1) == "mindspore float32 agrees with the reference on 1 of 1 cases"
    assert (
        said(engine(good, known, ill), 3)
        == "mindspore float32 agrees with the reference on 2 of 2 cases, 1 known among them; "
        "1 ill-conditioned case is not judged"
    )
    assert (
        said(engine(good, bad, crashed), 3)
        == "mindspore float32 DISAGREES on 2 of 3 cases: 1 fail, 1 crashed; first: layers/a/c"
    )
    assert said(engine(ill), 1) == "mindspore float32 was judged on no case; 1 ill-conditioned case is not judged"
    assert (
        said(engine(bad, ill, case("layers/a/f", ILL)), 3) == "mindspore float32 DISAGREES on 1 of 1 cases: 1 fail; "
        "first: layers/a/c; 2 ill-conditioned cases are not judged"
    )
    assert said(engine(good), 4).endswith("; 3 of 4 cases were not recorded")
    assert said(engine(good, ledger=(entry(),), stale=(entry(),)), 1).endswith("; 1 ledger entry is STALE")
    assert said(engine(), 1) == "mindspore float32 was judged on no case"


def test_headlines() -> None:
    good, bad = engine(case("layers/a/b")), engine(case("layers/a/b", FAIL, 3.0), backend="jittor")
    stale = engine(case("layers/a/b"), ledger=(entry(),), stale=(entry(),))
    assert headline(comparison(good)) == "The engine agrees"
    assert headline(comparison(good, good)) == "Both engines agree"
    assert headline(comparison(good, good, good)) == "All 3 engines agree"
    assert headline(comparison(good, bad)) == "1 of 2 engines does not agree: jittor float32"
    assert headline(comparison(stale)) == "The engine does not agree: mindspore float32"
    assert headline(comparison()) == headline(comparison(engine())) == "Nothing was judged"
    assert headline(comparison(engine(case("layers/a/b", ILL)))) == "Nothing was judged"


def test_engines_of_one_label_are_told_apart() -> None:
    same = engine(case("layers/a/b"))
    labels = [column.label for column in columns(comparison(same, engine(backend="torch"), same))]
    assert labels == ["mindspore float32 #1", "torch float32", "mindspore float32 #2"]


def test_what_tells_nothing_does_not_count_as_the_worst() -> None:
    counted = tally([case("a/b", multiple=0.25), case("a/c", ILL, 900.0), case("a/d", CRASHED)])
    assert counted.counts == {CRASHED: 1, ILL: 1, PASS: 1}
    assert counted.worst is not None
    assert counted.worst.case == "a/d"
    assert counted.largest == 0.25


def test_ledger_entries_are_applied_stale_or_not_tried() -> None:
    column = columns(EVERY_VERDICT)[0]
    assert [(used.cases, state, count) for used, state, count in ledger_use(column)] == [
        ("layers/pool*", "applied", 1),
        ("layers/relu*", "stale", 0),
        ("growth/*", "not tried", 0),
    ]
    page = html_report(EVERY_VERDICT)
    assert "Stale ledger entries" in page
    assert 'href="https://example.org/issues/1?a=1&amp;b=2"' in page
    assert "**STALE**" in markdown_report(EVERY_VERDICT)


def test_a_ledger_link_that_is_no_web_address_is_only_text() -> None:
    odd = entry(link="javascript:alert(1)")
    page = check_html(html_report(comparison(engine(case("layers/pool/b", KNOWN, 2.0), ledger=(odd,)))))
    assert not any("javascript" in value for value in page.values("href"))
    assert "javascript:alert(1)" in page.text


def test_junit_says_how_each_case_ended() -> None:
    root = check_xml(junit_report(EVERY_VERDICT))
    assert {key: root.get(key) for key in ("tests", "failures", "errors", "skipped")} == {
        "tests": "10",
        "failures": "2",
        "errors": "3",
        "skipped": "3",
    }
    ended = {test.get("name"): [child.tag for child in test] for test in root[0].findall("testcase")}
    assert ended.pop("ledger entry for mindspore >=2.9, layers/relu*, gradient/*") == ["failure"]
    assert ended == {
        "layers/relu/c4-3x3": [],
        "layers/relu/c4-7x9": ["failure"],
        "layers/norm/c4-1x1": ["skipped"],
        "layers/pool-max/tied": ["skipped"],
        "operations/skip/c4": ["skipped"],
        "networks/mixed/1-cells": ["error"],
        "steps/levels/pairs": ["error"],
        "search/two-stage": ["error"],
    }
    test = root[0].findall("testcase")[1]
    assert (test.get("classname"), test.get("time")) == ("mindspore float32.layers", "1.500")
    assert "at (0, 3, 2) 1.0329114 instead of 1.0204114" in (test[0].text or "")


def test_nothing_foreign_becomes_markup() -> None:
    hostile = Entry("b", "p", HOSTILE, "*", HOSTILE, HOSTILE, HOSTILE)
    bad = case(f"layers/{HOSTILE}/a", CRASHED, message=HOSTILE)
    wrong = replace(tensor(FAIL, 2.0, HOSTILE), reason=HOSTILE)
    other = CaseVerdict(
        f"growth/{HOSTILE}", FAIL, 2.0, (wrong,), (Curve("growth.<b>", ("<",), (1.0,), (1.0,)),), HOSTILE
    )
    judged = engine(bad, other, backend=HOSTILE, ledger=(hostile,), stale=(hostile,))
    judged.manifest.environment[HOSTILE] = HOSTILE
    compared = comparison(judged, engine(case("layers/a/b"), backend=HOSTILE))
    page = check_html(html_report(compared))
    assert "alert" in page.text
    assert "\x1b" not in html_report(compared)
    check_markdown(markdown_report(compared))
    names = [test.get("name") for test in check_xml(junit_report(compared)).findall("*/testcase")]
    assert names[0] == writable(bad.case)


def test_terminal_colours_go_and_unwritable_characters_are_marked() -> None:
    assert writable("\x1b[1;31mred\x1b[0m \x00\ud800\ufffe tab\t") == "red ��� tab\t"


def test_markdown_lists_the_worst_and_names_the_rest() -> None:
    cases = [case(f"layers/relu/{number:03}", FAIL, 2.0 + number) for number in range(MOST + 25)]
    report = markdown_report(comparison(engine(*cases)))
    rows = [line for line in report.splitlines() if "✗ fail" in line]
    assert len(rows) == MOST
    assert "layers/relu/064" in rows[0]
    assert "and 25 more" in report
    assert all(each.case in report for each in cases)


def test_an_engine_that_fails_everywhere_does_not_hide_another() -> None:
    crashed = [case(f"layers/relu/{number:03}", CRASHED) for number in range(MOST + 25)]
    subtle = case("layers/norm/c4-3x3", FAIL, 1.5)
    compared = comparison(engine(*crashed, backend="jittor"), engine(subtle, backend="torch"))
    found = findings(compared)
    listed = spread(found, MOST)
    assert len(listed) == MOST
    assert listed == [each for each in found if each in listed]
    assert listed[-1].case == subtle
    assert any(line.startswith("| `torch") and subtle.case in line for line in markdown_report(compared).splitlines())
    offenders = html_report(compared).split('id="offenders"')[1].split("</section>")[0]
    assert subtle.case in offenders


def test_the_page_stays_small_when_everything_fails() -> None:
    words = "last words " * 60
    names = [f"{group}/depthwise-5x5-stride2/badly-scaled-{n}" for group in ("layers", "networks") for n in range(240)]
    tensors = tuple(tensor(FAIL, 35.0, f"gradient/cells.0.0-2.sep_conv_3x3.depthwise{n}.weight") for n in range(8))
    failing = [replace(case(name, FAIL, 35.0), tensors=tensors, message=f"{tensors[0].key}: {words}") for name in names]
    crashing = [case(name, CRASHED, message=words) for name in names]
    report = html_report(comparison(*(engine(*failing, backend=f"e{n}") for n in range(3)), engine(*crashing)))
    assert len(report.encode()) < 1.5e6
    said = check_html(report).text
    assert all(name in said for name in names)


def test_growth_curves_of_all_engines_stand_in_one_chart() -> None:
    growing = Curve("growth.loss", ("001", "002", "003"), (1e-7, 2e-6, 3e-5), (1e-7, 1e-6, 1e-5))
    grown = replace(case("growth/pairs/50-steps"), curves=(growing,))
    page = check_html(
        html_report(comparison(engine(grown), engine(grown, backend="torch"), engine(grown, backend="j")))
    )
    assert page.tags["figure"] == 1
    kinds = Counter(value for tag, name, value in page.attributes if (tag, name) == ("path", "class"))
    # Once in the chart and once in the key of lines.
    assert {kind: kinds[kind] for kind in ("s0", "s1", "s2", "reference", "allowed")} == dict.fromkeys(
        ("s0", "s1", "s2", "reference", "allowed"), 2
    )
    assert "growth/pairs/50-steps: loss" in page.text


def heights(svg: str, kind: str) -> list[float]:
    found = re.search(rf'class="{kind}" d="M([^"]*)"', svg)
    assert found
    return [float(point.split()[1]) for point in found[1].split("L")]


def test_a_larger_error_stands_higher_by_its_logarithm() -> None:
    errors = (1e-8, 1e-6, 1e-4)
    svg = drawn([Line("s0", "x", tuple(enumerate(errors)))], Frame(logarithmic=True, axis="step"), "t")
    low, middle, high = heights(svg, "s0")
    assert low - middle == pytest.approx(middle - high, abs=0.2)
    assert low > middle > high


def test_what_has_no_logarithm_stands_on_an_edge() -> None:
    points = tuple(enumerate((1e-3, 0.0, INF, NAN, 1e-1)))
    svg = drawn([Line("s0", "x", points)], Frame(logarithmic=True, axis="step"), "t")
    small, zero, infinite, lost, large = heights(svg, "s0")
    assert zero == small == max(heights(svg, "s0"))
    assert infinite == lost == large == min(heights(svg, "s0"))
    assert "not finite" in svg


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ((3e-7, 2e-2), (-7, -1)),
        ((1e-3,), (-3, -2)),
        ((0.0, INF, NAN), (-8, 0)),
        ((), (-8, 0)),
        ((5e-324, 1e300), (-324, 300)),
    ],
)
def test_decades(errors: tuple[float, ...], expected: tuple[int, int]) -> None:
    assert decades(errors) == expected


@pytest.mark.parametrize(
    ("multiple", "written"),
    [
        (0.0, "0"),
        (0.0004, "<.001"),
        (0.03, "0.03"),
        (0.2, "0.20"),
        (0.9996, "1.000"),
        (1.004, "1.004"),
        (2.34, "2.3"),
        (35.2, "35"),
        (12345.0, "1.2e+04"),
        (INF, "∞"),
        (NAN, "NaN"),
    ],
)
def test_multiples_are_short(multiple: float, written: str) -> None:
    assert multiple_text(multiple) == written


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_nine_digits_tell_every_float32_apart(value: float) -> None:
    assert float(number_text(value, 9).replace("−", "-")) == pytest.approx(value, rel=1e-8)


def test_nothing_to_report() -> None:
    for compared in (comparison(), comparison(engine())):
        assert "Nothing was judged" in check_html(html_report(compared)).text
        check_markdown(markdown_report(compared))
        assert check_xml(junit_report(compared)).get("tests") == "0"
