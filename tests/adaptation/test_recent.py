import pytest

from cutset.adaptation.recent import (
    MOST_PINGS,
    MOST_WAITS,
    mean_wait_s,
    more_pings,
    with_ping,
    with_wait,
)


def waited(*waits_s: float) -> tuple[float, ...]:
    waits: tuple[float, ...] = ()
    for wait_s in waits_s:
        waits = with_wait(waits, wait_s)
    return waits


def pinged(*took_s: float) -> tuple[float, ...]:
    pings: tuple[float, ...] = ()
    for each_s in took_s:
        pings = with_ping(pings, each_s)
    return pings


def test_a_queue_that_comes_and_goes_is_followed_with_the_second_wait():
    assert mean_wait_s(waited(*[0.0] * 8, 0.05)) == 0
    assert mean_wait_s(waited(*[0.0] * 8, 0.05, 0.05)) == pytest.approx(0.05)
    assert mean_wait_s(waited(*[0.05] * 8, 0.0, 0.0)) == 0


def test_one_long_wait_counts_no_more_than_the_second_longest():
    assert mean_wait_s(waited(0.01, 0.012, 9.0, 0.01)) == pytest.approx(0.011)


def test_a_queue_that_is_full_by_turns_counts_by_its_mean():
    assert mean_wait_s(waited(0, 0.04, 0, 0.04, 0, 0, 0.04, 0.04)) == pytest.approx(0.02)


def test_no_wait_is_none():
    assert mean_wait_s(()) == 0


def test_the_least_round_trip_counts_and_a_step_up_is_five():
    assert min(pinged(0.010, 0.004, 0.030)) == 0.004
    assert min(pinged(0.004, 0.004, 0.030, 0.004)) == 0.004
    assert min(pinged(0.004, *[0.030] * 4)) == 0.004
    assert min(pinged(0.004, *[0.030] * 4, 0.004, *[0.030] * 4)) == 0.004
    assert min(pinged(0.004, *[0.030] * 4, 0.040)) == 0.030


def test_more_are_wanted_at_the_start_and_after_a_late_one():
    assert more_pings(())
    assert more_pings(pinged(*[0.004] * 4))
    assert not more_pings(pinged(*[0.004] * 5))
    assert not more_pings(pinged(*[0.004] * 5, 0.0055))
    assert more_pings(pinged(*[0.004] * 5, 0.010))
    assert not more_pings(pinged(*[0.004] * 5, *[0.010] * 5))


def test_both_are_bounded():
    assert len(waited(*[0.01] * 50)) == MOST_WAITS
    assert len(pinged(*[0.01] * 50)) == MOST_PINGS
