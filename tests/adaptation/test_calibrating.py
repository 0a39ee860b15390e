"""Held segments are timed where they are loaded: single errors are corrected, a load is not."""

from __future__ import annotations

from itertools import cycle

import pytest

from cutset.adaptation.calibrating import timed

PROFILED = {0: 0.010, 1: 0.020, 2: 0.040}


def test_what_a_segment_takes_by_itself_replaces_the_profile() -> None:
    seconds, load = timed(PROFILED, lambda i: {0: 0.012, 1: 0.021, 2: 0.039}[i])
    assert load == 1.0
    assert seconds == {0: 0.012, 1: 0.021, 2: 0.039}


def test_what_all_segments_take_longer_is_a_load() -> None:
    seconds, load = timed(PROFILED, lambda i: 3 * PROFILED[i] * (1.1 if i == 0 else 1.0))
    assert load == pytest.approx(3.0, rel=0.05)
    assert seconds[1] == pytest.approx(0.020, rel=0.05)
    assert seconds[0] / seconds[1] == pytest.approx(0.55)


def test_one_disturbed_run_of_three_does_not_count() -> None:
    runs = cycle([0.010, 0.9, 0.010])
    seconds, load = timed({0: 0.010}, lambda i: next(runs))
    assert (seconds[0], load) == (0.010, 1.0)


def test_a_segment_that_cannot_be_timed_keeps_its_profile() -> None:
    assert timed({0: 0.01, 1: 0.02}, lambda i: None) == ({0: 0.01, 1: 0.02}, 1.0)
    seconds, _ = timed({0: 0.01, 1: 0.02}, lambda i: 0.011 if i == 0 else float("nan"))
    assert seconds[1] == 0.02
    assert timed({}, lambda i: 1.0) == ({}, 1.0)


def test_of_nested_segments_the_larger_takes_no_less() -> None:
    runs = {0: 0.010, 1: 0.020, 2: 0.015}
    seconds, _ = timed({0: 0.010, 1: 0.020, 2: 0.021}, runs.__getitem__, chains=[[0, 1, 2]])
    assert seconds[0] == 0.010
    assert 0.015 < seconds[1] < seconds[2] < 0.020
    assert seconds[2] / seconds[1] == pytest.approx(1.05)


def test_a_slow_device_is_timed_once_only() -> None:
    now = [0.0]

    def run(index: int) -> float:
        now[0] += 2.0
        return 2.0

    timed({0: 2.0, 1: 2.0}, run, clock=lambda: now[0])
    assert now[0] == 4.0


def test_one_odd_run_on_a_slow_device_is_run_again() -> None:
    """Of many long segments one was disturbed: it cannot take longer than the whole."""
    now, runs = [0.0], {0: 0, 1: 0, 2: 0}

    def run(index: int) -> float:
        runs[index] += 1
        took_s = 3.0 if index == 1 and runs[1] == 1 else 2.0 - 0.1 * index
        now[0] += took_s
        return took_s

    profiled = {0: 2.0, 1: 1.9, 2: 1.8}
    seconds, load = timed(profiled, run, clock=lambda: now[0])
    assert (seconds, load) == (profiled, 1.0)
    assert runs == {0: 1, 1: 3, 2: 1}
