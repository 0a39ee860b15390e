"""Tensors and messages survive the wire; anything malformed is refused."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cutset.errors import InfeasibleError, LocalProtocolError, RemoteProtocolError
from cutset.runtime.codec import (
    DTYPES,
    decode,
    decode_tensor,
    dtype_name,
    encode,
    pack_tensors,
    tensor_view,
    unpack_tensors,
)
from cutset.runtime.failures import from_failure, to_failure
from cutset.runtime.message_parts import TensorSpec
from cutset.runtime.messages import Activation, Call, GetStatus

arrays = st.sampled_from(sorted(DTYPES)).flatmap(
    lambda d: hnp.arrays(np.dtype(d), hnp.array_shapes(min_dims=0, max_dims=4, min_side=0))
)


@given(arrays)
def test_tensors_survive(array: np.ndarray) -> None:
    data = tensor_view(array)
    spec = TensorSpec(array.dtype.name, array.shape)
    again = decode_tensor("t", dtype_name(array), array.shape, data, spec)
    assert again.dtype == array.dtype
    assert again.shape == array.shape
    assert tensor_view(again) == data


@given(arrays, st.integers(1, 9))
def test_truncated_and_oversized_tensors_are_refused(array: np.ndarray, count: int) -> None:
    data = tensor_view(array)
    for wrong in (bytes(data) + b"x" * count, data[:-count] if data else b"x"):
        with pytest.raises(RemoteProtocolError):
            decode_tensor("t", dtype_name(array), array.shape, wrong, None)


@given(st.dictionaries(st.text(max_size=8), arrays, max_size=4))
def test_packed_tensors_survive(tensors: dict[str, np.ndarray]) -> None:
    again = unpack_tensors(pack_tensors(tensors))
    assert list(again) == list(tensors)
    for name, array in tensors.items():
        assert tensor_view(again[name]) == tensor_view(array)


@given(st.binary(max_size=64))
def test_noise_is_refused_not_crashed_on(data: bytes) -> None:
    for read in (decode, unpack_tensors):
        with contextlib.suppress(RemoteProtocolError):
            read(data)


@pytest.mark.parametrize(
    ("dtype", "shape", "expected"),
    [
        ("float32", (2, 3), TensorSpec("float32", (3, 2))),
        ("float32", (2, 3), TensorSpec("int32", (2, 3))),
        ("object", (3,), None),
        ("float32", (2**40, 2**40), None),
    ],
)
def test_other_dtype_or_shape_is_refused(
    dtype: str, shape: tuple[int, ...], expected: TensorSpec | None
) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_tensor("t", dtype, shape, bytes(24), expected)


def test_strings_do_not_travel() -> None:
    with pytest.raises(LocalProtocolError, match="cannot be sent"):
        tensor_view(np.array(["a", "b"], dtype=object))


def test_big_endian_tensors_are_sent_little_endian() -> None:
    array = np.arange(4, dtype=">i4")
    again = decode_tensor("t", "int32", (4,), tensor_view(array), None)
    np.testing.assert_array_equal(again, array)


def test_messages_survive() -> None:
    for message in (
        Activation("s", 1, 2, "t", "float32", (1, 2), "me", 0.5),
        Call(7, "me", GetStatus()),
    ):
        assert decode(encode(message)) == message


def test_errors_keep_kind_and_parts() -> None:
    error = InfeasibleError("too big", field="f", value="3 bytes", remedy="buy more")
    again = from_failure(to_failure(error))
    assert type(again) is InfeasibleError
    assert again.details() == error.details()
    assert "ValueError: odd" in str(from_failure(to_failure(ValueError("odd"))))
