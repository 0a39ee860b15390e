"""Event simulation of a plan: an opinion that shares no formula with the evaluator."""

from cutset.simulation.stream import Simulation, simulate
from cutset.simulation.tracks import Span
from cutset.simulation.what_if import what_if

__all__ = ["Simulation", "Span", "simulate", "what_if"]
