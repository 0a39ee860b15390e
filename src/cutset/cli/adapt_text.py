"""What an adaptive run says to a person at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cutset.cli import output, run_text

if TYPE_CHECKING:
    from rich.console import Console

    from cutset.adapt_report import AdaptDocument, StaticReport

#: Switches that are listed; each was told when it happened, and the record has them all.
MOST_LISTED = 12
#: What a cut was in use for so short a time is among the switches, and no row of its own.
LEAST_SHOWN_S = 0.05
#: One factor for a whole segment holds poorly for shorter ones: what is not compute weighs more.
SHOWS_LOAD_WELL_S = 5e-3


def show(console: Console, run: AdaptDocument) -> None:
    """Counts, latencies, which cut when, what looking took, and what adapting saved."""
    from cutset.adapt_report import timeline

    run_text.show_counts(console, run)
    count = len(run.cuts)
    console.print(
        f"policy {run.policy}, {count} cut{'s' * (count != 1)} of {run.device} and {run.server}"
        " loaded"
    )
    known = {*run.left_out, *(cut.name for cut in run.cuts)}
    for name, device in (("local", run.device), ("offload", run.server)):
        if name not in known:
            console.print(f"no cut is all on {device}: it does not fit there, or cannot run there")
    if run.left_out:
        console.print(
            f"left out for memory: {', '.join(run.left_out)}; that costs at most"
            f" {run.worst_loss:.1%} beside all cuts that fit by themselves, under the conditions"
            " that were expected"
        )
    latency = run.latency_s
    if latency is not None:
        parts = ((name, getattr(latency, name)) for name in ("mean", "p50", "p95", "p99"))
        rate = "" if run.throughput_per_s is None else f", {run.throughput_per_s:.3g} requests/s"
        console.print(f"latency: {', '.join(f'{name} {_time(s)}' for name, s in parts)}{rate}")
    spans = timeline(run.switches, run.cut, run.elapsed_s)
    console.print("")
    rows = [
        (
            f"{span.begin_s:.1f} – {span.end_s:.1f} s",
            f"mostly {span.cut} ({span.switches} switches)" if span.switches else span.cut,
        )
        for span in spans
        if len(spans) == 1 or span.end_s - span.begin_s >= LEAST_SHOWN_S
    ]
    output.table(console, ("time", "cut in use"), rows)
    _show_switches(console, run)
    console.print("")
    used = [cut for cut in run.cuts if cut.requests]
    output.table(
        console,
        ("cut", "requests", "if always taken", run.device, run.server, "up", "down"),
        [
            (
                cut.name,
                cut.requests,
                _time(cut.predicted_s),
                _time(cut.device_s),
                _time(cut.server_s),
                _bytes(cut.up_bytes),
                _bytes(cut.down_bytes),
            )
            for cut in used
        ],
    )
    others = len(run.cuts) - len(used)
    if others:
        one = others == 1
        console.print("the other cut was not taken" if one else f"the other {others} cuts were not")
    console.print("")
    _show_observed(console, run)
    _show_saved(console, run)
    if run.answered:
        run_text.show_verify(console, run.verify)


def _show_switches(console: Console, run: AdaptDocument) -> None:
    from cutset.cli.adapt_watch import switch_text

    if not run.switches:
        console.print("no switch")
        return
    console.print("")
    listed = run.switches[:MOST_LISTED]
    console.print(f"{len(run.switches)} switch{'es' * (len(run.switches) > 1)}:")
    for switch in listed:
        console.print(f"  {switch_text(switch)}")
    if len(run.switches) > len(listed):
        console.print(f"  … and {len(run.switches) - len(listed)} more")


def _show_observed(console: Console, run: AdaptDocument) -> None:
    from cutset.units import format_bytes, format_rate

    now = run.observed

    def uncertain(name: str) -> str:
        error = now.errors.get(name)
        return "" if error is None else f" ± {error:.0%}"

    console.print(
        f"at the end: up {format_rate(now.up_bps)}{uncertain('up_bps')}, down"
        f" {format_rate(now.down_bps)}{uncertain('down_bps')}, load {now.load:.2f}"
        f"{uncertain('load')}, device slow-down {now.slowdown:.2f}{uncertain('slowdown')}"
        + (", server lost" if now.lost else "")
    )
    longest_s = max(cut.server_s for cut in run.cuts)
    if 0 < longest_s < SHOWS_LOAD_WELL_S:
        console.print(
            f"the server's longest segment takes {_time(longest_s)}: so short a time shows load"
            " poorly"
        )
    looks = run.looks
    console.print(
        f"looks: up {format_bytes(looks.up_bytes)} ({looks.up_share:.1%} of the link), down"
        f" {format_bytes(looks.down_bytes)} ({looks.down_share:.1%}),"
        f" {_time(looks.server_s)} of the server"
    )
    if run.ignored:
        reasons = ", ".join(f"{count} {reason}" for reason, count in run.ignored.items())
        console.print(f"observations that cannot be, ignored: {reasons}")


def _show_saved(console: Console, run: AdaptDocument) -> None:
    from cutset.adapt_report import saves

    saved = run.saved
    if not saved.requests or saved.measured_s is None:
        console.print("what adapting saved is not known: no request went the devices' way")
        return
    console.print("")
    console.print("what adapting saved, by what was observed:")
    rows = [("adapting, as measured", "", _time(saved.measured_s), "")]
    if saved.by_observed_s is not None:
        rows.append(("adapting, by what was observed", "", _time(saved.by_observed_s), ""))
    for static in saved.statics:
        rows.append((f"always {static.name}", static.cut, _time(static.mean_s), _gain(run, static)))
    output.table(console, ("", "cut", "mean", "adapting saved"), rows)
    nothing = [s.name for s in saved.statics if saves(saved, s) is False]
    if nothing:
        console.print(f"adapting saved nothing over: {', '.join(nothing)}")
    if run.fallbacks:
        console.print(f"what the fallback answered ({run.fallbacks}) is in none of these means")
    if run.in_flight > 1:
        console.print(
            "with several requests in flight the measured mean holds waiting for one another,"
            " which the others leave out"
        )


def _gain(run: AdaptDocument, static: StaticReport) -> str:
    from cutset.adapt_report import saves

    if static.mean_s is None:
        return f"{static.unanswered} requests without an answer"
    gained = saves(run.saved, static)
    if not gained or static.saved is None:
        return "nothing"
    return f"{static.saved:.1%}"


def _time(seconds: float | None) -> str:
    from cutset.units import format_time

    return "–" if seconds is None else format_time(seconds)


def _bytes(count: float) -> str:
    from cutset.units import format_bytes

    return format_bytes(count)
