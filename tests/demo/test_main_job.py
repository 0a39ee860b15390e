"""The demo's parts that need no minute: its files, its reference, and one split of each network."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("skimage")

from cutset import api
from cutset.demo import main_job
from cutset.errors import UsageError
from cutset.plan import Plan, Stage
from cutset.runner import RunRecord
from cutset.runtime.coordinator import Coordinator


@pytest.mark.skipif(
    not main_job.available(), reason="the package that carries PP-OCRv4 is not installed"
)
def test_the_split_networks_read_the_page_as_the_unsplit_do(tmp_path: Path) -> None:
    notes: list[str] = []
    cluster, finding, reading, text = main_job.prepare(tmp_path, notes.append)
    assert text[0] == "Region-based segmentation"
    assert len(set(text)) == len(reading.feeds) == 7
    assert {p.name for p in tmp_path.iterdir()} >= {"cluster.yaml", "page.png", "lines.npy"}
    with Coordinator(cluster) as coordinator:
        for network in (finding, reading):
            names = [op.name for op in network.model.graph.operators]
            middle = network.model.graph.articulations[len(network.model.graph.articulations) // 2]
            plan = main_job.plan_of(("pi", names[:middle]), ("server", names[middle:]))
            with api.deploy(network.model, cluster, plan, coordinator=coordinator) as session:
                for rate in (None, 1e9):
                    if rate is not None:
                        main_job.set_links(coordinator, rate)
                    record = main_job.measured(session, network)
                    assert record.comparison is not None
                    assert record.comparison.equal()
    answers = [record.outputs[i] for i in range(len(reading.feeds))]
    assert main_job.texts(reading, answers) == text


def test_plans_in_words() -> None:
    plan = main_job.plan_of(("server", ["a", "b"]), ("pi", ["c"]))
    assert main_job.describe(plan) == "server 2, pi 1"
    assert main_job.describe(Plan((Stage("s0", "pi", ("a",)),))) == "all on pi"
    assert len(main_job.plan_of(("pi", []), ("server", ["a"])).stages) == 1


def test_a_folder_that_cannot_be_made_is_wrong_usage(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="the folder cannot be written"):
        main_job.prepare(tmp_path / "file", lambda _: None)


def test_ctrl_c_between_answers_ends_the_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    record = RunRecord(requests=3, latencies_s=[0.1], answered_at_s=[0.1], interrupted=True)
    monkeypatch.setattr(main_job, "run_requests", lambda *_, **__: record)
    network = main_job.Network("n", None, {}, (), ())  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        main_job.measured(None, network)  # type: ignore[arg-type]
