"""The pure parts of the runtime: states, flows, shaped links, caches."""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutset.engine import Submodel
from cutset.errors import LocalProtocolError, RemoteProtocolError
from cutset.runtime.cache import Container, SubmodelCache, pack, unpack
from cutset.runtime.deployment_machine import (
    Activate,
    Announce,
    Begin,
    DeploymentMachine,
    DeviceDrained,
    DeviceFailed,
    DeviceLoaded,
    Phase,
    Retire,
    SendDrain,
    SendLoad,
    SendStart,
    SendUnload,
)
from cutset.runtime.flow import Arrival, Flow
from cutset.runtime.messages import AskSubmodel, Chunk, Held, Piece, StageSpec
from cutset.runtime.shaping import LinkRate, Shaper
from cutset.runtime.upload import upload
from cutset.runtime.worker_machine import TRANSITIONS, Effect, Event, State, WorkerMachine


def test_worker_runs_drains_and_is_freed() -> None:
    machine = WorkerMachine()
    events = (Event.LOAD, Event.LOADED, Event.START, Event.DRAIN, Event.DRAINED, Event.UNLOAD)
    assert [machine.receive(e) for e in events] == [
        (Effect.LOAD_STAGES,),
        (Effect.REPORT_READY,),
        (Effect.ADMIT,),
        (Effect.REFUSE,),
        (Effect.REPORT_DRAINED,),
        (Effect.FREE,),
    ]
    assert machine.state is State.IDLE


@given(st.lists(st.sampled_from(Event), max_size=12))
def test_worker_moves_only_by_its_table(events: list[Event]) -> None:
    machine = WorkerMachine()
    for event in events:
        before = machine.state
        if (before, event) in TRANSITIONS:
            machine.receive(event)
            assert machine.state is TRANSITIONS[before, event][0]
        else:
            with pytest.raises(RemoteProtocolError):
                machine.receive(event)
            assert machine.state is before
        assert machine.admits == (machine.state is State.RUNNING)


def test_deployment_starts_receivers_first_and_waits_for_all() -> None:
    machine = DeploymentMachine(["a", "b"])
    assert machine.receive(Begin()) == (SendLoad("a"), SendLoad("b"), Announce(Phase.LOADING))
    assert machine.receive(DeviceLoaded("b")) == ()
    assert machine.receive(DeviceLoaded("a")) == (Announce(Phase.READY),)
    assert machine.receive(Activate()) == (SendStart("b"), SendStart("a"), Announce(Phase.ACTIVE))
    assert machine.receive(Retire())[:2] == (SendDrain("a"), SendDrain("b"))
    assert machine.receive(DeviceDrained("a")) == ()
    assert machine.receive(DeviceDrained("b")) == (
        SendUnload("a"),
        SendUnload("b"),
        Announce(Phase.RETIRED),
    )


def test_lost_device_fails_the_deployment_and_frees_the_others() -> None:
    machine = DeploymentMachine(["a", "b"])
    machine.receive(Begin())
    assert machine.receive(DeviceFailed("b", lost=True)) == (
        SendUnload("a"),
        Announce(Phase.FAILED),
    )
    assert machine.receive(DeviceLoaded("a")) == ()
    with pytest.raises(LocalProtocolError):
        machine.receive(Activate())


X = np.zeros(1)


def stage(name: str, inputs: str, outputs: str) -> StageSpec:
    return StageSpec(name, tuple(inputs.split()), tuple(outputs.split()), "", 0)


def test_flow_keeps_the_plans_order_and_takes_the_oldest_request() -> None:
    flow = Flow([stage("s0", "a", "b"), stage("s1", "c", "d")], ["a", "c"], 4)
    assert flow.arrive(1, "c", X, 0, 9) is Arrival.NEW
    assert flow.next_ready() is None  # s1 could run, but s0 is listed before it
    flow.arrive(0, "a", X, 0, 9)
    flow.arrive(1, "a", X, 0, 9)
    assert flow.next_ready() == (0, 0, 0)
    flow.take(0)
    assert flow.next_ready() == (1, 0, 0)  # the older waits for c
    flow.finish(0, {"b": X}, 1)
    flow.take(1)
    flow.finish(1, {"b": X}, 1)
    assert flow.next_ready() == (1, 1, 1)
    flow.take(1)
    flow.finish(1, {"d": X}, 2)
    assert len(flow) == 1


def test_flow_recognises_duplicates_and_bounds_requests() -> None:
    flow = Flow([stage("s0", "a", "b")], ["a"], 2)
    assert flow.arrive(0, "a", X, 0, 5) is Arrival.NEW
    assert flow.arrive(0, "a", X, 0, 5) is Arrival.DUPLICATE
    flow.arrive(1, "a", X, 0, 9)
    assert flow.arrive(2, "a", X, 1, 9) is Arrival.FULL
    assert flow.arrive(2, "a", X, 6, 9) is Arrival.NEW  # the expired one gave way
    assert flow.arrive(0, "a", X, 6, 9) is Arrival.DUPLICATE
    flow.take(1)
    flow.end(1)
    assert not flow.finish(1, {"b": X}, 7)


def test_shaper_holds_one_transfer_at_a_time_and_latency_occupies_nothing() -> None:
    shaper: Shaper[str] = Shaper()
    shaper.set_rate(0, "t", LinkRate(8000, 0.5))
    shaper.add(0, "one", "t", 1000)  # 1 s on the link
    shaper.add(0, "two", "t", 1000)
    assert shaper.next_s() == 1.0
    assert shaper.poll(1.0) == []
    assert shaper.next_s() == 1.5
    assert [(d.item, d.start_s) for d in shaper.poll(1.5)] == [("one", 0.0)]
    assert [(d.item, d.start_s) for d in shaper.poll(2.5)] == [("two", 1.0)]
    assert shaper.next_s() == math.inf


def test_shaper_changes_a_transfer_under_way() -> None:
    shaper: Shaper[str] = Shaper()
    shaper.set_rate(0, "t", LinkRate(8000))
    shaper.add(0, "one", "t", 1000)
    shaper.set_rate(0.5, "t", LinkRate(80_000))
    assert shaper.next_s() == pytest.approx(0.55)


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(1, 1000)), max_size=12))
def test_shaper_is_the_evaluators_queue(jobs: list[tuple[float, int]]) -> None:
    shaper: Shaper[int] = Shaper()
    shaper.set_rate(0, "t", LinkRate(1000.0, 0.25))
    wanted, free, now = {}, 0.0, 0.0
    for i, (gap, size) in enumerate(jobs):
        now += gap
        shaper.add(now, i, "t", size)
        free = max(free, now) + 8 * size / 1000
        wanted[i] = free + 0.25
    for i, arrive_s in wanted.items():
        assert not [d for d in shaper.poll(arrive_s - 1e-6) if d.item >= i]
        assert [d.item for d in shaper.poll(arrive_s + 1e-6)] == [i]


MODEL = Submodel("s", ("a",), ("b",), b"m" * 3000, {"w": b"v" * 5000}, "d")


def test_submodels_are_packed_whole() -> None:
    container = pack(MODEL)
    data = b"".join(container.parts)
    assert unpack(data) == MODEL
    taken, chunk = b"", container.at(700, 999)
    while chunk:
        taken += chunk
        chunk = container.at(700 + len(taken), 999)
    assert taken == data[700:]
    for wrong in (data[:-1], data + b"x", b"", b"\xff" * 40):
        with pytest.raises(RemoteProtocolError):
            unpack(wrong)
    with pytest.raises(RemoteProtocolError, match="plain name"):
        unpack(b"".join(pack(Submodel("s", (), (), b"", {"../w": b"v"}, "")).parts))


def ask(cache: SubmodelCache, fail_after: int = 10**9):  # type: ignore[no-untyped-def]
    count = 0

    def answer(body: object, data: bytes) -> Held:
        nonlocal count
        if isinstance(body, AskSubmodel):
            return Held(*cache.held(body.digest, body.total_bytes, body.pieces))
        assert isinstance(body, Chunk)
        count += 1
        if count > fail_after:
            raise ConnectionError
        return Held(*cache.add(body.digest, body.offset, body.total_bytes, data))

    return answer


def test_upload_resumes_and_is_not_repeated(tmp_path: Path) -> None:
    container = pack(MODEL)
    with pytest.raises(ConnectionError):
        upload(container, ask(SubmodelCache(tmp_path), fail_after=2))
    again = SubmodelCache(tmp_path)  # another process
    sent = upload(container, ask(again))
    assert 0 < sent < container.size_bytes
    assert upload(container, ask(again)) == 0
    assert again.load(container.content_hash) == MODEL
    assert [p.name for p in tmp_path.iterdir()] == [container.content_hash]


def sharing(name: str, weights: list[bytes]) -> Container:
    """A submodel with weights inside, each behind bytes of its own."""
    model, shared = b"", []
    for data in weights:
        model += name.encode() * 100
        shared.append((len(model), len(data)))
        model += data
    return pack(Submodel(name, (), (), model + b"end", {}, "", tuple(shared)))


WEIGHTS = [bytes([i]) * (2**16 + 1000 * i) for i in range(8)]


def test_weights_that_another_submodel_brought_are_not_sent_again(tmp_path: Path) -> None:
    cache = SubmodelCache(tmp_path)
    first, second = sharing("early", WEIGHTS), sharing("late", WEIGHTS[2:])
    assert upload(first, ask(cache)) == first.size_bytes
    told: list[tuple[int, int]] = []
    sent = upload(second, ask(cache), lambda *args: told.append(args))
    assert sent == second.size_bytes - sum(map(len, WEIGHTS[2:]))
    assert sum(count for count, _ in told) == sent
    assert [here for _, here in told] == sorted(here for _, here in told)
    assert told[-1][1] == second.size_bytes
    found = cache.load(second.content_hash)
    assert pack(found).parts == second.parts
    # Another worker that finds the first complete learns of its weights when asked for it.
    again = SubmodelCache(tmp_path)
    assert upload(first, ask(again)) == 0
    third = sharing("third", WEIGHTS[4:])
    assert upload(third, ask(again)) == third.size_bytes - sum(map(len, WEIGHTS[4:]))


def test_a_weight_that_is_not_what_it_was_said_to_be_is_sent(tmp_path: Path) -> None:
    cache = SubmodelCache(tmp_path)
    first, second = sharing("early", WEIGHTS[:2]), sharing("late", WEIGHTS[:2])
    upload(first, ask(cache))
    path = tmp_path / first.content_hash
    path.write_bytes(path.read_bytes()[:-60_000])  # the last weight is cut short
    assert upload(second, ask(cache)) == second.size_bytes - len(WEIGHTS[0])
    assert pack(cache.load(second.content_hash)).parts == second.parts
    (tmp_path / first.content_hash).unlink()
    (tmp_path / second.content_hash).unlink()  # evicted, as far as this process can tell
    third = sharing("third", WEIGHTS[:2])
    assert upload(third, ask(cache)) == third.size_bytes


def test_a_piece_beyond_the_end_is_no_piece(tmp_path: Path) -> None:
    cache = SubmodelCache(tmp_path)
    first = sharing("early", WEIGHTS[:1])
    upload(first, ask(cache))
    (piece,) = first.pieces
    digest = "b" * 64
    assert cache.held(digest, 100, (Piece(10, piece.size_bytes, piece.sha256),)) == (0, False)
    assert cache.add(digest, 0, 100, b"x" * 10) == (10, False)


def test_a_device_that_does_not_go_on_is_not_asked_for_ever() -> None:
    with pytest.raises(RemoteProtocolError, match="confirm"):
        upload(pack(MODEL), lambda body, data: Held(0, False))


def test_wrong_content_is_forgotten(tmp_path: Path) -> None:
    cache = SubmodelCache(tmp_path)
    digest = "0" * 64
    with pytest.raises(RemoteProtocolError, match="other content"):
        cache.add(digest, 0, 3, b"abc")
    assert cache.held(digest, 3) == (0, False)
    with pytest.raises(RemoteProtocolError, match="content hash"):
        cache.held("../../etc/passwd", 3)


def test_cache_keeps_its_cap(tmp_path: Path) -> None:
    containers = [pack(Submodel("s", (), (), bytes([i]) * 1000, {}, "")) for i in range(5)]
    cache = SubmodelCache(tmp_path, cap_bytes=2500)
    for container in containers:
        upload(container, ask(cache))
    assert cache.held(containers[-1].content_hash, 1)[1]
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) <= 2500


def test_a_partial_file_of_a_living_process_is_left_alone(tmp_path: Path) -> None:
    digest = "a" * 64
    theirs = tmp_path / f"{digest}.{os.getppid()}-x.part"
    theirs.write_bytes(b"abc")
    assert SubmodelCache(tmp_path).held(digest, 9) == (0, False)
    theirs.rename(tmp_path / f"{digest}.{2**30}-x.part")  # no such process
    assert SubmodelCache(tmp_path).held(digest, 9) == (3, False)


def test_many_workers_share_a_folder(tmp_path: Path) -> None:
    def work(i: int) -> None:
        for j in range(20):
            submodel = Submodel("s", (), (), bytes([i, j]) * 100, {}, "")
            cache = SubmodelCache(tmp_path, cap_bytes=5000)
            upload(pack(submodel), ask(cache))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
