from dataclasses import replace
from itertools import pairwise

import pytest
from cut_cases import CUTS, EARLY, LATE, LOCAL, OFFLOAD, STATED, served
from hypothesis import given
from hypothesis import strategies as st
from test_observer import anything, stated_anyhow

from cutset.adaptation.conditions import Conditions
from cutset.adaptation.cuts import Cuts
from cutset.adaptation.observations import Asked, Back, Lost, ServerRun, Transfer, Truth
from cutset.adaptation.policies import NAMES, LoadAware, LoadOblivious, Oracle, Static, by_name
from cutset.errors import UsageError

# At 10 Mbit/s the cuts early and late cost 0.174 and 0.180 seconds.
BREAK_EVEN = Conditions(10e6, 10e6)


def at(mbps: float, load: float = 1.0) -> Conditions:
    return Conditions(mbps * 1e6, mbps * 1e6, load=load)


def switches(decisions) -> int:
    taken = [decision.cut for decision in decisions]
    return sum(a != b for a, b in pairwise(taken))


def decided(policy, *observations, stated=STATED):
    state = policy.start(CUTS, stated, 0.0)
    decision = None
    for observation in observations:
        state, decision = policy.step(state, observation)
    return decision


def both_ways(at_s, mbps):
    took_s = 8 * 30_000 / (mbps * 1e6)
    return [Transfer(at_s, up, 30_000, took_s) for up in (True, False)]


def test_a_drop_of_bandwidth_is_followed_with_the_second_request():
    taken = [d.cut for d in served(LoadAware(), lambda i: at(50 if i < 10 else 5), 16)]
    assert taken == [EARLY] * 12 + [LATE] * 4


def test_load_is_followed_both_ways():
    holds = [at(200)] * 10 + [at(200, 12)] * 10 + [at(200)] * 10
    decisions = list(served(LoadAware(), holds.__getitem__, 30))
    taken = [d.cut for d in decisions]
    best = [CUTS.best(conditions) for conditions in holds]
    assert taken[:10] == best[:10]
    assert taken[12:20] == best[12:20] != best[:8]
    assert taken[22:] == best[22:]
    assert decisions[12].reason == "load 1.0 -> 12.0"


def test_every_change_says_why_and_nothing_else_does():
    holds = [at(50)] * 5 + [at(3)] * 5 + [at(50)] * 5
    decisions = list(served(LoadAware(), holds.__getitem__, 15))
    reasons = [d.reason for d in decisions if d.reason]
    assert reasons == ["bandwidth up 50 -> 3 Mbit/s", "bandwidth up 3 -> 50 Mbit/s"]
    for before, decision in pairwise(decisions):
        assert bool(decision.reason) == (before.cut != decision.cut)


def test_one_outlier_in_twenty_moves_no_decision():
    steady = list(served(LoadAware(), lambda i: at(14), 400))
    odd = list(served(LoadAware(), lambda i: at(14), 400, outliers=1 / 20))
    assert switches(steady) == switches(odd) == 0
    assert [d.cut for d in steady] == [d.cut for d in odd]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_noise_near_a_break_even_makes_no_flapping(seed):
    def count(policy) -> int:
        return switches(served(policy, lambda i: BREAK_EVEN, 1000, noise=0.3, seed=seed))

    calm, nervous = count(LoadAware()), count(LoadAware(min_gain=0, noise_margin=0))
    assert calm <= 10
    assert nervous >= 40
    assert nervous >= 5 * max(1, calm)


def test_a_cut_is_held_for_the_dwell_unless_it_cannot_be_answered():
    drop = [*both_ways(0.1, 3), *both_ways(0.2, 3)]
    assert decided(LoadAware(), *drop, Asked(0.3)).cut == LOCAL
    patient = LoadAware(min_dwell_s=1.0)
    assert decided(patient, *drop, Asked(0.3)).cut == EARLY
    assert decided(patient, *drop, Asked(1.3)).cut == LOCAL
    assert decided(patient, Lost(0.1), Asked(0.2)).cut == LOCAL


def test_a_small_gain_leaves_the_cut_where_it_is():
    slower = [*both_ways(0.1, 8.5), *both_ways(0.2, 8.5), Asked(0.3)]
    assert CUTS.best(at(8.5)) == LATE
    start = at(20)
    assert decided(LoadAware(), *slower, stated=start).cut == EARLY
    assert decided(LoadAware(min_gain=0), *slower, stated=start).cut == LATE


def test_a_lost_server_is_left_at_once_and_taken_again_when_it_is_back():
    lost = decided(LoadAware(), Lost(0.1), Asked(0.2))
    assert (lost.cut, lost.reason) == (LOCAL, "server lost")
    back = decided(LoadAware(), Lost(0.1), Asked(0.2), Back(0.3), Asked(0.4))
    assert (back.cut, back.reason) == (EARLY, "server back")


def test_without_a_way_to_answer_the_cut_stays():
    remote = replace(CUTS, cuts=CUTS.cuts[1:])
    policy = LoadAware()
    state = policy.start(remote, STATED, 0.0)
    held = state.cut
    state, _ = policy.step(state, Lost(0.1))
    assert policy.step(state, Asked(0.2))[1].cut == held


def test_the_oblivious_policy_ignores_load_and_queue():
    busy = [ServerRun(0.1 * i, EARLY, 0.03 * 20, 0.5) for i in range(1, 6)]
    aware = decided(LoadAware(), *busy, Asked(0.6))
    oblivious = decided(LoadOblivious(), *busy, Asked(0.6))
    assert aware.cut == LOCAL
    assert oblivious.cut == EARLY
    assert (oblivious.believed.load, oblivious.believed.queue_s) == (1, 0)
    stated = replace(STATED, load=20.0, queue_s=0.5)
    assert decided(LoadOblivious(), Asked(0.1), stated=stated).cut == EARLY


def test_the_oblivious_policy_follows_bandwidth_the_same_way():
    def taken(policy):
        return [d.cut for d in served(policy, lambda i: at(50 if i % 20 < 10 else 3), 60)]

    assert taken(LoadOblivious()) == taken(LoadAware())


def test_a_device_that_left_a_loaded_server_returns_by_itself():
    busy = [ServerRun(0.1 * i, EARLY, 0.03 * 20) for i in range(1, 4)]
    state = LoadAware().start(CUTS, STATED, 0.0)
    for observation in busy:
        state, _ = LoadAware().step(state, observation)
    taken = []
    for at_s in range(1, 30):
        state, decision = LoadAware().step(state, Asked(at_s))
        taken.append(decision.cut)
    assert taken[0] == LOCAL
    assert taken[-1] == EARLY


@pytest.mark.parametrize(("cut", "index"), [("local", LOCAL), ("offload", OFFLOAD), (2, LATE)])
def test_a_static_policy_keeps_its_cut(cut, index):
    decisions = list(served(Static(cut), lambda i: at(1 + i, 1 + i % 3), 20))
    assert {d.cut for d in decisions} == {index}
    assert {d.reason for d in decisions} == {""}


conditions = st.builds(
    Conditions,
    st.floats(1e4, 1e9),
    st.floats(1e4, 1e9),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0.1, 50),
    st.floats(0, 1),
    st.floats(0.1, 50),
    st.booleans(),
)


@given(st.lists(conditions, min_size=1, max_size=8))
def test_the_oracle_takes_the_cheapest_for_what_really_holds(truths):
    policy = Oracle()
    state = policy.start(CUTS, truths[0], 0.0)
    for i, truth in enumerate(truths):
        before = state.cut
        state, unasked = policy.step(state, Truth(i, truth))
        assert (unasked.cut, unasked.reason) == (before, "")
        state, decision = policy.step(state, Asked(i))
        values = CUTS.values_s(truth)
        assert values[decision.cut] == values.min()
        assert decision.believed == truth
        assert bool(decision.reason) == (decision.cut != before)


def test_nobody_but_the_oracle_reads_the_truth():
    truth = Truth(0.1, at(0.1))
    assert decided(LoadAware(), truth, Asked(0.2)).cut == EARLY
    assert decided(Oracle(), truth, Asked(0.2)).cut == LOCAL


every_policy = pytest.mark.parametrize(
    "policy", [LoadAware(), LoadOblivious(), Static(1), Oracle()], ids=lambda p: p.name
)


@every_policy
@given(stated=stated_anyhow, observations=st.lists(anything, max_size=20))
def test_policies_are_pure_and_safe(policy, stated, observations):
    if isinstance(policy, Oracle):  # what it is told holds: that is for the replay to check
        stated = STATED
        observations = [o for o in observations if not isinstance(o, Truth)]
    state = again = policy.start(CUTS, stated, 0.0)
    cut = None
    for observation in observations:
        before = state
        state, decision = policy.step(state, observation)
        assert policy.step(before, observation) == (state, decision)
        again, repeated = policy.step(again, observation)
        assert (again, repeated) == (state, decision)
        assert 0 <= decision.cut < len(CUTS.cuts)
        if not isinstance(observation, Asked):
            assert decision.reason == ""
            assert cut is None or decision.cut == cut
        cut = decision.cut


@pytest.mark.parametrize(
    ("text", "policy", "name"),
    [
        ("load-aware", LoadAware(), "load-aware"),
        ("load-oblivious", LoadOblivious(), "load-oblivious"),
        ("local", Static("local"), "static local"),
        ("static offload", Static("offload"), "static offload"),
        ("cut:3", Static(3), "static cut:3"),
        ("Oracle", Oracle(), "oracle"),
    ],
)
def test_policies_by_name(text, policy, name):
    assert by_name(text, CUTS) == policy
    assert by_name(policy.name, CUTS) == policy
    assert policy.name == name


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("load-awar", "did you mean load-aware?"),
        ("best", ", ".join(NAMES)),
        ("cut:4", "take one of cut:0 to cut:3"),
        ("cut:-1", "did you mean cut:N?"),
        ("", "policies are"),
    ],
)
def test_no_policy_by_another_name(text, says):
    with pytest.raises(UsageError) as error:
        by_name(text, CUTS)
    assert says in str(error.value)
    assert "policy" in str(error.value)


def test_a_static_policy_needs_its_cut():
    middle = Cuts("pi", "server", CUTS.cuts[1:3])
    for text, device in (("local", "pi"), ("offload", "server")):
        with pytest.raises(UsageError, match=f"no loaded cut runs all on {device}"):
            by_name(text, middle)
    with pytest.raises(UsageError, match="names of cuts are local, offload"):
        Static("locla").start(CUTS, STATED, 0.0)
