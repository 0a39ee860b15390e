import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutset.adaptation.window import MOST_JUMPS, MOST_SAMPLES, Sample, Window


def after(window: Window, *per_unit: float, start_s: float = 0.0) -> Window:
    for i, value in enumerate(per_unit):
        window = window.add(Sample(10, 10 * value, start_s + i))
    return window


@pytest.mark.parametrize("factor", [4, 1.5, 1 / 1.5, 1 / 4])
def test_a_step_is_followed_with_the_second_sample(factor):
    steady = after(Window(1.0), *[1.0] * 8)
    once = after(steady, factor, start_s=8)
    assert once.value == 1.0
    assert after(once, factor, start_s=9).value == pytest.approx(factor)


@pytest.mark.parametrize(("factor", "believed"), [(4, 4), (1 / 4, 1 / 4), (1.8, 1), (1 / 1.8, 1)])
def test_a_long_sample_that_differs_by_a_factor_of_two_is_a_step_by_itself(factor, believed):
    steady = after(Window(1.0), *[1.0] * 8)
    assert steady.add(Sample(10, 10 * factor, 8, long=True)).value == pytest.approx(believed)


def test_a_step_within_the_tolerance_is_followed_by_the_mean():
    steady = after(Window(1.0), *[1.0] * 8)
    values = [after(steady, *[1.2] * n, start_s=8).value for n in range(9)]
    assert values == sorted(values)
    assert values[4] == pytest.approx(1.1)
    assert values[8] == pytest.approx(1.2)


@pytest.mark.parametrize("outlier", [0.1, 30])
def test_a_lone_outlier_is_dropped(outlier):
    window = after(Window(1.0), 1.0, 1.0, outlier)
    assert window.suspect is not None
    window = after(window, 1.0, start_s=3)
    assert window.suspect is None
    assert window.value == pytest.approx(1.0)


def test_suspects_to_both_sides_belong_into_the_mean():
    window = after(Window(1.0), 1.0, 1.0, 2.0, 0.5)
    assert window.suspect is None
    assert window.value == pytest.approx((1 + 1 + 2 + 0.5) / 4)


def test_of_two_suspects_that_differ_the_second_counts():
    # The link changed while the first transfer was under way.
    assert after(Window(1.0), 1.0, 2.0, 4.0).value == pytest.approx(4.0)


def test_of_two_that_agree_both_count():
    assert after(Window(1.0), 1.0, 2.0, 2.2).value == pytest.approx(2.1)


def test_samples_weigh_by_their_amounts():
    window = Window(1.0).add(Sample(90, 90, 0)).add(Sample(10, 12, 1))
    assert window.value == pytest.approx(102 / 100)


def test_old_and_many_samples_are_forgotten():
    window = after(Window(1.0), *[1.0] * 20)
    assert len(window.samples) == MOST_SAMPLES
    window = after(window, 1.1, start_s=40)
    assert window.value == pytest.approx(1.1)


def test_what_is_unknown_takes_the_first_sample():
    assert after(Window(math.inf), 5.0).value == 5.0


def test_a_difference_within_the_dead_band_is_none():
    window = Window(1.0).add(Sample(0.002, 0.0029, 0, dead_band_s=1e-3))
    assert window.suspect is None
    assert window.value == pytest.approx(1.45)
    assert Window(1.0).add(Sample(0.002, 0.0031, 0, dead_band_s=1e-3)).suspect is not None


def test_a_bound_says_nothing_where_it_is_not_slower():
    steady = after(Window(1.0), 1.0, 1.0)
    for seconds in (0.01, 10, 12):
        assert steady.add(Sample(10, seconds, 3, bound=True)) is steady
        assert steady.add(Sample(10, seconds, 3, unfinished=True)) is steady


def test_a_bound_that_is_slower_counts():
    window = after(Window(1.0), 1.0)
    for at_s in (1, 2):
        window = window.add(Sample(10, 30, at_s, bound=True))
    assert window.value == pytest.approx(3.0)


def test_what_goes_on_is_known_to_be_slower_with_every_report():
    window = after(Window(1.0), 1.0)
    window = window.add(Sample(10, 20, 2, unfinished=True))
    assert window.value == 1.0
    seen = []
    for seconds in (30, 31, 32, 60):
        window = window.add(Sample(10, seconds, seconds, unfinished=True))
        seen.append(window.value)
    assert seen == [3.0, 3.1, 3.2, 6.0]
    assert window.add(Sample(10, 90, 90)).value == 9.0  # it ended
    assert window.add(Sample(10, 60, 61, unfinished=True)).value == 6.0  # told again


def test_what_went_on_may_turn_out_to_be_over():
    window = Window(1.0)
    for at_s in (1, 2):
        window = window.add(Sample(10, 100, at_s, unfinished=True))
    assert window.value == 10
    assert after(window, 1.0, 1.0, start_s=3).value == pytest.approx(1.0)


def test_error_is_the_ratios_standard_error():
    window = after(Window(1.0), 0.9, 1.1)
    # Amounts are alike: the standard deviation sqrt(0.02) over sqrt(2), relative to 1.
    assert window.error == pytest.approx(math.sqrt(0.02) / math.sqrt(2))
    assert Window(1.0).error is None
    assert after(Window(1.0), 1.0).error is None


def test_noise_is_known_from_the_jumps_and_widens_the_tolerance():
    noisy = after(Window(1.0), *[0.86, 1.16] * 6)
    assert noisy.noise == pytest.approx(math.log(1.16 / 0.86) / (0.6745 * math.sqrt(2)))
    assert after(noisy, 1.6, start_s=12).suspect is None
    assert after(noisy, 2.2, start_s=12).suspect is not None
    assert after(Window(1.0), *[1.0] * 12, 1.6).suspect is not None


def test_the_error_after_a_step_is_no_less_than_the_noise_makes_it():
    noisy = after(Window(1.0), *[0.8, 1.25] * 6)
    stepped = after(noisy, 4.0, 4.0, start_s=12)
    assert stepped.value == pytest.approx(4.0)
    assert stepped.error == pytest.approx(stepped.noise / math.sqrt(2))


times = st.floats(1e-12, 1e6)
samples = st.builds(
    Sample,
    amount=st.floats(1e-3, 1e19),
    seconds=times,
    at_s=st.floats(0, 100),
    bound=st.booleans(),
    unfinished=st.booleans(),
    dead_band_s=st.sampled_from([0.0, 1e-3]),
)


@given(st.sampled_from([math.inf, 1.0, 1e-9]), st.lists(samples, max_size=40))
def test_the_value_lies_between_what_was_seen_and_stated(stated, seen):
    window = Window(stated)
    for sample in seen:
        window = window.add(sample)
        assert len(window.samples) <= MOST_SAMPLES
        assert len(window.jumps) <= MOST_JUMPS
        assert window.error is None or 0 <= window.error < math.inf
        assert window.suspicion >= 1
    near = [stated, *(s.per_unit for s in seen)]
    assert min(near) * (1 - 1e-9) <= window.value <= max(near) * (1 + 1e-9)


@given(st.floats(1e-6, 1e6), st.lists(st.floats(0.95, 1.05), min_size=1, max_size=12), times)
def test_steps_of_any_size_are_followed_at_once(before, wobble, after_value):
    window = after(Window(before), *(before * w for w in wobble))
    if 1 / 1.5 < after_value / before < 1.5:
        return
    window = after(window, after_value, after_value, start_s=12)
    assert window.value == pytest.approx(after_value)


def test_what_cannot_be_changes_nothing():
    window = after(Window(1.0), 1.0)
    for amount, seconds in ((0, 1), (-1, 1), (1, 0), (1, -1), (1, math.inf), (1, math.nan)):
        assert window.add(Sample(amount, seconds, 1)) is window


def test_what_small_transfers_alone_made_slow_they_deny_again() -> None:
    """288 bytes that two threads held up for 80 ms are no link of 29 kbit/s for ever."""
    usual = 1 / 20e6
    window = Window(usual)
    for i, seconds in enumerate([0.08, 0.09]):
        window = window.add(Sample(8 * 288, seconds, float(i), bound=True, dead_band_s=5e-3))
    assert window.value > 100 * usual
    slow = window
    for i in range(2):
        assert window.value > 100 * usual
        window = window.add(Sample(8 * 288, 0.001, 2.0 + i, bound=True, dead_band_s=5e-3))
    assert window.value == usual
    # One that is slow as well comes between: they do not agree.
    for seconds in (0.001, 0.08, 0.001):
        slow = slow.add(Sample(8 * 288, seconds, 5.0, bound=True, dead_band_s=5e-3))
    assert slow.value > 100 * usual
    # What was measured as a whole is no bound's to deny.
    whole = Window(usual)
    for i in range(2):
        whole = whole.add(Sample(8e5, 8.0, float(i)))
    for i in range(4):
        whole = whole.add(Sample(8 * 288, 0.001, 2.0 + i, bound=True, dead_band_s=5e-3))
    assert whole.value == 1e-5


def at_most(seconds: float, at_s: float) -> Sample:
    return Sample(10, seconds, at_s, at_most=True)


def test_what_took_no_longer_shows_speed_only():
    steady = after(Window(1.0), *[1.0] * 8)
    assert steady.add(at_most(1000, 8)) is steady
    assert steady.add(at_most(10, 8)) is steady
    once = steady.add(at_most(1, 8))
    assert once.value == 1.0  # an outlier, or a step?
    assert once.add(at_most(1, 9)).value == pytest.approx(0.1)
    assert once.noise == steady.noise


def test_where_nothing_is_known_what_took_no_longer_is_believed():
    assert Window(math.inf).add(at_most(10, 0)).value == pytest.approx(1.0)
