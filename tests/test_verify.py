from __future__ import annotations

import numpy as np
import pytest

from cutset.verify import Comparison, compare, compare_all


def f(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_equal_outputs_differ_by_nothing() -> None:
    result = compare({"y": f(1, 2)}, {"y": f(1, 2)})
    assert result == Comparison(0.0, 0.0, True, "y")
    assert result.equal(0.0)


def test_relative_difference_is_to_the_largest_expected_value() -> None:
    result = compare({"y": f(0.0, 4.0)}, {"y": f(0.5, 4.0)})
    assert result.max_abs == 0.5
    assert result.max_rel == 0.125
    assert not result.bit_equal


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        (None, f(1)),
        (f(1, 2), f(1)),
        (f(1).astype(np.float64), f(1)),
        (np.array([1]), np.array([2])),
        (f(np.nan), f(1)),
        (f(1), f(np.nan)),
        (f(np.inf), f(-np.inf)),
        (f(1e-9), f(0)),
    ],
)
def test_what_can_never_be_equal(got: np.ndarray | None, expected: np.ndarray) -> None:
    outputs = {} if got is None else {"y": got}
    result = compare(outputs, {"y": expected})
    assert result.max_rel == float("inf")
    assert not result.equal(1e9)


def test_nan_in_the_same_place_and_signed_zero_are_equal() -> None:
    assert compare({"y": f(np.nan, 0.0)}, {"y": f(np.nan, -0.0)}).equal(0.0)


def test_the_worst_request_and_output_are_reported() -> None:
    pairs = [
        ({"a": f(1), "b": f(1)}, {"a": f(1), "b": f(1)}),
        ({"a": f(1), "b": f(1)}, {"a": f(1), "b": f(2)}),
    ]
    result = compare_all(pairs)
    assert (result.worst, result.max_rel) == ("b", 0.5)
