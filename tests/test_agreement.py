"""Bottleneck and disagreement follow from times per request."""

from __future__ import annotations

import pytest

from cutset.agreement import (
    Busy,
    Part,
    bottleneck,
    busy_rows,
    device_reason,
    disagreement,
    link_reason,
)


def test_every_resource_has_a_row_and_an_ingress_sums_its_links() -> None:
    rows = busy_rows(
        {"device:a": 0.1, "link:a>c": 0.2, "egress:a": 0.2, "ingress:c": 0.4},
        {"a": 0.11},
        {"a>c": 0.25, "b>c": 0.15},
        {"a": 0.25},
        (),
    )
    assert {r.resource: (r.predicted_s, r.measured_s) for r in rows} == {
        "device:a": (0.1, 0.11),
        "link:a>c": (0.2, 0.25),
        "link:b>c": (None, 0.15),
        "egress:a": (0.2, 0.25),
        "ingress:c": (0.4, pytest.approx(0.4)),
    }
    assert not any(r.lost for r in rows)


def test_resources_of_a_lost_device_are_lost_not_idle() -> None:
    rows = busy_rows({"device:a": 1, "device:b": 1, "link:b>a": 1}, {"a": 1.0}, {}, {}, {"b"})
    assert {r.resource: r.lost for r in rows} == {
        "device:a": False,
        "device:b": True,
        "link:b>a": True,
    }


def test_the_measured_bottleneck_is_the_busiest_and_of_equals_the_first() -> None:
    rows = [Busy("device:a", 0.3, 0.1), Busy("link:a>b", 0.2, 0.4), Busy("egress:a", 0.2, 0.4)]
    found = bottleneck(rows, "device:a")
    assert (found.predicted, found.predicted_s) == ("device:a", 0.3)
    assert (found.measured, found.measured_s) == ("link:a>b", 0.4)
    nothing = bottleneck([Busy("device:a", 0.3, None)], None)
    assert (nothing.predicted, nothing.measured) == (None, None)


def test_the_largest_disagreement_is_in_seconds_not_in_percent() -> None:
    found = disagreement(
        [
            Part("stage s0 on pi", 0.000_01, 0.000_1),
            Part("link pi>server", 0.022, 0.031, "it carried less"),
            Part("stage s1 on server", None, 5.0),
            Part("stage s2 on server", 5.0, None),
        ]
    )
    assert found is not None
    assert found.relative == pytest.approx(0.409, abs=1e-3)
    assert found.text == (
        "link pi>server took 31 ms per request, predicted 22 ms (+41%): it carried less"
    )
    assert disagreement([Part("x", None, 1.0)]) is None
    free = disagreement([Part("x", 0.0, 1.0)])
    assert free is not None
    assert free.relative is None


def test_a_links_reason_is_its_rate_or_its_losses() -> None:
    said = "it carried 14 Mbit/s, planned with 20 Mbit/s"
    assert link_reason(0.022, 0.031, 14e6, 20e6, 0) == said
    assert link_reason(0.022, 0.018, 14e6, 20e6, 0) is None  # a slower link explains no gain
    assert link_reason(0.022, 0.031, 19.9e6, 20e6, 0) is None
    assert link_reason(0.022, 0.031, 14e6, None, 0) is None
    assert "hand-over" in str(link_reason(0.0003, 0.0024, 2e6, 20e6, 0))
    assert link_reason(0.0003, 0.0002, 30e6, 20e6, 0) is None
    assert link_reason(0.022, 0.031, 14e6, 20e6, 3) == "3 tensors had to be sent again"


def test_a_devices_reason_needs_all_its_stages() -> None:
    assert "throttled" in str(device_reason("pi", 0.1, 0.2))
    assert "profile pi again" in str(device_reason("pi", 0.1, 0.05))
    assert device_reason("pi", 0.1, 0.104) is None
    assert device_reason("pi", None, 0.2) is None
