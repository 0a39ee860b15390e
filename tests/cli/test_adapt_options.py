"""What adaptive commands refuse, tell and write while they run."""

from __future__ import annotations

import io
import json
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from cutset.adapt_report import (
    AdaptDocument,
    CutReport,
    LooksReport,
    ObservedReport,
    SavedReport,
    StaticReport,
)
from cutset.adaptation.beside import of_request
from cutset.adaptation.conditions import Conditions
from cutset.adaptation.cuts import Cut, Cuts
from cutset.adaptation.live import Line
from cutset.adaptation.policy import Switch as LiveSwitch
from cutset.adaptation.records import RecordWriter, Switch, header_of, read_record
from cutset.cli import adapt, adapt_text, main, output
from cutset.cli.adapt_watch import Screen, Watch
from cutset.errors import InvalidFileError
from cutset.plan import Plan, Stage
from cutset.report import LatencySummary

CLUSTER = """\
schema: cutset/cluster/1
source: pi
devices: {pi: {}, server: {}}
default_link: {bandwidth: 1Gbit/s, latency: 0s}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder where whatever gets as far as loading the model fails."""
    monkeypatch.chdir(tmp_path)
    Path("m.onnx").write_bytes(b"no model")
    Path("cluster.yaml").write_text(CLUSTER)
    Path("there.jsonl").write_text("kept")
    return tmp_path


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main.run([*arguments, "--json"]) == 2
    found: dict[str, Any] = json.loads(capsys.readouterr().out)["error"]
    return found


@pytest.mark.parametrize(
    ("options", "field", "remedy"),
    [
        (("--adapt", "--plan", "p.json"), "--plan", "leave --plan or --adapt out"),
        (("--adapt", "--strategy", "auto"), "--strategy", "leave --strategy or --adapt out"),
        (("--adapt", "--objective", "throughput"), "--objective", "leave --objective"),
        (("--adapt", "--objective", "latency"), "--objective", "leave --objective"),
        (("--adapt", "--time-limit", "3"), "--time-limit", "--adapt out"),
        (("--adapt", "--seed", "0"), "--seed", "--adapt out"),
        (("--policy", "local"), "--policy", "add --adapt"),
        (("--server", "server"), "--server", "add --adapt"),
        (("--record", "r.jsonl"), "--record", "add --adapt"),
        (("--json-lines",), "--json-lines", "add --adapt"),
        (("--adapt", "--json-lines"), "--json-lines", "--record"),
        (("--adapt", "--policy", "oracle"), "--policy", "load-aware"),
        (("--adapt", "--policy", "load-awere"), "--policy", "did you mean load-aware?"),
        (("--adapt", "--policy", "cut:x"), "--policy", "cut:N"),
        (("--adapt", "--record", "a.npz", "--output", "a.npz"), "--output", "name two files"),
    ],
)
def test_options_that_mean_nothing_together_are_refused(
    options: tuple[str, ...],
    field: str,
    remedy: str,
    here: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    error = error_of(capsys, "run", "m.onnx", *options)
    assert (error["code"], error["field"]) == ("usage", field)
    assert remedy in error["remedy"]


def test_without_adapt_nothing_of_it_is_asked_for(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = error_of(capsys, "run", "m.onnx", "--objective", "throughput", "--seed", "1")
    assert error["code"] == "invalid_model"


@pytest.mark.parametrize(
    "command",
    [("run", "m.onnx", "--adapt", "--record"), ("record", "m.onnx", "-o")],
)
def test_a_record_that_is_there_is_refused_before_anything_starts(
    command: tuple[str, ...], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = error_of(capsys, *command, "there.jsonl")
    assert (error["code"], error["file"]) == ("invalid_file", "there.jsonl")
    assert "exists" in error["message"]
    assert Path("there.jsonl").read_text() == "kept"
    error = error_of(capsys, *command, "nowhere/r.jsonl")
    assert "folder does not exist" in error["message"]
    error = error_of(capsys, *command, "m.onnx")
    assert "this command reads" in error["message"]


def test_a_server_must_be_clear(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from cutset.zoo import build

    Path("m.onnx").write_bytes(build("squeezenet", side=32, width=0.25).SerializeToString())
    adapt = ("run", "m.onnx", "--adapt")
    error = error_of(capsys, *adapt, "--server", "sever")
    assert (error["field"], error["value"]) == ("--server", "sever")
    assert "did you mean server?" in error["remedy"]
    assert error_of(capsys, *adapt, "--server", "pi")["field"] == "--server"
    Path("cluster.yaml").write_text(CLUSTER.replace("server: {}", "server: {}, other: {}"))
    error = error_of(capsys, *adapt)
    assert (error["field"], "server, other" in error["remedy"]) == ("--server", True)
    Path("cluster.yaml").write_text(CLUSTER.replace(", server: {}", ""))
    assert "no other devices" in error_of(capsys, *adapt)["message"]


# --- what is told while it runs


def cut(name: str, device_s: float, up_bytes: float, server_s: float, *devices: str) -> Cut:
    remote = "server" in devices
    stages = tuple(Stage(f"s{i}", device, ()) for i, device in enumerate(devices))
    return Cut(name, Plan(stages), device_s, 0.0, up_bytes, 0.0, server_s, remote, remote, False)


CUTS = Cuts(
    "pi", "server", (cut("local", 0.1, 0, 0, "pi"), cut("cut 1", 0.02, 1e4, 0.01, "pi", "server"))
)
SEEN = Conditions(20e6, 8e6, load=1.26)


def line(at_s: float, requests: int = 2, switches: tuple[LiveSwitch, ...] = ()) -> Line:
    beside = of_request(CUTS, SEEN, 1)
    for _ in range(requests - 1):
        beside += of_request(CUTS, SEEN, 1)
    return Line(at_s, SEEN, 1, requests, 0.05, switches, 0.04, beside)


SWITCH = LiveSwitch(12.44, 1, 0, "bandwidth up 20 -> 4.8 Mbit/s")


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    monkeypatch.setattr(output, "note", found.append)
    return found


def test_elsewhere_than_on_a_terminal_a_line_comes_each_ten_seconds(said: list[str]) -> None:
    watch = Watch(Screen())
    watch.begin(CUTS, header_of(CUTS, "d", "process"), None)
    for second in range(1, 32):
        watch.line(line(second + 0.01))
    assert [text.split("  ")[0] for text in said] == ["10 s", "20 s", "30 s"]
    assert said[0] == ("10 s  up 20 Mbit/s  down 8 Mbit/s  load 1.3  cut 1  p50 40 ms  2 requests")
    assert watch.tally.beside.requests == 62


def test_a_switch_is_a_line_that_stays_and_lines_before_the_start_are_not_lost(
    said: list[str],
) -> None:
    watch = Watch(Screen())
    watch.line(line(1.0, 3, (SWITCH,)))
    assert said == []
    watch.begin(CUTS, header_of(CUTS, "d", "process"), None)
    assert said == ["12.4 s  cut 1 -> local  bandwidth up 20 -> 4.8 Mbit/s"]
    assert watch.tally.beside.requests == 3


def test_the_record_is_written_line_by_line(tmp_path: Path, said: list[str]) -> None:
    path = tmp_path / "r.jsonl"
    header = header_of(CUTS, "d", "lab")
    watch = Watch(Screen())
    watch.begin(CUTS, header, RecordWriter(path, header))
    watch.line(line(1.0, 3, (SWITCH,)))
    assert len(read_record(path).lines) == 1  # there at once, not only at the end
    watch.line(line(2.0))
    watch.close()
    watch.line(line(3.0))  # too late: it is not lost on anyone
    found = read_record(path)
    assert [(x.at_s, x.cut, x.requests, x.latency_s) for x in found.lines] == [
        (1.0, "cut 1", 3, 0.05),
        (2.0, "cut 1", 2, 0.05),
    ]
    assert found.lines[0].switches == (Switch(12.44, "cut 1", "local", SWITCH.reason),)
    assert (found.header, found.note) == (header, "")


class FullDisk:
    """A record whose disk is full after some lines."""

    def __init__(self, room: int) -> None:
        self.room, self.closed = room, 0

    def write(self, line: object) -> None:
        self.room -= 1
        if self.room < 0:
            raise InvalidFileError("cannot be written: No space left on device", file="r.jsonl")

    def close(self) -> None:
        self.closed += 1
        raise InvalidFileError("cannot be written: No space left on device", file="r.jsonl")


def test_a_full_disk_is_told_once_and_the_run_goes_on(said: list[str]) -> None:
    watch, disk = Watch(Screen()), FullDisk(1)
    watch.begin(CUTS, header_of(CUTS, "d", "no"), disk)  # type: ignore[arg-type]
    for second in range(1, 5):
        watch.line(line(second))
    watch.close()
    assert len(said) == 1
    assert said[0].startswith("the record ends here, and the run goes on: r.jsonl: cannot be")
    assert disk.closed == 1
    assert watch.tally.beside.requests == 8


def test_a_disk_that_is_full_at_the_end_is_told(said: list[str]) -> None:
    watch = Watch(Screen())
    watch.begin(CUTS, header_of(CUTS, "d", "no"), FullDisk(9))  # type: ignore[arg-type]
    watch.line(line(1.0))
    watch.close()
    assert len(said) == 1
    assert "may lack its end" in said[0]


def test_json_lines_are_a_record(
    tmp_path: Path, said: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    watch = Watch(Screen(), json_lines=True)
    watch.begin(CUTS, header_of(CUTS, "d", "process"), None)
    watch.line(line(1.0, 3, (SWITCH,)))
    watch.check()
    path = tmp_path / "piped.jsonl"
    path.write_text(capsys.readouterr().out)
    found = read_record(path)
    assert (found.header.device, len(found.lines), found.note) == ("pi", 1, "")


def test_a_reader_that_is_gone_ends_the_run_and_not_the_thread(
    said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch(Screen(), json_lines=True)
    watch.begin(CUTS, header_of(CUTS, "d", "process"), None)
    gone = threading.Event()

    def refuse(text: str) -> None:
        gone.set()
        raise BrokenPipeError

    monkeypatch.setattr(output, "write_document", refuse)
    watch.line(line(1.0))  # by the adapter's thread, which goes on
    watch.line(line(2.0))
    assert gone.is_set()
    with pytest.raises(BrokenPipeError):
        watch.check()


# --- the report


def document(**changes: Any) -> AdaptDocument:
    fields: dict[str, Any] = {
        "requests": 40,
        "answered": 40,
        "failed": 0,
        "latency_s": LatencySummary(0.06, 0.05, 0.1, 0.11),
        "throughput_per_s": 16.0,
        "in_flight": 1,
        "verify": None,
        "switches": [Switch(2.0, "cut 1", "local", "load 1.0 -> 3.0")],
        "epochs": 2,
        "emulated": "process",
        "interrupted": False,
        "errors": {},
        "fallbacks": 3,
        "dropped": {},
        "policy": "load-aware",
        "device": "pi",
        "server": "server",
        "elapsed_s": 5.0,
        "cut": "local",
        "cuts": [
            CutReport("local", 30, 0.1, 0.1, 0, 0, 0),
            CutReport("cut 1", 10, None, 0.02, 0.01, 1e4, 4e3),
            CutReport("offload", 0, None, 0.0, 0.02, 1e5, 4e3),
        ],
        "left_out": ["cut 2"],
        "worst_loss": 0.031,
        "looks": LooksReport(6000, 6000, 0.004, 0.005, 0.02),
        "observed": ObservedReport(
            20e6, 8e6, 0.001, 0.001, 3.0, 0.0, 1.0, False, {"up_bps": 0.05, "load": None}
        ),
        "ignored": {"negative": 2},
        "saved": SavedReport(
            37,
            0.06,
            0.06,
            [
                StaticReport("local", "local", 0.1, 0.4, 0),
                StaticReport("offload", "offload", None, None, 7),
                StaticReport("best static", "cut 1", 0.06, 0.0, 0),
            ],
        ),
    }
    return AdaptDocument(**(fields | changes))


def shown(found: AdaptDocument) -> str:
    out = io.StringIO()
    adapt_text.show(Console(file=out, width=200, markup=False), found)
    return out.getvalue()


def test_short_segments_are_said_to_show_load_poorly() -> None:
    found = document()
    assert "show" not in shown(found).partition("at the end")[2]
    changed = {"server_s": 2e-3}
    short = [msgspec.structs.replace(cut, **changed) for cut in found.cuts]
    text = shown(document(cuts=short))
    assert "the server's longest segment takes 2 ms: so short a time shows load poorly" in text


def test_a_deadline_that_the_device_cannot_meet_is_named() -> None:
    local = Cut("local", Plan(()), 0.05, 0.001, 0, 0, 0, False, False, False)
    cuts = Cuts("pi", "server", (local,))
    assert adapt.too_slow(cuts, 1.0) == ""
    assert adapt.too_slow(Cuts("pi", "server", ()), 1e-9) == ""
    assert adapt.too_slow(cuts, 0.03).startswith(
        "pi alone takes 51 ms, longer than the --deadline of 30 ms"
    )


def test_a_device_that_cannot_have_the_whole_model_is_named() -> None:
    found = document()
    assert "no cut is all on" not in shown(found)
    cuts = [cut for cut in found.cuts if cut.name != "offload"]
    assert "no cut is all on server: it does not fit there" in shown(document(cuts=cuts))
    assert "no cut is all on" not in shown(document(cuts=cuts, left_out=["offload"]))


def test_the_report_says_which_cut_when_and_what_adapting_saved() -> None:
    text = shown(document())
    rows = [" ".join(row.split()) for row in text.splitlines()]
    assert "40 of 40 requests answered, 1 in flight, emulated by processes of this machine" in rows
    assert "3 of them by this device alone, as others could not in time" in rows
    assert "0.0 – 2.0 s cut 1" in rows
    assert "2.0 – 5.0 s local" in rows
    assert "2.0 s cut 1 -> local load 1.0 -> 3.0" in rows
    assert "local 30 100 ms 100 ms 0 ns 0 B 0 B" in rows
    assert "the other cut was not taken" in rows
    assert "left out for memory: cut 2; that costs at most 3.1%" in text
    assert "up 6 kB (0.4% of the link)" in text
    assert "observations that cannot be, ignored: 2 negative" in rows
    assert "up 20 Mbit/s ± 5%" in text
    assert "always local local 100 ms 40.0%" in rows
    assert "always offload offload – 7 requests without an answer" in rows
    assert "always best static cut 1 60 ms nothing" in rows
    assert "adapting saved nothing over: best static" in rows
    assert "what the fallback answered (3) is in none of these means" in rows
    assert "given up" not in text


def test_a_run_that_was_interrupted_says_what_it_gave_up() -> None:
    one = shown(document(interrupted=True, requests=41))
    assert "interrupted: 1 that was under way was given up" in one
    assert "interrupted: 3 that were under way were given up" in shown(
        document(interrupted=True, requests=44, failed=1)
    )
    assert "given up" not in shown(document(interrupted=True))


def test_the_report_is_honest_about_what_it_cannot_compare() -> None:
    text = shown(document(in_flight=4))
    assert "waiting for one another" in text
    text = shown(document(saved=SavedReport(0, None, None, []), switches=[], latency_s=None))
    assert "what adapting saved is not known" in text
    assert "no switch" in text


def test_many_switches_are_listed_in_part() -> None:
    many = [Switch(0.1 * i, *(("a", "b") if i % 2 else ("b", "a")), reason="x") for i in range(300)]
    text = shown(document(switches=many, elapsed_s=30.0, cut="b"))
    assert "300 switches:" in text
    assert f"and {300 - adapt_text.MOST_LISTED} more" in text
    assert len(text.splitlines()) < 70


def test_what_travels_is_told_where_a_line_can_change() -> None:
    told: list[str] = []
    doing = output.Doing()
    doing("early")
    doing.to(told.append, changes=True)
    doing("loading cut 2 of 6: cut 1")
    doing.sent("server", 34_000_000, 240_000_000)
    assert told[-1] == "loading cut 2 of 6: cut 1: 34 MB of 240 MB on server"
    doing.to(told.append)
    doing.sent("server", 35_000_000, 240_000_000)
    doing("server back")
    assert len(told) == 3
