"""A policy that the benchmark steers: it forces a request's cut, or asks one of several policies.

All cuts are loaded, so that any request can take any of them, and one deployment serves all
policies that are compared.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from cutset.adaptation.conditions import Conditions
from cutset.adaptation.cuts import Cuts
from cutset.adaptation.observations import Asked, DeviceRun, Observation, ServerRun, Transfer, Truth
from cutset.adaptation.policy import Decision, Policy

#: Observations that are kept: what the policies' own cost is measured with.
LATEST = 64


@dataclass(frozen=True)
class Sent:
    """A request was sent at `at_s` (the adapter's clock) by the cut of `decision`."""

    at_s: float
    decision: Decision


@dataclass
class Script:
    """What the next request takes: `forced` if that is not None, else what `active` says.

    Only the active policy observes, so that its choice rests on traffic that it caused itself;
    what was observed while it was not active is unknown to it. `truth`, where it is set, is what
    the oracle is told before each request.
    """

    policies: dict[str, Policy[Any]]
    active: str
    forced: int | None = None
    truth: Conditions | None = None
    states: dict[str, Any] = field(default_factory=dict)
    sent: list[Sent] = field(default_factory=list)
    runs: list[ServerRun] = field(default_factory=list)
    transfers: list[Transfer] = field(default_factory=list)
    latest: deque[Observation] = field(default_factory=lambda: deque(maxlen=LATEST))

    def begin(self, cuts: Cuts, stated: Conditions, at_s: float) -> None:
        """All policies as they are before anything is seen."""
        for name, policy in self.policies.items():
            self.states[name] = policy.start(cuts, stated, at_s)

    def step(self, observation: Observation) -> Decision:
        policy, asked = self.policies[self.active], isinstance(observation, Asked)
        if asked and self.truth is not None:
            told = Truth(observation.at_s, self.truth)
            self.states[self.active], _ = policy.step(self.states[self.active], told)
        if asked and self.forced is not None:
            # Not asked at all: a request that was forced is none of the policy's own.
            decision = Decision(self.forced, "", self.truth or Conditions(0.0, 0.0))
        elif self.forced is None:
            self.states[self.active], decision = policy.step(self.states[self.active], observation)
        else:
            decision = Decision(self.forced, "", self.truth or Conditions(0.0, 0.0))
        self._note(observation, decision)
        return decision

    def _note(self, observation: Observation, decision: Decision) -> None:
        match observation:
            case Asked(at_s=at_s):
                self.sent.append(Sent(at_s, decision))
            case ServerRun(unfinished=False):
                self.runs.append(observation)
                self.latest.append(observation)
            case DeviceRun():
                self.latest.append(observation)
            case Transfer():
                self.latest.append(observation)
                self.transfers.append(observation)

    def forget(self) -> None:
        """Drop what was noted so far."""
        self.sent.clear()
        self.runs.clear()
        self.transfers.clear()

    @property
    def fewest_transfers(self) -> int:
        """How many whole transfers were noted, of the way with fewer."""
        ways = [t.up for t in self.transfers if not t.unfinished]
        return min(ways.count(True), ways.count(False))


@dataclass(frozen=True)
class Steered:
    """The policy that the deployment has: all it does is the script's."""

    script: Script

    @property
    def name(self) -> str:
        return "steered"

    def start(self, cuts: Cuts, stated: Conditions, at_s: float) -> Script:
        self.script.begin(cuts, stated, at_s)
        return self.script

    def step(self, state: Script, observation: Observation) -> tuple[Script, Decision]:
        return state, state.step(observation)
