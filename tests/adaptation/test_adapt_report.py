"""Which cut when, and what adapting saved: pure arithmetic on what a run told."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutset import adapt_report
from cutset.adapt_report import Adapted, Span, adapt_document, add, begin, saved, saves, timeline
from cutset.adaptation import probing
from cutset.adaptation.beside import Beside, nothing, of_request
from cutset.adaptation.conditions import Conditions
from cutset.adaptation.cuts import Cut, Cuts
from cutset.adaptation.live import Line
from cutset.adaptation.observer import Observer
from cutset.adaptation.records import Switch
from cutset.plan import Plan, Stage
from cutset.runner import RunRecord
from cutset.runtime.session import SessionStats


def cut(name: str, device_s: float, up_bytes: float, server_s: float, *devices: str) -> Cut:
    remote = "server" in devices
    stages = tuple(Stage(f"s{i}", device, ()) for i, device in enumerate(devices))
    return Cut(name, Plan(stages), device_s, 0.0, up_bytes, 0.0, server_s, remote, remote, False)


CUTS = Cuts(
    "pi",
    "server",
    (
        cut("local", 0.1, 0, 0, "pi"),
        cut("cut 1", 0.02, 10_000, 0.01, "pi", "server"),
        cut("offload", 0.0, 100_000, 0.02, "server"),
    ),
)
FAST = Conditions(8e6, 8e6)  # 0.1, 0.04, 0.12
SLOW = Conditions(0.8e6, 8e6)  # 0.1, 0.13, 1.02
LOST = Conditions(8e6, 8e6, lost=True)


def told(*requests: tuple[Conditions, int]) -> Beside:
    found = nothing(CUTS)
    for conditions, taken in requests:
        found += of_request(CUTS, conditions, taken)
    return found


def test_each_request_is_valued_by_every_cut_as_it_was_answered() -> None:
    beside = told((FAST, 1), (SLOW, 0), (SLOW, 0))
    assert beside.static_s == pytest.approx((0.3, 0.3, 2.16))
    assert [beside.mean_s(i) for i in range(3)] == pytest.approx([0.1, 0.1, 0.72])
    assert (beside.requests, beside.taken, beside.unanswered) == (3, 3, (0, 0, 0))
    assert beside.taken_s == pytest.approx(0.04 + 0.1 + 0.1)


def test_what_could_not_have_been_answered_has_no_mean() -> None:
    beside = told((FAST, 1), (LOST, 0), (LOST, 1))
    assert beside.unanswered == (0, 2, 2)
    assert beside.mean_s(0) == pytest.approx(0.1)
    assert beside.mean_s(1) is None
    assert (beside.taken, beside.taken_s) == (2, pytest.approx(0.14))
    assert nothing(CUTS).mean_s(0) is None


CONDITIONS = st.builds(
    Conditions,
    st.just(0.0) | st.floats(1.0, 1e9),
    st.floats(1e3, 1e9),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0.1, 100),
    st.floats(0, 10),
    st.floats(0.1, 100),
    st.booleans(),
)
REQUESTS = st.lists(st.tuples(CONDITIONS, st.integers(0, 2)), max_size=12)


@given(REQUESTS, REQUESTS)
def test_sums_are_of_parts_and_no_cut_beats_the_best_one(
    first: list[tuple[Conditions, int]], second: list[tuple[Conditions, int]]
) -> None:
    whole, parts = told(*first, *second), told(*first) + told(*second)
    assert whole.requests == parts.requests == len(first) + len(second)
    assert whole.unanswered == parts.unanswered
    assert whole.static_s == pytest.approx(parts.static_s)
    found = saved(whole, CUTS, FAST, 0.05)
    means = {s.name: s.mean_s for s in found.statics}
    if whole.requests:
        known = [m for m in (whole.mean_s(i) for i in range(3)) if m is not None]
        assert means["best static"] == min(known)
        least_s = math.fsum(float(CUTS.values_s(c).min()) for c, _ in (*first, *second))
        if whole.taken == whole.requests:
            assert whole.taken_s >= least_s * (1 - 1e-9)
    else:
        assert "best static" not in means


def test_what_was_saved_is_beside_four_static_cuts() -> None:
    beside = told((FAST, 1), (SLOW, 0))
    found = saved(beside, CUTS, FAST, 0.08)
    assert [(s.name, s.cut) for s in found.statics] == [
        ("local", "local"),
        ("offload", "offload"),
        ("best at the start", "cut 1"),
        ("best static", "cut 1"),
    ]
    assert found.by_observed_s == pytest.approx(0.07)
    local, offload, start, _ = found.statics
    assert (local.saved, offload.saved) == (pytest.approx(0.2), pytest.approx(1 - 0.08 / 0.57))
    assert start.saved == pytest.approx(1 - 0.08 / 0.085)
    assert all(saves(found, s) for s in found.statics)


def test_nothing_is_saved_over_the_cut_that_was_always_taken() -> None:
    beside = told((FAST, 1), (FAST, 1))
    # As measured it seems less; by what was observed it is the same cut, so that it is no saving.
    found = saved(beside, CUTS, FAST, 0.03)
    by_name = {s.name: saves(found, s) for s in found.statics}
    assert by_name == {
        "local": True,
        "offload": True,
        "best at the start": False,
        "best static": False,
    }
    slower = saved(beside, CUTS, FAST, 0.2)
    assert not any(saves(slower, s) for s in slower.statics)


def test_a_cut_that_leaves_requests_without_an_answer_is_always_beaten() -> None:
    found = saved(told((LOST, 0), (FAST, 1)), CUTS, FAST, 0.07)
    offload = next(s for s in found.statics if s.name == "offload")
    assert (offload.mean_s, offload.saved, offload.unanswered) == (None, None, 1)
    assert saves(found, offload)


def test_without_requests_nothing_is_claimed() -> None:
    found = saved(nothing(CUTS), CUTS, FAST, None)
    assert (found.requests, found.measured_s, found.by_observed_s) == (0, None, None)
    assert all(s.saved is None and saves(found, s) is None for s in found.statics)


def test_a_tally_adds_up_lines_and_what_links_could_carry() -> None:
    tally = begin(CUTS)
    for at_s, conditions in ((1.0, FAST), (3.0, SLOW)):
        line = Line(at_s, conditions, 1, 1, 0.05, (), 0.05, told((conditions, 1)))
        tally = add(tally, line)
    assert tally.beside == told((FAST, 1), (SLOW, 1))
    assert (tally.until_s, tally.cut) == (3.0, 1)
    assert tally.up_bits == pytest.approx(8e6 * 1 + 0.8e6 * 2)
    assert adapt_report._share(1_200, tally.up_bits) == pytest.approx(0.001)
    assert adapt_report._share(1_200, 0.0) == 0.0


def test_a_timeline_is_exact_where_it_is_short() -> None:
    assert timeline([], "cut 1", 7.5) == [Span(0.0, 7.5, "cut 1")]
    switches = [Switch(2.0, "cut 1", "local"), Switch(5.0, "local", "cut 1")]
    assert timeline(switches, "cut 1", 7.5) == [
        Span(0.0, 2.0, "cut 1"),
        Span(2.0, 5.0, "local"),
        Span(5.0, 7.5, "cut 1"),
    ]


def test_a_long_timeline_tells_the_cut_that_was_in_use_longest() -> None:
    # Back and forth for 4 s, mostly local, then long quiet.
    switches = []
    for i in range(20):
        switches += [
            Switch(0.2 * i + 0.05, "cut 1", "local"),
            Switch(0.2 * i + 0.2, "local", "cut 1"),
        ]
    assert timeline(switches, "cut 1", 8.0, most=4) == [
        Span(0.0, 4.0, "local", 39),
        Span(4.0, 8.0, "cut 1", 1),
    ]


@given(
    st.lists(
        st.tuples(st.floats(0, 1000), st.sampled_from(["a", "b", "c"])), min_size=1, max_size=60
    ),
    st.floats(0, 2000),
    st.integers(1, 10),
)
def test_a_timeline_covers_the_run_once(
    changes: list[tuple[float, str]], end_s: float, most: int
) -> None:
    names = ["a", *(name for _, name in changes)]
    times = sorted(at_s for at_s, _ in changes)
    switches = [Switch(t, names[i], names[i + 1]) for i, t in enumerate(times)]
    spans = timeline(switches, names[-1], end_s, most)
    assert 1 <= len(spans) <= max(most, 1)
    assert spans[0].begin_s == 0.0
    assert spans[-1].end_s == max(end_s, times[-1])
    assert all(a.end_s == b.begin_s for a, b in itertools.pairwise(spans))
    if len(switches) >= most:
        assert sum(span.switches for span in spans) == len(switches)
        assert all(a.cut != b.cut for a, b in itertools.pairwise(spans))
    else:
        assert [span.cut for span in spans] == names


def test_what_the_fallback_took_is_no_saving_and_no_loss() -> None:
    record = RunRecord(5, [0.04, 0.06, 0.9, 1.1], [0.1, 0.2, 1.2, 2.4], interrupted=True)
    seen = Observer(CUTS).start(FAST, 0.0)
    adapted = Adapted("load-aware", CUTS, (), (2, 2, 0), seen, FAST, probing.start(0.0), (), 0.0)
    stats = SessionStats(5, 4, 0, 2, 0, 0, {})
    line = Line(3.0, FAST, 1, 4, 0.5, (), 0.5, told((FAST, 1), (FAST, 1)), 2, 2.0)
    tally = add(begin(CUTS), line)
    found = adapt_document(
        record, stats, adapted, tally, in_flight=1, emulated="process", rtol=1e-5
    )
    assert found.latency_s is not None
    assert found.latency_s.mean == pytest.approx(0.525)
    assert (found.fallbacks, found.interrupted) == (2, True)
    assert (found.saved.requests, found.saved.measured_s) == (2, pytest.approx(0.05))
    alone = SessionStats(5, 4, 0, 4, 0, 0, {})
    none = adapt_document(record, alone, adapted, begin(CUTS), in_flight=1, emulated="no", rtol=0)
    assert (none.saved.requests, none.saved.measured_s) == (0, None)
