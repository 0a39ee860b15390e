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
