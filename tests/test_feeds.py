from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cutset.errors import InvalidFileError, UsageError
from cutset.feeds import random_feeds, read_feeds, write_feeds
from cutset.ports import Port, check_feeds

X = Port("x", "float32", (2, 3))
MASK = Port("mask", "int64", (4,))


def test_random_requests_are_distinct_and_seeded() -> None:
    first, again, other = random_feeds([X], 2, 7), random_feeds([X], 2, 7), random_feeds([X], 2, 8)
    assert np.array_equal(first[1]["x"], again[1]["x"])
    assert not np.array_equal(first[0]["x"], first[1]["x"])
    assert not np.array_equal(first[0]["x"], other[0]["x"])
    check_feeds([X], first[0])


def test_a_batch_is_several_requests_and_files_follow_each_other(tmp_path: Path) -> None:
    batch = np.arange(18, dtype=np.float32).reshape(3, 2, 3)
    np.save(tmp_path / "a.npy", batch)
    np.savez(tmp_path / "b.npz", x=batch[0] + 100)
    feeds = read_feeds([tmp_path / "a.npy", tmp_path / "b.npz"], [X])
    assert [float(f["x"][0, 0]) for f in feeds] == [0, 6, 12, 100]


def test_an_image_is_bytes_in_rows_columns_channels(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 255, (4, 5, 3), dtype=np.uint8)
    image.fromarray(pixels).save(tmp_path / "a.png")
    (feeds,) = read_feeds([tmp_path / "a.png"], [Port("image", "uint8", (4, 5, 3))])
    assert np.array_equal(feeds["image"], pixels)


def test_bad_files_are_named(tmp_path: Path) -> None:
    np.save(tmp_path / "shape.npy", np.zeros((9, 9), np.float32))
    np.save(tmp_path / "dtype.npy", np.zeros((2, 3)))
    np.save(tmp_path / "pickle.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (tmp_path / "junk.npy").write_bytes(b"junk")
    (tmp_path / "junk.png").write_bytes(b"junk")
    np.savez(tmp_path / "names.npz", y=np.zeros((2, 3), np.float32))
    for name in [
        "shape.npy",
        "dtype.npy",
        "pickle.npy",
        "junk.npy",
        "junk.png",
        "names.npz",
        "missing.npy",
        "text.txt",
    ]:
        with pytest.raises(InvalidFileError) as caught:
            read_feeds([tmp_path / name], [X])
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)


def test_several_inputs_need_names(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 3), np.float32))
    with pytest.raises(InvalidFileError, match=r"\.npz with x, mask"):
        read_feeds([tmp_path / "a.npy"], [X, MASK])


def test_batches_of_different_lengths_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 2, 3), np.float32), mask=np.zeros((3, 4), np.int64))
    with pytest.raises(InvalidFileError, match="x: 2, mask: 3"):
        read_feeds([tmp_path / "a.npz"], [X, MASK])


@pytest.mark.parametrize(
    ("feeds", "word"),
    [
        ({"z": np.zeros(1)}, "no such input"),
        ({}, "missing"),
        ({"x": np.zeros((2, 3))}, "float64"),
        ({"x": np.zeros((3, 3), np.float32)}, "3x3"),
        ({"x": [1, 2]}, "NumPy"),
    ],
)
def test_wrong_feeds_are_refused(feeds: dict, word: str) -> None:
    with pytest.raises(UsageError, match=word):
        check_feeds([X], feeds)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    requests = random_feeds([X, MASK], 3)
    write_feeds(tmp_path / "answers", requests)
    (tmp_path / "answers").rename(tmp_path / "answers.npz")
    again = read_feeds([tmp_path / "answers.npz"], [X, MASK])
    assert all(np.array_equal(a[n], b[n]) for a, b in zip(requests, again, strict=True) for n in a)
    with pytest.raises(InvalidFileError, match="cannot be written"):
        write_feeds(tmp_path / "no" / "folder.npz", requests)
