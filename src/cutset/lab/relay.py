"""Delay in user space: frames come by a TAP and go on to their port when they are due.

A child of the keeper in the hub's namespace. Standard input brings the delays as JSON lines; when
it closes, the relay ends. The kernel's `netem` would do this too, but many kernels are built
without it.
"""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import json
import os
import select
import signal
import socket
import struct
import time
from collections.abc import Mapping
from typing import Any, Final

from cutset.pacing import sharpen_timers

_TUNSETIFF: Final = 0x400454CA
_TUNSETOFFLOAD: Final = 0x400454D0
_IFF_TAP_NO_PI_VNET: Final = 0x0002 | 0x1000 | 0x4000
_OFFLOADS: Final = 0x01 | 0x02  # checksums and TCP segmentation over IPv4 are left to others
_SOL_PACKET: Final = 263
_PACKET_VNET_HDR: Final = 15
_FRAME_BYTES: Final = 10 + 14 + 65536
#: What it carries of payload, measured on two cores of a Xeon; more is noted, not refused.
CARRIES_BPS: Final = 1e9
#: What may be under way at once; more is dropped, as a router's full queue would.
HELD_BYTES: Final = 64 * 2**20
_HEADER: Final = 10  # virtio's, before each frame
_SOURCE: Final = slice(_HEADER + 14 + 12, _HEADER + 14 + 16)
_TARGET: Final = slice(_HEADER + 14 + 16, _HEADER + 14 + 20)


def open_tap(name: str) -> int:
    """A descriptor of a new TAP in this namespace; large frames come unsegmented. Raises OSError"""
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(tap, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP_NO_PI_VNET))
    fcntl.ioctl(tap, _TUNSETOFFLOAD, _OFFLOADS)
    return tap


def open_port(name: str) -> socket.socket:
    """A socket that sends frames out of an interface, through its shaper. Raises OSError."""
    port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)  # 0: it receives nothing
    port.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
    port.bind((name, 0))
    port.setblocking(False)
    return port


class Delays:
    """Which pair waits how long, and what is under way. Time enters as `now_s`."""

    def __init__(self) -> None:
        self._delay_s: dict[bytes, float] = {}
        self._flying: list[tuple[float, int, bytes]] = []
        self._count = 0
        self._held_bytes = 0

    def set(self, delays: Mapping[str, float]) -> None:
        """Delays in seconds by "A>B" of dotted addresses; what is under way keeps its own."""
        self._delay_s = {
            b"".join(socket.inet_aton(end) for end in pair.split(">")): seconds
            for pair, seconds in delays.items()
        }

    def add(self, now_s: float, frame: bytes) -> None:
        """A frame has come; it is dropped where too much is under way."""
        if self._held_bytes + len(frame) > HELD_BYTES:
            return
        due_s = now_s + self._delay_s.get(frame[_SOURCE] + frame[_TARGET], 0.0)
        self._count += 1
        self._held_bytes += len(frame)
        heapq.heappush(self._flying, (due_s, self._count, frame))

    def due(self, now_s: float) -> list[bytes]:
        """The frames whose time has come, in order."""
        found = []
        while self._flying and self._flying[0][0] <= now_s:
            frame = heapq.heappop(self._flying)[2]
            self._held_bytes -= len(frame)
            found.append(frame)
        return found

    def wait_s(self, now_s: float) -> float | None:
        """Seconds until the next is due; None when nothing is under way."""
        return max(0.0, self._flying[0][0] - now_s) if self._flying else None


def relay(tap: int, settings: Mapping[str, Any]) -> None:
    """Relay until standard input closes."""
    delays = Delays()
    delays.set(settings["delays"])
    ports = {
        socket.inet_aton(address): open_port(name) for address, name in settings["ports"].items()
    }
    commands = 0  # standard input, unbuffered: `select` does not see what a buffer holds
    pending = b""
    view = memoryview(bytearray(_FRAME_BYTES))
    buffers = [view]  # one for all: a new one for each frame would cost more than the frame
    while True:
        wait_s = delays.wait_s(time.monotonic())
        ready, _, _ = select.select([tap, commands], [], [], wait_s)
        if commands in ready:
            data = os.read(commands, 1 << 16)
            if not data:
                return
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                delays.set(json.loads(line)["delays"])
        if tap in ready:
            now_s = time.monotonic()
            with contextlib.suppress(BlockingIOError):
                for _ in range(64):
                    delays.add(now_s, bytes(view[: os.readv(tap, buffers)]))
        for frame in delays.due(time.monotonic()):
            port = ports.get(frame[_TARGET])
            if port is not None:
                with contextlib.suppress(OSError):  # a full queue loses frames
                    port.send(frame)


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's; we end with it
    line = b""
    while not line.endswith(b"\n"):
        if not (piece := os.read(0, 1)):
            return 1
        line += piece
    settings = json.loads(line)
    sharpen_timers()
    try:
        tap = open_tap(settings["tap"])
    except OSError as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return 1
    print(json.dumps({"ready": True}), flush=True)
    relay(tap, settings)
    return 0
