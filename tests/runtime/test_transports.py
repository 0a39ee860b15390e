"""All transports pass the suite that is shipped for third parties."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from cutset.runtime.direct_transport import DirectTransport
from cutset.runtime.local_transport import LocalNetwork
from cutset.runtime.transport import Transport
from cutset.runtime.zenoh_transport import ZenohTransport, free_endpoint
from cutset.testing.transport_conformance import TransportConformance


@contextmanager
def closing(peers: Sequence[Transport]) -> Iterator[Sequence[Transport]]:
    try:
        yield peers
    finally:
        for peer in peers:
            peer.close()


class TestLocal(TransportConformance):
    def peers(self, count: int):  # type: ignore[no-untyped-def]
        network = LocalNetwork()
        return closing([network.join(f"p{i}") for i in range(count)])


class TestZenoh(TransportConformance):
    def peers(self, count: int):  # type: ignore[no-untyped-def]
        hub = free_endpoint()
        return closing(
            [
                ZenohTransport(
                    listen=(hub if i == 0 else free_endpoint(),), connect=(hub,) if i else ()
                )
                for i in range(count)
            ]
        )


def test_a_peer_that_comes_later_is_met() -> None:
    there = free_endpoint()
    first = ZenohTransport(listen=(free_endpoint(),), connect=(there,))
    first.start(lambda *_: None, lambda _: None)
    with closing([first]):
        assert not first.wait_for("nobody", 3.0)  # the first attempts have failed by now
        second = ZenohTransport(listen=(there,))
        with closing([second]):
            second.start(lambda *_: None, lambda _: None)
            assert first.wait_for(second.address, 30.0)


class TestDirect(TransportConformance):
    def peers(self, count: int):  # type: ignore[no-untyped-def]
        hub = free_endpoint()
        return closing(
            [
                DirectTransport(
                    ZenohTransport(
                        listen=(hub if i == 0 else free_endpoint(),),
                        connect=(hub,) if i else (),
                        mesh=False,
                    ),
                    listen=(hub,),
                )
                for i in range(count)
            ]
        )
