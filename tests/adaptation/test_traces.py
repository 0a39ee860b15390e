"""Traces say what holds when; files of traces are read whole or refused by line and column."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutset.adaptation import csv_traces, mahimahi
from cutset.adaptation.conditions import Conditions
from cutset.adaptation.csv_traces import read_csv
from cutset.adaptation.mahimahi import read_mahimahi
from cutset.adaptation.trace_files import read_trace
from cutset.adaptation.traces import Moment, Trace
from cutset.errors import InvalidFileError, UsageError

BASE = Conditions(up_bps=8e6, down_bps=16e6, up_latency_s=0.001, down_latency_s=0.002)
ROOT = Path(__file__).parent.parent.parent


def written(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "trace"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def complaint(path: Path, text: str | bytes) -> InvalidFileError:
    file = written(path, text)
    with pytest.raises(InvalidFileError) as caught:
        read_trace(file, BASE)
    error = caught.value
    assert error.file == str(file)
    assert error.remedy
    assert "\n" not in str(error)
    assert len(str(error)) < 700
    return error


def rate(bps: float) -> Conditions:
    return Conditions(up_bps=bps, down_bps=bps)


STAIRS = Trace("stairs", (Moment(0.0, rate(1)), Moment(2.0, rate(2)), Moment(5.0, rate(3))), 8.0)


@pytest.mark.parametrize(
    ("at_s", "bps"),
    [(-1, 1), (0, 1), (1.999, 1), (2.0, 2), (4.999, 2), (5.0, 3), (8.0, 3), (100, 3)],
)
def test_a_moment_holds_until_the_next(at_s: float, bps: float) -> None:
    assert STAIRS.at(at_s).up_bps == bps


@given(st.lists(st.integers(1, 50), min_size=1, max_size=20), st.floats(-5, 1200))
def test_what_holds_is_the_last_moment_that_has_begun(gaps: list[int], at_s: float) -> None:
    times = [float(sum(gaps[:i])) for i in range(len(gaps))]
    trace = Trace("t", tuple(Moment(t, rate(i)) for i, t in enumerate(times)), float(sum(gaps)))
    begun = [i for i, t in enumerate(times) if t <= at_s]
    assert trace.at(at_s).up_bps == max(begun, default=0)


@pytest.mark.parametrize(("duration_s", "count"), [(1, 1), (2, 1), (2.1, 2), (5, 2), (8, 3)])
def test_a_trace_is_cut(duration_s: float, count: int) -> None:
    cut = STAIRS.cut_to(duration_s)
    assert cut.duration_s == duration_s
    assert cut.moments == STAIRS.moments[:count]


def test_a_longer_trace_goes_on_as_it_ended() -> None:
    longer = STAIRS.cut_to(20)
    assert (longer.duration_s, longer.moments) == (20, STAIRS.moments)


@pytest.mark.parametrize("duration_s", [0, -1, float("nan"), float("inf")])
def test_a_trace_is_not_cut_to_nothing(duration_s: float) -> None:
    with pytest.raises(UsageError, match="more than 0 seconds"):
        STAIRS.cut_to(duration_s)


@pytest.mark.parametrize(
    ("times", "duration_s"),
    [([], 1), ([1], 2), ([0, 2, 1], 3), ([0, 1, 1], 3), ([0, 2], 2), ([0], float("nan"))],
)
def test_what_is_no_trace_is_refused(times: list[float], duration_s: float) -> None:
    with pytest.raises(UsageError, match="begin at 0"):
        Trace("t", tuple(Moment(t, BASE) for t in times), duration_s)


def test_a_trace_has_not_too_many_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cutset.adaptation.traces.MAX_MOMENTS", 2)
    with pytest.raises(UsageError, match="at most 2 moments"):
        Trace("t", tuple(Moment(float(i), BASE) for i in range(3)), 3.0)


# mahimahi


@given(
    st.lists(st.integers(0, 5000), min_size=1, max_size=200).filter(any),
    st.sampled_from([0.1, 0.25, 0.5, 1.0, 7.0]),
)
def test_no_packet_of_a_mahimahi_trace_is_lost(times_ms: list[int], bin_s: float) -> None:
    data = "".join(f"{t}\n" for t in sorted(times_ms)).encode()
    trace = mahimahi.parse_mahimahi(data, BASE, "both", bin_s, "f")
    ends = [m.at_s for m in trace.moments[1:]] + [trace.duration_s]
    parts = [(e - m.at_s, m.conditions) for m, e in zip(trace.moments, ends, strict=True)]
    assert sum(w * c.up_bps for w, c in parts) / 8 == pytest.approx(1500 * len(times_ms))
    assert all(c.up_bps == c.down_bps for _, c in parts)
    assert trace.duration_s == max(times_ms) / 1000
    assert all(w == pytest.approx(bin_s) for w, _ in parts[:-1])
    assert len(parts) == 1 or 0.49 * bin_s < parts[-1][0] < 1.51 * bin_s


def test_gaps_of_a_mahimahi_trace_are_zeros(tmp_path: Path) -> None:
    trace = read_mahimahi(written(tmp_path, "700\n800\n2200\n2500\n"), BASE)
    assert [m.conditions.up_bps for m in trace.moments] == [0, 48000, 0, 0, 48000]
    assert [m.at_s for m in trace.moments] == [0, 0.5, 1, 1.5, 2]


def test_a_packet_is_in_the_bin_that_begins_with_it() -> None:
    trace = mahimahi.parse_mahimahi(b"300\n1000\n", BASE, "both", 0.1, "f")
    assert [i for i, m in enumerate(trace.moments) if m.conditions.up_bps > 0] == [3, 9]


def test_a_mahimahi_trace_is_about_one_direction_where_told(tmp_path: Path) -> None:
    path = written(tmp_path, "500\r\n\r\n")
    up = read_mahimahi(path, BASE, direction="up").at(0)
    assert (up.up_bps, up.down_bps, up.up_latency_s) == (24000, 16e6, 0.001)
    down = read_mahimahi(path, BASE, direction="down").at(0)
    assert (down.up_bps, down.down_bps, down.down_latency_s) == (8e6, 24000, 0.002)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("5\n7\n6\n", 3, "backwards: the line before is at 7 ms"),
        ("5\n-7\n", 2, "integer of 0 or more"),
        ("-1\n", 1, "integer of 0 or more"),
        ("5\n1.5\n", 2, "integer of 0 or more"),
        ("5\n1_0\n", 2, "integer of 0 or more"),
        ("5\n٣\n", 2, "integer of 0 or more"),
        ("5\nx\n", 2, "integer of 0 or more"),
        ("5\n\n6\n", 2, "integer of 0 or more"),
        ("5\n6 7\n", 2, "integer of 0 or more"),
        ("5\n86400001\n", 2, "longer than a day"),
        ("5\n" + "9" * 10_000, 2, "longer than a day"),
        ("0\n0\n", 2, "0 ms all along"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_bad_mahimahi_lines(tmp_path: Path, text: str, line: int, words: str) -> None:
    error = complaint(tmp_path, text)
    assert error.field == f"line {line}"
    assert words in error.message


def test_a_day_is_not_longer_than_a_day() -> None:
    trace = mahimahi.parse_mahimahi(b"00000086400000\n", BASE, "both", 3600, "f")
    assert trace.duration_s == 86400


def test_a_mahimahi_trace_has_not_too_many_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mahimahi, "MAX_PACKETS", 3)
    error = complaint(tmp_path, "1\n2\n3\n4\n")
    assert (error.field, error.message) == ("line 4", "more than 3 lines")


@pytest.mark.parametrize("bin_s", [0, -1, float("nan"), float("inf"), 1e-9])
def test_bad_bins(tmp_path: Path, bin_s: float) -> None:
    with pytest.raises(UsageError) as caught:
        read_mahimahi(written(tmp_path, "5\n9000\n"), BASE, bin_s=bin_s)
    assert caught.value.field == "bin"


# CSV


def test_a_row_changes_what_it_states(tmp_path: Path) -> None:
    text = """\
\ufefftime, link, bandwidth, latency, load, queue, slowdown, lost
2,pi>server,5Mbit/s,,,,,
2,server>pi,,7ms,,,,

4s,,0,,3,20ms,1.5,1
10,,1e6,4ms,1,,,0
"""
    trace = read_csv(written(tmp_path, text), BASE)
    second = Conditions(5e6, 16e6, 0.001, 0.007)
    assert trace.moments == (
        Moment(0, BASE),
        Moment(2, second),
        Moment(4, Conditions(0, 0, 0.001, 0.007, 3, 0.02, 1.5, True)),
        Moment(10, Conditions(1e6, 1e6, 0.004, 0.004, 1, 0.02, 1.5, False)),
    )
    assert trace.duration_s == 16


def test_links_have_the_names_of_the_cluster(tmp_path: Path) -> None:
    path = written(tmp_path, "time,link,bandwidth\n0,cam>edge,1\n")
    trace = read_csv(path, BASE, ("cam", "edge"))
    assert trace.at(0) == Conditions(1, 16e6, 0.001, 0.002)
    assert trace.duration_s == 1
    with pytest.raises(InvalidFileError, match="links are pi>server, server>pi"):
        read_csv(path, BASE)


@pytest.mark.parametrize(
    ("row", "column", "words"),
    [
        (",,1,,,,,", "time", "missing"),
        ("x,,1,,,,,", "time", "not a time"),
        ("-1,,1,,,,,", "time", "not negative"),
        ("nan,,1,,,,,", "time", "not a time"),
        ("0.5,,1,,,,,", "time", "backwards: the row before is at 1 s"),
        ("2e9,,1,,,,,", "time", "beyond all sense"),
        ("1,pi>srv,1,,,,,", "link", "did you mean pi>server"),
        ("1,,fast,,,,,", "bandwidth", "not a rate"),
        ("1,,5Mb,,,,,", "bandwidth", "not a rate"),
        ("1,,-1,,,,,", "bandwidth", "not negative"),
        ("1,,NaN,,,,,", "bandwidth", "not a rate"),
        ("1,,1e30,,,,,", "bandwidth", "beyond all sense"),
        ("1,,1e-9,,,,,", "bandwidth", "under 0.001"),
        ("1,,,3min,,,,", "latency", "not a time"),
        ("1,,,-3ms,,,,", "latency", "not negative"),
        ("1,,,,-1,,,", "load", "above 0"),
        ("1,,,,0,,,", "load", "above 0"),
        ("1,,,,nan,,,", "load", "above 0"),
        ("1,,,,inf,,,", "load", "above 0"),
        ("1,,,,1_0,,,", "load", "above 0"),
        ("1,,,,,-1ms,,", "queue", "not negative"),
        ("1,,,,,,x,", "slowdown", "above 0"),
        ("1,,,,,,,yes", "lost", "neither 0 nor 1"),
    ],
)
def test_bad_cells(tmp_path: Path, row: str, column: str, words: str) -> None:
    header = "time,link,bandwidth,latency,load,queue,slowdown,lost"
    error = complaint(tmp_path, f"{header}\n1,,1,,,,,\n\n{row}\n")
    assert error.field == f"line 4, column {column}"
    assert words in str(error)


@pytest.mark.parametrize(
    ("text", "field", "words"),
    [
        ("bandwidth,load\n1,2\n", "line 1, column time", "missing"),
        ("0,5Mbit/s\n1,2Mbit/s\n", "line 1, column 0", "columns are time"),
        ("time,bandwith\n", "line 1, column bandwith", "did you mean bandwidth"),
        ("time,colour\n", "line 1, column colour", "columns are time"),
        ("time,,load\n", "line 1, column 2", "no name"),
        ("time,load,time\n", "line 1, column time", "twice"),
        ("time,load\n", "line 2", "no rows"),
        ("time,load\n0\n", "line 2", "1 cells and the table 2"),
        ("time,load\n0,1\n\n0,1,2\n", "line 4", "3 cells"),
        ('time,load\n0,"1\n', "line 2", "no CSV"),
        (b"time,load\n0,1\n\xff,1\n", "line 3", "UTF-8"),
        (b"time,load\n0,\0\n", "line 2, column load", "a factor is"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_bad_tables(tmp_path: Path, text: str | bytes, field: str, words: str) -> None:
    with pytest.raises(InvalidFileError) as caught:
        read_csv(written(tmp_path, text), BASE)
    error = caught.value
    assert error.field == field
    assert words in str(error)


def test_a_table_has_not_too_many_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_traces, "MAX_MOMENTS", 3)
    error = complaint(tmp_path, "time,load\n1,1\n2,1\n3,1\n4,1\n")
    assert error.field == "line 5"
    assert "at most 3" in error.message


# which of them it is


@pytest.mark.parametrize(
    "content", [b"", b"  \n", b"\0\1", b"\xff\xfe", b"[1]", b"[1,2]", b"?"], ids=repr
)
def test_what_is_no_trace_file(tmp_path: Path, content: bytes) -> None:
    error = complaint(tmp_path, content)
    assert "no trace" in error.message or "empty" in error.message


def test_no_file_at_all(tmp_path: Path) -> None:
    with pytest.raises(InvalidFileError, match="No such file"):
        read_trace(tmp_path / "none", BASE)


@given(st.binary(max_size=60) | st.text("0123456789,-.\n timelood{}", max_size=60).map(str.encode))
def test_any_bytes_are_a_trace_or_refused(data: bytes) -> None:
    for parse in (
        lambda: mahimahi.parse_mahimahi(data, BASE, "both", 0.5, "f"),
        lambda: csv_traces.parse_csv(data, BASE, ("pi", "server"), "f"),
    ):
        where: tuple[str | None, str | None] = ("f", "line")
        try:
            parse()
        except InvalidFileError as error:
            where = (error.file, error.field)
        assert where[0] == "f"
        assert (where[1] or "").startswith("line")


def test_the_documented_table_is_read(tmp_path: Path) -> None:
    text = (ROOT / "docs/formats.md").read_text("utf-8").split("```csv\n")[1].split("```")[0]
    trace = read_trace(written(tmp_path, text), BASE)
    assert [m.at_s for m in trace.moments] == [0, 10, 30, 45, 50]
    assert trace.at(10) == Conditions(2e6, 20e6, 0.003, 0.003)
    assert trace.at(30).load == 3
    assert [m.conditions.lost for m in trace.moments] == [False, False, False, True, False]


def test_a_number_a_line_is_a_mahimahi_trace(tmp_path: Path) -> None:
    path = written(tmp_path, "500\n1000\n")
    expected = read_mahimahi(path, BASE, direction="up", bin_s=1.0)
    assert read_trace(path, BASE, direction="up", bin_s=1.0) == expected


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x7fELF\x02\x01\x00\x00", "line 1: no trace"),
        (b"[1, 2]\n", "(got [1, 2])"),
        (b'{"a": 1}\n', "no record: its first line states no schema"),
        (b'{\n  "schema": "cutset/record/1"\n}\n', "no record"),
        (b"devices:\n  - name: pi\n", "unknown column"),
        (b"", "the file is empty"),
    ],
)
def test_files_that_are_no_traces(data: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_bytes(data)
    with pytest.raises(InvalidFileError) as caught:
        read_trace(path, BASE)
    assert words in str(caught.value)
    assert str(caught.value).isprintable()
    assert "\\x" not in str(caught.value)
