"""Links and a server that answer looks, for the tests of when to look."""

from cut_cases import CUTS, STATED

from cutset.adaptation.observations import RoundTrip, ServerRun, Transfer
from cutset.adaptation.observer import Observer
from cutset.adaptation.passages import NO_USE
from cutset.adaptation.probing import (
    LEAD_BYTES,
    LookServer,
    LookUp,
    Ping,
    look_bytes,
    looked,
    next_action,
    start,
)

OBSERVER = Observer(CUTS)
SLOW_LOOK = LEAD_BYTES + 3000  # at several Mbit/s


def seen_from(stated=STATED):
    return OBSERVER.start(stated, 0.0)


def answered(state, seen, action, at_s, truth, cuts=CUTS):
    """The look is answered at once, by a link and server of these conditions."""
    took_s, sent = 0.0, 0
    if isinstance(action, LookServer):
        took_s = cuts.cuts[action.cut].server_s * truth.load
        observation = ServerRun(at_s, action.cut, took_s, look=True)
    elif isinstance(action, Ping):
        observation = RoundTrip(at_s, 0.004)
    else:
        up = isinstance(action, LookUp)
        rate, sent = truth.up_bps if up else truth.down_bps, look_bytes(action)
        took_s = 8 * action.bytes / rate
        observation = Transfer(at_s, up, action.bytes, took_s, look=True)
    return (
        looked(state, action, at_s, sent, took_s),
        Observer(cuts).see(seen, observation),
    )


def idle(holds, seconds, *, cuts=CUTS, stated=STATED, use=NO_USE, step_s=0.01):
    """What is looked at by (time, action) on links and a server that no request uses."""
    state, seen = start(0.0), Observer(cuts).start(stated, 0.0)
    actions = []
    for i in range(round(seconds / step_s)):
        at_s = i * step_s
        state, action = next_action(state, seen, cuts, at_s, use)
        if action is not None:
            actions.append((at_s, action))
            state, seen = answered(state, seen, action, at_s, holds(at_s), cuts)
    return actions, state, seen


def times(actions, kind):
    return [at_s for at_s, action in actions if isinstance(action, kind)]
