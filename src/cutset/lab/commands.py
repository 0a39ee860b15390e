"""The lab's network as lines for `ip -batch` and `tc -batch`. Pure.

A star: every device has one veth into a bridge in the hub's namespace. Egress and links are shaped
on the device's side, where TCP's small queues hold senders back instead of losing packets; ingress
on the hub's side of the port, with a queue that holds all that TCP may have under way.
"""

from __future__ import annotations

from typing import Final

from cutset.lab.state import LabSpec, LinkSpec

PORT: Final = 7447
BRIDGE: Final = "hub"
DEVICE_PORT: Final = "eth0"
RELAY_PORT: Final = "delay0"
MTU_BYTES: Final = 1500
#: A full frame as queues count it (Ethernet header included), and the payload of TCP in it.
FRAME_BYTES: Final = 1514
PAYLOAD_BYTES: Final = 1448
#: What a late timer may catch up with: long enough for a loaded kernel, short beside a transfer.
#: Fast links lose more by being late than transfers over them gain.
BURST_S: Final = 0.0003
FAST_BURST_S: Final = 0.0006
FAST_BPS: Final = 5e8
#: TCP hands over pieces of up to 64 KiB (GSO), which a shaper would let pass whole, as if a small
#: transfer took no time. Where a rate is stated, a piece lasts at most so long on the slowest link
#: of its device and has at most so many frames. Smaller ones cost the processor more, in interrupts
#: of whatever computes there.
PIECE_S: Final = 0.00035
PIECE_FRAMES: Final = 16
_ANY_PIECE_FRAMES: Final = 65535
QUEUE_BYTES: Final = 32 * 2**20


def address(index: int) -> str:
    """The address of the device with this number."""
    return f"10.77.{index // 250}.{index % 250 + 1}"


def port(index: int) -> str:
    """The hub's interface to the device with this number."""
    return f"d{index}"


def wire_bps(payload_bps: float) -> int:
    """The rate of frames that carries a rate of payload."""
    return max(1, round(payload_bps * FRAME_BYTES / PAYLOAD_BYTES))


def hub_lines() -> list[str]:
    """`ip` lines: the bridge, which forwards and learns nothing else."""
    return [
        "link set lo up",
        f"link add {BRIDGE} type bridge stp_state 0 mcast_snooping 0",
        f"link set {BRIDGE} up",
    ]


def port_lines(index: int, namespace: str) -> list[str]:
    """`ip` lines in the hub: the veth whose other end is the device's, in `namespace`."""
    return [
        f"link add {port(index)} mtu {MTU_BYTES} type veth"
        f" peer name {DEVICE_PORT} mtu {MTU_BYTES} netns {namespace}",
        f"link set {port(index)} master {BRIDGE}",
        f"link set {port(index)} up",
    ]


def device_lines(index: int) -> list[str]:
    """`ip` lines in the device: its addresses."""
    return [
        "link set lo up",
        f"address add {address(index)}/16 dev {DEVICE_PORT}",
        f"link set {DEVICE_PORT} up",
    ]


def piece_lines(spec: LabSpec, index: int) -> list[str]:
    """`ip` lines in the device: how many frames a piece has that TCP hands over at once."""
    name = spec.devices[index].name
    rates = [spec.rate_bps(link) for link in spec.links if link.source == name]
    frames = [_frames(rate) for rate in rates if rate is not None]
    return [f"link set {DEVICE_PORT} gso_max_segs {min(frames, default=_ANY_PIECE_FRAMES)}"]


def _frames(rate_bps: float) -> int:
    """How many frames a piece may have at a rate of payload."""
    return max(1, min(PIECE_FRAMES, int(wire_bps(rate_bps) / 8 * PIECE_S / FRAME_BYTES)))


def _neighbours(spec: LabSpec, index: int) -> list[tuple[int, float | None]]:
    """Number of each device that this one has a link to, and the rate up to there."""
    me = spec.devices[index]
    found = []
    for i, device in enumerate(spec.devices):
        link = spec.link(me.name, device.name)
        if link is not None:
            rates = [r for r in (link.bandwidth_bps, me.egress_bps) if r is not None]
            found.append((i, min(rates, default=None)))
    return found


def _htb(rate_bps: float, ceil_bps: float | None = None) -> str:
    wire, ceil = wire_bps(rate_bps), wire_bps(rate_bps if ceil_bps is None else ceil_bps)
    quantum = max(FRAME_BYTES, min(60000, int(ceil / 8 * 0.001)))

    def burst(bps: int) -> int:
        return max(FRAME_BYTES, int(bps / 8 * (FAST_BURST_S if bps > FAST_BPS else BURST_S)))

    return (
        f"htb rate {wire}bit ceil {ceil}bit burst {burst(wire)} cburst {burst(ceil)}"
        f" quantum {quantum}"
    )


def _queue(rate_bps: float) -> str:
    """A shaper's queue. As a token bucket splits what exceeds its burst; its rate plays no part."""
    # The kernel rounds the burst down by up to 320 bytes at this rate.
    burst = _frames(rate_bps) * FRAME_BYTES + 700
    return f"tbf rate 40gbit burst {burst} limit {QUEUE_BYTES}"


def _classes(spec: LabSpec, index: int) -> dict[str, tuple[str, str]]:
    """By class: its `tc class` arguments, and its queue's `tc qdisc` arguments (empty: none).

    The device's egress and its limited links; empty where nothing is limited.
    """
    egress = spec.devices[index].egress_bps
    limited = [(i, rate) for i, rate in _neighbours(spec, index) if rate is not None]
    found: dict[str, tuple[str, str]] = {}
    if egress is not None:
        found["1:1"] = (f"parent 1: classid 1:1 {_htb(egress)}", "")
    for i, rate in limited:
        name = _class_of(i)
        if egress is None:
            line = f"parent 1: classid {name} {_htb(rate)}"
        else:
            # What a class is granted, it gets beside others; so the grants add up to the egress,
            # and what goes beyond is borrowed from it.
            granted = min(rate, egress / (len(limited) + 1))
            line = f"parent 1:1 classid {name} {_htb(granted, rate)}"
        found[name] = (line, f"parent {name} handle {i + 16:x}0: {_queue(rate)}")
    if egress is not None:  # whatever is for nobody's link, such as answers over links one way
        granted = egress / (len(limited) + 1)
        found["1:f"] = (
            f"parent 1:1 classid 1:f {_htb(granted, egress)}",
            f"parent 1:f handle f0: {_queue(egress)}",
        )
    return found


def _class_of(index: int) -> str:
    return f"1:{index + 16:x}"


def egress_lines(spec: LabSpec, index: int) -> list[str]:
    """`tc` lines in the device: the shaper of its egress and links; none where nothing is limited.

    What no class is for passes unshaped.
    """
    classes = _classes(spec, index)
    if not classes:
        return []
    default = "f" if "1:f" in classes else "0"
    lines = [f"qdisc add dev {DEVICE_PORT} root handle 1: htb default {default}"]
    lines += [f"class add dev {DEVICE_PORT} {line}" for line, _ in classes.values()]
    lines += [f"qdisc add dev {DEVICE_PORT} {queue}" for _, queue in classes.values() if queue]
    lines += [
        f"filter add dev {DEVICE_PORT} parent 1: protocol ip prio 1 u32"
        f" match ip dst {address(i)}/32 flowid {_class_of(i)}"
        for i in range(len(spec.devices))
        if _class_of(i) in classes
    ]
    return lines


def egress_change_lines(before: LabSpec, after: LabSpec, index: int) -> list[str]:
    """`tc` lines in the device for a live change; queues live on where the classes stay."""
    old, new = _classes(before, index), _classes(after, index)
    if old.keys() != new.keys():
        return ([f"qdisc del dev {DEVICE_PORT} root"] if old else []) + egress_lines(after, index)
    return _changes(DEVICE_PORT, old, new)


def _changes(
    dev: str, old: dict[str, tuple[str, str]], new: dict[str, tuple[str, str]]
) -> list[str]:
    lines = []
    for name, (line, queue) in new.items():
        if line != old[name][0]:
            lines.append(f"class change dev {dev} {line}")
        if queue != old[name][1]:
            lines.append(f"qdisc change dev {dev} {queue}")
    return lines


def _ingress(spec: LabSpec, index: int) -> dict[str, tuple[str, str]]:
    rate = spec.devices[index].ingress_bps
    if rate is None:
        return {}
    queue = f"parent 1:1 handle 10: {_queue(rate)}"
    return {"1:1": (f"parent 1: classid 1:1 {_htb(rate)}", queue)}


def ingress_lines(spec: LabSpec, index: int) -> list[str]:
    """`tc` lines in the hub: the shaper of what a device takes in; none where it is unlimited."""
    dev = port(index)
    return [
        x
        for line, queue in _ingress(spec, index).values()
        for x in (
            f"qdisc add dev {dev} root handle 1: htb default 1",
            f"class add dev {dev} {line}",
            f"qdisc add dev {dev} {queue}",
        )
    ]


def ingress_change_lines(before: LabSpec, after: LabSpec, index: int) -> list[str]:
    """`tc` lines in the hub for a live change."""
    old, new = _ingress(before, index), _ingress(after, index)
    if old.keys() != new.keys():
        return ([f"qdisc del dev {port(index)} root"] if old else []) + ingress_lines(after, index)
    return _changes(port(index), old, new)


def delayed(spec: LabSpec, index: int) -> list[LinkSpec]:
    """The links from a device that state a latency."""
    name = spec.devices[index].name
    return [link for link in spec.links if link.source == name and link.latency_s > 0]


def delay_lines(spec: LabSpec, index: int) -> list[str]:
    """`tc` lines in the hub: hand what goes over links with a latency to the relay."""
    links = delayed(spec, index)
    if not links:
        return []
    dev = port(index)
    return [
        f"qdisc add dev {dev} handle ffff: ingress",
        *(
            f"filter add dev {dev} parent ffff: protocol ip prio 1 u32"
            f" match ip dst {address(spec.index(link.target))}/32"
            f" action mirred egress redirect dev {RELAY_PORT}"
            for link in links
        ),
    ]


def delay_change_lines(before: LabSpec, after: LabSpec, index: int) -> list[str]:
    """`tc` lines in the hub for a live change of which links have a latency."""
    old, new = delay_lines(before, index), delay_lines(after, index)
    if old == new:
        return []
    return ([f"qdisc del dev {port(index)} ingress"] if old else []) + new


def unreachable(spec: LabSpec, index: int) -> list[int]:
    """Numbers of the devices to which a device cannot send.

    Those with which it has no link in either direction, and those to which its link is down. The
    source reaches all: it deploys. TCP needs the way back, so a link one way opens both, but
    plans send nothing there.
    """
    me = spec.devices[index].name
    found = []
    for i, device in enumerate(spec.devices):
        there, back = spec.link(me, device.name), spec.link(device.name, me)
        apart = there is None and back is None and spec.source not in (me, device.name)
        if i != index and (apart or (there is not None and not there.up)):
            found.append(i)
    return found


def route_lines(spec: LabSpec, index: int) -> list[str]:
    """`ip` lines in the device: what it cannot reach."""
    return [f"route add blackhole {address(i)}/32" for i in unreachable(spec, index)]


def route_change_lines(before: LabSpec, after: LabSpec, index: int) -> list[str]:
    """`ip` lines in the device for links that went down or came up."""
    old, new = set(unreachable(before, index)), set(unreachable(after, index))
    return [f"route del blackhole {address(i)}/32" for i in sorted(old - new)] + [
        f"route add blackhole {address(i)}/32" for i in sorted(new - old)
    ]
