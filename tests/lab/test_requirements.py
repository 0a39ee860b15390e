"""What is missing is named, all of it, before anything is made."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cutset.cluster import Cluster, Device, Link
from cutset.errors import InfeasibleError, UsageError
from cutset.lab.requirements import Machine, check, notes, unavailable
from cutset.lab.state import spec_of

CAPABLE = Machine((), (), memory_limits=True, cores=2, memory_bytes=4 * 10**9)
PAIR = Cluster(
    (Device("pi", "pi", cpu_share=0.25), Device("server", "server")),
    (Link("pi", "server", 20e6, None),),
    "pi",
    "pi",
)


def test_what_fits_is_not_refused() -> None:
    check(spec_of(PAIR), CAPABLE)
    assert unavailable(lambda: CAPABLE) is None
    assert notes(spec_of(PAIR)) == ()


def test_everything_that_is_missing_is_named_with_a_remedy() -> None:
    poor = replace(CAPABLE, lacks=("root", "tc", "htb"))
    with pytest.raises(UsageError, match="root, tc, htb") as refused:
        check(spec_of(PAIR), poor)
    assert "emulates in process" in str(refused.value)
    assert "root, tc, htb" in (unavailable(lambda: poor) or "")


def test_a_latency_needs_the_relay_and_nothing_else_does() -> None:
    machine = replace(CAPABLE, delay_lacks=("TUN/TAP",))
    check(spec_of(PAIR), machine)
    late = replace(PAIR, links=(Link("pi", "server", 20e6, 0.01),))
    with pytest.raises(UsageError, match="TUN/TAP"):
        check(spec_of(late), machine)


def test_memory_limits_need_the_controller() -> None:
    limited = replace(PAIR, devices=(PAIR.devices[0], replace(PAIR.devices[1], memory_bytes=1e9)))
    check(spec_of(limited), CAPABLE)
    with pytest.raises(UsageError, match=r"memory controller.*server"):
        check(spec_of(limited), replace(CAPABLE, memory_limits=False))


def test_shares_and_memory_beyond_the_machine_are_named_together() -> None:
    devices = (
        replace(PAIR.devices[0], memory_bytes=8e9),
        PAIR.devices[1],
        Device("mid", "mid", cpu_share=0.9),
    )
    with pytest.raises(InfeasibleError, match=r"2\.15 cores.*has 2.*'pi' has 8 GB") as refused:
        check(spec_of(replace(PAIR, devices=devices)), CAPABLE)
    assert refused.value.exit_status == 3


def test_fast_links_with_a_latency_are_noted() -> None:
    fast = replace(PAIR, links=(Link("pi", "server", 2e9, 0.01), Link("server", "pi", None, 0.01)))
    (note,) = notes(spec_of(fast))
    assert "pi>server" in note
    assert "server>pi" in note


@pytest.mark.parametrize(
    ("cluster", "field"),
    [
        (replace(PAIR, links=(Link("pi", "server", 5.0, None),)), "links.pi>server.bandwidth"),
        (replace(PAIR, links=(Link("pi", "server", 9e14, None),)), "links.pi>server.bandwidth"),
        (replace(PAIR, links=(Link("pi", "server", 1e6, 1000.0),)), "links.pi>server.latency"),
        (
            replace(PAIR, devices=(replace(PAIR.devices[0], egress_bps=1.0), PAIR.devices[1])),
            "devices.pi.egress",
        ),
        (
            replace(PAIR, devices=(replace(PAIR.devices[0], cpu_share=1e-6), PAIR.devices[1])),
            "lab.pi.cpu",
        ),
    ],
)
def test_numbers_that_the_kernel_cannot_keep_are_refused_by_field(
    cluster: Cluster, field: str
) -> None:
    with pytest.raises(UsageError) as refused:
        check(spec_of(cluster), CAPABLE)
    assert refused.value.field == field


def test_memory_alone_is_not_blamed_on_shares() -> None:
    large = replace(PAIR, devices=(replace(PAIR.devices[0], memory_bytes=8e9), PAIR.devices[1]))
    with pytest.raises(InfeasibleError, match="`memory`") as refused:
        check(spec_of(large), CAPABLE)
    assert "shares" not in str(refused.value)
