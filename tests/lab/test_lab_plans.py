"""What the lab will be, before anything is made: its state and its commands."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutset.changes import parse_change
from cutset.cluster import Cluster, Device, Link
from cutset.errors import InfeasibleError, UsageError
from cutset.lab import cgroups, commands
from cutset.lab.state import LabSpec, changed, difference, spec_of

CLUSTER = Cluster(
    (
        Device("pi", "pi", egress_bps=40e6, cpu_share=0.25),
        Device("server", "server", memory_bytes=2**30),
        Device("mid", "mid", ingress_bps=30e6),
        Device("far", "far"),
    ),
    (
        Link("pi", "server", 20e6, None),
        Link("server", "pi", 20e6, None),
        Link("pi", "mid", 50e6, 0.01),
        Link("mid", "server", None, None),
    ),
    "pi",
    "pi",
)
SPEC = spec_of(CLUSTER)


def after(*texts: str, spec: LabSpec = SPEC) -> LabSpec:
    for text in texts:
        spec = changed(spec, parse_change(text))
    return spec


def test_a_load_is_refused_with_the_share_as_remedy() -> None:
    with pytest.raises(UsageError, match=r"for simulation.*device:pi\.cpu=SHARE"):
        after("device:pi.load=3")


def test_a_device_without_a_share_counts_one_core() -> None:
    assert [d.cpu_share for d in SPEC.devices] == [0.25, 1.0, 1.0, 1.0]


def test_the_rate_of_a_link_is_the_least_of_link_egress_and_ingress() -> None:
    rates = {link.name: SPEC.rate_bps(link) for link in SPEC.links}
    assert rates == {"pi>server": 20e6, "pi>mid": 30e6, "server>pi": 20e6, "mid>server": None}


def test_unlimited_devices_have_no_shaper() -> None:
    assert commands.egress_lines(SPEC, 3) == []
    assert commands.ingress_lines(SPEC, 0) == []
    assert commands.delay_lines(SPEC, 1) == []
    assert "gso_max_segs 65535" in commands.piece_lines(SPEC, 3)[0]


def test_wire_rates_carry_the_payload_in_full_frames() -> None:
    assert commands.wire_bps(1448e3) == 1514000
    (line,) = [x for x in commands.egress_lines(SPEC, 1) if " class add" in f" {x}"]
    assert f"rate {commands.wire_bps(20e6)}bit" in line


def test_grants_below_an_egress_add_up_to_no_more_than_it() -> None:
    lines = [x for x in commands.egress_lines(SPEC, 0) if x.startswith("class add")]

    def number(line: str, word: str) -> int:
        return int(line.split(f"{word} ")[1].split("bit")[0])

    total = number(next(x for x in lines if "classid 1:1 " in x), "rate")
    inner = [x for x in lines if "parent 1:1 " in x]
    assert len(inner) == 3  # two links, and the rest
    assert sum(number(x, "rate") for x in inner) <= total + len(inner)
    assert number(next(x for x in inner if "classid 1:11 " in x), "ceil") == commands.wire_bps(20e6)


def test_who_cannot_talk() -> None:
    # The source reaches everyone, to deploy; a link one way lets TCP's answers pass.
    assert commands.unreachable(SPEC, 0) == []
    assert commands.unreachable(SPEC, 1) == [3]
    assert commands.unreachable(SPEC, 3) == [1, 2]
    down = after("link:pi>server=down")
    assert commands.unreachable(down, 0) == [1]
    assert commands.unreachable(down, 1) == [3]
    assert commands.route_change_lines(SPEC, down, 0) == ["route add blackhole 10.77.0.2/32"]
    assert commands.route_change_lines(down, after("link:pi>server=up", spec=down), 0) == [
        "route del blackhole 10.77.0.2/32"
    ]


def test_a_change_of_rate_keeps_the_queues() -> None:
    slower = after("link:pi>server=5Mbit/s")
    lines = commands.egress_change_lines(SPEC, slower, 0)
    assert lines
    assert all(x.startswith(("class change", "qdisc change")) for x in lines)
    assert commands.egress_change_lines(SPEC, SPEC, 0) == []
    assert commands.egress_change_lines(SPEC, slower, 1) == []


def test_a_first_or_last_limit_builds_the_shaper_anew() -> None:
    limited = after("link:mid>server=5Mbit/s")
    assert commands.egress_change_lines(SPEC, limited, 2) == commands.egress_lines(limited, 2)
    assert commands.egress_change_lines(limited, SPEC, 2) == ["qdisc del dev eth0 root"]
    ingress = after("device:far.ingress=1Mbit/s")
    assert commands.ingress_change_lines(SPEC, ingress, 3) == commands.ingress_lines(ingress, 3)
    assert commands.ingress_change_lines(ingress, ingress, 3) == []
    faster = after("device:far.ingress=2Gbit/s", spec=ingress)
    assert all("change" in x for x in commands.ingress_change_lines(ingress, faster, 3))


def test_latencies_lead_to_the_relay() -> None:
    assert len(commands.delay_lines(SPEC, 0)) == 2
    none = after("link:pi>mid.latency=0s")
    assert commands.delay_change_lines(SPEC, none, 0) == ["qdisc del dev d0 ingress"]
    assert commands.delay_change_lines(SPEC, after("link:pi>mid.latency=1ms"), 0) == []


def test_a_link_that_comes_up_again_has_its_numbers() -> None:
    down = after("link:pi>mid=down", "device:pi.egress=1Mbit/s")
    link = down.link("pi", "mid")
    assert link is not None
    assert not link.up
    up = after("link:pi>mid=up", "device:pi.egress=40Mbit/s", spec=down)
    assert up == SPEC
    slower = after("link:pi>mid=5Mbit/s", spec=down).link("pi", "mid")
    assert slower == msgspec.structs.replace(link, bandwidth_bps=5e6)


def test_a_lab_is_known_again_and_a_difference_is_named() -> None:
    assert difference(SPEC, spec_of(CLUSTER)) is None
    assert "egress" in (difference(after("device:pi.egress=1Mbit/s"), SPEC) or "")
    assert "mid>server" in (difference(after("link:mid>server=1Mbit/s"), SPEC) or "")
    fewer = spec_of(replace(CLUSTER, links=CLUSTER.links[:-1]))
    assert "mid>server" in (difference(SPEC, fewer) or "")
    assert "mid>server" in (difference(fewer, SPEC) or "")
    other = spec_of(replace(CLUSTER, source="server"))
    assert "source" in (difference(SPEC, other) or "")


def test_what_is_not_in_the_lab_is_named() -> None:
    with pytest.raises(UsageError, match="no such link"):
        after("link:far>mid=1Mbit/s")
    with pytest.raises(UsageError, match="no such device"):
        SPEC.index("nope")


def test_addresses_are_distinct_and_bounded() -> None:
    many = Cluster(tuple(Device(f"x{i}", "x") for i in range(201)), (), "x0", "x0")
    assert len({commands.address(i) for i in range(200)}) == 200
    with pytest.raises(InfeasibleError, match="200"):
        spec_of(many)


@given(st.floats(min_value=0.001, max_value=1.0))
def test_a_guard_leaves_pacing_room_and_is_what_the_kernel_takes(share: float) -> None:
    quota, period = cgroups.quota_us(share)
    assert quota >= 1000
    assert period <= 1_000_000
    assert quota / period == pytest.approx(min(1.0, 2 * share), rel=0.01)


def test_a_memory_limit_leaves_room_for_the_process() -> None:
    assert cgroups.memory_limit(SPEC.devices[0]) is None
    assert cgroups.memory_limit(SPEC.devices[1]) == 2**30 + cgroups.ALLOWANCE_BYTES
