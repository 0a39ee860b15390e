"""How the program ends where a search that time ended is still at work."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from cutset.cli import main as entry


@pytest.mark.parametrize("searching", [True, False])
def test_a_search_still_at_work_is_left_behind(
    searching: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()
    before = set(threading.enumerate())  # other tests' searches may still be at work
    listed = threading.enumerate
    monkeypatch.setattr(threading, "enumerate", lambda: [t for t in listed() if t not in before])

    def left(status: int) -> None:
        raise SystemExit(status + 100)

    def run(_: object) -> int:
        if searching:
            threading.Thread(target=over.wait, name="cutset-planning-it", daemon=True).start()
        return 1

    monkeypatch.setattr(entry, "run", run)
    monkeypatch.setattr(os, "_exit", left)
    monkeypatch.setattr(sys, "argv", ["cutset", "doctor"])
    try:
        with pytest.raises(SystemExit) as ended:
            entry.main()
    finally:
        over.set()
    assert ended.value.code == (101 if searching else 1)
