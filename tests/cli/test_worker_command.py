"""`cutset worker` as a process: says where it listens, ends cleanly by signal."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import pytest


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
