"""The record file (JSON Lines): what an adaptive run saw and did, line by line.

The first line is a header, each further one what held from `at_s` on. A run that is killed leaves
whole lines and perhaps a part of one: that part is left out on reading.
"""

from __future__ import annotations

import math
from typing import Final, Literal

import msgspec

from cutset.errors import InvalidFileError, choices
from cutset.serde.common import convert, plain, typed
from cutset.units import check_number

SCHEMA: Final = "cutset/record/1"

#: More cuts than any device and server hold loaded.
MAX_CUTS: Final = 4096

_HEAVIEST: Final = 1e6
_FASTEST_BPS: Final = 1e18


class RecordedCut(msgspec.Struct, frozen=True):
    """A cut that was loaded: what it takes of device, links and server, seconds and bytes.

    `first` is the device of its first stage, which has `operators_first` operators; None where
    the plan has no stages.
    """

    name: str
    device_s: float
    other_s: float
    up_bytes: float
    down_bytes: float
    server_s: float
    uses_server: bool
    up_used: bool
    down_used: bool
    first: str | None = None
    operators_first: int = 0


class RecordHeader(msgspec.Struct, frozen=True, kw_only=True):
    """What was run: the graph, the two devices, how they were emulated, and the cuts."""

    schema: Literal["cutset/record/1"] = SCHEMA
    graph_digest: str
    device: str
    server: str
    emulated: Literal["no", "process", "lab"]
    cuts: tuple[RecordedCut, ...]


class Switch(msgspec.Struct, frozen=True):
    """From `at_s` (seconds since the run began) requests took another cut, and why."""

    at_s: float
    source: str = msgspec.field(name="from")
    target: str = msgspec.field(name="to")
    reason: str = ""


class RecordLine(msgspec.Struct, frozen=True):
    """From `at_s` (seconds since the run began) to the next line: conditions and what was done.

    Rates are bits per second, infinite where nothing limits the link (null in the file). `cut` is
    the one in use, `latency_s` the mean over the `requests` answered since the line before, None
    where there were none. `lost`: the server could not be reached.
    """

    at_s: float
    up_bps: float | None
    down_bps: float | None
    up_latency_s: float
    down_latency_s: float
    load: float
    queue_s: float
    slowdown: float
    lost: bool
    cut: str
    requests: int = 0
    latency_s: float | None = None
    switches: tuple[Switch, ...] = ()


def encode(document: RecordHeader | RecordLine) -> bytes:
    """One line of the file, with its end."""
    return msgspec.json.encode(document) + b"\n"


def parse_record(data: bytes, file: str) -> tuple[RecordHeader, tuple[RecordLine, ...], str]:
    """Header, lines, and a note on what was left out ("" as a rule).

    Raises InvalidFileError that names the line.
    """
    texts = data.split(b"\n")
    partial = texts.pop()  # empty where the file ends with its last line
    if not texts:  # a header alone, without its end
        texts, partial = [partial], b""
    header = _header(texts[0], file)
    names = frozenset(cut.name for cut in header.cuts)
    lines: list[RecordLine] = []
    for number, text in enumerate(texts[1:], 2):
        lines.append(_line(_plain(text, number, file), names, lines, number, file))
    if not partial.strip():
        return header, tuple(lines), ""
    number = len(texts) + 1
    try:
        raw = _plain(partial, number, file)
    except InvalidFileError:
        return header, tuple(lines), f"line {number} was written in part, and is left out"
    return header, (*lines, _line(raw, names, lines, number, file)), ""


def _plain(text: bytes, number: int, file: str) -> object:
    try:
        return plain(text, SCHEMA, file)
    except InvalidFileError as error:
        if error.message == "the file is empty":
            error = InvalidFileError("the line is empty", file=file, remedy="leave it out")
        raise _at_line(error, number) from None


def _header(text: bytes, file: str) -> RecordHeader:
    # JSON of another kind, or one object in many lines:
    if text.strip() and b'"schema"' not in text:
        raise InvalidFileError(
            "no record: its first line states no schema",
            file=file,
            field="line 1",
            remedy=f"take a file of cutset record ({SCHEMA}); other traces are CSV tables and"
            " mahimahi files",
        )
    try:
        header = convert(plain(text, SCHEMA, file), RecordHeader, SCHEMA, file)
        check_header(header)
    except InvalidFileError as error:
        raise _at_line(error, 1).located(file=file) from None
    return header


def _line(
    raw: object, names: frozenset[str], before: list[RecordLine], number: int, file: str
) -> RecordLine:
    try:
        line = typed(raw, RecordLine, file)
        check_line(line, names, before[-1].at_s if before else 0.0)
    except InvalidFileError as error:
        raise _at_line(error, number).located(file=file) from None
    unlimited = {name: math.inf for name in ("up_bps", "down_bps") if getattr(line, name) is None}
    return msgspec.structs.replace(line, **unlimited)


def _at_line(error: InvalidFileError, number: int) -> InvalidFileError:
    """The same error, whose field begins with its line."""
    field = f"line {number}, {error.field}" if error.field else f"line {number}"
    return InvalidFileError(
        error.message, file=error.file, field=field, value=error.value, remedy=error.remedy
    )


def check_header(header: RecordHeader) -> None:
    """Raise InvalidFileError for numbers and names that no run has."""
    if not 0 < len(header.cuts) <= MAX_CUTS:
        raise InvalidFileError(
            f"a record has from 1 to {MAX_CUTS} cuts",
            field="cuts",
            value=len(header.cuts),
            remedy="record the run anew",
        )
    seen: set[str] = set()
    for i, cut in enumerate(header.cuts):
        for name in ("device_s", "other_s", "server_s"):
            check_number(getattr(cut, name), "seconds", field=f"cuts[{i}].{name}")
        for name in ("up_bytes", "down_bytes"):
            check_number(getattr(cut, name), "bytes", field=f"cuts[{i}].{name}")
        check_number(cut.operators_first, "", field=f"cuts[{i}].operators_first")
        if cut.name in seen:
            raise InvalidFileError(
                "two cuts have this name",
                field=f"cuts[{i}].name",
                value=cut.name,
                remedy="rename one",
            )
        seen.add(cut.name)
        if cut.first not in (None, header.device, header.server):
            raise InvalidFileError(
                "no such device",
                field=f"cuts[{i}].first",
                value=cut.first,
                remedy=choices(str(cut.first), (header.device, header.server), "devices"),
            )


def check_line(line: RecordLine, names: frozenset[str], last_s: float) -> None:
    """Raise InvalidFileError for numbers that cannot have been seen, for a cut that is none of
    `names`, and where time runs backwards from the line before, at `last_s`."""
    for name in ("at_s", "up_latency_s", "down_latency_s", "queue_s", "latency_s"):
        if (value := getattr(line, name)) is not None:
            check_number(value, "seconds", field=name)
    for name in ("up_bps", "down_bps"):
        _check_rate(getattr(line, name), name)
    for name in ("load", "slowdown"):
        _check_factor(getattr(line, name), name)
    check_number(line.requests, "", field="requests")
    if line.at_s < last_s:
        raise InvalidFileError(
            f"time runs backwards: the line before is at {last_s:g} s",
            field="at_s",
            value=f"{line.at_s:g} s",
            remedy="put the lines in order of time",
        )
    _check_cut(line.cut, names, "cut")
    for i, switch in enumerate(line.switches):
        check_number(switch.at_s, "seconds", field=f"switches[{i}].at_s")
        _check_cut(switch.source, names, f"switches[{i}].from")
        _check_cut(switch.target, names, f"switches[{i}].to")


def _check_rate(rate_bps: float | None, field: str) -> None:
    """What was estimated may be slower than what may be stated: any rate from 0 on."""
    if rate_bps is not None and not (0 <= rate_bps <= _FASTEST_BPS or rate_bps == math.inf):
        raise InvalidFileError(
            "a rate must be finite and not negative",
            field=field,
            value=f"{rate_bps:g} bit/s",
            remedy=f"write bit/s from 0 to {_FASTEST_BPS:g}, or null where nothing limits it",
        )


def _check_factor(factor: float, field: str) -> None:
    if not 0 <= factor <= _HEAVIEST:
        raise InvalidFileError(
            f"a factor is a number from 0 to {_HEAVIEST:g}",
            field=field,
            value=f"{factor:g}",
            remedy="write how many times as long it takes, such as 3",
        )


def _check_cut(name: str, names: frozenset[str], field: str) -> None:
    if name not in names:
        raise InvalidFileError(
            "the header has no such cut",
            field=field,
            value=name,
            remedy=choices(name, sorted(names)[:20], "cuts"),
        )
