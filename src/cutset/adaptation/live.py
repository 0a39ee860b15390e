"""The loop of a live session: what requests and looks show goes to the policy, which is asked for
each request's cut. The shell around `passages`, `observer`, `policies` and `probing`."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from cutset.adaptation import live_looks, probing
from cutset.adaptation.beside import Beside, nothing, of_request
from cutset.adaptation.conditions import Conditions
from cutset.adaptation.cuts import Cuts
from cutset.adaptation.live_looks import Looks
from cutset.adaptation.observations import (
    Asked,
    Back,
    Lost,
    Observation,
    ServerRun,
    Transfer,
)
from cutset.adaptation.observer import Observer, Seen, believed
from cutset.adaptation.passages import Passages
from cutset.adaptation.policy import Decision, Policy, Switch
from cutset.errors import CutsetError
from cutset.report import percentile

WATCH_S: Final = 0.05  # how often what is late is looked for
STOOD_STILL_S: Final = 3 * WATCH_S
LINE_S: Final = 1.0
STOP_S: Final = 0.5
MOST_SWITCHES: Final = 100_000
MOST_BEGUN: Final = 4096  # requests whose beginning is known; those given up are forgotten in time
MOST_CROSSED: Final = 0.1  # of a look's bytes, what requests may have sent between them


@dataclass(frozen=True)
class Line:
    """What was believed at `at_s` (seconds from the start), and the interval since the last line.

    `requests` are those that were answered in it, `fallbacks` of them by the fallback, in
    `fallbacks_s` altogether. `latency_s` is their mean, `p50_s` their median (nearest rank), None
    without any; `beside` is what other cuts would have taken for those that the devices answered.
    `waiting_s` is for how long the oldest request has been under way.
    """

    at_s: float
    believed: Conditions
    cut: int
    requests: int
    latency_s: float | None
    switches: tuple[Switch, ...]
    p50_s: float | None = None
    beside: Beside | None = None
    fallbacks: int = 0
    fallbacks_s: float = 0.0
    waiting_s: float = 0.0


class Adapter:
    """Chooses each request's cut (runtime.held_plans.Traffic).

    `stated` is believed until something is seen. `on_line` gets a Line each second, by a thread of
    its own. Safe to use from several threads.
    """

    def __init__(
        self,
        policy: Policy[Any],
        cuts: Cuts,
        stated: Conditions,
        *,
        overhead_s: float = 0.0,
        answer_delay_s: float = 0.0,
        on_line: Callable[[Line], None] = lambda line: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.cuts = cuts
        self.policy = policy
        self._clock = clock
        self._on_line = on_line
        self._lock = threading.Lock()
        self._observer = Observer(cuts)
        self._stated = stated
        self._delays_s = overhead_s, answer_delay_s
        self._state: Any
        self._cut: int | None
        self._decision: Decision | None
        self._switches: list[Switch]
        self._ended_s: list[float]
        self._fell_back_s: list[float]
        self._beginnings = 0
        self._first_s: dict[int, float]
        self._begin(policy)
        self._reroute: Callable[[int, int], None] = lambda request, plan: None
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._error: Exception | None = None

    # --- for whoever runs it

    def start(
        self, looks: Looks, reroute: Callable[[int, int], None] = lambda request, plan: None
    ) -> None:
        """Begin to watch and to look. `reroute` begins a request anew with another cut."""
        with self._lock:
            self._reroute = reroute
            self._start_s = self._line_at_s = self._clock()
        for name, loop in (("watch", self._watch), ("look", self._look)):
            thread = threading.Thread(
                target=loop, args=(looks,), name=f"cutset-{name}", daemon=True
            )
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """End both threads; the last, partial second is told. A look that is not answered ends a
        little later, by itself, and is forgotten. Raises what `on_line`, or the policy where it was
        told of something, raised first."""
        self._stopping.set()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(STOP_S)
        if self._threads:
            self._threads.clear()
            self._tell()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def renew(self, policy: Policy[Any]) -> float:
        """From now on ask `policy`, as if nothing had been seen but that the server is lost, if it
        is. Times count from now, which is returned (on this adapter's clock). For between
        requests: what is under way is forgotten."""
        with self._lock:
            lost = self._seen.lost
            self._begin(policy)
            if lost:
                self._fold((Lost(self._start_s),))
            return self._start_s

    def told(self, observation: Observation) -> None:
        """What somebody else knows, such as a replay that makes the conditions (Truth)."""
        with self._lock:
            self._fold((observation,))

    @property
    def switches(self) -> tuple[Switch, ...]:
        with self._lock:
            return tuple(self._switches)

    @property
    def begun_anew(self) -> int:
        """How many requests were stuck and begun anew on this device."""
        with self._lock:
            return self._begun_anew

    @property
    def cut(self) -> int | None:
        """The cut of the last request; None before the first."""
        with self._lock:
            return self._cut

    @property
    def requests(self) -> tuple[int, ...]:
        """How many requests went by each cut."""
        with self._lock:
            return tuple(self._counts[i] for i in range(len(self.cuts.cuts)))

    @property
    def seen(self) -> Seen:
        with self._lock:
            return self._seen

    @property
    def looked(self) -> probing.Probing:
        """What looking has cost so far."""
        with self._lock:
            return self._probing

    def believed(self) -> Conditions:
        with self._lock:
            return believed(self._seen, self._clock())

    # --- Traffic

    def select(self) -> int:
        with self._lock:
            return self._decide(self._clock())

    def began(self, request: int, plan: int) -> None:
        with self._lock:
            now_s = self._clock()
            self._passages.began(request, plan, now_s)
            self._taken(plan, now_s)
            self._counts[plan] += 1
            self._first_s.setdefault(request, now_s)
            if len(self._first_s) > MOST_BEGUN:
                del self._first_s[next(iter(self._first_s))]

    def ran(self, request: int, plan: int, queue_s: float, compute_s: float) -> None:
        with self._lock:
            now_s = self._clock()
            self._fold(self._passages.ran(request, plan, compute_s, now_s))

    def sent(self, request: int, plan: int, size_bytes: int, held_s: float) -> None:
        with self._lock:
            now_s = self._clock()
            self._fold(self._passages.sent(request, plan, size_bytes, held_s, now_s))

    def arrived(
        self, request: int, plan: int, size_bytes: int, queue_s: float, compute_s: float
    ) -> None:
        with self._lock:
            now_s = self._clock()
            told = self._passages.arrived(request, plan, size_bytes, queue_s, compute_s, now_s)
            self._fold(told)

    def ended(self, request: int, *, answered: bool) -> None:
        with self._lock:
            now_s = self._clock()
            cut = self._passages.cut_of(request)
            took_s, told = self._passages.ended(
                request, answered=answered, believed=believed(self._seen, now_s), at_s=now_s
            )
            self._fold(told)
            # One that was begun anew ends twice: its first way unanswered.
            if answered and took_s is not None and cut is not None:
                self._ended_s.append(now_s - self._first_s.pop(request, now_s - took_s))
                self._beside += of_request(self.cuts, believed(self._seen, now_s), cut)

    def fell_back(self, took_s: float) -> None:
        with self._lock:
            self._ended_s.append(took_s)
            self._fell_back_s.append(took_s)

    def lost(self, error: CutsetError) -> None:
        with self._lock:
            self._fold((Lost(self._clock()),))

    def back(self) -> None:
        with self._lock:
            self._fold((Back(self._clock()),))

    # --- inside

    def _begin(self, policy: Policy[Any]) -> None:
        """Everything as it is before anything was seen."""
        now_s = self._clock()
        self.policy = policy
        self._beginnings += 1
        self._start_s = self._line_at_s = now_s
        self._seen = self._observer.start(self._stated, now_s)
        self._state = policy.start(self.cuts, self._stated, now_s)
        self._probing = probing.start(now_s)
        self._passages = Passages(self.cuts, *self._delays_s)
        self._cut = None
        self._decision = None
        self._switches = []
        self._lines_told = 0  # how many of them lines have told
        self._ended_s = []
        self._fell_back_s = []
        self._first_s = {}
        self._begun_anew = 0
        self._beside = nothing(self.cuts)
        self._counts = dict.fromkeys(range(len(self.cuts.cuts)), 0)

    def _fold(self, told: Iterable[Observation]) -> None:
        for observation in told:
            self._seen = self._observer.see(self._seen, observation)
            # What a policy makes of it is its own: the threads that tell it are the session's.
            with self._remembered():
                self._state, _ = self.policy.step(self._state, observation)

    @contextlib.contextmanager
    def _remembered(self) -> Iterator[None]:
        """The first error of what others wrote is raised by `stop`, as the run must not suffer."""
        try:
            yield
        except Exception as error:
            self._error = self._error or error

    def _watch(self, looks: Looks) -> None:
        before_s = self._clock()
        while not self._stopping.wait(WATCH_S):
            with self._lock:
                now_s = self._clock()
                # Where this very loop is late, this device stood still, and nothing else need be.
                stood_still = now_s - before_s > STOOD_STILL_S
                before_s = now_s
                stuck = self._late(now_s) if len(self._passages) and not stood_still else []
                due = now_s >= self._line_at_s + LINE_S
                up_bps = believed(self._seen, now_s).up_bps
            for request in stuck:
                assert self.cuts.local is not None
                self._reroute(request, self.cuts.local)
            looks.expect(up_bps)
            if due:
                self._tell()

    def _decide(self, now_s: float) -> int:
        self._state, decision = self.policy.step(self._state, Asked(now_s))
        last = self._decision
        if last is None or decision.reason or decision.cut != last.cut:
            self._decision = decision  # else the reason for it was said before
        return decision.cut

    def _taken(self, cut: int, now_s: float) -> None:
        """A request goes this way: the one decided for, or another where that is not loaded."""
        if self._cut not in (None, cut) and len(self._switches) < MOST_SWITCHES:
            at_s = now_s - self._start_s
            self._switches.append(Switch(at_s, self._cut, cut, self._why(cut)))
        self._cut = cut

    def _why(self, cut: int) -> str:
        decision = self._decision
        if decision is not None and decision.cut == cut:
            return decision.reason or "its cut is loaded again"
        return "server lost" if self._seen.lost else "the cut to take is not loaded"

    def _late(self, now_s: float) -> list[int]:
        """Fold what is late; the requests that this device alone should answer, also by the
        policy: one that stays on its way stays there."""
        self._fold(self._passages.overdue(believed(self._seen, now_s), now_s))
        stuck = self._passages.stuck(believed(self._seen, now_s), now_s)
        if not stuck:
            return []
        with self._remembered():
            if self._decide(now_s) == self.cuts.local:
                self._begun_anew += len(stuck)
                return stuck
        return []

    def _tell(self) -> None:
        with self._lock:
            now_s = self._clock()
            ended_s, self._ended_s = self._ended_s, []
            fell_back_s, self._fell_back_s = self._fell_back_s, []
            beside, self._beside = self._beside, nothing(self.cuts)
            new = tuple(self._switches[self._lines_told :])
            self._lines_told = len(self._switches)
            self._line_at_s = now_s
            line = Line(
                now_s - self._start_s,
                believed(self._seen, now_s),
                self._cut if self._cut is not None else 0,
                len(ended_s),
                sum(ended_s) / len(ended_s) if ended_s else None,
                new,
                percentile(ended_s, 0.5) if ended_s else None,
                beside,
                len(fell_back_s),
                sum(fell_back_s),
                self._passages.waiting_s(now_s),
            )
        with self._remembered():
            self._on_line(line)

    def _look(self, looks: Looks) -> None:
        while not self._stopping.wait(WATCH_S):
            with self._lock:
                now_s = self._clock()
                self._probing, action = probing.next_action(
                    self._probing, self._seen, self.cuts, now_s, self._passages.use
                )
                beginning = self._beginnings
            if action is not None:
                self._act(looks, action, beginning)

    def _act(self, looks: Looks, action: probing.Action, beginning: int) -> None:
        start_s = self._clock()
        with self._lock:
            crossed = {up: self._passages.crossed_bytes(up) for up in (True, False)}
            filled = self._passages.use.fills_up
        found: Observation | None = None
        with contextlib.suppress(CutsetError):
            found = live_looks.look(looks, action, self._clock)
        with self._lock:
            if beginning != self._beginnings or self._stopping.is_set():
                return  # it shows what held before
            now_s = self._clock()
            if found is None:
                # It may have waited behind what a request sends, which shows the link by itself.
                if not (filled or self._passages.use.fills_up):
                    found = live_looks.unanswered(action, now_s, now_s - start_s)
            else:
                self._probing = probing.looked(
                    self._probing,
                    action,
                    now_s,
                    probing.look_bytes(action),
                    found.compute_s if isinstance(found, ServerRun) else 0.0,
                    read=not (isinstance(found, Transfer) and found.at_most),
                )
            if isinstance(found, Transfer):
                between = self._passages.crossed_bytes(found.up) - crossed[found.up]
                if between > MOST_CROSSED * found.bytes:
                    return  # a request's own transfer may have been between the two
            if found is not None:
                self._fold((found,))
