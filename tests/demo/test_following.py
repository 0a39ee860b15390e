"""The demo's live part on a small model: the link changes, answers stay right, the cut follows."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from cutset import api, zoo
from cutset.adaptation.words import line_in_words
from cutset.demo import following, main_job
from cutset.feeds import random_feeds
from cutset.runtime.coordinator import Coordinator
from cutset.serde import read_cluster


def test_the_cut_follows_the_link_with_right_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    onnx.save(zoo.build("squeezenet", side=64, width=0.25), str(tmp_path / "m.onnx"))
    (tmp_path / "cluster.yaml").write_text(main_job.CLUSTER.replace("0.25", "0.02"))
    model, cluster = api.load(tmp_path / "m.onnx"), read_cluster(tmp_path / "cluster.yaml")
    feeds = random_feeds(model.ports, 4)
    whole = api.unsplit(model)
    lines: list[str] = []
    with Coordinator(cluster) as coordinator:
        profile = api.profile(model, feeds=feeds[0], coordinator=coordinator, fresh=True)
        found = following.follow(
            model,
            feeds,
            [whole.run(request) for request in feeds],
            cluster,
            profile,
            coordinator,
            lambda rate_bps: main_job.set_links(coordinator, rate_bps),
            phases=((100e6, 1.0), (2e4, 3.0)),
            on_line=lambda line, cuts: lines.append(line_in_words(line, cuts)),
        )
    assert found.failed == 0
    assert found.comparison.equal()
    assert found.requests == sum(phase.requests for phase in found.phases)
    fast, slow = found.phases
    assert fast.cut != "local"
    assert slow.cut == "local"
    assert slow.kept_s > slow.best_s
    assert any(after == "local" for _, _, after, _ in found.switches)
    assert any("Mbit/s" in line for line in lines)
