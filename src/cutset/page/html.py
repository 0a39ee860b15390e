"""The page itself: what is said, in which order, and how it looks."""

from __future__ import annotations

from html import escape
from pathlib import Path

from cutset.comparison import Comparison
from cutset.explanation import verdict_in_words
from cutset.serde.common import write_text
from cutset.units import format_time


def write_page(path: str | Path, comparison: Comparison) -> None:
    """Write the page. Raises InvalidFileError where it cannot be written."""
    write_text(path, render(comparison))


def render(comparison: Comparison) -> str:
    """The whole page as text."""
    best = comparison.best
    verdict = (
        "no plan" if best is None or best.solution is None else verdict_in_words(best.solution)
    )
    rows = "".join(
        f"<tr><td>{escape(row.strategy)}</td><td>{format_time(row.value_s)}</td></tr>"
        for row in comparison.rows
        if row.solution is not None
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>cutset</title>'
        f"<h1>{escape(verdict)}</h1><table>{rows}</table></html>\n"
    )
