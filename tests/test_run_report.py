"""What `run --json` says follows from what was recorded."""

from __future__ import annotations

import math

import msgspec
import pytest

from cutset.cluster import Cluster, Device, Link
from cutset.run_report import run_document, verify_document
from cutset.runner import RunRecord
from cutset.runtime.messages import LinkStats, Stats
from cutset.runtime.session import SessionStats
from cutset.serde.plan_file import PlanDocument, StageDocument
from cutset.verify import Comparison

PLAN = PlanDocument(
    schema="cutset/plan/1",
    stages=[StageDocument("s0", "pi", ["a"]), StageDocument("s1", "server", ["b"])],
)
CLUSTER = Cluster(
    (Device("pi", "pi"), Device("server", "server")),
    (Link("pi", "server", 10e6, 0.1),),
    "pi",
    "pi",
)
NO_STATS = SessionStats(0, 0, 0, 0, 0, 0, {})


def test_a_run_without_answers_has_no_latency() -> None:
    record = RunRecord(requests=3, errors={"late": 2, "lost": 1})
    found = run_document(
        record, NO_STATS, None, PLAN, CLUSTER, {}, in_flight=2, emulated=False, rtol=1e-5
    )
    assert (found.requests, found.answered, found.failed) == (3, 0, 3)
    assert found.latency_s is None
    assert found.throughput_per_s is None
    assert found.predicted.latency_s is None
    assert found.emulated == "no"
    assert [(s.name, s.measured_s, s.requests) for s in found.stages] == [
        ("s0", None, 0),
        ("s1", None, 0),
    ]
    assert "latencies_s" not in msgspec.to_builtins(found)


def test_latency_and_throughput_are_those_of_the_contract() -> None:
    record = RunRecord(
        requests=4, latencies_s=[0.1, 0.2, 0.3, 0.4], answered_at_s=[1.0, 2.0, 2.5, 4.0]
    )
    found = run_document(
        record,
        NO_STATS,
        None,
        PLAN,
        CLUSTER,
        {},
        in_flight=1,
        emulated=True,
        rtol=1e-5,
        with_latencies=True,
    )
    assert found.latency_s is not None
    assert found.latency_s.mean == pytest.approx(0.25)
    assert found.throughput_per_s == pytest.approx(3 / 3.0)  # (answered − 1)/(last − first)
    assert found.latencies_s == [0.1, 0.2, 0.3, 0.4]
    assert found.emulated == "process"


def test_verification_is_finite_json() -> None:
    assert verify_document(None, 1e-5) is None
    found = verify_document(Comparison(math.inf, math.inf, False, "y"), 1e-5)
    assert found is not None
    assert (found.equal, found.max_abs, found.max_rel, found.worst_output) == (
        False,
        None,
        None,
        "y",
    )
    close = verify_document(Comparison(1e-7, 1e-6, False, "y"), 1e-5)
    assert close is not None
    assert close.equal
    assert not close.bit_equal


def test_a_links_bandwidth_is_measured_beside_the_stated_one() -> None:
    # Two requests, a tensor of 500 kB each: 0.5 s on the wire and 0.1 s of latency.
    moved = Stats((), (LinkStats("pi>server", 2, 1_000_000, 1.2, 1),), 0)
    stats = SessionStats(2, 2, 0, 0, 1, 0, {"pi": moved})
    record = RunRecord(requests=2, latencies_s=[1.0, 1.0], answered_at_s=[1.0, 2.0])
    found = run_document(
        record, stats, None, PLAN, CLUSTER, {"pi": 7}, in_flight=1, emulated=True, rtol=1e-5
    )
    (link,) = found.links
    assert (link.bytes, link.retries, link.stated_bps) == (500_000, 1, 10e6)
    assert link.measured_s == pytest.approx(0.6)
    assert link.bandwidth_bps == pytest.approx(8e6)
    assert [(m.device, m.predicted_bytes, m.measured_bytes) for m in found.memory] == [
        ("pi", None, 7)
    ]
