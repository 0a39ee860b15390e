"""What docs/benchmarks.md shows of each result: its table, and its plot where it has one.

A section stands between `<!-- begin NAME -->` and `<!-- end NAME -->`; the words around are kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import adapt_map
import adapt_plot
import adapt_table
import curves_table
import dag_table
import goals_table
import hysteresis_table
import p2_table
import p3_table
import plots
import ranking_table
import s1_table
import s2_table
import s3_table
import tables

TABLES: Mapping[str, Callable[[tables.Result], str]] = {
    "envelope": tables.envelope,
    "segments": tables.segments,
    "latency": tables.latency,
    "calibration": tables.calibration,
    "runtime": tables.runtime,
    "transport": tables.transport,
    "workers": tables.workers,
    "worker": tables.worker,
    "s2": s2_table.section,
    "s1": s1_table.section,
    "s3": s3_table.section,
    "p2": p2_table.section,
    "dag": dag_table.section,
    "p3": p3_table.section,
    "curves": curves_table.section,
    "ranking": ranking_table.section,
    "adapt": adapt_table.section,
    "hysteresis": hysteresis_table.section,
}
PLOTS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "segments": plots.segments,
    "latency": plots.latency,
    "runtime": plots.runtime,
    "s2": s2_table.plot,
    "s1": s1_table.plot,
    "curves": curves_table.plot,
    "adapt": adapt_plot.plot,
}
#: Pictures of other pages, by file: of which result, and how it is drawn.
PICTURES: Mapping[str, tuple[str, Callable[[Mapping[str, Any]], str]]] = {
    "adaptation-map.svg": ("adapt", adapt_map.plot),
}


def fill(document: str, name: str, result: tables.Result) -> str:
    """The document with section `name` made anew. Raises ValueError without its markers."""
    return _replaced(document, name, f"{tables.origin(result)}\n\n{TABLES[name](result)}")


def fill_goals(document: str, results: Mapping[str, tables.Result]) -> str:
    """The document with the table of goals made anew from all results."""
    return _replaced(document, "goals", goals_table.section(results))


def _replaced(document: str, name: str, content: str) -> str:
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if len(pattern.findall(document)) != 1:
        raise ValueError(f"the document needs {begin} and {end}, once")
    return pattern.sub(lambda _: f"{begin}\n{content}\n{end}", document)
