"""The subset that is held, against every subset; its worst loss, against many points."""

import itertools
import math
from collections.abc import Iterable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutset.adaptation.choosing import CLOSED, Chosen, choose_cuts, hull_cuts
from cutset.adaptation.conditions import Conditions
from cutset.adaptation.cuts import Cut, Cuts
from cutset.adaptation.ranges import Interval, Range, expected_range
from cutset.adaptation.subsets import Room, least_loss, least_mean
from cutset.adaptation.worst_case import losses, worst_points
from cutset.errors import InfeasibleError, UsageError
from cutset.plan import Plan, Stage
from cutset.problem import Problem
from cutset.testing import graphs

EXPECTED = expected_range(Conditions(20e6, 20e6, 0.003, 0.003))


def cuts_of(name: str, operators: int, seed: int) -> Cuts:
    graph, cost = graphs.GENERATORS[name](operators, seed)
    return hull_cuts(Problem(graph, graphs.two_devices(), cost))


def total_bytes(cuts: Cuts) -> dict[str, int]:
    return {d: sum(c.memory_bytes.get(d, 0) for c in cuts.cuts) for d in ("pi", "server")}


def share_of(cuts: Cuts, share: float) -> dict[str, float]:
    return {d: total * share for d, total in total_bytes(cuts).items()}


def fits(cuts: Cuts, held: Iterable[int], memory_bytes: dict[str, float]) -> bool:
    held = tuple(held)
    return all(
        sum(cuts.cuts[i].memory_bytes.get(d, 0) for i in held) <= limit
        for d, limit in memory_bytes.items()
    )


def subsets(cuts: Cuts, memory_bytes: dict[str, float]) -> list[tuple[int, ...]]:
    """All that may be held."""
    count = len(cuts.cuts)
    local = cuts.local
    must = {local} if local is not None and fits(cuts, (local,), memory_bytes) else set()
    return [
        held
        for size in range(1, count + 1)
        for held in itertools.combinations(range(count), size)
        if must <= set(held) and fits(cuts, held, memory_bytes)
    ]


def worst_at_points(cuts: Cuts, held: Sequence[int], points: Sequence[Conditions]) -> float:
    worst = 0.0
    for at in points:
        values = cuts.values_s(at)
        worst = max(worst, values[list(held)].min() / values.min() - 1)
    return worst


def points_in(expected: Range, count: int, seed: int) -> list[Conditions]:
    """Some of them at the ends of their intervals."""
    rng = np.random.default_rng(seed)

    def draw(interval: Interval) -> float:
        low, high = interval
        kind = rng.integers(0, 4)
        if kind < 2:
            return interval[kind]
        return min(max(float(np.exp(rng.uniform(np.log(max(low, 1e-6)), np.log(high)))), low), high)

    return [
        expected.at(
            draw(expected.up_bps),
            draw(expected.down_bps),
            draw(expected.load),
            draw(expected.queue_s),
            draw(expected.slowdown),
        )
        for _ in range(count)
    ]


def few(cuts: Cuts, count: int) -> Cuts:
    """Local, offload, and some between."""
    inner = cuts.cuts[1:-1][: count - 2]
    return Cuts(cuts.device, cuts.server, (cuts.cuts[0], *inner, cuts.cuts[-1]))


@given(
    st.sampled_from(sorted(graphs.GENERATORS)),
    st.integers(0, 10**6),
    st.floats(0.1, 0.9),
    st.floats(0.1, 0.9),
)
@settings(max_examples=12, deadline=None)
def test_equals_the_best_of_all_subsets(name: str, seed: int, near: float, far: float) -> None:
    cuts = few(cuts_of(name, 14, seed), 7)
    total = total_bytes(cuts)
    memory_bytes = {"pi": total["pi"] * near, "server": total["server"] * far}
    allowed = subsets(cuts, memory_bytes)
    if not allowed:
        with pytest.raises(InfeasibleError):
            choose_cuts(cuts, memory_bytes, EXPECTED)
        return
    chosen = choose_cuts(cuts, memory_bytes, EXPECTED)
    assert chosen.held in allowed
    assert chosen.bound <= chosen.worst_loss <= chosen.bound + CLOSED
    least = math.inf
    for held in allowed:
        found = worst_points(cuts, held, EXPECTED, 0.0)
        least = min(least, found[0][0] if found else 0.0)
    assert chosen.worst_loss == pytest.approx(least, rel=1e-6, abs=2 * CLOSED)


@pytest.mark.parametrize("name", sorted(graphs.GENERATORS))
def test_no_point_of_the_range_is_worse_than_stated(name: str) -> None:
    cuts = cuts_of(name, 16, 5)
    chosen = choose_cuts(cuts, share_of(cuts, 0.25), EXPECTED)
    assert worst_at_points(cuts, chosen.held, points_in(EXPECTED, 1500, 1)) <= (
        chosen.worst_loss * (1 + 1e-6) + 1e-8
    )
    assert worst_at_points(cuts, chosen.held, EXPECTED.grid()) <= chosen.worst_loss + 1e-6
    if chosen.worst_at is not None:  # and it is lost where it says so
        assert EXPECTED.contains(chosen.worst_at)
        there = worst_at_points(cuts, chosen.held, [chosen.worst_at])
        assert there == pytest.approx(chosen.worst_loss, rel=1e-5)


def test_the_worst_point_lies_between_those_of_a_grid() -> None:
    cuts = few(cuts_of("chain", 30, 1), 8)
    held = (0, len(cuts.cuts) - 1)
    loss, at = worst_points(cuts, held, EXPECTED)[0]
    ends = [
        EXPECTED.at(*values)
        for values in itertools.product(
            EXPECTED.up_bps, EXPECTED.down_bps, EXPECTED.load, EXPECTED.queue_s, EXPECTED.slowdown
        )
    ]
    assert loss > worst_at_points(cuts, held, ends) + 1e-3
    assert loss == pytest.approx(worst_at_points(cuts, held, [at]), rel=1e-6)
    assert worst_points(cuts, range(len(cuts.cuts)), EXPECTED) == []


def test_all_are_held_where_they_fit_together() -> None:
    cuts = cuts_of("chain", 20, 1)
    everything = tuple(range(len(cuts.cuts)))
    for memory_bytes in ({}, {"server": math.inf}, dict(total_bytes(cuts))):
        chosen = choose_cuts(cuts, memory_bytes, EXPECTED)
        assert chosen == Chosen(cuts, everything, (), 0.0, None, EXPECTED)
        assert chosen.held_cuts == cuts
    short = total_bytes(cuts)
    chosen = choose_cuts(cuts, {**short, "pi": short["pi"] - 1}, EXPECTED)
    assert chosen.left_out
    assert fits(cuts, chosen.held, {**short, "pi": short["pi"] - 1})
    assert len(chosen.held) + len(chosen.left_out) == len(cuts.cuts)
    assert [c.name for c in chosen.held_cuts.cuts] == [cuts.cuts[i].name for i in chosen.held]


def test_no_more_are_held_than_asked_for() -> None:
    cuts = cuts_of("series_parallel", 30, 2)
    worst = []
    for most in (1, 2, 3, 5):
        chosen = choose_cuts(cuts, {}, EXPECTED, most=most)
        assert len(chosen.held) <= most
        worst.append(chosen.worst_loss)
    assert worst == sorted(worst, reverse=True)
    assert choose_cuts(cuts, {}, EXPECTED, most=1).held == (cuts.local,)
    with pytest.raises(UsageError, match="at least one"):
        choose_cuts(cuts, {}, EXPECTED, most=0)


def made(
    name: str, server_s: float, up_bytes: float, pi: int, server: int, device_s: float = 0.0
) -> Cut:
    stages = [("pi", pi), ("server", server)]
    plan = Plan(tuple(Stage(f"s{i}", d, ("o",)) for i, (d, n) in enumerate(stages) if n))
    return Cut(
        name,
        plan,
        device_s,
        0.0,
        up_bytes,
        0.0,
        server_s,
        server > 0,
        up_bytes > 0,
        False,
        {d: n for d, n in stages if n},
    )


LOCAL = made("local", 0.0, 0, 10, 0, device_s=1.0)
OFFLOAD = made("offload", 0.1, 100_000, 0, 10)
MIDDLE = made("cut 1", 0.2, 20_000, 5, 5, device_s=0.3)


def test_the_local_cut_is_held_where_it_fits() -> None:
    cuts = Cuts("pi", "server", (LOCAL, MIDDLE, OFFLOAD))
    narrow = Range(Interval(1e9, 1e9), Interval(1e9, 1e9))  # offload is best by far
    chosen = choose_cuts(cuts, {"pi": 10, "server": 10}, narrow)
    assert chosen.held == (0, 2)
    assert chosen.left_out == ("cut 1",)
    assert chosen.worst_loss == pytest.approx(0.0, abs=1e-9)
    alone = choose_cuts(cuts, {"pi": 10, "server": 9}, narrow)
    assert alone.held == (0,)
    assert alone.worst_loss == pytest.approx(1.0 / 0.1008 - 1, rel=1e-6)
    assert choose_cuts(cuts, {"pi": 9, "server": 10}, narrow).held == (2,)


def test_of_equal_subsets_the_smaller_mean_then_fewer_bytes_then_the_earlier() -> None:
    def chosen(*cuts: Cut) -> tuple[int, ...]:
        table = Cuts("pi", "server", cuts)
        span = Range(Interval(1e5, 1e9), Interval(1e6, 1e6))
        return choose_cuts(table, {"pi": 30, "server": 10}, span).held

    # The worst is at 0.1 Mbit/s, where local is best; the middle rates decide between the others.
    slow = made("slow", 0.15, 100_000, 0, 10)
    assert chosen(LOCAL, slow, OFFLOAD) == (0, 2)
    assert chosen(LOCAL, OFFLOAD, slow) == (0, 1)
    twin = made("twin", 0.1, 100_000, 0, 10)
    assert chosen(LOCAL, OFFLOAD, twin) == (0, 1)
    lighter = made("lighter", 0.1, 100_000, 0, 9)
    assert chosen(LOCAL, OFFLOAD, lighter) == (0, 2)


def test_where_nothing_fits_it_says_what_is_short() -> None:
    cuts = Cuts("pi", "server", (LOCAL, MIDDLE, OFFLOAD))
    with pytest.raises(InfeasibleError) as caught:
        choose_cuts(cuts, {"pi": 8, "server": 3}, EXPECTED)
    assert str(caught.value) == (
        "devices.pi.memory: no cut fits the memory: the nearest, 'local', takes 10 bytes on 'pi',"
        " 2 bytes more than there are (got 8 bytes); state 2 bytes more (2 B)"
    )
    with pytest.raises(InfeasibleError, match=r"3 bytes more here, and 1 more on the other"):
        choose_cuts(Cuts("pi", "server", (MIDDLE,)), {"pi": 4, "server": 2}, EXPECTED)


def test_cuts_that_cost_nothing_do_not_lose_to_each_other() -> None:
    free = made("free", 0.0, 0, 0, 10)
    cuts = Cuts("pi", "server", (made("local", 0.0, 0, 10, 0), free))
    narrow = Range(Interval(1e6, 1e7), Interval(1e6, 1e7))
    chosen = choose_cuts(cuts, {"pi": 10, "server": 9}, narrow)
    assert (chosen.held, chosen.worst_loss) == ((0,), 0.0)


@given(st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_covers_equal_enumeration_at_points(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points, count = int(rng.integers(1, 12)), int(rng.integers(1, 8))
    costs = rng.integers(1, 9, (points, count)).astype(float)
    table = costs / costs.min(axis=1, keepdims=True) - 1
    needs = {d: tuple(rng.integers(0, 6, count).tolist()) for d in "ab"}
    limits = {d: float(rng.integers(0, 14)) for d in "ab"}
    room = Room(needs, limits, int(rng.integers(1, count + 1)))
    if room.fits((0,)) and rng.integers(0, 2):
        room = Room(needs, limits, room.most, always=0)
    allowed = [
        held
        for size in range(1, count + 1)
        for held in itertools.combinations(range(count), size)
        if room.fits(held) and (room.always is None or room.always in held)
    ]
    found = least_loss(table, room)
    if not allowed:
        assert found is None
        return
    worst = {held: float(table[:, held].min(axis=1).max()) for held in allowed}
    assert found == pytest.approx(min(worst.values()), abs=1e-9)
    assert found is not None
    held = least_mean(table, table, room, found)
    assert held in allowed
    assert worst[held] <= found + 1e-9
    mean = {h: float(table[:, h].min(axis=1).mean()) for h in allowed if worst[h] <= found + 1e-9}
    assert mean[held] == pytest.approx(min(mean.values()), rel=1e-5, abs=1e-9)
    least = [h for h in mean if mean[h] <= min(mean.values()) + 1e-12]
    weight = {h: sum(needs[d][i] for d in "ab" for i in h) for h in least}
    assert weight[held] == min(weight.values())


def test_bytes_are_counted_exactly() -> None:
    """A sum that is over by less than the solver's tolerance does not fit."""
    big = 10**12
    room = Room({"pi": (big, big, big)}, {"pi": 2.0 * big - 1}, 3)
    table = np.array([(0.0, 1.0, 1.0), (1.0, 0.0, 2.0)])
    assert least_loss(table, room) == 1.0
    assert least_mean(table, table, room, 1.0) == (0,)
    enough = Room({"pi": (big, big, big)}, {"pi": 2.0 * big}, 3)
    assert least_loss(table, enough) == 0.0
    assert least_mean(table, table, enough, 0.0) == (0, 1)


def test_losses() -> None:
    cuts = Cuts("pi", "server", (LOCAL, OFFLOAD))
    found = losses(cuts, [Conditions(8e6, 1e6), Conditions(8e5, 1e6, slowdown=0.11)])
    assert found == pytest.approx(np.array([(4.0, 0.0), (0.0, 9.0)]), rel=1e-6)
