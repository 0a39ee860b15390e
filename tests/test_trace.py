"""Traces: what ui.perfetto.dev needs to draw them."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from typing import Any

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from cutset.cluster import Cluster, Device, Link
from cutset.cost import TableCost
from cutset.errors import InfeasibleError
from cutset.graph import Graph, Operator, Tensor
from cutset.plan import Plan, Stage
from cutset.problem import Problem
from cutset.simulation import simulate
from cutset.testing.plans import random_plan
from cutset.testing.problems import random_problem
from cutset.trace import trace_document

Event = dict[str, Any]


def events_of(problem: Problem, plan: Plan, requests: int = 3) -> list[Event]:
    document = trace_document(simulate(problem, plan, requests=requests), problem.cluster)
    events: list[Event] = json.loads(json.dumps(document))["traceEvents"]
    return events


def names_of(events: list[Event]) -> tuple[dict[int, str], dict[tuple[int, int], str]]:
    processes = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
    threads = {
        (e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"
    }
    return processes, threads


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 10**6))
def test_every_trace_can_be_drawn(seed: int) -> None:
    problem = random_problem(seed)
    plan = random_plan(problem, seed)
    try:
        events = events_of(problem, plan)
    except InfeasibleError:
        assume(False)
        raise
    processes, threads = names_of(events)
    assert len(set(processes.values())) == len(processes)
    rows: dict[tuple[int, int], list[Event]] = {}
    for event in events:
        assert event["ts"] >= 0
        if event["ph"] != "M":
            assert (event["pid"], event["tid"]) in threads
            assert event["pid"] in processes
        if event["ph"] == "X":
            assert event["dur"] >= 0
            assert 0 <= event["args"]["request"] < 3
            rows.setdefault((event["pid"], event["tid"]), []).append(event)
    for row in rows.values():  # slices of a track must not overlap, or some are not drawn
        row.sort(key=lambda e: (e["ts"], e["dur"]))
        for a, b in itertools.pairwise(row):
            assert a["ts"] + a["dur"] <= b["ts"] + 1e-6
    starts = {e["id"]: e for e in events if e["ph"] == "s"}
    ends = {e["id"]: e for e in events if e["ph"] == "f"}
    assert starts.keys() == ends.keys()
    assert len(starts) == sum(e["ph"] == "s" for e in events)
    for key, start in starts.items():
        assert start["ts"] <= ends[key]["ts"]
        assert ends[key]["bp"] == "e"
        for event in (start, ends[key]):  # an arrow's end is drawn at a slice around it
            row = rows[event["pid"], event["tid"]]
            assert any(e["ts"] <= event["ts"] <= e["ts"] + e["dur"] for e in row)
    bars = Counter((e["ph"], e["id"]) for e in events if e["ph"] in "be")
    assert bars == {(ph, i): 1 for ph in "be" for i in range(3)}


def split(send_s_per_byte: float = 0.0, overlap: bool = True) -> tuple[Problem, Plan]:
    """x -> one on pi -> t (100 B, 1 s) -> two on server -> y (10 B, 0.1 s) back to pi."""
    tensors = {"x": Tensor("x", 0), "t": Tensor("t", 100), "y": Tensor("y", 10)}
    graph = Graph(
        "pair",
        (Operator("one", "", ("x",), ("t",)), Operator("two", "", ("t",), ("y",))),
        tensors,
        ("x",),
        ("y",),
    )
    pi = Device("pi", "k", egress_bps=800.0, send_s_per_byte=send_s_per_byte, overlap=overlap)
    cluster = Cluster((pi, Device("server", "k")), (), "pi", "pi", default_link=Link("", "", 800.0))
    problem = Problem(graph, cluster, TableCost({"k": {"one": 2.0, "two": 0.5}}))
    return problem, Plan((Stage("s0", "pi", ("one",)), Stage("s1", "server", ("two",))))


def test_a_split_by_hand() -> None:
    events = events_of(*split(), requests=1)
    processes, threads = names_of(events)
    assert list(processes.values()) == ["device pi", "device server", "network", "requests"]
    slices = [
        (processes[e["pid"]], threads[e["pid"], e["tid"]], e["name"], e["ts"], e["dur"])
        for e in events
        if e["ph"] == "X" and e["cat"] != "held"
    ]
    assert sorted(slices, key=lambda s: s[3]) == [
        ("device pi", "compute", "s0", 0.0, 2e6),
        ("network", "link pi>server", "transfer t", 2e6, 1e6),
        ("device server", "compute", "s1", 3e6, 5e5),
        ("network", "link server>pi", "transfer y", 3.5e6, 1e5),
    ]
    arrows = [
        (threads[e["pid"], e["tid"]], e["ph"])
        for e in sorted(events, key=lambda e: (e.get("id", 0), e["ph"] != "s"))
        if e["ph"] in "sf"
    ]
    assert Counter(arrows) == Counter(
        [
            ("compute", "s"),
            ("link pi>server", "f"),
            ("link pi>server", "s"),
            ("compute", "f"),
            ("compute", "s"),
            ("link server>pi", "f"),
        ]
    )


def test_limited_interfaces_and_transfers_work_have_tracks() -> None:
    events = events_of(*split(send_s_per_byte=0.01, overlap=False), requests=1)
    _, threads = names_of(events)
    assert sorted(threads.values()) == [
        "compute",
        "compute",
        "egress pi",
        "held by transfers",
        "in flight",
        "link pi>server",
        "link server>pi",
        "send and receive",
    ]
    (sending,) = [e for e in events if e["ph"] == "X" and e["cat"] == "send"]
    assert (sending["ts"], sending["dur"], sending["args"]["bytes"]) == (2e6, 1e6, 100)
