"""The results of a study: a table of rows, the paper's figures beside ours, as JSON and Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

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
    """Write ``results.json``, ``results.md`` and the pictures; return the first without its format and version.

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
    write_atomic(folder / "results.md", _markdown(study, command, executed, rows, summary, folder))
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
    study: Study, command: str, executed: Executed, rows: dict[str, Row], summary: Summary, folder: Path
) -> str:
    published = study.published()
    lines = [f"# {study.title}", "", f"Source: {study.source}", ""]
    lines += ["```sh", command, "```", ""]
    if executed.missing:
        lines += [f"**Incomplete**: {len(executed.missing)} results are missing.", ""]
        lines += [f"- {name}: {executed.problems.get(name, 'not done')}" for name in executed.missing]
        lines += ["", "Go on with the command above and `--resume`.", ""]
    lines += [*summary.lines, ""] if summary.lines else []
    lines += [f"![{name}]({name})" for name in summary.pictures]
    lines += [
        "",
        f"Ours: {study.protocol}.",
        f"The paper: {study.paper_protocol}.",
        "",
        "| | accuracy (%), mean ± standard deviation | runs | paper (%) | parameters | MACs |",
        "| --- | ---: | ---: | --- | ---: | ---: |",
    ]
    for row in rows.values():
        paper = "; ".join(p.text() for p in published.get(row.name, ())) or "–"
        parameters, macs = (f"{n:,.0f}" if n is not None else "–" for n in (row.parameters, row.macs))
        lines.append(
            f"| {row.name} | {accuracy_text(row)} | {len(row.accuracies)} of {row.planned} "
            f"| {paper} | {parameters} | {macs} |"
        )
    lines += [
        "",
        "Accuracy is that on the test split after the last epoch. Parameters leave out the auxiliary head. MACs are",
        "the multiply-accumulates of one image; one MAC is two FLOPs. The paper's figures were measured at the",
        "paper's scale; M is its parameters in millions.",
        "",
        "## Commands",
        "",
        "Each run alone, in this order:",
        "",
        "```sh",
        *(command_line(run, folder) for run in executed.runs),
        "```",
    ]
    return "\n".join(lines) + "\n"


def accuracy_text(row: Row) -> str:
    """Return mean and standard deviation in percent."""
    if not row.accuracies:
        return "–"
    spread = f" ± {100 * row.deviation:.2f}" if row.deviation is not None else ""
    return f"{100 * row.mean:.2f}{spread}"
