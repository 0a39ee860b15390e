"""A simulated stream as a trace in Chrome's trace-event format, which ui.perfetto.dev opens.

One process a device, with a track for stages and one for the work of sending and receiving; one
process for the network, with a track a link, and one for each egress and ingress that is limited
or shared; one process in which every request is a bar. Arrows lead from what makes a tensor over
its transfer to what takes it. Format: "Trace Event Format" (Google, 2016); times are microseconds.
"""

from __future__ import annotations

import math
from typing import Any, Final

from cutset.cluster import Cluster
from cutset.errors import UsageError
from cutset.simulation import Simulation, Span

Event = dict[str, Any]

#: About 40 MB of JSON.
MAX_SPANS: Final = 150_000


def trace_document(simulation: Simulation, cluster: Cluster) -> dict[str, Any]:
    """The trace as a JSON document: `{"displayTimeUnit", "traceEvents", "otherData"}`.

    Raises UsageError where it would have more than `MAX_SPANS` slices.
    """
    if simulation.span_count > MAX_SPANS:
        raise UsageError(
            f"a trace of {simulation.span_count} slices is too large to be drawn",
            field="requests",
            value=simulation.requests,
            remedy=f"give at most {MAX_SPANS * simulation.requests // simulation.span_count}",
        )
    tracks = _Tracks(cluster, set(simulation.utilisation))
    events: list[Event] = []
    spans = simulation.spans
    for span in spans:
        at = tracks.of(span)
        if at is None:
            continue
        begin, end = _ns(span.start_s), _ns(span.end_s)
        args: dict[str, Any] = {"request": span.request}
        if span.kind != "stage":
            args["bytes"] = span.bytes
        events.append(
            {
                "ph": "X",
                "name": span.name if span.kind == "stage" else f"{span.kind} {span.name}",
                "cat": span.kind,
                **at,
                "ts": begin / 1000,
                "dur": (end - begin) / 1000,
                "args": args,
            }
        )
        for position in span.sources:
            giver = spans[position]
            origin = tracks.of(giver)
            assert origin is not None  # only what is held beside a link may have no track
            flow = {"name": "tensor", "cat": "flow", "id": len(events)}
            # An arrow begins in the slice around its time, so just before the slice is over.
            leaves = max(_ns(giver.start_s), _ns(giver.end_s) - 1)
            events.append({"ph": "s", **flow, **origin, "ts": leaves / 1000})
            events.append({"ph": "f", "bp": "e", **flow, **at, "ts": begin / 1000})
    for request, (admitted, takes) in enumerate(
        zip(simulation.admitted_s, simulation.latencies_s, strict=True)
    ):
        bar = {"name": f"request {request}", "cat": "request", "id": request, **tracks.requests}
        args = {"request": request, "latency_s": takes}
        events.append({"ph": "b", **bar, "ts": _ns(admitted) / 1000, "args": args})
        events.append({"ph": "e", **bar, "ts": _ns(admitted + takes) / 1000})
    return {
        "displayTimeUnit": "ms",
        "traceEvents": [*tracks.names(), *events],
        "otherData": {
            "latency_s": simulation.latency_s,
            "period_s": simulation.period_s,
            "in_flight": simulation.in_flight,
            "dispatch": simulation.dispatch,
        },
    }


class _Tracks:
    """Numbers of processes and threads, and their names."""

    def __init__(self, cluster: Cluster, resources: set[str]) -> None:
        self._processes: list[str] = []
        self._threads: dict[tuple[str, str], tuple[int, int, str]] = {}  # resource, group -> track
        used = [d for d in cluster.devices if f"device:{d.name}" in resources]
        for device in used:
            pid = self._process(f"device {device.name}")
            resource = f"device:{device.name}"
            self._thread(pid, resource, "stage", "compute")
            if device.send_s_per_byte or device.recv_s_per_byte:
                self._thread(pid, resource, "send", "send and receive")
            if not device.overlap:
                self._thread(pid, resource, "held", "held by transfers")
        pid = self._process("network")
        links = [link.name for link in cluster.pairs() if f"link:{link.name}" in resources]
        for link in links:
            self._thread(pid, f"link:{link}", "transfer", f"link {link}")
        for device in cluster.devices:
            others = [other.name for other in cluster.devices]
            out = sum(f"{device.name}>{other}" in links for other in others)
            into = sum(f"{other}>{device.name}" in links for other in others)
            for side, limit, count in (
                ("egress", device.egress_bps, out),
                ("ingress", device.ingress_bps, into),
            ):
                resource = f"{side}:{device.name}"
                if resource in resources and (math.isfinite(limit) or count > 1):
                    self._thread(pid, resource, "held", f"{side} {device.name}")
        pid = self._process("requests")
        self._thread(pid, "requests", "all", "in flight")
        self.requests = {"pid": pid, "tid": len(self._threads)}

    def _thread(self, pid: int, resource: str, group: str, name: str) -> None:
        # Numbers of threads differ over all processes: some readers look at nothing else.
        self._threads[resource, group] = (pid, len(self._threads) + 1, name)

    def _process(self, name: str) -> int:
        self._processes.append(name)
        return len(self._processes)

    def of(self, span: Span) -> dict[str, int] | None:
        """Where a span is drawn; None for an egress or ingress that a link alone explains."""
        group = "send" if span.kind == "receive" else span.kind
        found = self._threads.get((span.resource, group))
        return None if found is None else {"pid": found[0], "tid": found[1]}

    def names(self) -> list[Event]:
        """The metadata events that name processes and threads and put them in order."""
        events: list[Event] = []

        def add(kind: str, pid: int, tid: int, args: Event) -> None:
            events.append({"ph": "M", "name": kind, "pid": pid, "tid": tid, "ts": 0, "args": args})

        for pid, name in enumerate(self._processes, start=1):
            add("process_name", pid, 0, {"name": name})
            add("process_sort_index", pid, 0, {"sort_index": pid})
        for pid, tid, name in self._threads.values():
            add("thread_name", pid, tid, {"name": name})
            add("thread_sort_index", pid, tid, {"sort_index": tid})
        return events


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
