"""A second of a live session in one line."""

from __future__ import annotations

from cutset.adaptation.conditions import Conditions
from cutset.adaptation.cuts import Cut, Cuts
from cutset.adaptation.live import Line
from cutset.adaptation.words import line_in_words
from cutset.plan import Plan, Stage


def test_a_line_says_what_is_known() -> None:
    plan = Plan((Stage("a", "pi", ("x",)),))
    cut = Cut("cut 3", plan, 1.0, 0.0, 10, 10, 1.0, True, True, True)
    cuts = Cuts("pi", "server", (cut,))
    line = Line(3.0, Conditions(2.04e7, float("inf"), load=1.26), 0, 4, 0.2, (), 0.1)
    assert line_in_words(line, cuts).strip().split("  ") == [
        "3 s",
        "up 20 Mbit/s",
        "down unlimited",
        "load 1.3",
        "cut 3",
        "p50 100 ms",
        "4 requests",
    ]
    falls = Line(3.0, Conditions(1e6, 1e6), 0, 4, 0.2, (), 0.1, None, 3, 1.2, 2.0)
    assert "  3 fell back  cut 3  p50 100 ms  4 requests" in line_in_words(falls, cuts)
    stands = Line(9.0, Conditions(1e6, 1e6), 0, 0, None, (), None, None, 0, 0.0, 7.3)
    assert "  load 1.0  one waits 7 s  cut 3  p50 –  0 requests" in line_in_words(stands, cuts)
    lost = Line(3.0, Conditions(1e6, 1e6, lost=True, slowdown=2.0), 0, 0, None, ())
    assert "server lost  device 2.0x slower  cut 3  p50 –  0 requests" in line_in_words(lost, cuts)
