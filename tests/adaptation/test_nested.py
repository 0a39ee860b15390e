"""Segments that hold one another: what was measured of them is made to agree."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutset.adaptation.nested import agreeing, chains


def test_each_chain_grows_and_all_segments_are_in_one():
    segments = {0: {"a", "b", "c"}, 1: {"c"}, 2: {"b", "c"}, 3: {"a"}, 4: {"c"}}
    assert chains({i: frozenset(s) for i, s in segments.items()}) == [[1, 2, 0], [3], [4]]
    assert chains({}) == []


def test_what_agrees_is_left_as_it_was_measured():
    assert agreeing([1, 2, 3], [[1.1, 1.2, 9.0], [2.5], [2.6]]) == pytest.approx([1.2, 2.5, 2.6])


def test_one_that_was_measured_in_a_fast_moment_is_outvoted():
    """Xception's last cuts, in seconds: the third and the fifth when the machine was faster."""
    found = agreeing(
        [0.20, 0.21, 0.212, 0.213, 0.214], [[0.2158], [0.2156], [0.12], [0.21], [0.13]]
    )
    assert found[2] == pytest.approx(0.209, abs=0.005)
    assert found[4] == pytest.approx(0.211, abs=0.005)


positive = st.floats(1e-4, 10)
groups = st.lists(st.tuples(positive, st.lists(positive, min_size=1, max_size=5)), max_size=8)


@given(groups)
def test_no_segment_takes_less_than_a_part_of_it(measured):
    expected = sorted(e for e, _ in measured)
    samples = [found for _, found in measured]
    seconds = agreeing(expected, samples)
    assert len(seconds) == len(expected)
    assert all(b >= a * (1 - 1e-9) for a, b in pairwise(seconds))
    factors = [s / e for e, group in zip(expected, samples, strict=True) for s in group]
    for s, e in zip(seconds, expected, strict=True):
        assert min(factors) * (1 - 1e-9) <= s / e <= max(factors) * (1 + 1e-9)
