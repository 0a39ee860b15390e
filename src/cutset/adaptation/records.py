"""Records of adaptive runs: written while they run, read back, and replayed as traces."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from cutset.adaptation.conditions import Conditions
from cutset.adaptation.cuts import Cut, Cuts
from cutset.adaptation.traces import MAX_MOMENTS, Trace, trace_of_times
from cutset.errors import InvalidFileError, LocalProtocolError
from cutset.plan import Plan, Stage
from cutset.serde.common import MAX_FILE_BYTES, read_text
from cutset.serde.record_file import (
    RecordedCut,
    RecordHeader,
    RecordLine,
    Switch,
    check_header,
    check_line,
    encode,
    parse_record,
)

__all__ = [
    "Record",
    "RecordHeader",
    "RecordLine",
    "RecordWriter",
    "RecordedCut",
    "Switch",
    "conditions_of",
    "cuts_of",
    "header_of",
    "line_of",
    "read_record",
    "trace_of",
]


@dataclass(frozen=True)
class Record:
    """A record file. `note` says what could not be read of it, "" where all could."""

    file: str
    header: RecordHeader
    lines: tuple[RecordLine, ...]
    note: str = ""

    @property
    def name(self) -> str:
        return Path(self.file).name


def read_record(path: str | Path) -> Record:
    """The record of a file, also of one whose run was killed. Raises InvalidFileError that names
    the line."""
    return parse(read_text(path), str(path))


def parse(data: bytes, file: str) -> Record:
    """read_record, of the file's bytes."""
    header, lines, note = parse_record(data, file)
    return Record(file, header, lines, note)


def header_of(
    cuts: Cuts, graph_digest: str, emulated: Literal["no", "process", "lab"]
) -> RecordHeader:
    """The header of a run with these cuts."""
    return RecordHeader(
        graph_digest=graph_digest,
        device=cuts.device,
        server=cuts.server,
        emulated=emulated,
        cuts=tuple(_recorded(cut) for cut in cuts.cuts),
    )


def _recorded(cut: Cut) -> RecordedCut:
    first = cut.plan.stages[0] if cut.plan.stages else None
    return RecordedCut(
        name=cut.name,
        device_s=cut.device_s,
        other_s=cut.other_s,
        up_bytes=cut.up_bytes,
        down_bytes=cut.down_bytes,
        server_s=cut.server_s,
        uses_server=cut.uses_server,
        up_used=cut.up_used,
        down_used=cut.down_used,
        first=None if first is None else first.device,
        operators_first=0 if first is None else len(first.operators),
    )


def cuts_of(header: RecordHeader) -> Cuts:
    """The recorded cuts, to be compared in replays.

    A record knows on which devices a cut's stages are, and not their operators: the plans stand
    in for those that ran, with stages that name none.
    """
    cuts = tuple(
        Cut(
            name=cut.name,
            plan=Plan(_stages(cut, header), header.graph_digest),
            device_s=cut.device_s,
            other_s=cut.other_s,
            up_bytes=cut.up_bytes,
            down_bytes=cut.down_bytes,
            server_s=cut.server_s,
            uses_server=cut.uses_server,
            up_used=cut.up_used,
            down_used=cut.down_used,
        )
        for cut in header.cuts
    )
    return Cuts(header.device, header.server, cuts)


def _stages(cut: RecordedCut, header: RecordHeader) -> tuple[Stage, ...]:
    if cut.first is None:
        return ()
    if cut.first == header.device:
        devices = (header.device, header.server) if cut.uses_server else (header.device,)
    else:  # from the server back to the device, unless nothing runs there
        devices = (header.server, header.device) if cut.device_s > 0 else (header.server,)
    return tuple(Stage(f"s{i}", device, ()) for i, device in enumerate(devices))


def line_of(
    at_s: float,
    conditions: Conditions,
    cut: str,
    *,
    requests: int = 0,
    latency_s: float | None = None,
    switches: tuple[Switch, ...] = (),
) -> RecordLine:
    """The line of what held from `at_s` (seconds since the run began) on, and was done."""
    return RecordLine(
        at_s=at_s,
        up_bps=conditions.up_bps,
        down_bps=conditions.down_bps,
        up_latency_s=conditions.up_latency_s,
        down_latency_s=conditions.down_latency_s,
        load=conditions.load,
        queue_s=conditions.queue_s,
        slowdown=conditions.slowdown,
        lost=conditions.lost,
        cut=cut,
        requests=requests,
        latency_s=latency_s,
        switches=switches,
    )


def conditions_of(line: RecordLine) -> Conditions:
    """What a line says held."""
    return Conditions(
        up_bps=float("inf") if line.up_bps is None else line.up_bps,
        down_bps=float("inf") if line.down_bps is None else line.down_bps,
        up_latency_s=line.up_latency_s,
        down_latency_s=line.down_latency_s,
        load=line.load,
        queue_s=line.queue_s,
        slowdown=line.slowdown,
        lost=line.lost,
    )


def trace_of(record: Record) -> Trace:
    """What was seen to hold, as a trace in the record's own time.

    The first line holds from 0, the last as long as the one before it. Raises InvalidFileError for
    a record without lines, or with more than a trace has moments.
    """
    if not 0 < len(record.lines) <= MAX_MOMENTS:
        raise InvalidFileError(
            f"the record has {len(record.lines)} lines after its header, and a replay takes from"
            f" 1 to {MAX_MOMENTS}",
            file=record.file,
            remedy="record a longer run" if not record.lines else "record fewer lines",
        )
    return trace_of_times(record.name, {line.at_s: conditions_of(line) for line in record.lines})


class RecordWriter:
    """Writes a record line by line, each at once: a run that is killed leaves what was written.

    A context manager, used by one thread. What could not be read back is refused with
    InvalidFileError, as is a file that exists unless `overwrite`, one that cannot be written, and
    a line that would make the file longer than what is read.
    """

    def __init__(self, path: str | Path, header: RecordHeader, *, overwrite: bool = False) -> None:
        check_header(header)
        self.path = path
        self.header = header
        self._names = frozenset(cut.name for cut in header.cuts)
        self._last_s = 0.0
        self._written_bytes = 0
        # /dev/stdout or a pipe is there already, and nothing in it would be lost.
        fresh = not overwrite and not (os.path.exists(path) and not os.path.isfile(path))
        try:
            self._file = open(path, "xb" if fresh else "wb")  # noqa: SIM115 # closed by close()
        except FileExistsError:
            raise InvalidFileError(
                "the file exists, and a record would replace it",
                file=str(path),
                remedy="name another file, or say that it may be overwritten",
            ) from None
        except (OSError, ValueError) as error:
            raise self._unwritable(error) from None
        try:
            self._append(header)
        except BaseException:
            with contextlib.suppress(OSError):  # a full disk is told again on closing
                self._file.close()
            raise

    def write(self, line: RecordLine) -> None:
        """Raises InvalidFileError; LocalProtocolError after `close`."""
        if self._file.closed:
            raise LocalProtocolError("the record is closed", file=str(self.path))
        try:
            check_line(line, self._names, self._last_s)
        except InvalidFileError as error:
            raise error.located(file=str(self.path)) from None
        self._append(line)
        self._last_s = line.at_s

    def _append(self, document: RecordHeader | RecordLine) -> None:
        data = encode(document)
        if self._written_bytes + len(data) > MAX_FILE_BYTES:
            raise InvalidFileError(
                f"the record would be larger than {MAX_FILE_BYTES} bytes",
                file=str(self.path),
                remedy="go on in another file",
            )
        try:
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            raise self._unwritable(error) from None
        self._written_bytes += len(data)

    def _unwritable(self, error: Exception) -> InvalidFileError:
        return InvalidFileError(
            f"cannot be written: {getattr(error, 'strerror', None) or error}",
            file=str(self.path),
            remedy="check that the folder exists and is writable",
        )

    def close(self) -> None:
        """Safe to call again."""
        try:
            self._file.close()
        except OSError as error:  # a full disk is told again on closing
            raise self._unwritable(error) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
