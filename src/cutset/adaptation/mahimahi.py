"""Link traces of the mahimahi network emulator: when a link could carry a packet.

R. Netravali et al., "Mahimahi: Accurate Record-and-Replay for HTTP", USENIX ATC 2015. A line is
an integer, milliseconds since the trace began; each line is the opportunity to deliver one packet
of 1500 bytes. Lines do not run backwards; a gap between them is a link that carries nothing.
"""

from __future__ import annotations

import io
import math
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal

from cutset.adaptation.conditions import Conditions
from cutset.adaptation.traces import MAX_MOMENTS, Moment, Trace
from cutset.errors import InvalidFileError, UsageError
from cutset.serde.common import read_text

Direction = Literal["up", "down", "both"]

PACKET_BYTES: Final = 1500
MAX_PACKETS: Final = 10_000_000
_DAY_MS: Final = 24 * 3600 * 1000


def read_mahimahi(
    path: str | Path, base: Conditions, *, direction: Direction = "both", bin_s: float = 0.5
) -> Trace:
    """The trace of a mahimahi file; `direction` is what the file is about, `base` says the rest.

    The rate of a bin of `bin_s` seconds is that of its packets, 0 where it has none. The last bin
    takes up what is less than half of one. Raises InvalidFileError, UsageError for a bad bin.
    """
    return parse_mahimahi(read_text(path), base, direction, bin_s, str(path))


def parse_mahimahi(
    data: bytes, base: Conditions, direction: Direction, bin_s: float, file: str
) -> Trace:
    """read_mahimahi, of the file's bytes."""
    if not 0 < bin_s < math.inf:  # false for NaN too
        raise UsageError(
            "the bins of a mahimahi trace last more than 0 seconds",
            field="bin",
            value=f"{bin_s:g} s",
            remedy="give a length such as 500ms",
        )
    packets_ms = _packets_ms(data, file)
    duration_s = packets_ms[-1] / 1000
    if duration_s / bin_s > MAX_MOMENTS:
        raise UsageError(
            f"the mahimahi trace would have more than {MAX_MOMENTS} bins",
            field="bin",
            value=f"{bin_s:g} s",
            remedy=f"take bins of {duration_s / MAX_MOMENTS:.2g} s or more",
        )
    edges_s = [i * bin_s for i in range(max(int(duration_s / bin_s + 0.5), 1))] + [duration_s]
    counts = [0] * (len(edges_s) - 1)
    for packet_ms in packets_ms:  # the last packet is at the end of the last bin
        counts[min(int(packet_ms / (1000 * bin_s)), len(counts) - 1)] += 1
    moments = []
    for begin_s, end_s, count in zip(edges_s[:-1], edges_s[1:], counts, strict=True):
        rate_bps = count * PACKET_BYTES * 8 / (end_s - begin_s)
        moments.append(Moment(begin_s, _with_rate(base, direction, rate_bps)))
    return Trace(Path(file).name, tuple(moments), duration_s)


def _with_rate(base: Conditions, direction: Direction, rate_bps: float) -> Conditions:
    if direction == "up":
        return replace(base, up_bps=rate_bps)
    if direction == "down":
        return replace(base, down_bps=rate_bps)
    return replace(base, up_bps=rate_bps, down_bps=rate_bps)


def _packets_ms(data: bytes, file: str) -> list[int]:
    """The lines' milliseconds, checked. Raises InvalidFileError that names the line."""
    packets_ms: list[int] = []
    last_ms = 0
    for line, text in enumerate(io.BytesIO(data.rstrip()), 1):
        word = text.strip()

        def bad(message: str, remedy: str, line: int = line, word: bytes = word) -> Exception:
            value = word[:80].decode("utf-8", "replace")
            return InvalidFileError(
                message, file=file, field=f"line {line}", value=value, remedy=remedy
            )

        if not word.isdigit():
            raise bad(
                "a mahimahi trace has one integer of 0 or more a line",
                "write the milliseconds at which a packet could pass",
            )
        # By its length first: Python refuses to convert thousands of digits.
        if len(word.lstrip(b"0")) > len(str(_DAY_MS)) or int(word) > _DAY_MS:
            raise bad("the trace is longer than a day", "are the times milliseconds?")
        packet_ms = int(word)
        if packet_ms < last_ms:
            raise bad(
                f"time runs backwards: the line before is at {last_ms} ms",
                "sort the lines, or cut the trace there",
            )
        if line > MAX_PACKETS:
            raise bad(f"more than {MAX_PACKETS} lines", "cut the trace there")
        packets_ms.append(packet_ms)
        last_ms = packet_ms
    if last_ms == 0:
        raise InvalidFileError(
            "the mahimahi trace is at 0 ms all along" if packets_ms else "the file is empty",
            file=file,
            field=f"line {max(len(packets_ms), 1)}",
            remedy="a line for each packet says when it could pass, in milliseconds",
        )
    return packets_ms
