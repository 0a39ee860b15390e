"""The timeline of adaptation: well-formed, escaped, small, and says what happened."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from cutset.adaptation.conditions import Conditions
from cutset.adaptation.policy import Switch
from cutset.adaptation.simulated import Played, Request
from cutset.adaptation.traces import Moment, Trace
from cutset.page.adaptation_drawing import Dot, Track, draw_adaptation, track_of
from cutset.page.strips import log_of

HOSTILE = "</title><script>alert('x')</script>&\"\u202e\x1b[31m"
SEEN = Conditions(1e6, 2e6, load=1.5)
SVG = "{http://www.w3.org/2000/svg}"


def track(policy: str = "load-aware", count: int = 20) -> Track:
    dots = tuple(
        Dot(float(i), "ab"[i % 2], None if i == 3 else 0.1 + i / 100) for i in range(count)
    )
    return Track(policy, dots, tuple((d.at_s, SEEN) for d in dots), ((4.0, "a → b: load"),))


def texts(svg: str) -> list[str]:
    return [e.text or "" for e in ET.fromstring(svg).iter(f"{SVG}text")]


def test_all_that_happened_is_there() -> None:
    held = Trace("t", (Moment(0.0, SEEN), Moment(5.0, Conditions(0.0, 1e6, lost=True))), 20.0)
    svg = draw_adaptation(
        "simulated: t", ("a", "b", "unused"), (track(), track("local")), 20.0, held
    )
    said = texts(svg)
    assert {"bandwidth", "load k", "latency", "load-aware", "local", "a", "b"} <= set(said)
    assert "unused" not in said
    assert said.count("×") == 2
    about = [e.text for e in ET.fromstring(svg).iter(f"{SVG}title")]
    assert about.count("a → b: load") == 2
    assert "server lost" in about
    assert "up: held" in said


def test_a_live_run_has_no_truth() -> None:
    svg = draw_adaptation("run", ("a", "b"), (track(),), 20.0)
    said = " ".join(texts(svg))
    assert "believed by load-aware" in said
    assert "held" not in said


def test_every_name_is_escaped() -> None:
    dots = (Dot(0.0, HOSTILE, 0.1),)
    own = Track(HOSTILE, dots, ((0.0, SEEN),), ((0.0, HOSTILE),))
    svg = draw_adaptation(HOSTILE, (HOSTILE,), (own,), 1.0)
    assert "<script" not in svg
    assert "\u202e" not in svg
    assert "\x1b" not in svg
    assert not list(ET.fromstring(svg).iter(f"{SVG}script"))


def test_many_requests_are_a_small_picture() -> None:
    many = track(count=50_000)
    held = Trace("t", tuple(Moment(float(i), SEEN) for i in range(50_000)), 50_000.0)
    assert len(draw_adaptation("t", ("a", "b"), (many,), 50_000.0, held)) < 500_000
    steady = Track("p", tuple(Dot(float(i), "a", 0.1) for i in range(50_000)), many.believed, ())
    assert len(draw_adaptation("t", ("a",), (steady,), 50_000.0, held)) < 100_000


def test_a_played_policy_becomes_a_track() -> None:
    requests = (
        Request(0.0, 0, 0.1, 0.1, False, SEEN),
        Request(0.1, 1, float("inf"), 0.1, False, SEEN),
    )
    found = track_of(
        Played("p", requests, (Switch(0.1, 0, 1, "load 1.0 -> 2.0"),), 1.0), ("a", "b")
    )
    assert found.dots == (Dot(0.0, "a", 0.1), Dot(0.1, "b", None))
    assert found.switches == ((0.1, "a → b: load 1.0 -> 2.0"),)


numbers = st.sampled_from((0.0, 1e-3, 1.0, 3e6, 1e12, float("inf")))


@given(
    st.lists(st.tuples(numbers, numbers, st.booleans()), max_size=5),
    st.lists(st.one_of(st.none(), st.floats(0.0, 1e6)), max_size=5),
    st.floats(1e-3, 1e5),
)
def test_whatever_happened_can_be_drawn(
    held: list[tuple[float, float, bool]], latencies: list[float | None], duration_s: float
) -> None:
    seen = tuple((float(i), Conditions(u, d, load=2.0, lost=x)) for i, (u, d, x) in enumerate(held))
    own = Track("p", tuple(Dot(float(i), "a", v) for i, v in enumerate(latencies)), seen, ())
    svg = draw_adaptation("t", ("a",), (own,), duration_s)
    ET.fromstring(svg)
    assert not re.search(r"\b(nan|inf)\b", svg)


@given(st.lists(st.floats(1e-9, 1e18), min_size=1, max_size=5))
def test_a_logarithmic_axis_keeps_order_and_its_strip(values: list[float]) -> None:
    y = log_of(values, 10.0, 100.0)
    heights = [y(v) for v in sorted(values)]
    assert heights == sorted(heights, reverse=True)
    assert all(10.0 <= h <= 110.0 for h in heights)
    assert y(0.0) == 110.0
    assert len(y.marks) <= 7
