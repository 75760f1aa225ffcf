"""The page shows the thresholds that are applied."""

from __future__ import annotations

from pathlib import Path

from dots_conformance.thresholds import FLOORS

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"


def test_the_table_on_the_page_is_the_one_in_the_code() -> None:
    shown = PAGE.read_text("utf-8").partition("<!-- thresholds -->\n")[2].partition("<!-- end -->")[0]
    rows = [
        "| precision | floor, outputs and states | floor, gradients | floor, trajectories |",
        "| --- | --- | --- | --- |",
        *(f"| {name} | {' | '.join(f'{floor:g}' for floor in floors)} |" for name, floors in FLOORS.items()),
    ]
    assert shown == "\n".join(rows) + "\n"
