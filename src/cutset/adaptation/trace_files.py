"""A trace of any file that holds one: a record, a CSV table, a mahimahi link trace."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from cutset.adaptation.conditions import Conditions
from cutset.adaptation.csv_traces import parse_csv
from cutset.adaptation.mahimahi import Direction, parse_mahimahi
from cutset.adaptation.records import parse, trace_of
from cutset.adaptation.traces import Trace
from cutset.errors import InvalidFileError
from cutset.serde.common import read_text

#: The first line of a table: a cell of letters, or a comma.
_TABLE = re.compile(rb"[^\n\[]*(,|[A-Za-z])")
_NUMBER = re.compile(rb"[-+.0-9]")


def read_trace(
    path: str | Path,
    base: Conditions,
    cluster_links: tuple[str, str] = ("pi", "server"),
    *,
    direction: Direction = "both",
    bin_s: float = 0.5,
) -> Trace:
    """The trace of a file, told by what it begins with: `{` a record, a line of column names a
    CSV table, a number a mahimahi trace. `base` is what the file does not state; a record states
    everything. For the others see read_csv and read_mahimahi.

    Raises InvalidFileError, UsageError for a bad `bin_s`.
    """
    data, file = read_text(path), str(path)
    start = data[:1024].removeprefix(codecs.BOM_UTF8).lstrip()
    if start.startswith(b"{"):
        return trace_of(parse(data, file))
    if b"\0" not in start and _TABLE.match(start):
        return parse_csv(data, base, cluster_links, file)
    if _NUMBER.match(start):
        return parse_mahimahi(data, base, direction, bin_s, file)
    first = start.split(b"\n")[0][:80].decode("utf-8", "replace")
    raise InvalidFileError(
        "no trace: neither a record (JSON Lines), nor a CSV table with a line of column names, nor"
        " a mahimahi trace (an integer a line)"
        if data.strip()
        else "the file is empty",
        file=file,
        field="line 1",
        value=first if first.isprintable() and first else None,
        remedy="see docs/formats.md, traces",
    )
