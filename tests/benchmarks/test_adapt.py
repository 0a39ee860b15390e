"""The pure parts of benchmarks/adapt.py: regret, intervals, steps, the trace, table and plot."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

FOLDER = Path(__file__).parents[2] / "benchmarks"
Load = Callable[[str], ModuleType]


@pytest.fixture(scope="module")
def load() -> Iterator[Load]:
    patch = pytest.MonkeyPatch()
    patch.syspath_prepend(str(FOLDER))
    patch.syspath_prepend(str(Path(__file__).parent))
    try:
        yield importlib.import_module
    finally:
        patch.undo()
        for file in (*FOLDER.glob("*.py"), Path("adapt_example.py")):
            sys.modules.pop(file.stem, None)  # names as common as theirs must not stay


@pytest.fixture(scope="module")
def math(load: Load) -> ModuleType:
    return load("adapt_math")


@pytest.fixture
def result(load: Load) -> Any:
    return load("adapt_example").result(load("adapt_grid"))


def test_regret_is_that_of_the_chosen_cut_against_the_fastest(math: ModuleType) -> None:
    rounds = {0: [1.0, 1.0, 1.0, 1.0], 1: [0.8, 0.8, 0.8, 0.8]}
    assert math.cross_fitted(rounds, 0) == pytest.approx(0.25)
    assert math.cross_fitted(rounds, 1) == 0


def test_regret_takes_the_oracle_from_the_other_rounds(math: ModuleType) -> None:
    # Each half's fastest arm is the other's slowest: who chose by them would have lost.
    rounds = {0: [1.0, 1.0], 1: [0.5, 2.0], 2: [2.0, 0.5]}
    assert math.cross_fitted(rounds, 0) == pytest.approx(-0.5)


@given(seed=st.integers(0, 2**32 - 1))
def test_regret_of_one_of_many_equal_arms_is_none_on_average(math: ModuleType, seed: int) -> None:
    draw = math.np.random.default_rng(seed)
    found = [
        math.cross_fitted({a: draw.normal(1, 0.05, 6).tolist() for a in range(8)}, 0)
        for _ in range(60)
    ]
    # Chosen on the rounds they are compared on, the best of 8 would be about 0.03 faster.
    assert abs(math.np.mean(found)) < 0.02


def test_regret_leaves_out_what_was_lost_or_ran_too_seldom(math: ModuleType) -> None:
    assert math.cross_fitted({0: [1.0, 1.0, 1.0], 1: [0.1, None, None]}, 0) == 0
    assert math.cross_fitted({0: [1.0, 1.0, 1.0], 1: [None, 0.5, 0.5]}, 0) == pytest.approx(1.0)
    assert math.cross_fitted({0: [1.0], 1: [0.5, 0.5]}, 0) is None


def test_reductions_are_by_medians(math: ModuleType) -> None:
    rounds = {0: [0.5, 0.5, 9.0], 1: [1.0, None, 1.0], 2: [None]}
    assert math.reduction(rounds, 0, 1) == pytest.approx(0.5)
    assert math.reduction(rounds, 0, 0) == 0
    assert math.reduction(rounds, 0, 2) is None


@given(values=st.lists(st.floats(-1, 1), min_size=1, max_size=30))
def test_intervals_lie_among_the_values_and_are_repeatable(
    math: ModuleType, values: list[float]
) -> None:
    math.RESAMPLES = 200
    found = math.bootstrap(values)
    assert min(values) - 1e-9 <= found.low <= found.high <= max(values) + 1e-9
    assert found == math.bootstrap(values)


def test_intervals_of_many_are_narrower(math: ModuleType) -> None:
    few, many = (math.bootstrap([0.0, 1.0] * n) for n in (4, 100))
    assert few.mean == many.mean == 0.5
    assert 0 < many.high - many.low < few.high - few.low
    assert many.high - many.low == pytest.approx(2 * 1.96 * 0.5 / 200**0.5, rel=0.15)
    assert math.bootstrap([]) is None


def test_a_step_is_followed_from_the_first_good_cut_that_stays(math: ModuleType) -> None:
    good = [True, False, False, True, False, True, True, True, True]
    sent = list(zip(range(9), good, strict=True))
    assert math.followed(sent, 0.5) == math.Followed(4.5, 4)
    assert math.followed(sent[:8], 0.5) is None  # too few stay
    assert math.followed(sent, 5.0) == math.Followed(0.0, 0)
    assert math.followed([], 0.0) is None


@given(
    good=st.lists(st.booleans(), max_size=20),
    step_s=st.floats(-1, 21),
)
def test_what_follows_a_step_is_good_and_stays(
    math: ModuleType, good: list[bool], step_s: float
) -> None:
    found = math.followed([(float(i), g) for i, g in enumerate(good)], step_s)
    if found is None:
        return
    first = round(step_s + found.after_s)
    assert first >= step_s
    assert all(good[first : first + math.STAYS + 1])
    assert len(good) > first + math.STAYS
    assert first - found.requests == max(0, math.np.ceil(step_s))


def test_steps_are_in_time_by_the_later_of_two_goals(load: Load, math: ModuleType) -> None:
    reached = load("adapt_steps").reached
    assert reached(math.Followed(9.0, 3))
    assert reached(math.Followed(0.9, 30))
    assert not reached(math.Followed(1.1, 4))


def test_good_cuts_cost_hardly_more_than_the_best(math: ModuleType) -> None:
    assert math.good_cuts([1.0, 1.02, 1.04, float("inf")]) == {0, 1}


def test_slow_requests_weigh_more_in_the_mean_over_time(math: ModuleType) -> None:
    assert math.time_mean_s([2.0, 2.0]) == 2
    assert math.time_mean_s([1.0] * 9 + [9.0]) == pytest.approx(5.0)


def test_seconds_without_requests_are_none(math: ModuleType) -> None:
    found = math.by_second([(0.2, 1.0), (0.9, 3.0), (2.0, 5.0), (7.0, 9.0)], 3, max)
    assert found == [3.0, None, 5.0]


def test_only_longer_segments_count_towards_the_error_of_load(math: ModuleType, load: Load) -> None:
    point = load("adapt_example").point("m", 1e6, 2)
    assert math.load_errors(point) == [pytest.approx(0.1)]


def test_summary_tells_where_the_cuts_differ(result: Any) -> None:
    s = result["points"]["summary"]
    points = result["points"]["points"]
    assert s["points"] == len(points) == 24
    assert s["differ"] == sum(p["aware"] != p["oblivious"] for p in points) > 0
    there = s["reduction_where_they_differ"]
    assert 0 < there["low"] <= there["mean"] <= there["high"] <= there["largest"]
    assert abs(s["regret"]["mean"]) < 0.01  # it took the best cut
    assert s["oblivious_regret"]["mean"] > 0.01
    assert s["load_error"] == pytest.approx(0.1)


def test_the_trace_has_whole_competitors_and_the_noise_of_its_rates(load: Load) -> None:
    trace = load("adapt_trace")
    changes = trace.schedule(120.0)
    assert changes == trace.schedule(120.0)
    assert changes[0].at_s == 0
    assert {c.competing for c in changes} == {0, 2, 4}
    assert len({c.up_bps for c in changes}) > 200
    assert all(0.5e6 < rate < 128e6 for c in changes for rate in (c.up_bps, c.down_bps))
    assert trace.at(changes, 0.7).at_s <= 0.7


def test_the_script_lets_only_the_active_policy_observe(load: Load) -> None:
    from cutset.adaptation.conditions import Conditions
    from cutset.adaptation.observations import Asked, RoundTrip, ServerRun, Transfer, Truth
    from cutset.adaptation.policy import Decision

    class Counting:
        def __init__(self, cut: int) -> None:
            self.cut = cut

        def start(self, cuts: object, stated: Conditions, at_s: float) -> tuple[object, ...]:
            return ()

        def step(self, state: tuple[object, ...], observation: object) -> tuple[object, Decision]:
            return (*state, observation), Decision(self.cut, "", Conditions(1.0, 1.0))

    module = load("adapt_script")
    script = module.Script({"a": Counting(1), "b": Counting(2)}, "a")
    policy = module.Steered(script)
    state = policy.start(None, Conditions(1.0, 1.0), 0.0)
    run, asked = ServerRun(1.0, 0, 0.1), Asked(2.0)
    assert policy.step(state, run)[1].cut == policy.step(state, asked)[1].cut == 1
    script.active = "b"
    assert policy.step(state, asked)[1].cut == 2
    script.forced = 7
    assert policy.step(state, asked)[1].cut == 7
    policy.step(state, run)
    assert script.states == {"a": (run, asked), "b": (asked,)}
    assert [s.decision.cut for s in script.sent] == [1, 2, 7]
    assert script.runs == [run, run]
    script.forced, script.truth = None, Conditions(5.0, 5.0)
    policy.step(state, asked)
    assert script.states["b"] == (asked, Truth(2.0, Conditions(5.0, 5.0)), asked)
    script.policies["new"] = Counting(3)  # it has not begun: looks are not for it yet
    for script.forced in (None, 7):  # whoever is asked, looks are the session's
        for name in script.states:
            script.states[name] = ()
        looks = [
            RoundTrip(3.0, 0.01),
            Transfer(3.0, True, 6000, 0.1, look=True),
            ServerRun(3.0, 0, 0.1, look=True),
        ]
        for look in looks:
            policy.step(state, look)
        assert script.states == {"a": tuple(looks), "b": tuple(looks)}


def test_a_slow_device_gains_little_by_following_the_load(load: Load) -> None:
    """It is worse than a loaded server; a faster one is better, and takes over."""
    shares = load("adapt_shares")
    names = ("name", "device_s", "other_s", "up_bytes", "down_bytes", "server_s")
    used = ("uses_server", "up_used", "down_used")
    cuts = {
        "m": [
            dict(zip((*names, *used), row, strict=True))
            for row in (
                ("local", 0.1, 0.0, 0, 0, 0.0, False, False, False),
                ("offload", 0.0, 0.0, 1, 0, 0.02, True, True, False),
            )
        ]
    }
    loads = shares.measured_loads(
        [{"competing": n, "measured_load": k} for n, k in ((0, 1.0), (4, 3.9), (4, 4.1))]
    )
    assert loads == {0: 1.0, 4: 4.0}
    found = {row["share"]: row for row in shares.by_share(cuts, 0.15, loads)}
    # A loaded server takes 80 ms; the device 100, with a share of 0.2 75 and with 0.3 50.
    assert [found[s]["differ"] for s in (0.1, 0.15, 0.2, 0.3)] == [0, 0, 7, 7]
    assert found[0.3]["mean"] == pytest.approx(1 - 50 / 80, abs=1e-3)
    assert found[0.3]["points"] == 14


def test_the_section_states_goals_grid_and_baselines(load: Load, result: Any) -> None:
    text = load("adapt_table").section(result)
    assert "0.15 of a core" in text
    assert "load-oblivious" in text
    assert "| looks, of a link's bits | ≤ 1% | 0.90% | yes |" in text
    assert "| **all** |" in text
    assert "| 0.3 of a core | 20 of 84 | 26.0% | 52.0% |" in text
    assert "| 16 → 1 Mbit/s | 0 of 2 | 0.60, 0.70 | 2.5, 3 | 2 of 2 |" in text
    for table in re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE):
        assert len({line.count("|") for line in table.strip().splitlines()}) == 1


def test_missed_goals_are_marked(load: Load, result: Any) -> None:
    result["count"]["lost"] = 1
    result["steady"]["rows"][0]["switches"] = 2
    result["steps"]["rows"][0]["reached"] = False
    text = load("adapt_table").section(result)
    assert "| requests lost | 0 | 1 | **no** |" in text
    assert "| switches where nothing changes | 0 | 2 | **no** |" in text
    assert "| 1 of 2 steps | **no** |" in text


def test_the_plot_has_a_panel_for_each_model_and_load(load: Load, result: Any) -> None:
    root = ElementTree.fromstring(load("adapt_plot").plot(result))
    words = [e.text for e in root.iter("{http://www.w3.org/2000/svg}text")]
    for model in ("alexnet 224", "vgg16 224"):
        for load_ in (0, 2, 4):
            assert f"{model}, {load_} competing" in words
    numbers = [float(n) for e in root.iter() for k in ("x1", "y1", "cx", "cy") if (n := e.get(k))]
    assert all(
        0 <= n <= max(float(root.get("width", 0)), float(root.get("height", 0))) for n in numbers
    )
