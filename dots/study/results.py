"""The results of a study: a table of rows, the paper's figures beside ours, as JSON, Markdown and a page."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from textwrap import wrap
from typing import Any

from dots.pages.environment import render
from dots.pages.table import Table
from dots.study.archive import Archive
from dots.study.jobs.execute import Executed, command_line
from dots.study.scale import StudyRun
from dots.study.study import Row, Study, Summary
from dots_core.storage.atomic import to_json, write_atomic

FORMAT = "dots-study-results"
VERSION = 1


def rows_of(runs: Sequence[StudyRun], archive: Archive) -> dict[str, Row]:
    """Return the rows of the table, in the order in which they were planned."""
    named: dict[str, list[str]] = {}
    for run in runs:
        if run.row:
            named.setdefault(run.row, []).append(run.name)
    rows = {}
    for name, members in named.items():
        done = tuple(run for run in members if archive.done(run))
        sizes = [archive.size(run) for run in done]
        rows[name] = Row(
            name,
            done,
            tuple(archive.accuracy(run) for run in done),
            sum(size[0] for size in sizes) / len(sizes) if sizes else None,
            sum(size[1] for size in sizes) / len(sizes) if sizes else None,
            len(members),
        )
    return rows


def write_results(study: Study, command: str, executed: Executed, folder: Path) -> dict[str, Any]:
    """Write the results as JSON, Markdown and a page, and the pictures; return the first without format and version.

    The files depend on the runs' results alone, so writing them again changes nothing.

    Parameters
    ----------
    command : str
        The study's own command.
    """
    archive = Archive(folder)
    rows = rows_of(executed.runs, archive)
    summary = study.summarise(rows, archive)
    record = _record(study, command, executed, rows, summary)
    for name, picture in summary.pictures.items():
        write_atomic(folder / name, picture)
    table, commands = _table(study, rows), [command_line(run, folder) for run in executed.runs]
    write_atomic(folder / "results.md", _markdown(study, command, executed, table, summary, commands))
    write_atomic(folder / "results.html", _page(study, command, executed, table, summary, commands))
    write_atomic(folder / "results.json", to_json({"format": FORMAT, "version": VERSION, **record}))
    return record


def _record(study: Study, command: str, executed: Executed, rows: dict[str, Row], summary: Summary) -> dict[str, Any]:
    published = study.published()
    return {
        "study": study.title,
        "source": study.source,
        "protocol": study.protocol,
        "paper_protocol": study.paper_protocol,
        "command": command,
        "complete": not executed.missing,
        "missing": list(executed.missing),
        "problems": executed.problems,
        "rows": [
            {
                "name": row.name,
                "accuracies": list(row.accuracies),
                "mean": row.mean if row.accuracies else None,
                "deviation": row.deviation,
                "parameters": row.parameters,
                "macs": row.macs,
                "runs": list(row.runs),
                "planned": row.planned,
                "paper": [asdict(figure) for figure in published.get(row.name, ())],
            }
            for row in rows.values()
        ],
        "findings": summary.findings,
    }


def _markdown(
    study: Study, command: str, executed: Executed, table: Table, summary: Summary, commands: list[str]
) -> str:
    lines = [f"# {study.title}", "", f"Source: {study.source}", ""]
    lines += ["```sh", command, "```", ""]
    if executed.missing:
        lines += [f"**Incomplete**: {len(executed.missing)} results are missing.", ""]
        lines += [f"- {name}: {executed.problems.get(name, 'not done')}" for name in executed.missing]
        lines += ["", "Go on with the command above and `--resume`.", ""]
    if summary.table is not None:
        lines += [*summary.table.markdown(), "", *([summary.note, ""] if summary.note else [])]
    lines += [f"![{name}]({name})" for name in summary.pictures]
    lines += ["", f"Ours: {study.protocol}.", f"The paper: {study.paper_protocol}.", "", *table.markdown(), ""]
    lines += [*wrap(_NOTE, 110), "", "## Commands", "", "Each run alone, in this order:", "", "```sh", *commands, "```"]
    return "\n".join(lines) + "\n"


_NOTE = (
    "Accuracy is that on the test split after the last epoch. Parameters leave out the auxiliary head. MACs are "
    "the multiply-accumulates of one image; one MAC is two FLOPs. The paper's figures were measured at the "
    "paper's scale; M is its parameters in millions."
)


def _table(study: Study, rows: dict[str, Row]) -> Table:
    published = study.published()
    heads = ["", "accuracy (%), mean ± standard deviation", "runs", "paper (%)", "parameters", "MACs"]
    lines = []
    for row in rows.values():
        paper = "; ".join(figure.text() for figure in published.get(row.name, ())) or "–"
        sizes = (f"{number:,.0f}" if number is not None else "–" for number in (row.parameters, row.macs))
        lines.append([row.name, accuracy_text(row), f"{len(row.accuracies)} of {row.planned}", paper, *sizes])
    return Table(heads, lines, "lrrlrr")


def _page(study: Study, command: str, executed: Executed, table: Table, summary: Summary, commands: list[str]) -> str:
    """Return the results as a page that needs nothing beside it."""
    page = render(
        "dots.study",
        "study.html.jinja",
        study=study,
        command=command,
        missing=[(name, executed.problems.get(name, "not done")) for name in executed.missing],
        summary=summary,
        pictures=[
            (name, f"data:image/svg+xml;base64,{b64encode(picture.encode()).decode()}")
            for name, picture in summary.pictures.items()
        ],
        table=table,
        note=_NOTE,
        commands=commands,
    )
    return str(page)


def accuracy_text(row: Row) -> str:
    """Return mean and standard deviation in percent."""
    if not row.accuracies:
        return "–"
    spread = f" ± {100 * row.deviation:.2f}" if row.deviation is not None else ""
    return f"{100 * row.mean:.2f}{spread}"
