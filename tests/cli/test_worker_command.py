"""`cutset worker` as a process: says where it listens, ends cleanly by signal."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import pytest

from cutset.cli import main as cli
from cutset.runtime import worker_main


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.skipif(os.name == "nt", reason="signals differ there")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_worker_ends_cleanly(number: signal.Signals, status: int, tmp_path: object) -> None:
    endpoint = f"tcp/127.0.0.1:{free_port()}"
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from cutset.cli.main import main; main()"
    )
    with subprocess.Popen(
        [
            sys.executable,
            "-c",
            code,
            "worker",
            "pi",
            "--listen",
            endpoint,
            "--cache",
            str(tmp_path),
        ],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            assert endpoint in process.stderr.readline()
            process.send_signal(number)
            _, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert "Traceback" not in err
    assert process.returncode == status


INTERRUPTED_ANYWHERE = """
import os, signal, sys, threading, time
from cutset.runtime import worker_main

class Worker:
    def close(self):
        print("closed", flush=True)

worker_main.start = lambda *_: Worker()
for lines in range(1, 25):  # SIGTERM after so many further lines, of the library's too
    left = [lines]

    def trace(frame, event, argument):
        left[0] -= event == "line"
        if left[0] == 0 and event == "line":
            os.kill(os.getpid(), signal.SIGTERM)
        return trace

    late = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM))
    def log(line):
        late.start()
        sys.settrace(trace)
        sys._getframe(1).f_trace = trace
    caught = []
    signal.signal(signal.SIGTERM, lambda *_: caught.append(1))  # once it has ended
    worker_main.serve("pi", listen=(), log=log)
    sys.settrace(None)
    late.cancel()
"""


@pytest.mark.skipif(os.name == "nt", reason="signals differ there")
def test_a_worker_ends_wherever_the_signal_meets_it() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_ANYWHERE], capture_output=True, text=True, timeout=60
    )
    assert (ended.stdout.count("closed"), ended.returncode) == (24, 0), ended.stderr


@pytest.mark.parametrize(
    ("arguments", "name", "interface"),
    [
        (["--discover"], None, "auto"),
        (["pi", "--discover"], "pi", "auto"),
        (["--discover", "--listen", "tcp/127.0.0.1:1", "pi"], "pi", "auto"),
        (["--discover", "wlan0", "pi"], "pi", "wlan0"),
        (["--discover=wlan0", "pi"], "pi", "wlan0"),
        (["pi"], "pi", None),
    ],
)
def test_discover_may_stand_without_an_interface(
    arguments: list[str],
    name: str | None,
    interface: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[str | None, str | None]] = []
    monkeypatch.setattr(
        worker_main, "serve", lambda name, *, discover, **_: asked.append((name, discover))
    )
    assert cli.run(["worker", *arguments]) == 0
    assert asked == [(name, interface)]


def test_a_missing_value_points_to_the_help_of_its_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.run(["worker", "--memory"]) == 2
    assert "see `cutset worker --help`" in capsys.readouterr().err
