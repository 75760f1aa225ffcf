"""The page of a study's results: whole without anything beside it, and nothing foreign in it is markup."""

from __future__ import annotations

import re
from base64 import b64decode
from types import SimpleNamespace

import pytest

from dots.pages.table import Table
from dots.study import results
from dots.study.jobs.execute import Executed
from dots.study.pictures import ranked
from dots.study.study import Row, Summary

HOSTILE = '"><img src=x onerror=alert(1)><script>alert(1)</script>\x1b[31m'


class Asked:
    """A study of one row."""

    def __init__(self, words: str, summary: Summary) -> None:
        self.title = self.source = self.protocol = self.paper_protocol = words
        self.summary = summary

    def published(self):
        return {}

    def summarise(self, rows, archive):
        return self.summary


@pytest.fixture
def page_of(tmp_path, monkeypatch):
    def write(words: str, summary: Summary, *missing: str) -> str:
        monkeypatch.setattr(results, "rows_of", lambda runs, archive: {words: Row(words, (), (0.25,), 12.0, None, 2)})
        run = SimpleNamespace(arguments=lambda folder: ["train", "--out", words])
        executed = Executed((run,), dict.fromkeys(missing, f"it says {words}"), missing)
        results.write_results(Asked(words, summary), f"dots study {words}", executed, tmp_path)
        return (tmp_path / "results.html").read_text("utf-8")

    return write


def test_the_page_has_the_tables_the_pictures_and_the_commands(page_of):
    picture = ranked([Row("a", (), (0.25, 0.5), 1.0, 1.0, 2)], "one")
    summary = Summary({}, Table(["phase", "best"], [["1", "25.00"]]), "In brackets: nothing.", {"phase-1.svg": picture})
    page = page_of("question", summary)
    assert "<title>question · dots study</title>" in page
    for words in ("25.00", "1 of 2", "In brackets: nothing.", "dots train --out question", "dots study question"):
        assert words in page, words
    assert b64decode(re.search('src="data:image/svg\\+xml;base64,([^"]*)"', page)[1]).decode() == picture
    assert re.search('alt="phase 1;', page)
    assert not re.search(r"https?:|<script|<link|@import|url\(", page)
    assert 'class="warning"' not in page


def test_what_is_missing_is_said_first(page_of):
    page = page_of("question", Summary(), "run-1", "run-2")
    assert "<h1>question: 2 results are missing</h1>" in page
    assert "<li>run-2: it says question</li>" in page


def test_nothing_foreign_becomes_markup(page_of):
    table = Table([HOSTILE, HOSTILE], [[HOSTILE, HOSTILE]])
    page = page_of(HOSTILE, Summary({}, table, HOSTILE, {'"><img src=x>.svg': "<svg/>"}), HOSTILE)
    assert not re.search("<script|\x1b|<img src=x", page)
    assert page.count("&lt;script&gt;") > 12
