from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cutset.report import in_flight_for, percentile, summarise, throughput_per_s

seconds = st.lists(st.floats(0, 1e3, allow_nan=False), min_size=1, max_size=50)


@given(seconds, st.floats(0.01, 1))
def test_a_percentile_occurred_and_covers_its_fraction(values: list[float], q: float) -> None:
    found = percentile(values, q)
    assert found in values
    assert sum(v <= found for v in values) >= q * len(values) - 1e-9


def test_the_summary_of_known_latencies() -> None:
    summary = summarise([float(n) for n in range(1, 101)])
    assert summary is not None
    assert (summary.mean, summary.p50, summary.p95, summary.p99) == (50.5, 50, 95, 99)
    assert summarise([]) is None


def test_throughput_counts_intervals_between_answers() -> None:
    assert throughput_per_s([10.0, 11.0, 12.0]) == 1.0
    assert throughput_per_s([10.0]) is None
    assert throughput_per_s([10.0, 10.0]) is None


def test_requests_in_flight_fill_the_pipeline_and_one_more() -> None:
    assert in_flight_for(0.5, 0.1, throughput=False) == 1
    assert in_flight_for(0.5, 0.2, throughput=True) == 4
    assert in_flight_for(0.0, 0.0, throughput=True) == 2
