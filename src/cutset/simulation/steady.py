"""The long-run period of a simulated stream."""

from __future__ import annotations

from dataclasses import dataclass

from cutset.simulation.events import Record


@dataclass(frozen=True)
class Cycle:
    """From one admission to another, in the network's units: `requests` were admitted between.

    `exact`: the state at both is the same, so that what is between repeats for ever.
    """

    begin: float
    end: float
    requests: int
    exact: bool

    @property
    def period(self) -> float:
        return (self.end - self.begin) / self.requests


def find_cycle(record: Record) -> Cycle | None:
    """The shortest cycle at the end of a stream, or else its later half; None where it is short.

    What a request does is its starts, counted from its admission. Where all requests under way
    at two admissions do the same and were admitted at the same distances, the states are equal,
    and as nothing is left to chance what follows is too. Requests that end after the last
    admission are left out: the stream thins out around them.
    """
    admitted, finished = record.admitted, record.finished
    last = admitted[-1]
    clean = next((n for n, end in enumerate(finished) if end > last), len(finished))
    if clean < 2:
        return None
    known: dict[tuple[float, ...], int] = {}
    acts = [
        known.setdefault(tuple(s - begin for s in starts), len(known))
        for begin, starts in zip(admitted[:clean], record.starts, strict=False)
    ]
    oldest: list[int] = []  # still under way at each admission
    first = 0
    for begin in admitted[:clean]:
        while finished[first] <= begin and first < len(oldest):
            first += 1
        oldest.append(first)
    n = clean - 1
    for k in range(1, clean // 2 + 1):
        low = min(oldest[n], oldest[n - k] + k)
        if low - k < 0 or acts[n] != acts[n - k]:
            continue
        offset = admitted[n] - admitted[n - k]
        if all(
            acts[m] == acts[m - k] and admitted[m] - admitted[m - k] == offset
            for m in range(low, n)
        ):
            return Cycle(admitted[n - k], admitted[n], k, exact=True)
    half = clean // 2
    return Cycle(admitted[half - 1], admitted[n], n - half + 1, exact=False)
