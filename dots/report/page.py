"""The page itself: verdict, cells, curves, the evolution of the architecture weights, every number."""

from __future__ import annotations

import re
from pathlib import Path

from dots.report.cell_figure import picture
from dots.report.curves import curves
from dots.report.evolution import evolution_sections
from dots.report.markup import section, text
from dots.report.record import RunRecord, read_run
from dots.report.tables import decisions, epochs, results
from dots.run_directory.layout import config_text
from dots_core.storage.atomic import write_atomic

NAME = "report.html"
_STYLE = Path(__file__).with_name("page.css")


def write_report(run: Path) -> Path:
    """Write a run's page into its folder, finished or not, and return its path.

    Raises
    ------
    UsageError
        If it is no run.
    CorruptFile
        If a file of it is damaged.
    """
    path = run / NAME
    write_atomic(path, html_page(read_run(run)))
    return path


def html_page(record: RunRecord) -> str:
    """Return a run as a page that needs nothing beside it: no files, no network, no JavaScript.

    Equal runs give equal pages.
    """
    title = f"{record.config.kind}: {_headline(record)}"
    body = [_header(record), results(record), _cells(record), curves(record)]
    body += [evolution_sections(record.evolution), decisions(record), epochs(record), _settings(record)]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{text(title)} · dots</title>\n"
        f"<style>\n{_STYLE.read_text('utf-8')}</style></head>\n<body><main>\n{''.join(body)}</main></body></html>\n"
    )


def _headline(record: RunRecord) -> str:
    if not record.rows:
        return "no epoch is done yet"
    last = record.rows[-1]
    accuracy = next((row["validation_accuracy"] for row in record.rows[::-1] if "validation_accuracy" in row), None)
    if not record.finished:
        return f"unfinished, {last['epoch']} of {record.plan.epochs} epochs"
    if record.searches:
        if record.unusable:
            return f"the cell found is not usable: {record.unusable}"
        count = len(record.warnings)
        return "a cell was found" + (f", with {count} warning{'' if count == 1 else 's'}" if count else "")
    return "trained" if accuracy is None else f"{accuracy:.2%} test accuracy"


def _header(record: RunRecord) -> str:
    config = record.config
    where = f"dots {config.kind} · {config.backend} on {config.device} · {config.precision} · seed {config.seed}"
    told = "".join(f"<li>{text(_sentence(warning))}</li>" for warning in record.warnings)
    notes = "".join(f"<p>{text(_sentence(stop))}</p>" for stop in record.early_stops)
    warned = f'<aside class="warning"><ul>{told}</ul></aside>\n' if told else ""
    return (
        f'<header><p class="where">{text(where)}</p>\n<h1>{text(_sentence(_headline(record)))}</h1>\n'
        f"{notes}{warned}</header>\n"
    )


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."


def _cells(record: RunRecord) -> str:
    if record.genotype is None:
        return ""
    drawn = picture(record.genotype, ".svg").decode("utf-8")
    drawn = drawn[drawn.index("<svg") :]
    # What the file says about itself (a title, a licence) is no part of a page.
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn, flags=re.DOTALL)
    title = "The cell" if not record.searches else "The cell found" if record.finished else "The cell so far"
    return section("cell", title, f'<div class="cell">{drawn}</div>\n')


def _settings(record: RunRecord) -> str:
    body = f"<details><summary>config.yaml</summary><pre>{text(config_text(record.config))}</pre></details>\n"
    return section("settings", "Settings", body)
