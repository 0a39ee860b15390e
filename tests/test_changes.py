"""Changes as text: what they mean, what they make of a cluster, what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutset.changes import Change, DeviceChange, LinkChange, apply_change, parse_change
from cutset.cluster import Cluster, Device, Link
from cutset.errors import UsageError

CLUSTER = Cluster(
    (Device("pi", "pi"), Device("server", "server"), Device("mid", "mid")),
    (Link("pi", "server", 20e6, 0.003), Link("server", "pi", 20e6, 0.003)),
    "pi",
    "pi",
    default_link=Link("", "", 1e8, 0.0),
)


@pytest.mark.parametrize(
    ("text", "change"),
    [
        ("link:pi>server=5Mbit/s", LinkChange("pi", "server", bandwidth_bps=5e6)),
        ("link:pi>server.latency=10ms", LinkChange("pi", "server", latency_s=0.01)),
        ("link:pi>server=down", LinkChange("pi", "server", up=False)),
        ("link:pi>server=up", LinkChange("pi", "server", up=True)),
        ("device:server.cpu=0.5", DeviceChange("server", cpu_share=0.5)),
        ("device:server.load=3", DeviceChange("server", load=3.0)),
        ("device:server.load=0.5", DeviceChange("server", load=0.5)),
        ("device:pi.egress=40Mbit/s", DeviceChange("pi", egress_bps=40e6)),
        ("device:pi.ingress=40Mbit/s", DeviceChange("pi", ingress_bps=40e6)),
        ("device:a.b=c.cpu=1", DeviceChange("a.b=c", cpu_share=1.0)),
        ("link:a.b>c.d=8", LinkChange("a.b", "c.d", bandwidth_bps=8.0)),
    ],
)
def test_what_a_change_means(text: str, change: Change) -> None:
    assert parse_change(text) == change


@pytest.mark.parametrize(
    "text",
    [
        "",
        "link",
        "link:",
        "link:pi=5Mbit/s",
        "link:>server=5Mbit/s",
        "link:pi>server",
        "link:pi>server=",
        "link:pi>server=0",
        "link:pi>server=fast",
        "link:pi>server.latency=5Mbit/s",
        "device:pi=0.5",
        "device:pi.speed=2",
        "device:pi.cpu=0",
        "device:pi.cpu=1.5",
        "device:pi.cpu=nan",
        "device:pi.cpu=half",
        "device:pi.load=0",
        "device:pi.load=-1",
        "device:pi.load=nan",
        "device:pi.load=inf",
        "device:pi.load=heavy",
        "device:.cpu=0.5",
        "disk:pi=0.5",
    ],
)
def test_what_is_no_change_is_refused_with_a_remedy(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_change(text)
    assert refused.value.remedy
    assert "\n" not in str(refused.value)


def test_a_link_that_carries_nothing_is_down() -> None:
    with pytest.raises(UsageError) as refused:
        parse_change("link:pi>server=0Mbit/s")
    assert refused.value.remedy == "take the link down: link:pi>server=down"


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("device:pi.lod=2", "did you mean load?"),
        ("devise:pi.load=2", "did you mean device?"),
        ("device:sever.load=2", "did you mean server?"),
        ("link:pi>sever=down", "did you mean server?"),
    ],
)
def test_what_was_meant_is_guessed_and_the_option_named(text: str, meant: str) -> None:
    with pytest.raises(UsageError) as refused:
        apply_change(CLUSTER, parse_change(text, "--set"), "--set")
    assert refused.value.field == "--set"
    assert meant in (refused.value.remedy or "")


@given(st.text(max_size=40))
def test_any_text_is_a_change_or_refused(text: str) -> None:
    for prefix in ("", "link:a>b=", "device:d.cpu="):
        try:
            parse_change(prefix + text)
        except UsageError:
            continue


def test_a_cluster_after_a_change() -> None:
    slower = apply_change(CLUSTER, parse_change("link:pi>server=5Mbit/s"))
    assert slower.link("pi", "server") == Link("pi", "server", 5e6, 0.003)
    assert slower.link("server", "pi") == CLUSTER.link("server", "pi")
    listed = apply_change(CLUSTER, parse_change("link:pi>mid.latency=5ms"))
    assert listed.link("pi", "mid") == Link("pi", "mid", 1e8, 0.005)
    assert listed.link("mid", "pi") == Link("mid", "pi", 1e8, 0.0)
    device = apply_change(CLUSTER, parse_change("device:pi.egress=1Mbit/s")).by_name["pi"]
    assert device == replace(CLUSTER.by_name["pi"], egress_bps=1e6)


def test_a_link_that_is_down_is_no_link() -> None:
    down = apply_change(CLUSTER, parse_change("link:pi>mid=down"))
    assert down.link("pi", "mid") is None
    assert {link.name for link in CLUSTER.pairs()} - {link.name for link in down.pairs()} == {
        "pi>mid"
    }


@pytest.mark.parametrize("text", ["link:pi>nope=5Mbit/s", "device:nope.cpu=1", "link:pi>pi=up"])
def test_what_the_cluster_does_not_have_is_named(text: str) -> None:
    with pytest.raises(UsageError, match="no such"):
        apply_change(CLUSTER, parse_change(text))
