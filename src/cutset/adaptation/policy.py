"""Which cut the next request takes: a pure step(state, observation) -> (state, decision)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from cutset.adaptation.conditions import Conditions
from cutset.adaptation.cuts import Cuts
from cutset.adaptation.observations import Observation

S = TypeVar("S")


@dataclass(frozen=True)
class Decision:
    """The cut (an index into Cuts) for the next request, and why it is another one than before.

    `reason` is "" where the cut stays. `believed` is what the decision rests on.
    """

    cut: int
    reason: str
    believed: Conditions


@dataclass(frozen=True)
class Switch:
    """A change from one cut to another (indices into Cuts); `at_s` counts from the start."""

    at_s: float
    before: int
    after: int
    reason: str


class Policy(Protocol, Generic[S]):
    """A frozen dataclass whose fields are its options; its states are frozen too."""

    @property
    def name(self) -> str: ...

    def start(self, cuts: Cuts, stated: Conditions, at_s: float) -> S:
        """The state before anything was seen; `stated` is what the profile measured."""

    def step(self, state: S, observation: Observation) -> tuple[S, Decision]:
        """Whatever is observed is safe: what cannot be (negative, absurd, backwards in time) is
        left out of the state."""
