"""Records come back as they were written, also from a run that was killed."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutset.adaptation.conditions import Conditions
from cutset.adaptation.cuts import Cut, Cuts
from cutset.adaptation.records import (
    Record,
    RecordedCut,
    RecordHeader,
    RecordLine,
    RecordWriter,
    Switch,
    conditions_of,
    cuts_of,
    header_of,
    line_of,
    parse,
    read_record,
    trace_of,
)
from cutset.adaptation.trace_files import read_trace
from cutset.errors import InvalidFileError, LocalProtocolError
from cutset.plan import Plan, Stage
from cutset.serde.record_file import encode

ROOT = Path(__file__).parent.parent.parent

CUTS = Cuts(
    "pi",
    "server",
    (
        Cut("pi alone", Plan((Stage("a", "pi", ("x", "y")),)), 0.2, 0.0, 0, 0, 0, *[False] * 3),
        Cut(
            "half",
            Plan((Stage("a", "pi", ("x",)), Stage("b", "server", ("y",)))),
            *(0.1, 0.001, 1000.0, 10.0, 0.01, True, True, True),
        ),
        Cut(
            "server alone",
            Plan((Stage("a", "server", ("x", "y")),)),
            *(0.0, 0.001, 5000.0, 10.0, 0.02, True, True, True),
        ),
    ),
)
HEADER = header_of(CUTS, "digest", "lab")
SEEN = Conditions(8e6, math.inf, 0.001, 0.002, 1.5, 0.01, 1.1, False)


def complaint(text: str) -> InvalidFileError:
    with pytest.raises(InvalidFileError) as caught:
        parse(text.encode(), "f")
    error = caught.value
    assert error.file == "f"
    assert error.remedy
    assert "\n" not in str(error)
    return error


def line(**changes: object) -> dict[str, Any]:
    return json.loads(encode(line_of(2.0, SEEN, "half"))) | changes


def text_of(*lines: object, header: object = None) -> str:
    first = json.loads(encode(HEADER)) if header is None else header
    return "".join(json.dumps(x) + "\n" for x in (first, *lines))


seconds = st.floats(0, 1e9)
factors = st.floats(0, 1e6)
rates = st.floats(0, 1e18) | st.just(math.inf)
names = st.text(max_size=8)


@st.composite
def records(draw: st.DrawFn) -> tuple[RecordHeader, tuple[RecordLine, ...]]:
    cut_names = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    device, server = draw(names), draw(names)
    amounts = st.floats(0, 1e9)
    header = RecordHeader(
        graph_digest=draw(names),
        device=device,
        server=server,
        emulated=draw(st.sampled_from(["no", "process", "lab"])),
        cuts=tuple(
            RecordedCut(
                name,
                *(draw(amounts) for _ in range(5)),
                *(draw(st.booleans()) for _ in range(3)),
                draw(st.sampled_from([None, device, server])),
                draw(st.integers(0, 2**40)),
            )
            for name in cut_names
        ),
    )
    cuts = st.sampled_from(cut_names)
    times = sorted(draw(st.lists(seconds, max_size=4)))
    switches = st.builds(Switch, seconds, cuts, cuts, names)
    lines = tuple(
        RecordLine(
            at_s,
            *(draw(rates), draw(rates), draw(seconds), draw(seconds)),
            *(draw(factors), draw(seconds), draw(factors), draw(st.booleans()), draw(cuts)),
            draw(st.integers(0, 2**40)),
            draw(st.none() | seconds),
            tuple(draw(st.lists(switches, max_size=2))),
        )
        for at_s in times
    )
    return header, lines


@given(records())
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, record: tuple[RecordHeader, tuple[RecordLine, ...]]
) -> None:
    header, lines = record
    path = tmp_path_factory.mktemp("records") / "r"
    with RecordWriter(path, header) as writer:
        for item in lines:
            writer.write(item)
    assert read_record(path) == Record(str(path), header, lines)


@given(records(), st.data())
def test_a_record_that_ends_anywhere_is_read_so_far(
    record: tuple[RecordHeader, tuple[RecordLine, ...]], data: st.DataObject
) -> None:
    header, lines = record
    whole = [encode(header), *map(encode, lines)]
    text = b"".join(whole)
    end = data.draw(st.integers(len(whole[0]), len(text)))
    found = parse(text[:end], "f")
    complete = sum(len(b"".join(whole[: i + 2])) - 1 <= end for i in range(len(lines)))
    assert found.lines == lines[:complete]
    in_part = end - len(b"".join(whole[: complete + 1]))
    assert bool(found.note) == (in_part > 0)


def test_a_killed_writer_leaves_a_readable_file(tmp_path: Path) -> None:
    path = tmp_path / "r"
    program = f"""
import os, signal
from cutset.adaptation.records import *
header = RecordHeader(graph_digest="d", device="a", server="b", emulated="no", cuts=(
    RecordedCut("x", 1, 0, 0, 0, 0, False, False, False),))
from cutset.adaptation.conditions import Conditions
writer = RecordWriter({str(path)!r}, header)
for i in range(3):
    writer.write(line_of(float(i), Conditions(1.0, 1.0), "x"))
writer._file.write(b'{{"at_s": 3, "up_')
writer._file.flush()
os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
"""
    done = subprocess.run([sys.executable, "-c", program], timeout=120, check=False)
    assert done.returncode != 0
    record = read_record(path)
    assert [item.at_s for item in record.lines] == [0, 1, 2]
    assert record.note == "line 5 was written in part, and is left out"
    assert len(read_trace(path, Conditions(1, 1)).moments) == 3


def test_each_line_is_there_at_once(tmp_path: Path) -> None:
    path = tmp_path / "r"
    with RecordWriter(path, HEADER) as writer:
        assert read_record(path).lines == ()
        writer.write(line_of(0, SEEN, "half"))
        assert len(read_record(path).lines) == 1
    with pytest.raises(LocalProtocolError, match="closed"):
        writer.write(line_of(1, SEEN, "half"))


def test_an_existing_file_is_not_overwritten_unasked(tmp_path: Path) -> None:
    path = tmp_path / "r"
    path.write_text("precious")
    with pytest.raises(InvalidFileError, match="exists"):
        RecordWriter(path, HEADER)
    assert path.read_text() == "precious"
    RecordWriter(path, HEADER, overwrite=True).close()
    assert read_record(path).header == HEADER


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidFileError, match="cannot be written"):
        RecordWriter(tmp_path / "none" / "r", HEADER)
    with pytest.raises(InvalidFileError, match="cannot be written"):
        RecordWriter(tmp_path, HEADER)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"load": math.nan}, "load"),
        ({"latency_s": math.inf}, "latency_s"),
        ({"up_bps": math.nan}, "up_bps"),
        ({"cut": "none"}, "cut"),
        ({"at_s": 1.0}, "at_s"),
    ],
)
def test_what_could_not_be_read_is_not_written(
    tmp_path: Path, changes: dict[str, Any], field: str
) -> None:
    good = line_of(2.0, SEEN, "half")
    with RecordWriter(tmp_path / "r", HEADER) as writer:
        writer.write(good)
        with pytest.raises(InvalidFileError) as caught:
            writer.write(msgspec.structs.replace(good, **changes))
        assert (caught.value.field, caught.value.file) == (field, str(tmp_path / "r"))
    assert read_record(tmp_path / "r").lines == (good,)


def test_a_record_does_not_outgrow_its_readers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cutset.adaptation.records.MAX_FILE_BYTES", len(encode(HEADER)) + 10)
    writer = RecordWriter(tmp_path / "r", HEADER)
    with writer, pytest.raises(InvalidFileError, match="larger than"):
        writer.write(line_of(2.0, SEEN, "half"))
    assert read_record(tmp_path / "r").lines == ()


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"at_s": 1}, "at_s", "backwards: the line before is at 2 s"),
        ({"at_s": -1}, "at_s", "not negative"),
        ({"at_s": 1e10}, "at_s", "beyond all sense"),
        ({"at_s": "2"}, "at_s", "expected `float`"),
        ({"up_bps": -1}, "up_bps", "not negative"),
        ({"down_bps": 1e19}, "down_bps", "not negative"),
        ({"up_bps": "fast"}, "up_bps", "expected `float | null`"),
        ({"up_latency_s": -0.1}, "up_latency_s", "not negative"),
        ({"load": -1}, "load", "factor"),
        ({"slowdown": 1e7}, "slowdown", "factor"),
        ({"queue_s": -1}, "queue_s", "not negative"),
        ({"lost": 1}, "lost", "expected `bool`"),
        ({"cut": "hal"}, "cut", "did you mean half"),
        ({"requests": -1}, "requests", "not negative"),
        ({"requests": 1.5}, "requests", "expected `int`"),
        ({"latency_s": -1}, "latency_s", "not negative"),
        ({"switches": [{"at_s": 1, "from": "half", "to": "x"}]}, "switches[0].to", "no such cut"),
        ({"switches": [{"at_s": -1, "from": "half", "to": "half"}]}, "switches[0].at_s", "not neg"),
        ({"switches": [{"at_s": 1, "to": "half"}]}, "switches[0].from", "missing"),
        (
            {"switches": [{"at_s": 1, "from": "half", "to": "half", "reson": ""}]},
            "switches[0].reson",
            "did you mean reason",
        ),
    ],
)
def test_bad_lines(changes: dict[str, Any], field: str, words: str) -> None:
    error = complaint(text_of(line(), line(**changes)))
    assert error.field == f"line 3, {field}"
    assert words in str(error)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ('{"at_s": ', "ends in its middle"),
        ("", "the line is empty"),
        ("[1]", "expected `object`"),
        ('{"at_s": 1, "at_s": 1}', "twice"),
        ('{"at_s": NaN}', "not finite"),
        ("junk", "not valid JSON"),
    ],
)
def test_lines_that_are_none(bad: str, words: str) -> None:
    error = complaint(text_of(line()) + bad + "\n" + text_of(line()))
    assert (error.field or "").startswith("line 3")
    assert words in str(error)


def cut(**changes: object) -> list[object]:
    return [json.loads(msgspec.json.encode(HEADER.cuts[0])) | changes]


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"schema": "cutset/record/2"}, "schema", "another schema"),
        ({"emulated": "maybe"}, "emulated", "enum"),
        ({"cuts": []}, "cuts", "from 1 to 4096"),
        ({"cuts": cut() * 2}, "cuts[1].name", "two cuts"),
        ({"cuts": cut(device_s=-1)}, "cuts[0].device_s", "not negative"),
        ({"cuts": cut(up_bytes=1e30)}, "cuts[0].up_bytes", "beyond all sense"),
        ({"cuts": cut(first="py")}, "cuts[0].first", "devices are pi, server"),
        ({"cuts": cut(operators_first=-1)}, "cuts[0].operators_first", "not negative"),
        (
            {"cuts": [{"name": "a"}]},
            "cuts[0].device_s",
            "miss",
        ),
    ],
)
def test_bad_headers(changes: dict[str, Any], field: str, words: str) -> None:
    error = complaint(text_of(header=json.loads(encode(HEADER)) | changes))
    assert error.field == f"line 1, {field}"
    assert words in str(error)


@pytest.mark.parametrize("text", ["", "{", '{"schema": "cutset/rec'])
def test_a_header_that_is_none(text: str) -> None:
    assert (complaint(text).field or "").startswith("line 1")


def test_fields_of_later_versions_are_read_over() -> None:
    record = parse(text_of(line(energy_j=3.5)).encode(), "f")
    assert record.lines == (line_of(2.0, SEEN, "half"),)


def test_conditions_come_back() -> None:
    assert conditions_of(line_of(2.0, SEEN, "half")) == SEEN
    (found,) = parse(text_of(line()).encode(), "f").lines
    assert conditions_of(found) == SEEN


def test_a_record_is_a_trace_in_its_own_time() -> None:
    times = [0.5, 2.0, 2.0, 5.0]
    seen = [Conditions(i + 1.0, 1.0, lost=i == 3) for i in range(4)]
    lines = tuple(line_of(t, c, "half") for t, c in zip(times, seen, strict=True))
    trace = trace_of(Record("there/r", HEADER, lines))
    assert trace.name == "r"
    assert [(m.at_s, m.conditions) for m in trace.moments] == [
        (0, seen[0]),
        (2, seen[2]),
        (5, seen[3]),
    ]
    assert trace.duration_s == 8
    assert trace.at(6).lost


def test_a_record_without_lines_is_no_trace() -> None:
    with pytest.raises(InvalidFileError, match="0 lines") as caught:
        trace_of(Record("there/r", HEADER, ()))
    assert caught.value.file == "there/r"


def test_cuts_of_a_record_cost_what_they_did() -> None:
    found = cuts_of(HEADER)
    for seen in (SEEN, Conditions(1e3, 0.0), Conditions(1e6, 1e6, lost=True)):
        assert list(found.values_s(seen)) == list(CUTS.values_s(seen))
    assert (found.local, found.offload) == (CUTS.local, CUTS.offload) == (0, 2)
    assert [c.plan.devices for c in found.cuts] == [c.plan.devices for c in CUTS.cuts]


def test_the_documented_record_is_read(tmp_path: Path) -> None:
    text = (ROOT / "docs/formats.md").read_text("utf-8").split("```jsonl\n")[1].split("```")[0]
    record = parse(text.encode(), "f")
    assert [c.name for c in record.header.cuts] == ["pi alone", "after conv3"]
    assert record.lines[0].down_bps == math.inf
    assert record.lines[1].switches[0].target == "pi alone"
    assert trace_of(record).duration_s == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_that_is_full_from_the_start_is_named() -> None:
    with pytest.raises(InvalidFileError, match="/dev/full: cannot be written: No space left"):
        RecordWriter("/dev/full", HEADER)
