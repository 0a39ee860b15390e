"""What `run --json` says follows from what was recorded."""

from __future__ import annotations

import math
from dataclasses import replace

import msgspec
import pytest

from cutset.cluster import Cluster, Device, Link
from cutset.problem import Estimate
from cutset.run_report import RunDocument, run_document, verify_document
from cutset.runner import RunRecord
from cutset.runtime.messages import LinkStats, StageStats, Stats
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
    moved = Stats((), (LinkStats("pi>server", 2, 1_000_000, 1.2, 1, 1.0),), 0)
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


ESTIMATE = Estimate(
    0.9,
    0.4,
    {"pi": 1},
    {
        "device:pi": 0.1,
        "device:server": 0.2,
        "link:pi>server": 0.4,
        "egress:pi": 0.4,
        "ingress:server": 0.4,
    },
    "link:pi>server",
)


def report(stats: SessionStats, in_flight: int) -> RunDocument:
    record = RunRecord(requests=2, latencies_s=[1.0, 1.0], answered_at_s=[1.0, 2.0])
    return run_document(
        record,
        stats,
        ESTIMATE,
        PLAN,
        CLUSTER,
        {},
        in_flight=in_flight,
        emulated=True,
        rtol=1e-5,
    )


def test_bottleneck_and_disagreement_are_named() -> None:
    pi = Stats(
        (StageStats("s0", 2, 0.2, 0.0),),
        # Both under way at once: 1.9 s in all, and the link held for 1.2 s.
        (LinkStats("pi>server", 2, 1_000_000, 1.9, 0, 1.2),),
        0,
        1.2,
    )
    server = Stats((StageStats("s1", 2, 0.42, 0.0),), (), 0)
    found = report(SessionStats(2, 2, 0, 0, 0, 0, {"pi": pi, "server": server}), 2)
    (link,) = found.links
    assert (link.busy_predicted_s, link.busy_s) == (0.4, pytest.approx(0.6))
    assert found.bottleneck.predicted == found.bottleneck.measured == "link:pi>server"
    assert found.bottleneck.measured_s == pytest.approx(0.6)
    assert found.disagreement is not None
    assert found.disagreement.name == "link pi>server"
    assert found.disagreement.reason == "it carried 6.67 Mbit/s, planned with 10 Mbit/s"
    busy = {b.resource: b.measured_s for b in found.busy}
    assert busy["device:server"] == pytest.approx(0.21)
    assert busy["egress:pi"] == busy["ingress:server"] == pytest.approx(0.6)


def test_a_lost_devices_rows_say_so() -> None:
    pi = Stats((StageStats("s0", 2, 0.2, 0.0),), (), 0)
    found = report(SessionStats(2, 0, 2, 0, 0, 0, {"pi": pi}), 2)
    assert [(s.name, s.lost) for s in found.stages] == [("s0", False), ("s1", True)]
    assert {b.resource for b in found.busy if b.lost} == {
        "device:server",
        "ingress:server",
        "link:pi>server",
    }
    without_pi = report(SessionStats(2, 0, 2, 0, 0, 0, {}), 2)
    assert [(x.name, x.lost) for x in without_pi.links] == [("pi>server", True)]


def test_means_over_requests_that_went_elsewhere_are_not_compared() -> None:
    pi = Stats(
        (StageStats("s0", 2, 0.2, 0.0),), (LinkStats("pi>server", 1, 500_000, 0.6, 0, 0.6),), 0
    )
    stats = SessionStats(2, 2, 0, 1, 0, 0, {"pi": pi})
    assert report(stats, 1).disagreement is None
    assert report(replace(stats, fallbacks=0), 1).disagreement is not None
