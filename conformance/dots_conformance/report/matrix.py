"""The matrix of cases by engines, by family; families with something against an engine are open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dots.report.markup import section, text
from dots_conformance.report.summary import Column, grouped, tally
from dots_conformance.report.verdict_cells import LEGEND, MISSING, cell_class, cell_words, family_words


def matrix(engines: Sequence[Column], anchors: Mapping[str, str]) -> str:
    """Return the matrix.

    Parameters
    ----------
    anchors : dict of str
        Where on the page each case's details are, in the order of the rows.
    """
    legend = "".join(f'<span class="{kind}">{text(meaning)}</span>' for kind, meaning in LEGEND)
    heads = "".join(f"<span>{text(column.label)}</span>" for column in engines)
    parts = [
        "<p>How far each engine is from the reference, in multiples of what is allowed: more than 1 fails. "
        "A row of several cases shows the worst of them and opens; a cell leads to the numbers.</p>\n",
        f'<p class="legend">{legend}</p>\n',
        '<p id="tools" hidden><input id="sought" type="search" placeholder="part of a case\'s name" '
        'aria-label="part of a case\'s name"> <label><input id="bad" type="checkbox"> only what disagrees</label> '
        '<button id="open" type="button">open all</button> <button id="shut" type="button">close all</button></p>\n',
        f'<div class="matrix" style="--engines:{len(engines)}"><div class="row heads"><b>case</b>{heads}</div>\n',
    ]
    for number, (group, families) in enumerate(grouped(anchors).items()):
        parts.append(f'<h3 id="g{number}">{text(group)}</h3>\n')
        parts += [_family(name, members, engines, anchors) for name, members in families.items()]
    return section("matrix", "Cases by engines", *parts, "</div>\n")


def _family(name: str, members: Sequence[str], engines: Sequence[Column], anchors: Mapping[str, str]) -> str:
    rows = "".join(_row(case, engines, anchors[case]) for case in members)
    if len(members) == 1:
        return rows
    tallies = [tally(c.engine.cases[case] for case in members if case in c.engine.cases) for c in engines]
    cells = "".join(
        f'<span class="{MISSING if t.worst is None else cell_class(t.worst)}">{text(family_words(t))}</span>'
        for t in tallies
    )
    opened = " open" if any(t.against for t in tallies) else ""
    return (
        f'<details{opened}><summary class="row"><b>{_breakable(name)} <small>{len(members)}</small></b>{cells}'
        f"</summary>\n{rows}</details>\n"
    )


def _row(case: str, engines: Sequence[Column], anchor: str) -> str:
    cells = []
    for column in engines:
        verdict = column.engine.cases.get(case)
        if verdict is None:
            cells.append(f'<span class="{MISSING}">·</span>')
        else:
            cells.append(f'<a class="{cell_class(verdict)}" href="#{anchor}">{text(cell_words(verdict))}</a>')
    bad = any(case in column.engine.cases and not column.engine.cases[case].agrees for column in engines)
    return f'<div class="row{" bad" * bad}" id="r{anchor}"><b>{_breakable(case)}</b>{"".join(cells)}</div>\n'


def _breakable(name: str) -> str:
    return text(name).replace("/", "/<wbr>")
