"""Counted always, logged seldom."""

from __future__ import annotations

from cutset.runtime.occasional import LOG_EVERY_S, OccasionalLog


def test_lines_within_a_second_are_counted_only() -> None:
    lines: list[str] = []
    now = [0.0]
    log = OccasionalLog(lines.append, lambda: now[0])
    for _ in range(5):
        log("odd")
    now[0] = LOG_EVERY_S
    log("odd")
    assert lines == ["odd (1 in all)", "odd (6 in all)"]
    assert log.count == 6
