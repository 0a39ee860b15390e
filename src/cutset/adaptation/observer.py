"""What is believed to hold, by what was seen: observations in, Conditions out; pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from cutset.adaptation.conditions import Conditions
from cutset.adaptation.cuts import Cuts
from cutset.adaptation.observations import (
    SMALL_BYTES,
    Back,
    DeviceRun,
    Lost,
    Observation,
    RoundTrip,
    ServerRun,
    Transfer,
)
from cutset.adaptation.recent import mean_wait_s, with_ping, with_wait
from cutset.adaptation.server_looks import LEAST_RUN_S, server_gap_s
from cutset.adaptation.window import Sample, Window

#: What is as short differs by less for no reason: a scheduler alone makes as much of a difference.
DIFFERS_S = 1e-3
#: A request's few bytes come behind threads of two machines, which are late by more.
SMALL_DIFFERS_S = 5e-3
#: So long a busy server's scheduler lets each of those that compete run before it lets the threads
#: go on that send an answer: a tick of most kernels.
SLICE_S = 4e-3
#: By so much a run takes longer or shorter for no reason that lasts: a slice of the scheduler that
#: went to somebody else, a cache that went cold.
RUN_DIFFERS_S = 3e-3
#: What so short a segment takes says nothing then: a few of them would overrule what long ones say.
SHORT_RUN_S = 5e-3
#: A server's segment that is expected to take so long is a mean over many slices of its scheduler.
LONG_RUN_S = 0.1
#: After so long without a run, a server (or the device) is believed to recover, and what its load
#: exceeds 1 by, and its queue, halve in each such time. A server that is looked at more rarely has
#: the time between two looks for it.
RECOVERS_S = 2.0

#: Beyond these nothing can be measured.
_MOST_S = 1e6
_LEAST_BPS, _MOST_BPS = 1e-3, 1e13
_MOST_BYTES = 2**63
_MOST_FACTOR = 1e6
#: Two threads stamp what they see and tell it in the other order; later than that is no race.
_BACKWARDS_S = 1.0
#: No clock advances so far between two observations.
_FORWARDS_S = 1e9


@dataclass(frozen=True)
class Seen:
    """What is remembered of all observations up to `at_s`; bounded.

    `up` and `down` are in seconds per bit, `load` and `slowdown` in seconds per expected second.
    `up_at_s`, `down_at_s`, `load_at_s`, `queue_at_s`, `device_at_s` and `ping_at_s` say when
    something was last learnt (at the start: then): a short run shows the queue, and no load. After
    each `server_recovers_s` without, the server is believed to have recovered by half. `ignored`
    counts the observations that cannot be, by reason.
    """

    stated: Conditions
    at_s: float
    up: Window
    down: Window
    load: Window
    slowdown: Window
    up_at_s: float
    down_at_s: float
    load_at_s: float
    queue_at_s: float
    device_at_s: float
    ping_at_s: float
    server_recovers_s: float
    pings: tuple[float, ...] = ()
    waits: tuple[float, ...] = (0.0,)
    lost: bool = False
    ignored: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Observer:
    """Folds observations of requests over these cuts into Seen.

    It follows a step within two samples (window.LAG_SAMPLES) of what changed, one of them where it
    is a long run on the server that took twice as long, or half; where samples are
    so noisy that the step could be noise, as the window's mean does, within eight.
    """

    cuts: Cuts

    def start(self, stated: Conditions, at_s: float) -> Seen:
        """What is stated holds until something else is seen; a rate of 0 is an unknown one."""
        start_s = at_s if math.isfinite(at_s) else 0.0
        stated = _sane(stated)
        return Seen(
            stated=stated,
            at_s=start_s,
            up=Window(_per_bit_s(stated.up_bps)),
            down=Window(_per_bit_s(stated.down_bps)),
            load=Window(stated.load),
            slowdown=Window(stated.slowdown),
            up_at_s=start_s,
            down_at_s=start_s,
            load_at_s=start_s,
            queue_at_s=start_s,
            device_at_s=start_s,
            ping_at_s=start_s,
            server_recovers_s=max(RECOVERS_S, server_gap_s(self.cuts)),
            waits=(stated.queue_s,),
            lost=stated.lost,
        )

    def see(self, seen: Seen, observation: Observation) -> Seen:
        """What is remembered after an observation; one that cannot be is only counted."""
        wrong = self._wrong(seen, observation)
        if wrong:
            counts = dict(seen.ignored)
            counts[wrong] = counts.get(wrong, 0) + 1
            return replace(seen, ignored=tuple(counts.items()))
        at_s = max(seen.at_s, observation.at_s)
        seen = replace(seen, at_s=at_s)
        match observation:
            case Transfer():
                return _with_transfer(seen, observation)
            case ServerRun():
                return _with_server_run(seen, observation, self.cuts.cuts[observation.cut].server_s)
            case DeviceRun(cut=cut, compute_s=compute_s):
                expected_s = self.cuts.cuts[cut].device_s
                if expected_s < LEAST_RUN_S:
                    return seen
                sample = Sample(expected_s, compute_s, at_s, dead_band_s=RUN_DIFFERS_S)
                slowdown = seen.slowdown
                left = _device_left(seen, at_s)
                if left < 1:
                    slowdown = slowdown.faded(_recovered(slowdown, left), sample)
                if _says_nothing(sample, slowdown.value):
                    return seen
                return replace(seen, slowdown=slowdown.add(sample), device_at_s=at_s)
            case RoundTrip(took_s=took_s):
                return replace(seen, pings=with_ping(seen.pings, took_s), ping_at_s=at_s)
            case Lost():
                return replace(seen, lost=True)
            case Back():
                return replace(seen, lost=False)
        return seen  # Asked says nothing, and Truth is not for it

    def _wrong(self, seen: Seen, observation: Observation) -> str:
        """Why an observation cannot be; "" where it can."""
        at_s = observation.at_s
        if not math.isfinite(at_s):
            return "not a number"
        if at_s < seen.at_s - _BACKWARDS_S:
            return "backwards in time"
        if at_s > seen.at_s + _FORWARDS_S:
            return "beyond all sense"
        match observation:
            case Transfer():
                if observation.bytes == 0:
                    return "of nothing"
                if observation.bytes < 0:
                    return "negative"
                if observation.bytes > _MOST_BYTES:
                    return "beyond all sense"
                if wrong := _wrong_time(observation.took_s):
                    return wrong
                too_fast = 8 * observation.bytes > _MOST_BPS * observation.took_s
                return "faster than any link" if too_fast else ""
            case RoundTrip():
                return _wrong_time(observation.took_s)
            case DeviceRun():
                return self._wrong_run(observation, "device_s")
            case ServerRun():
                if observation.queue_s != 0 and (wrong := _wrong_time(observation.queue_s)):
                    return wrong
                if observation.unfinished and observation.compute_s == 0:  # it waits yet
                    return "" if 0 <= observation.cut < len(self.cuts.cuts) else "unknown cut"
                return self._wrong_run(observation, "server_s")
        return ""

    def _wrong_run(self, run: ServerRun | DeviceRun, expected: str) -> str:
        if not 0 <= run.cut < len(self.cuts.cuts):
            return "unknown cut"
        if wrong := _wrong_time(run.compute_s):
            return wrong
        expected_s = getattr(self.cuts.cuts[run.cut], expected)
        if expected_s < LEAST_RUN_S:
            return ""
        factor = run.compute_s / expected_s
        return "" if 1 / _MOST_FACTOR <= factor <= _MOST_FACTOR else "beyond all sense"


def believed(seen: Seen, at_s: float) -> Conditions:
    """What is believed to hold at `at_s`; a time before the last observation is taken as that.

    All is finite and none negative. A server that was not seen for some time is believed to
    recover: else a device that left it would never return, nor would one that was slow for a moment
    ever compute again. Links are believed to stay as they
    were.
    """
    at_s = max(seen.at_s, at_s) if math.isfinite(at_s) else seen.at_s
    half_s = min(seen.pings) / 2 if seen.pings else None
    return Conditions(
        up_bps=_bps(seen.up.value),
        down_bps=_bps(seen.down.value),
        up_latency_s=seen.stated.up_latency_s if half_s is None else half_s,
        down_latency_s=seen.stated.down_latency_s if half_s is None else half_s,
        load=_recovered(seen.load, _load_left(seen, at_s)),
        queue_s=mean_wait_s(seen.waits) * _queue_left(seen, at_s),
        slowdown=_recovered(seen.slowdown, _device_left(seen, at_s)),
        lost=seen.lost,
    )


def errors(seen: Seen) -> Mapping[str, float | None]:
    """The relative standard error of what is believed; None where there are too few samples."""
    return {
        "up_bps": seen.up.error,
        "down_bps": seen.down.error,
        "load": seen.load.error,
        "slowdown": seen.slowdown.error,
    }


def _with_transfer(seen: Seen, transfer: Transfer) -> Seen:
    small = transfer.bytes < SMALL_BYTES and not transfer.look
    sample = Sample(
        8 * transfer.bytes,
        transfer.took_s,
        seen.at_s,
        bound=small,
        unfinished=transfer.unfinished,
        at_most=transfer.at_most,
        dead_band_s=_dead_band_s(seen, transfer, small),
    )
    window = seen.up if transfer.up else seen.down
    added = window.add(sample)
    if added is window:
        return seen  # nothing was learnt: it stays as old as it was
    if transfer.up:
        return replace(seen, up=added, up_at_s=seen.at_s)
    return replace(seen, down=added, down_at_s=seen.at_s)


def _dead_band_s(seen: Seen, transfer: Transfer, small: bool) -> float:
    """By how many seconds it may differ for no reason that is the link's; `small`: it is a
    request's few bytes."""
    if transfer.look:
        return DIFFERS_S
    if not small:
        return 0.0
    others = 0.0 if transfer.up else max(0.0, seen.load.value - 1)
    return SMALL_DIFFERS_S + others * SLICE_S


def _with_server_run(seen: Seen, run: ServerRun, expected_s: float) -> Seen:
    load, waits = seen.load, seen.waits
    if (left := _queue_left(seen, seen.at_s)) < 1:
        waits = tuple(wait_s * left for wait_s in waits)
    if not run.unfinished or run.queue_s > mean_wait_s(waits):
        waits = with_wait(waits, run.queue_s)
    if run.compute_s > 0 and expected_s >= LEAST_RUN_S:
        sample = Sample(
            expected_s,
            run.compute_s,
            seen.at_s,
            unfinished=run.unfinished,
            long=expected_s >= LONG_RUN_S and not run.unfinished,
            dead_band_s=RUN_DIFFERS_S,
        )
        if (left := _load_left(seen, seen.at_s)) < 1:
            load = load.faded(_recovered(load, left), sample)
        load = seen.load if _says_nothing(sample, load.value) else load.add(sample)
    return replace(
        seen,
        load=load,
        waits=waits,
        load_at_s=seen.load_at_s if load is seen.load else seen.at_s,
        queue_at_s=seen.queue_at_s if waits is seen.waits else seen.at_s,
    )


def _says_nothing(run: Sample, believed: float) -> bool:
    """Whether a short run is as believed, or as far from it as it may be by chance."""
    by_chance = abs(run.seconds - believed * run.amount) <= run.dead_band_s
    return run.amount < SHORT_RUN_S and by_chance and not run.unfinished


def _load_left(seen: Seen, at_s: float) -> float:
    """What is left of it, 0 to 1, by how long nothing was seen of it."""
    return _left(at_s - seen.load_at_s, seen.server_recovers_s)


def _queue_left(seen: Seen, at_s: float) -> float:
    return _left(at_s - seen.queue_at_s, seen.server_recovers_s)


def _device_left(seen: Seen, at_s: float) -> float:
    return _left(at_s - seen.device_at_s, RECOVERS_S)


def _left(unseen_s: float, recovers_s: float) -> float:
    return float(0.5 ** max(0.0, unseen_s / recovers_s - 1))


def _recovered(window: Window, left: float) -> float:
    """The factor that a window has, as it is believed when so much is left of a load."""
    value = window.value
    # Below 1 it is no load that could go away: the machine is faster than its profile says.
    return value if value <= 1 else 1 + (value - 1) * left


def _wrong_time(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "not a number"
    if seconds < 0:
        return "negative"
    if seconds > _MOST_S:
        return "beyond all sense"
    return "no time" if seconds == 0 else ""


def _sane(stated: Conditions) -> Conditions:
    """With what no measurement can be taken as unknown: a rate of 0, no latency, no load."""

    def rate(bps: float) -> float:
        return min(bps, _MOST_BPS) if bps >= _LEAST_BPS else 0.0

    def time(seconds: float) -> float:
        return seconds if 0 <= seconds <= _MOST_S else 0.0

    def factor(times: float) -> float:
        return times if 1 / _MOST_FACTOR <= times <= _MOST_FACTOR else 1.0

    return Conditions(
        up_bps=rate(stated.up_bps),
        down_bps=rate(stated.down_bps),
        up_latency_s=time(stated.up_latency_s),
        down_latency_s=time(stated.down_latency_s),
        load=factor(stated.load),
        queue_s=time(stated.queue_s),
        slowdown=factor(stated.slowdown),
        lost=stated.lost,
    )


def _per_bit_s(rate_bps: float) -> float:
    return 1 / rate_bps if rate_bps > 0 else math.inf


def _bps(per_bit_s: float) -> float:
    return 1 / per_bit_s
