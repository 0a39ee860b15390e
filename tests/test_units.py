from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutset import units
from cutset.errors import InvalidFileError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("512MiB", 512 * 2**20),
        ("1 GiB", 2**30),
        ("1.5kB", 1500),
        ("20B", 20),
        ("7", 7),
        (7, 7),
        (2.6, 3),
        ("1e3", 1000),
        (".5KiB", 512),
        (0, 0),
    ],
)
def test_sizes(text: object, expected: int) -> None:
    assert units.parse_bytes(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("20Mbit/s", 20e6), ("1Gbit/s", 1e9), ("5 kbit/s", 5e3), ("9bit/s", 9.0), (1e6, 1e6)],
)
def test_rates(text: object, expected: float) -> None:
    assert units.parse_rate(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("3ms", 3e-3), ("2us", 2e-6), ("2µs", 2e-6), ("10ns", 1e-8), ("1.5s", 1.5), (0.25, 0.25)],
)
def test_times(text: object, expected: float) -> None:
    assert units.parse_time(text) == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize(
    "parse", [units.parse_bytes, units.parse_rate, units.parse_time], ids=["size", "rate", "time"]
)
@pytest.mark.parametrize(
    "value",
    [
        "20 apples",
        "",
        "MB",
        "-1",
        -1,
        "1 2",
        "20Mb/s",
        "1MIB",
        "nan",
        "inf",
        math.nan,
        math.inf,
        -math.inf,
        1e300,
        10**400,
        "1e999",
        True,
        None,
        [1],
        {"a": 1},
    ],
    ids=str,
)
def test_nonsense_is_refused_in_one_line(parse: object, value: object) -> None:
    with pytest.raises(InvalidFileError) as caught:
        parse(value, field="devices.pi.it")  # type: ignore[operator]
    error = caught.value
    assert error.field == "devices.pi.it"
    assert error.value
    assert error.remedy
    assert "\n" not in str(error)


@pytest.mark.parametrize("value", [0, "0Mbit/s", 1e-9])
def test_a_rate_of_nothing_is_refused(value: object) -> None:
    with pytest.raises(InvalidFileError, match="rate"):
        units.parse_rate(value)


def test_units_are_not_mixed_up() -> None:
    with pytest.raises(InvalidFileError, match="not a rate"):
        units.parse_rate("20MB")
    with pytest.raises(InvalidFileError, match="not a time"):
        units.parse_time("20B")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (units.format_bytes(0), "0 B"),
        (units.format_bytes(512), "512 B"),
        (units.format_bytes(1_234_567), "1.23 MB"),
        (units.format_bytes(999_999), "1 MB"),
        (units.format_bytes(math.inf), "unlimited"),
        (units.format_bytes(5e12), "5000 GB"),
        (units.format_rate(20e6), "20 Mbit/s"),
        (units.format_rate(3.14159e6), "3.14 Mbit/s"),
        (units.format_time(0.0412), "41.2 ms"),
        (units.format_time(0.9999), "1 s"),
        (units.format_time(1.5e-6), "1.5 us"),
        (units.format_time(3e-10), "0.3 ns"),
        (units.format_time(-0.002), "-2 ms"),
    ],
)
def test_formats(text: str, expected: str) -> None:
    assert text == expected


@given(st.floats(1e-3, 1e15))
def test_a_formatted_rate_is_read_back(bps: float) -> None:
    assert units.parse_rate(units.format_rate(bps)) == pytest.approx(bps, rel=0.01, abs=1e-3)


@given(st.floats(1e-9, 1e6))
def test_a_formatted_time_is_read_back(seconds: float) -> None:
    assert units.parse_time(units.format_time(seconds)) == pytest.approx(seconds, rel=0.01)


@given(st.integers(0, 2**60))
def test_a_formatted_size_is_read_back(count: int) -> None:
    assert units.parse_bytes(units.format_bytes(count)) == pytest.approx(count, rel=0.01, abs=1)


def test_a_size_fits_the_integers_of_compiled_loops() -> None:
    """2**63 does not: it is refused by name, as number and as text."""
    units.check_number(2**63 - 1024, "bytes", field="t")
    assert units.parse_bytes(2**63 - 1024) < 2**63
    for read in (
        lambda: units.check_number(2**63, "bytes", field="t"),
        lambda: units.parse_bytes(2**63, field="t"),
        lambda: units.parse_bytes("9223372036854775808B", field="t"),
    ):
        with pytest.raises(InvalidFileError, match="beyond all sense"):
            read()


def test_a_rate_of_nothing_where_it_is_allowed() -> None:
    assert units.parse_rate("0Mbit/s", or_zero=True) == 0
    with pytest.raises(InvalidFileError, match="more than 0"):
        units.parse_rate("0Mbit/s")
    with pytest.raises(InvalidFileError, match="under"):
        units.parse_rate("1e-9", or_zero=True)
