"""What a lab is told for each moment of a trace, and that its links are put back."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutset.adaptation import lab_moments
from cutset.adaptation.conditions import Conditions
from cutset.adaptation.lab_replay import Emulation
from cutset.adaptation.traces import Moment, Trace
from cutset.changes import parse_change
from cutset.errors import RuntimeFault, UsageError
from cutset.lab.competitors import MOST_COMPETITORS, count_for
from cutset.lab.requirements import LEAST_BPS, MOST_BPS
from cutset.lab.state import DeviceSpec, LabSpec, LinkSpec, changed

UP, DOWN = LinkSpec("pi", "server", 20e6, 0.001), LinkSpec("server", "pi", 10e6, 0.002)


def spec(share: float = 1.0, up: LinkSpec = UP, egress_bps: float | None = None) -> LabSpec:
    devices = (
        DeviceSpec("pi", None, egress_bps, None, 0.25),
        DeviceSpec("server", None, None, None, share),
    )
    return LabSpec("pi", devices, (up, DOWN))


def trace(*loads: float) -> Trace:
    moments = tuple(Moment(float(i), Conditions(1e6, 1e6, load=k)) for i, k in enumerate(loads))
    return Trace("t", moments, float(len(loads)))


class FakeLab:
    """Takes changes as the real lab's keeper does."""

    def __init__(self, spec: LabSpec) -> None:
        self.spec, self.told = spec, []

    def set(self, *changes: str) -> None:
        self.told.append(changes)
        for text in changes:
            self.spec = changed(self.spec, parse_change(text))


class FakeLoad:
    def __init__(self) -> None:
        self.counts: list[int] = []

    def set(self, count: int) -> None:
        self.counts.append(count)


rates = st.one_of(st.just(0.0), st.floats(1.0, 1e12))
some = st.builds(
    Conditions,
    rates,
    rates,
    st.floats(0, 1.0),
    st.floats(0, 1.0),
    load=st.floats(1.0, 8.0),
    lost=st.booleans(),
)


@given(st.lists(some, min_size=1, max_size=5), st.booleans())
def test_a_lab_follows_and_is_put_back(moments: list[Conditions], was_up: bool) -> None:
    before = spec(up=msgspec.structs.replace(UP, up=was_up))
    lab, load = FakeLab(before), FakeLoad()
    emulation = Emulation(lab, before, ("pi", "server"), load)
    for held in moments:
        found = emulation.make(held)
        up, down = lab_moments.links_of(lab.spec, "pi", "server")
        assert (up.up, down.up) == (
            held.up_bps > 0 and not held.lost,
            held.down_bps > 0 and not held.lost,
        )
        if up.up:
            assert up.bandwidth_bps == min(max(held.up_bps, LEAST_BPS), MOST_BPS)
            assert up.latency_s == held.up_latency_s
            assert found.up_bps == up.bandwidth_bps
        assert found.lost == (not (up.up and down.up))
        assert load.counts[-1] == count_for(held.load)
    emulation.put_back()
    assert lab.spec.links == before.links
    assert load.counts[-1] == 0


def test_nothing_is_told_where_nothing_changes() -> None:
    lab = FakeLab(spec())
    emulation = Emulation(lab, spec(), ("pi", "server"), FakeLoad())
    emulation.make(Conditions(20e6, 10e6, 0.001, 0.002))
    assert lab.told == []
    emulation.make(Conditions(20e6, 4e6, 0.001, 0.002))
    assert lab.told == [("link:server>pi=4000000.0bit/s",)]


def test_a_link_without_a_limit_gets_the_highest_rate_back() -> None:
    free = msgspec.structs.replace(UP, bandwidth_bps=None)
    slow = msgspec.structs.replace(UP, bandwidth_bps=1e6)
    assert lab_moments.changes((slow, DOWN), (free, DOWN)) == (f"link:pi>server={MOST_BPS!r}bit/s",)


def test_what_holds_is_limited_by_the_device_too() -> None:
    found = lab_moments.truth(spec(egress_bps=5e6), (UP, DOWN), 3.0, 1.5)
    assert found == Conditions(5e6, 10e6, 0.001, 0.002, 3.0, 0.0, 1.5)
    free = msgspec.structs.replace(UP, bandwidth_bps=None)
    assert lab_moments.truth(spec(), (free, DOWN), 1.0, 1.0).up_bps == math.inf


def test_links_are_put_back_also_where_a_competitor_is_gone() -> None:
    class Gone:
        def set(self, count: int) -> None:
            if count == 0:
                raise RuntimeFault("gone")

    lab = FakeLab(spec())
    emulation = Emulation(lab, spec(), ("pi", "server"), Gone())
    emulation.make(Conditions(1e6, 1e6, load=2.0))
    with pytest.raises(RuntimeFault):
        emulation.put_back()
    assert lab.spec == spec()


@pytest.mark.parametrize(
    ("load", "share", "count"),
    [
        *((1.0, 1.0, 0), (0.5, 1.0, 0), (math.nan, 1.0, 0), (1.4, 1.0, 0), (1.6, 1.0, 1)),
        *((3.0, 1.0, 2), (8.0, 1.0, 7), (3.0, 0.5, 5), (3.0, 0.25, 5), (2.0, 0.8, 2)),
    ],
)
def test_competitors_for_a_load(load: float, share: float, count: int) -> None:
    assert count_for(load, share) == count


def test_each_number_of_competitors_is_there_once() -> None:
    assert lab_moments.counts(trace(1.0, 3.0, 1.0, 2.2, 3.1), 1.0) == (0, 1, 2)
    with pytest.raises(UsageError, match=str(MOST_COMPETITORS)):
        lab_moments.counts(trace(1.0, MOST_COMPETITORS + 2.0), 1.0)
    with pytest.raises(UsageError, match="processes"):
        lab_moments.counts(trace(math.inf), 1.0)


def test_loads_are_those_measured() -> None:
    load = FakeLoad()
    emulation = Emulation(FakeLab(spec()), spec(), ("pi", "server"), load)
    emulation.measure((0, 1, 3), lambda: 0.5 * (1 + 0.8 * load.counts[-1]))
    assert emulation.loads == pytest.approx({0: 1.0, 1: 1.8, 3: 3.4})
    assert load.counts[-1] == 0
    assert emulation.make(Conditions(1e6, 1e6, load=4.0)).load == pytest.approx(3.4)
    assert emulation.make(Conditions(1e6, 1e6, load=6.0)).load == 6.0  # not measured


def test_a_failing_run_leaves_its_load_out() -> None:
    load = FakeLoad()
    emulation = Emulation(FakeLab(spec()), spec(), ("pi", "server"), load)

    def run() -> float:
        if load.counts[-1] == 3:
            raise RuntimeFault("too slow")
        return 0.5

    emulation.measure((0, 3), run)
    assert emulation.loads == {0: 1.0}
    assert load.counts[-1] == 0


def test_what_is_left_out_is_told() -> None:
    assert lab_moments.not_emulated(trace(1.0)) == ""
    odd = Conditions(1e6, 1e6, queue_s=0.1, slowdown=2.0)
    told = lab_moments.not_emulated(Trace("t", (Moment(0.0, odd),), 1.0))
    assert "queueing" in told
    assert "slow-down" in told


def test_a_link_that_is_missing_is_named() -> None:
    one_way = msgspec.structs.replace(spec(), links=(UP,))
    with pytest.raises(UsageError, match="server>pi"):
        lab_moments.links_of(one_way, "pi", "server")
