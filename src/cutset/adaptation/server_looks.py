"""Which segment is run to look at the server, and how often that may be; pure."""

from __future__ import annotations

from cutset.adaptation.cuts import Cuts
from cutset.adaptation.observations import SHOWS_LOAD_S

#: Of what the server could compute, what looks may take. They are counted by what they take it
#: unloaded: that is what they cost whoever else computes there, as under load they wait for others.
SERVER_SHARE = 0.06
#: Segments that are expected to take less say nothing about load.
LEAST_RUN_S = 1e-3


def server_look(cuts: Cuts) -> int | None:
    """The cut whose segment is run to see the load: the cheapest that shows it well, else the
    largest; None where none shows it at all."""
    segments = [
        (cut.server_s, index)
        for index, cut in enumerate(cuts.cuts)
        if cut.uses_server and cut.server_s >= LEAST_RUN_S
    ]
    good = [segment for segment in segments if segment[0] >= SHOWS_LOAD_S]
    return min(good)[1] if good else max(segments)[1] if segments else None


def server_gap_s(cuts: Cuts) -> float:
    """Between looks at the server, where nothing is left of before; 0 where it is not looked at."""
    index = server_look(cuts)
    return 0.0 if index is None else cuts.cuts[index].server_s / SERVER_SHARE
