"""Traces as CSV tables, as people write them: a row states what changes at a time."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from cutset.adaptation.conditions import Conditions
from cutset.adaptation.traces import MAX_MOMENTS, Trace, trace_of_times
from cutset.errors import InvalidFileError, choices, did_you_mean
from cutset.serde.common import read_text
from cutset.units import parse_rate, parse_time

#: Beyond it nothing is meant (as for changes of a cluster).
_HEAVIEST: Final = 1e6

_COLUMNS: Final = (
    "time",
    "link",
    "bandwidth",
    "latency",
    "load",
    "queue",
    "slowdown",
    "lost",
)


def read_csv(
    path: str | Path, base: Conditions, cluster_links: tuple[str, str] = ("pi", "server")
) -> Trace:
    """The trace of a CSV file; `base` holds until a row changes it, `cluster_links` are the names
    of device and server.

    The last row holds as long as the one before it (1 s where it is the only one). Raises
    InvalidFileError that names line and column.
    """
    return parse_csv(read_text(path), base, cluster_links, str(path))


def parse_csv(data: bytes, base: Conditions, cluster_links: tuple[str, str], file: str) -> Trace:
    """read_csv, of the file's bytes."""
    try:
        rows = _rows(data.decode("utf-8-sig"))
        header = next(rows, None)
        if header is None:
            raise InvalidFileError(
                "the file is empty", field="line 1", remedy=f"columns are {', '.join(_COLUMNS)}"
            )
        return _trace(_names(*header), rows, base, cluster_links, Path(file).name)
    except UnicodeDecodeError as error:
        lines = data.count(b"\n", 0, error.start)
        raise InvalidFileError(
            "no UTF-8 text",
            file=file,
            field=f"line {lines + 1}",
            remedy="save it as UTF-8; or is it the right file?",
        ) from None
    except InvalidFileError as error:
        raise error.located(file=file) from None


def _rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """Line numbers and cells of the rows that are not blank."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield reader.line_num, [cell.strip() for cell in row]
    except csv.Error as error:
        raise InvalidFileError(
            f"no CSV: {error}",
            field=f"line {reader.line_num}",
            remedy="separate cells by commas; check the quotes",
        ) from None


def _names(line: int, names: Sequence[str]) -> Sequence[str]:
    """The columns' names, checked."""
    for i, name in enumerate(names):
        where = f"line {line}, column {name or i + 1}"
        if name not in _COLUMNS:
            meant = did_you_mean(name, [c for c in _COLUMNS if c not in names])
            raise InvalidFileError(
                "unknown column" if name else "the column has no name",
                field=where,
                remedy=meant or f"columns are {', '.join(_COLUMNS)}",
            )
        if name in names[:i]:
            raise InvalidFileError(
                "the column is there twice", field=where, remedy="keep one of the two"
            )
    if "time" not in names:
        raise InvalidFileError(
            "the column is missing",
            field=f"line {line}, column time",
            remedy="begin with a line of column names, one of them time (seconds)",
        )
    return names


def _trace(
    names: Sequence[str],
    rows: Iterable[tuple[int, list[str]]],
    base: Conditions,
    cluster_links: tuple[str, str],
    name: str,
) -> Trace:
    by_time: dict[float, Conditions] = {}
    now, last_s = base, 0.0
    for line, cells in rows:
        if len(cells) != len(names):
            raise InvalidFileError(
                f"the row has {len(cells)} cells and the table {len(names)} columns",
                field=f"line {line}",
                remedy="write a cell for each column, an empty one for what stays",
            )
        stated = {column: cell for column, cell in zip(names, cells, strict=True) if cell}
        last_s = _time_s(stated.get("time"), last_s, f"line {line}, column time")
        now = _changed(now, stated, cluster_links, line)
        by_time[last_s] = now  # rows of one time make one moment
        if len(by_time) > MAX_MOMENTS:
            raise InvalidFileError(
                f"a trace has at most {MAX_MOMENTS} moments",
                field=f"line {line}",
                remedy="cut the trace there",
            )
    if not by_time:
        raise InvalidFileError(
            "the table has no rows", field="line 2", remedy="write a row for each change"
        )
    return trace_of_times(name, by_time, base)


def _time_s(cell: str | None, last_s: float, where: str) -> float:
    if cell is None:
        raise InvalidFileError("the time is missing", field=where, remedy="write it in every row")
    at_s = parse_time(cell, field=where)
    if at_s < last_s:
        raise InvalidFileError(
            f"time runs backwards: the row before is at {last_s:g} s",
            field=where,
            value=cell,
            remedy="sort the rows by time",
        )
    return at_s


def _changed(
    now: Conditions, stated: dict[str, str], cluster_links: tuple[str, str], line: int
) -> Conditions:
    """What holds after a row."""
    changes: dict[str, float | bool] = {}
    directions = _directions(stated.get("link"), cluster_links, f"line {line}, column link")
    for column, cell in stated.items():
        where = f"line {line}, column {column}"
        if column == "bandwidth":
            rate_bps = parse_rate(cell, field=where, or_zero=True)
            changes |= {f"{direction}_bps": rate_bps for direction in directions}
        elif column == "latency":
            latency_s = parse_time(cell, field=where)
            changes |= {f"{direction}_latency_s": latency_s for direction in directions}
        elif column in _OTHERS:
            field, parse = _OTHERS[column]
            changes[field] = parse(cell, where)
    return replace(now, **changes)  # type: ignore[arg-type] # each value is of its field's type


def _directions(cell: str | None, cluster_links: tuple[str, str], where: str) -> tuple[str, ...]:
    device, server = cluster_links
    links = {f"{device}>{server}": ("up",), f"{server}>{device}": ("down",), None: ("up", "down")}
    found = links.get(cell)
    if found is None:
        names = [link for link in links if link is not None]
        raise InvalidFileError(
            "no such link",
            field=where,
            value=cell,
            remedy=f"{choices(cell or '', names, 'links')}; an empty cell means both",
        )
    return found


def _factor(cell: str, where: str) -> float:
    """How many times as long something takes: above 0."""
    try:
        factor = float(cell)
    except ValueError:
        factor = math.nan
    if not 0 < factor <= _HEAVIEST or "_" in cell:  # false for NaN too
        raise InvalidFileError(
            f"a factor is a number above 0, at most {_HEAVIEST:g}",
            field=where,
            value=cell,
            remedy="write how many times as long it takes, such as 3; 1 is without load",
        )
    return factor


def _truth(cell: str, where: str) -> bool:
    if cell not in ("0", "1"):
        raise InvalidFileError(
            "neither 0 nor 1",
            field=where,
            value=cell,
            remedy="write 1 where the server cannot be reached, 0 where it can again",
        )
    return cell == "1"


#: Columns that are about no link: the field of Conditions, and what reads it.
_OTHERS: Final[dict[str, tuple[str, Callable[[str, str], float | bool]]]] = {
    "load": ("load", _factor),
    "queue": ("queue_s", lambda cell, where: parse_time(cell, field=where)),
    "slowdown": ("slowdown", _factor),
    "lost": ("lost", _truth),
}
