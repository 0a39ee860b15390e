from dataclasses import replace

import pytest
from cut_cases import CUTS, EARLY, LATE, LOCAL, OFFLOAD

from cutset.adaptation.conditions import Conditions
from cutset.adaptation.reasons import reason

BEFORE = Conditions(20e6, 20e6, 0.003, 0.003)


@pytest.mark.parametrize(
    ("left", "taken", "changed", "words"),
    [
        (EARLY, LATE, {"up_bps": 4.8e6}, "bandwidth up 20 -> 4.8 Mbit/s"),
        (EARLY, LOCAL, {"up_bps": 150e3}, "bandwidth up 20 -> 0.15 Mbit/s"),
        (EARLY, LOCAL, {"up_bps": 50e3}, "bandwidth up 20 Mbit/s -> 50 kbit/s"),
        (EARLY, OFFLOAD, {"up_bps": 1.5e9}, "bandwidth up 20 Mbit/s -> 1.5 Gbit/s"),
        (EARLY, LOCAL, {"up_bps": 0}, "bandwidth up 20 -> 0 Mbit/s"),
        (EARLY, LOCAL, {"down_bps": 0.1e6}, "bandwidth down 20 -> 0.1 Mbit/s"),
        (EARLY, LOCAL, {"load": 2.6}, "load 1.0 -> 2.6"),
        (EARLY, LOCAL, {"queue_s": 0.04}, "queue 0 -> 40 ms"),
        (LOCAL, EARLY, {"slowdown": 3}, "device slow-down 1.0 -> 3.0"),
        (EARLY, LOCAL, {"up_latency_s": 0.04, "down_latency_s": 0.04}, "latency 3 -> 40 ms"),
        (EARLY, LOCAL, {"lost": True}, "server lost"),
        (EARLY, LOCAL, {"load": 1.5, "up_bps": 2e6}, "bandwidth up 20 -> 2 Mbit/s"),
        (EARLY, LOCAL, {"load": 9, "up_bps": 19e6}, "load 1.0 -> 9.0"),
        # What speaks for the cut that is left is no reason to leave it.
        (EARLY, LOCAL, {"load": 1.1, "up_bps": 90e6}, "load 1.0 -> 1.1"),
        (EARLY, LOCAL, {"load": 0.5, "up_bps": 19e6}, "bandwidth up 20 -> 19 Mbit/s"),
        (EARLY, LATE, {}, "late is cheaper"),
    ],
)
def test_the_quantity_that_tells_most_is_named(left, taken, changed, words):
    assert reason(CUTS, left, taken, BEFORE, replace(BEFORE, **changed)) == words


def test_a_server_that_is_back_is_named():
    assert reason(CUTS, LOCAL, EARLY, replace(BEFORE, lost=True), BEFORE) == "server back"


def test_a_link_that_carries_again_is_named():
    nothing = replace(BEFORE, up_bps=0)
    assert reason(CUTS, LOCAL, EARLY, nothing, BEFORE) == "bandwidth up 0 -> 20 Mbit/s"
