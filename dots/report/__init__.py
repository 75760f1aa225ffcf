"""One self-contained HTML page a run: what was found, how the search went, and what is doubtful about it."""

from __future__ import annotations

from dots.report.page import html_page, write_report
from dots.report.record import RunRecord, read_run

__all__ = ["RunRecord", "html_page", "read_run", "write_report"]
