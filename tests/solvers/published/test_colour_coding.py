"""Colour coding against all paths."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutset.problem import Budget
from cutset.solvers.arrays import Bools
from cutset.solvers.published.colour_coding import ColourCoding


def coding(seed: int = 0, most: int = 3000, budget: Budget | None = None) -> ColourCoding:
    return ColourCoding(np.random.default_rng(seed), budget or Budget(), most)


def paths(adjacent: Bools, length: int, start: int | None, end: int | None) -> list[list[int]]:
    return [
        list(path)
        for path in itertools.permutations(range(len(adjacent)), length)
        if (start is None or path[0] == start)
        and (end is None or path[-1] == end)
        and all(adjacent[a, b] for a, b in itertools.pairwise(path))
    ]


@given(st.integers(0, 10**6), st.integers(2, 7), st.integers(2, 6), st.data())
@settings(max_examples=150, deadline=None)
def test_a_path_is_found_if_and_only_if_there_is_one(
    seed: int, count: int, length: int, data: st.DataObject
) -> None:
    rng = np.random.default_rng(seed)
    adjacent = rng.random((count, count)) < rng.choice([0.15, 0.3, 0.6])
    ends = data.draw(st.permutations(range(count)))[:2]
    start, end = (v if data.draw(st.booleans()) else None for v in ends)
    found = coding().path(adjacent, length, start, end)
    every = paths(adjacent, length, start, end)
    assert (found is not None) == bool(every)
    assert found is None or list(found) in every


@given(st.integers(0, 10**6), st.integers(2, 5))
@settings(max_examples=60, deadline=None)
def test_the_widest_path_has_the_best_worst_edge(seed: int, length: int) -> None:
    rng = np.random.default_rng(seed)
    width = rng.integers(0, 6, (6, 6)).astype(np.float64)
    every = paths(width > 0, length, None, None)
    found = coding().widest(width, length)
    if found is None:
        assert not every
        return

    def worst(path: list[int]) -> float:
        return min(float(width[a, b]) for a, b in itertools.pairwise(path))

    assert worst(list(found)) == max(map(worst, every))


@pytest.mark.parametrize("count", [61, 62, 63, 130])
def test_more_vertices_than_bits_in_a_word(count: int) -> None:
    adjacent = np.zeros((count, count), dtype=np.bool_)
    line = np.random.default_rng(3).permutation(count)
    adjacent[line[:-1], line[1:]] = True
    found = coding().path(adjacent, 6, end=int(line[-1]))
    assert found == tuple(line[-6:])
    assert coding().path(adjacent, 6, start=int(line[-5])) is None


def test_the_seed_decides() -> None:
    adjacent = np.ones((30, 30), dtype=np.bool_)
    first = [coding(1).path(adjacent, 5) for _ in range(2)]
    assert first[0] == first[1] != coding(2).path(adjacent, 5)


def test_a_star_has_walks_and_no_path() -> None:
    adjacent = np.zeros((9, 9), dtype=np.bool_)
    adjacent[0, 1:] = adjacent[1:, 0] = True
    assert coding().path(adjacent, 3) is not None
    assert coding().path(adjacent, 4) is None


def test_it_ends_with_the_budget() -> None:
    over = Budget(0.0)
    assert coding(budget=over).path(np.ones((9, 9), dtype=np.bool_), 4) is None
    assert coding(budget=over).widest(np.ones((9, 9)), 4) is None
