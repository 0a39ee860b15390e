"""What compiled code is told of a block and of the cluster: tuples of arrays.

K operators, T tensors, D devices, R regions; lists in compressed rows, as in arrays.py.
"""

from __future__ import annotations

from typing import NamedTuple

from cutset.solvers.arrays import Bools, Floats, Ints


class Shape(NamedTuple):
    """A block, as in `latency_blocks.Block`; `release` is a stage's overhead on each device, but
    where the entry's stage may go on."""

    first: bool
    real: Floats  # [K]
    release: Floats  # [D]
    in_at: Ints  # [K + 1]
    in_u: Ints
    in_b: Floats
    out_at: Ints  # [K + 1]
    out_w: Ints
    out_b: Floats
    tin_at: Ints  # [K + 1]
    tin_t: Ints
    tprod: Ints  # [T]
    tbytes: Floats  # [T]
    trank: Ints  # [T]
    reach: Bools  # [K, K]


class Known(NamedTuple):
    """What is known of regions: `table[i, x, y]` seconds from the end of region i's first operator
    on x to the end of its last one on y. Rows `into` list them by the last one, `from` by the
    first, each with the other end and the region's number."""

    into_at: Ints  # [K + 1]
    into_u: Ints
    into_i: Ints
    from_at: Ints  # [K + 1]
    from_w: Ints
    from_i: Ints
    table: Floats  # [R, D, D]


class Net(NamedTuple):
    """The cluster. Seconds a byte and seconds; inf where there is no link."""

    wire: Floats  # [D, D]
    lat: Floats  # [D, D]
    send: Floats  # [D]
    recv: Floats  # [D]
    ov: Floats  # [D] a stage
    rank: Ints  # [D] by name
    kin: Ints  # [D] classes of devices that are alike; −1 for none
    loose: Bools  # [D, D] whether exchanging alike devices may reverse the order of their names
    multicast: bool


class Moves(NamedTuple):
    """M transfers: of tensor `tensor` from operator or stage `src` to device `to`.

    `ready`: seconds from the end of its source to its readiness; `span`: how long it holds its
    link and ingress; `egress`: how long its sender, in a multicast for the slowest receiver;
    `after`: from the end of `span` to its arrival.
    """

    src: Ints  # [M]
    tensor: Ints  # [M]
    to: Ints  # [M]
    ready: Floats  # [M]
    span: Floats  # [M]
    egress: Floats  # [M]
    after: Floats  # [M]
