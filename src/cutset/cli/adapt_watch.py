"""What an adaptive run shows and writes while it runs: a live line, its switches, the record."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cutset.cli import output
from cutset.errors import CutsetError

if TYPE_CHECKING:
    from cutset.adapt_report import Tally
    from cutset.adaptation.cuts import Cuts
    from cutset.adaptation.live import Line
    from cutset.adaptation.policy import Switch as LiveSwitch
    from cutset.adaptation.records import RecordHeader, RecordWriter, Switch

#: How often a line is printed where there is no terminal to write over it.
PLAIN_EVERY_S = 10.0


class Screen:
    """One line that is written over on a terminal's standard error, and lines that stay."""

    def __init__(self) -> None:
        self._live: Any = None
        self._next_s = PLAIN_EVERY_S

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """The live line is there until the end of the context; elsewhere lines are printed."""
        if not sys.stderr.isatty():
            yield
            return
        from rich.live import Live

        from cutset.cli.console import PlainConsole

        console = PlainConsole(stderr=True, markup=False, highlight=False, emoji=False)
        # Standard output is the result's; only what goes to standard error shares the terminal.
        live = Live(console=console, transient=True, auto_refresh=False, redirect_stdout=False)
        with live:
            self._live = live
            try:
                yield
            finally:
                self._live = None

    def stays(self, text: str) -> None:
        """A line that is not written over."""
        live = self._live
        if live is None:
            output.note(text)
        else:
            live.console.print(text)

    def now(self, at_s: float, text: str) -> None:
        """What is at `at_s` seconds from the start."""
        live = self._live
        if live is not None:
            from rich.text import Text

            live.update(Text(text, no_wrap=True, overflow="ellipsis"), refresh=True)
        elif at_s >= self._next_s and not sys.stderr.isatty():
            self._next_s = PLAIN_EVERY_S * (at_s // PLAIN_EVERY_S + 1)
            output.note(text)


@dataclass(frozen=True)
class _Run:
    cuts: Cuts
    writer: RecordWriter | None


class Watch:
    """Hears each second's line (live.Line), from the adapter's thread: shows it, writes it, adds
    it up. It never fails there: what cannot be written is told, and the run goes on."""

    def __init__(self, screen: Screen, *, json_lines: bool = False) -> None:
        self._screen = screen
        self._json_lines = json_lines
        self._lock = threading.Lock()
        self._run: _Run | None = None
        self._early: list[Line] = []
        self._tally: Tally | None = None
        self.refused: OSError | None = None  # why nobody reads standard output any more

    def begin(self, cuts: Cuts, header: RecordHeader, writer: RecordWriter | None) -> None:
        """What lines are about; those that came before are told now."""
        from cutset import adapt_report
        from cutset.serde.record_file import encode

        if self._json_lines:
            output.write_document(encode(header).decode())
        with self._lock:
            self._run = _Run(cuts, writer)
            self._tally = adapt_report.begin(cuts)
            early, self._early = self._early, []
            for line in early:
                self._told(self._run, line)

    @property
    def tally(self) -> Tally:
        """Sums of all lines so far."""
        with self._lock:
            assert self._tally is not None
            return self._tally

    def line(self, line: Line) -> None:
        with self._lock:
            if self._run is None:
                self._early = [*self._early[-3:], line]
            else:
                self._told(self._run, line)

    def check(self) -> None:
        """Raises what standard output was refused with: without a reader, the run is to end."""
        if self.refused is not None:
            raise self.refused

    def close(self) -> None:
        """The record's end; a full disk is told and does no harm."""
        with self._lock:
            run, self._run = self._run, None
        if run is not None and run.writer is not None:
            try:
                run.writer.close()
            except CutsetError as error:
                self._screen.stays(f"the record may lack its end: {error}")

    def _told(self, run: _Run, line: Line) -> None:
        from cutset import adapt_report
        from cutset.adaptation.records import line_of
        from cutset.adaptation.words import line_in_words
        from cutset.serde.record_file import encode

        assert self._tally is not None
        self._tally = adapt_report.add(self._tally, line)
        names = [cut.name for cut in run.cuts.cuts]
        switches = recorded(run.cuts, line.switches)
        written = line_of(
            line.at_s,
            line.believed,
            names[line.cut],
            requests=line.requests,
            latency_s=line.latency_s,
            switches=switches,
        )
        for switch in switches:
            self._screen.stays(switch_text(switch))
        self._screen.now(line.at_s, line_in_words(line, run.cuts))
        if run.writer is not None:
            try:
                run.writer.write(written)
            except CutsetError as error:
                self._screen.stays(f"the record ends here, and the run goes on: {error}")
                with contextlib.suppress(CutsetError):
                    run.writer.close()
                self._run = _Run(run.cuts, None)
        if self._json_lines and self.refused is None:
            try:
                output.write_document(encode(written).decode())
            except OSError as error:
                self.refused = error


def recorded(cuts: Cuts, switches: tuple[LiveSwitch, ...]) -> tuple[Switch, ...]:
    """Switches by the names of cuts."""
    from cutset.adaptation.records import Switch

    return tuple(
        Switch(s.at_s, cuts.cuts[s.before].name, cuts.cuts[s.after].name, s.reason)
        for s in switches
    )


def switch_text(switch: Switch) -> str:
    return f"{switch.at_s:.1f} s  {switch.source} -> {switch.target}  {switch.reason}"
