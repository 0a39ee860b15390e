"""The engine: feeds are checked, providers named, runs paced, profiles read."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from cutset import engine, pacing
from cutset.cluster import Engine
from cutset.errors import InvalidModelError, ProfileError, UsageError
from cutset.ports import Port, check_feeds

PORTS = (Port("x", "float32", (1, 3)), Port("n", "int64", (None,)))
GOOD = {"x": np.zeros((1, 3), np.float32), "n": np.zeros(7, np.int64)}


def test_good_feeds_pass() -> None:
    check_feeds(PORTS, GOOD)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"z": np.zeros(1)}, "no such input.*z"),
        ({"x": np.zeros((1, 4), np.float32)}, "wrong shape.*1x4.*float32 1x3"),
        ({"x": np.zeros((1, 3))}, "wrong dtype.*float64"),
        ({"x": [1, 2, 3]}, "NumPy array"),
        ({"n": np.zeros((1, 1), np.int64)}, "wrong shape"),
    ],
)
def test_bad_feeds_are_named(change: Mapping[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_feeds(PORTS, {**GOOD, **change})


def test_a_missing_feed_is_named() -> None:
    with pytest.raises(UsageError, match="missing"):
        check_feeds(PORTS, {"x": GOOD["x"]})


def test_an_absent_provider_lists_what_there_is() -> None:
    part = engine.Submodel("s", (), (), b"", {}, "")
    with pytest.raises(UsageError, match=r"warp.*available are.*cpu"):
        engine.load(part, Engine(provider="warp"))


def test_a_broken_submodel_is_named() -> None:
    part = engine.Submodel("broken", (), (), b"nonsense", {}, "")
    with pytest.raises(InvalidModelError, match="broken") as caught:
        engine.load(part)
    assert "\n" not in str(caught.value)


class FakeClock:
    """Wall and CPU time that only work and sleep move."""

    def __init__(self) -> None:
        self.wall_s = 0.0
        self.cpu_s = 0.0

    def wall(self) -> float:
        self.wall_s += 1e-6
        return self.wall_s

    def sleep(self, seconds: float) -> None:
        self.wall_s += seconds

    def cpu(self) -> float:
        return self.cpu_s


class Work:
    """Takes 10 ms of CPU time (or `cpu_s`) and `waits_s` more of the clock."""

    input_names = ("x",)
    output_names = ("y",)

    def __init__(self, clock: FakeClock, waits_s: float = 0.0) -> None:
        self.clock = clock
        self.waits_s = waits_s
        self.cpu_s = 0.010

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        self.clock.cpu_s += self.cpu_s
        self.clock.wall_s += self.cpu_s + self.waits_s
        return {"y": feeds["x"]}


def slowed(work: Work, share: float = 0.25) -> pacing.Paced:
    clock = work.clock
    return pacing.Paced(work, share, clock=clock.wall, sleep=clock.sleep, cpu_clock=clock.cpu)


@pytest.mark.parametrize(("waits_s", "wanted_s"), [(0.0, 0.040), (0.020, 0.040), (0.050, 0.060)])
def test_a_paced_run_ends_at_cpu_time_over_share(waits_s: float, wanted_s: float) -> None:
    clock = FakeClock()
    paced = slowed(Work(clock, waits_s))
    result = paced.run({"x": np.ones(1)})
    assert clock.wall_s == pytest.approx(wanted_s, abs=1e-5)
    assert result["y"][0] == 1


def paced_times(
    paced: pacing.Paced, work: Work, clock: FakeClock, cpus_s: list[float]
) -> list[float]:
    taken_s = []
    for cpu_s in cpus_s:
        work.cpu_s, before_s = cpu_s, clock.wall_s
        paced.run({"x": np.ones(1)})
        taken_s.append(clock.wall_s - before_s)
    return taken_s


@pytest.mark.parametrize(
    ("cpu_s", "wanted_s"),
    # From half to three times as much is noise; of 55 ms, 35 are counted; 4 ms are what they are.
    [(0.013, 0.040), (0.028, 0.040), (0.008, 0.040), (0.055, 0.140), (0.004, 0.016)],
)
def test_noise_of_the_machine_is_not_paced_and_work_of_a_run_is(
    cpu_s: float, wanted_s: float
) -> None:
    clock = FakeClock()
    paced = slowed(work := Work(clock))
    work.cpu_s = 0.010
    paced.learn({"x": np.ones(1)})
    assert paced_times(paced, work, clock, [cpu_s]) == pytest.approx([wanted_s], abs=1e-4)


def test_one_short_run_of_the_last_lowers_no_pace() -> None:
    clock = FakeClock()
    paced = slowed(work := Work(clock))
    work.cpu_s = 0.010
    paced.learn({"x": np.ones(1)})
    taken_s = paced_times(paced, work, clock, [0.010, 0.006, *[0.010] * 6])
    assert taken_s == pytest.approx([0.040] * 8, abs=1e-4)


def test_runs_in_a_row_say_what_a_run_takes() -> None:
    """The second shortest: not the first one, which finds its caches cold, nor a stray one."""
    clock = FakeClock()
    work = Work(clock)
    paced = slowed(work)
    times_s = iter([0.030, 0.011, 0.010, 0.006, *[0.011] * 9])
    run = work.run

    def varied(feeds: dict[str, Any]) -> dict[str, Any]:
        work.cpu_s = next(times_s)
        return run(feeds)

    work.run = varied  # type: ignore[method-assign]
    paced.learn({"x": np.ones(1)})
    del work.run
    assert paced_times(paced, work, clock, [0.013]) == pytest.approx([0.040], abs=1e-4)


def test_long_runs_are_learnt_from_few() -> None:
    clock = FakeClock()
    work = Work(clock)
    work.cpu_s = 2.0
    slowed(work).learn({"x": np.ones(1)})
    assert clock.cpu() == pytest.approx(2.0 * (1 + pacing.LEAST_LEARNING_RUNS))


def test_a_whole_core_is_not_paced() -> None:
    clock = FakeClock()
    work = Work(clock)
    paced = slowed(work, 1.0)
    work.cpu_s = 0.015
    paced.learn({"x": np.ones(1)})
    assert paced_times(paced, work, clock, [0.010, 0.012]) == pytest.approx(
        [0.010, 0.012], abs=1e-5
    )


def test_what_was_learnt_too_high_falls_to_what_the_last_runs_took() -> None:
    clock = FakeClock()
    work = Work(clock)
    paced = slowed(work)
    work.cpu_s = 0.015
    paced.learn({"x": np.ones(1)})
    taken_s = paced_times(paced, work, clock, [0.010] * 9)
    assert taken_s == pytest.approx([0.060] * 3 + [0.040] * 6, abs=1e-4)
    assert statistics.median(taken_s) == pytest.approx(0.040, abs=1e-4)  # as a cut is timed


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5, float("nan")])
def test_a_share_must_be_a_part_of_a_core(share: float) -> None:
    with pytest.raises(UsageError, match="share"):
        pacing.Paced(Work(FakeClock()), share)


def event(cat: str, name: str, ts: int, dur: int) -> dict[str, Any]:
    return {"cat": cat, "name": name, "ts": ts, "dur": dur, "args": {"op_name": "Op"}}


def test_kernels_in_bodies_count_in_their_holder() -> None:
    events = [
        event("Session", "model_run", 0, 90),
        event("Node", "a_kernel_time", 5, 80),
        event("Session", "model_run", 100, 90),
        event("Node", "a_kernel_time", 101, 10),
        event("Node", "inner_kernel_time", 122, 5),
        event("Node", "if_kernel_time", 120, 30),
        event("Session", "model_run", 200, 90),
        event("Node", "a_kernel_time", 201, 20),
    ]
    kernels = {k.node: k for k in engine.parse_profile(events, skip_runs=1, runs=2)}
    assert set(kernels) == {"a", "if"}
    assert kernels["a"].seconds == pytest.approx((1e-5, 2e-5))
    assert kernels["a"].min_s == pytest.approx(1e-5)
    assert kernels["if"].seconds == pytest.approx((3e-5, 0.0))


def test_a_profile_without_kernels_is_an_error() -> None:
    with pytest.raises(ProfileError, match="no kernel times"):
        engine.parse_profile([event("Session", "model_run", 0, 9)], skip_runs=0, runs=1)


def test_threads_default_to_physical_cores() -> None:
    assert engine.physical_cores() >= 1
    assert engine.session_options(None).intra_op_num_threads == engine.physical_cores()
    assert engine.session_options(3).intra_op_num_threads == 3
