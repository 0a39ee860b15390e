"""The least-sum partition against all partitions."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cutset.solvers.published.candidate_points import CandidatePoints
from cutset.solvers.published.least_sum_partition import least_sum_partition


def points_of(crossing: list[int], memory: list[int]) -> CandidatePoints:
    """A chain of `len(memory)` operators that can be cut between any two."""
    return CandidatePoints(
        tuple(range(len(memory) + 1)),
        np.array([0.0, *crossing[: len(memory) - 1], 0.0]),
        np.concatenate(([0.0], np.cumsum(memory, dtype=np.float64))),
    )


def partitions(points: CandidatePoints, capacity: int) -> Iterator[tuple[float, tuple[int, ...]]]:
    """All whose spans fit, with the sum of what crosses."""
    for count in range(points.last):
        for cuts in itertools.combinations(range(1, points.last), count):
            edges = points.memory_bytes[[0, *cuts, points.last]]
            if (np.diff(edges) <= capacity).all():
                yield float(points.crossing_bytes[list(cuts)].sum()), (*cuts, points.last)


chains = st.lists(st.integers(0, 9), min_size=1, max_size=8)


@given(chains, st.lists(st.integers(0, 9), min_size=8, max_size=8), st.integers(0, 25))
def test_it_is_the_least_sum_and_of_equals_the_fewest_spans(
    memory: list[int], crossing: list[int], capacity: int
) -> None:
    points = points_of(crossing, memory)
    found, fewest = least_sum_partition(points, capacity, points.last)
    every = list(partitions(points, capacity))
    if not every:
        assert (found, fewest) == (None, 0)
        return
    assert found is not None
    best = min((total, len(ends)) for total, ends in every)
    assert (points.crossing_bytes[list(found)].sum(), len(found)) == best
    assert found in [ends for _, ends in every]


@given(
    chains,
    st.lists(st.integers(0, 9), min_size=8, max_size=8),
    st.integers(0, 25),
    st.integers(1, 8),
)
def test_what_takes_too_many_spans_is_given_up_first_span_by_first_span(
    memory: list[int], crossing: list[int], capacity: int, most: int
) -> None:
    points = points_of(crossing, memory)
    found, fewest = least_sum_partition(points, capacity, most)
    by_first: dict[int, tuple[float, int]] = {}
    for total, ends in partitions(points, capacity):
        key = (total, len(ends))
        by_first[ends[0]] = min(by_first.get(ends[0], key), key)
    kept = [key for key in by_first.values() if key[1] <= most]
    if kept:
        assert found is not None
        assert (points.crossing_bytes[list(found)].sum(), len(found)) == min(kept)
    else:
        assert found is None
        assert fewest == min((spans for _, spans in by_first.values()), default=0)


def test_the_sum_decides_not_the_largest_transfer() -> None:
    points = points_of([9, 5, 6, 5], [4, 4, 4, 4, 4])
    assert least_sum_partition(points, 16, 5)[0] == (2, 5)
    assert least_sum_partition(points, 8, 5)[0] == (2, 4, 5)
    assert least_sum_partition(points, 8, 2) == (None, 3)
