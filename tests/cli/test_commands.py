"""The command line: documents, texts, exit statuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cutset.cli import main as cli
from cutset.cli.targets import parse_shapes
from cutset.errors import UsageError

WORKLOAD = {
    "schema": "cutset/workload/1",
    "name": "toy",
    "inputs": ["x"],
    "outputs": ["y"],
    "tensors": {"x": 602112, "t": 40140, "y": 4000},
    "operators": [
        {
            "name": "conv",
            "inputs": ["x"],
            "outputs": ["t"],
            "memory_bytes": 1000,
            "compute_s": {"pi": 0.021, "server": 0.0016},
        },
        {
            "name": "fc",
            "inputs": ["t"],
            "outputs": ["y"],
            "memory_bytes": 3000,
            "compute_s": {"pi": 0.2, "server": 0.0016},
        },
    ],
}
CLUSTER = """\
schema: cutset/cluster/1
source: pi
devices: {pi: {}, server: {}}
links: [{from: pi, to: server, bandwidth: 20Mbit/s, latency: 3ms, both: true}]
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("w.json").write_text(json.dumps(WORKLOAD))
    Path("cluster.yaml").write_text(CLUSTER)
    return tmp_path


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = cli.run(arguments)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def document(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    status, out, _ = call(capsys, *arguments, "--json")
    return status, json.loads(out)


def test_plan_prints_one_document(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, found = document(capsys, "plan", "w.json")
    assert status == 0
    assert found["schema"] == "cutset/plan/1"
    # 21 ms conv, 40140 B and 4000 B at 20 Mbit/s, 3 ms each way, 1.6 ms fc
    assert found["value_s"] == pytest.approx(0.021 + 0.016056 + 0.0016 + 0.0016 + 0.006)
    assert found["verdict"]["split"] is True
    assert [s["device"] for s in found["stages"]] == ["pi", "server"]
    assert [a["device"] for a in found["alternatives"]] == ["pi", "server"]


def test_plan_for_a_person_names_verdict_proof_and_next_step(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = call(capsys, "plan", "w.json")
    assert status == 0
    for words in (
        "split: ",
        "optimal among",
        "bottleneck",
        "alone on",
        "stays best",
        "verdict flips",
        "next: ",
    ):
        assert words in out


@pytest.mark.filterwarnings("error")
def test_the_smallest_times_there_are_warn_of_nothing(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    operators: Any = WORKLOAD["operators"]
    tiny = [
        op | {"compute_s": {"pi": s, "server": s}}
        for op, s in zip(operators, (5e-324, 1e-320), strict=True)
    ]
    Path("w.json").write_text(json.dumps(WORKLOAD | {"operators": tiny}))
    assert call(capsys, "plan", "w.json")[::2] == (0, "")


def test_evaluate_confirms_what_plan_wrote(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "plan", "w.json", "-o", "plan.json")[0] == 0
    status, found = document(capsys, "evaluate", "w.json", "plan.json")
    assert status == 0
    assert found["holds"] is True
    assert {c["field"]: c["holds"] for c in found["claims"]} == {
        "value_s": True,
        "estimate.latency_s": True,
        "estimate.period_s": True,
        "verdict.best_single_value_s": True,
        "gap": True,
        "bound_s": True,
        "proof": True,
        "full_bound_s": True,
    }


@pytest.mark.parametrize(
    ("field", "value", "wrong"),
    [
        ("value_s", 0.01, "value_s"),
        ("bound_s", 1.0, "bound_s"),
        ("gap", 0.5, "gap"),
        ("full_bound_s", 5.0, "full_bound_s"),
    ],
)
def test_evaluate_refutes_a_false_claim(
    field: str, value: float, wrong: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call(capsys, "plan", "w.json", "-o", "plan.json")
    changed = json.loads(Path("plan.json").read_text()) | {field: value}
    Path("plan.json").write_text(json.dumps(changed))
    status, found = document(capsys, "evaluate", "w.json", "plan.json")
    assert status == 1
    assert {c["field"] for c in found["claims"] if c["holds"] is False} >= {wrong}


def test_evaluate_refutes_a_false_optimum(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    local = {"name": "s0", "device": "pi", "operators": ["conv", "fc"]}
    claim = {"value_s": 0.221, "bound_s": 0.221, "proof": "optimal", "proof_scope": "full"}
    Path("p.json").write_text(json.dumps({"schema": "cutset/plan/1", "stages": [local], **claim}))
    status, found = document(capsys, "evaluate", "w.json", "p.json")
    assert status == 1
    assert {c["field"]: c["holds"] for c in found["claims"]} == {
        "value_s": True,
        "bound_s": False,
        "proof": False,
    }


@pytest.mark.parametrize("strategy", ["auto", "single_device"])
def test_evaluate_refutes_a_bound_by_all_plans_and_shows_the_one_found(
    strategy: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where the strategy that the file names finds none that is better."""
    local = {"name": "s0", "device": "server", "operators": ["conv", "fc"]}
    claims = {"strategy": strategy, "bound_s": 0.1, "proof_scope": "full", "full_bound_s": 0.1}
    Path("p.json").write_text(json.dumps({"schema": "cutset/plan/1", "stages": [local], **claims}))
    status, found = document(capsys, "evaluate", "w.json", "p.json")
    best_s = 0.021 + 0.016056 + 0.0016 + 0.0016 + 0.006
    assert status == 1
    for claim in found["claims"]:
        assert (claim["field"], claim["holds"]) in {("bound_s", False), ("full_bound_s", False)}
        assert claim["found"] == pytest.approx(best_s)
        assert "takes 46.3 ms" in claim["reason"]


def test_evaluate_does_not_confirm_what_nobody_proved(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too many plans to try, and nothing found by planning again: a bound that is known anyway."""
    monkeypatch.setattr("cutset.cli.claims.MOST_PLANS", 1)
    monkeypatch.setattr("cutset.cli.claims._solve_again", lambda *_: None)
    monkeypatch.setattr("cutset.solvers.full_scope.full_bound_s", lambda _: 0.001)
    call(capsys, "plan", "w.json", "-o", "plan.json")
    plan = json.loads(Path("plan.json").read_text())
    changed = plan | {"full_bound_s": 0.99 * plan["value_s"]}
    Path("plan.json").write_text(json.dumps(changed))
    _, found = document(capsys, "evaluate", "w.json", "plan.json")
    (claim,) = [c for c in found["claims"] if c["field"] == "full_bound_s"]
    assert (claim["holds"], claim["found"]) == (None, 0.001)


def test_evaluate_scores_a_plan_written_by_hand(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = {"name": "s0", "device": "pi", "operators": ["conv", "fc"]}
    Path("p.json").write_text(json.dumps({"schema": "cutset/plan/1", "stages": [stage]}))
    status, found = document(capsys, "evaluate", "w.json", "p.json")
    assert (status, found["claims"]) == (0, [])
    assert found["value_s"] == pytest.approx(0.221)


def test_inspect_a_workload(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, found = document(capsys, "inspect", "w.json")
    assert status == 0
    assert [op["name"] for op in found["operators"]] == ["conv", "fc"]
    assert found["cut_points"] == [
        {"position": 1, "after": "conv", "tensors": ["t"], "bytes": 40140}
    ]
    assert "places where" in call(capsys, "inspect", "w.json")[1]


def test_doctor(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, found = document(capsys, "doctor", "--cluster", "cluster.yaml")
    assert status == (0 if found["ok"] else 1)
    assert {"python", "zenoh", "engine", "lab", "cluster"} <= {c["name"] for c in found["checks"]}
    devices = {c["name"]: c for c in found["checks"] if c["name"].startswith("device ")}
    assert set(devices) == {"device pi", "device server"}
    assert "emulated here" in devices["device server"]["found"]
    assert "python" in call(capsys, "doctor")[1]


def test_doctor_names_a_device_that_does_not_answer(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("cluster.yaml").write_text(
        CLUSTER.replace("server: {}", "server: {endpoint: tcp/127.0.0.1:9}")
    )
    status, found = document(capsys, "doctor", "--cluster", "cluster.yaml")
    assert (status, found["ok"]) == (1, False)
    states = {c["name"]: c["ok"] for c in found["checks"]}
    assert (states["device pi"], states["device server"]) == (True, False)
    text = next(c["found"] for c in found["checks"] if c["name"] == "device server")
    for words in ("'server'", "tcp/127.0.0.1:9", "cutset worker"):
        assert words in text


FAILURES = [
    (("plan", "none.json"), 2, "invalid_file", "none.json"),
    (("plan", "w.json", "--cluster", "none.yaml"), 2, "invalid_file", "none.yaml"),
    (("plan", "cluster.yaml"), 2, "invalid_model", "cluster.yaml"),
    (("plan", "w.json", "--strategy", "magic"), 2, "usage", None),
    (("plan", "w.json", "--objective", "beauty"), 2, "usage", None),
    (("plan", "w.json", "--time-limit", "-1"), 2, "usage", None),
    (("plan",), 2, "usage", None),
    (("nonsense",), 2, "usage", None),
    (("plan", "w.json", "--input-shape", "x=a"), 2, "usage", None),
    (("evaluate", "w.json", "w.json"), 2, "invalid_file", "w.json"),
    (("plan", "w.json", "-o", "no/such/folder/p.json"), 2, "invalid_file", "no/such/folder/p.json"),
    (("worker", "--memory", "lots"), 2, "invalid_file", None),
    (("worker", "--listen", "tcp/0.0.0.0:7447"), 2, "usage", None),
    (("worker", "--discover", "no-such-interface"), 2, "usage", None),
    (("worker", "--discover"), 2, "usage", None),  # beyond loopback without --insecure
    (("worker", "server", "--discover", "--insecure"), 2, "usage", None),  # listens on loopback
]


@pytest.mark.parametrize(("arguments", "status", "code", "file"), FAILURES, ids=str)
def test_a_failure_is_one_document_or_one_line(
    arguments: tuple[str, ...],
    status: int,
    code: str,
    file: str | None,
    here: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found_status, found = document(capsys, *arguments)
    assert found_status == status
    assert list(found) == ["error"]
    assert {"code", "file", "field", "value", "remedy"} <= set(found["error"])
    assert found["error"]["code"] == code
    assert found["error"]["file"] == file
    assert found["error"]["remedy"]
    found_status, out, err = call(capsys, *arguments)
    assert (found_status, out) == (status, "")
    assert err.count("\n") == 1
    assert err.startswith("error: ")


def test_infeasible_says_what_is_short(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("cluster.yaml").write_text(
        CLUSTER.replace("{pi: {}, server: {}}", "{pi: {memory: 900B}, server: {memory: 2kB}}")
    )
    status, found = document(capsys, "plan", "w.json")
    assert status == 3
    assert found["error"]["code"] == "infeasible"
    Path("p.json").write_text(
        json.dumps(
            {
                "schema": "cutset/plan/1",
                "stages": [{"name": "s", "device": "pi", "operators": ["conv", "fc"]}],
            }
        )
    )
    status, found = document(capsys, "evaluate", "w.json", "p.json")
    assert (status, found["error"]["file"]) == (3, "p.json")
    assert "3100 bytes short" in found["error"]["remedy"]


def test_an_unexpected_error_is_one_line_and_debug_shows_more(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("boom")

    monkeypatch.setattr("cutset.planner.solve", broken)
    status, _, err = call(capsys, "plan", "w.json")
    assert status == 1
    assert err.count("\n") == 1
    assert "boom" in err
    status, _, err = call(capsys, "--debug", "plan", "w.json")
    assert status == 1
    assert "Traceback" in err


def test_an_interrupt_is_quiet(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cutset.planner.solve", interrupted)
    status, out, err = call(capsys, "plan", "w.json")
    assert (status, out) == (130, "")
    assert "Traceback" not in err


def test_a_plan_that_the_time_limit_cut_short_says_so(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    status, found = document(capsys, "plan", "w.json", "-o", "p.json")
    assert (status, "finished" in found) == (0, False)
    local = ["plan", "w.json", "--strategy", "single_device", "--time-limit", "0"]
    status, found = document(capsys, *local, "-o", "p.json")
    assert (status, found["finished"]) == (0, False)
    assert json.loads(Path("p.json").read_text())["finished"] is False
    status, out, _ = call(capsys, *local)
    assert (status, "cut short by its time limit" in out) == (0, True)
    assert call(capsys, "evaluate", "w.json", "p.json")[0] == 0


def test_shapes() -> None:
    assert parse_shapes(["x=1,3,4", "a=b=2x2"]) == {"x": (1, 3, 4), "a=b": (2, 2)}
    for bad in ("x", "x=", "=1", "x=0", "x=-1,2", "x=1,b"):
        with pytest.raises(UsageError):
            parse_shapes([bad])


def spawn(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    code = "from cutset.cli.main import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )


def test_a_real_process(here: Path) -> None:
    done = spawn("plan", "w.json", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["proof"] == "optimal"
    failed = spawn("plan", "none.json")
    assert (failed.returncode, failed.stdout) == (2, "")
    assert failed.stderr.count("\n") == 1


@pytest.mark.skipif(os.name == "nt", reason="pipes break differently there")
@pytest.mark.parametrize("file", ["w.json", "none.json"])
def test_a_reader_that_leaves_early_is_no_error(file: str, here: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    code = "from cutset.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "inspect", file, "--json"],
        stdout=writer,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    os.close(writer)
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr


def test_help_loads_nothing_heavy(here: Path) -> None:
    code = (
        "import sys; from cutset.cli.main import run; run(['--help']);"
        "bad = {'onnx', 'onnxruntime', 'scipy', 'ortools', 'zenoh', 'numpy'} & set(sys.modules);"
        "sys.exit(f'loaded {bad}' if bad else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    for command in cli.COMMANDS:
        assert command in done.stdout
