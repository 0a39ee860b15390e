"""What a connection for data does about congestion: on a system that chose BBR."""

from __future__ import annotations

import socket

import pytest

from cutset.runtime.connection import _tune

OPTION = getattr(socket, "TCP_CONGESTION", None)


def control(connection: socket.socket) -> bytes:
    assert OPTION is not None
    return connection.getsockopt(socket.IPPROTO_TCP, OPTION, 16).rstrip(b"\0")


@pytest.mark.skipif(OPTION is None, reason="this system does not say how it controls congestion")
@pytest.mark.parametrize("chosen", [b"bbr", b"reno"])
def test_no_connection_is_paced_by_the_rate_that_it_once_had(chosen: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as connection:
        try:
            connection.setsockopt(socket.IPPROTO_TCP, OPTION, chosen)
        except OSError:
            pytest.skip(f"this system has no {chosen.decode()}")
        _tune(connection)
        assert control(connection) in ({b"cubic", b"reno"} if chosen == b"bbr" else {chosen})
