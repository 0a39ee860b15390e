"""Split a trained network over the devices you have.

`load` a model, `profile` it on a cluster, `solve` for the best plan (or `compare` strategies),
`deploy` that plan: see each function's own words. Names are imported when they are first used, so
that what needs one of them (a worker on a small board) does not load the others' planners and
solvers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cutset.api import (
        compare,
        deploy,
        export,
        load,
        profile,
        simulate,
        solve,
    )
    from cutset.cluster import Cluster
    from cutset.comparison import Comparison
    from cutset.deployed import Deployed
    from cutset.errors import (
        CutsetError,
        DeadlineExceeded,
        InfeasibleError,
        InputError,
        PlanningError,
        ProfileError,
        RuntimeFault,
        TransportError,
        UsageError,
        WorkerLostError,
    )
    from cutset.onnx_io import Model
    from cutset.plan import Plan
    from cutset.problem import Solution
    from cutset.profiles import Profile
    from cutset.simulation import Simulation

__all__ = [
    "Cluster",
    "Comparison",
    "CutsetError",
    "DeadlineExceeded",
    "Deployed",
    "InfeasibleError",
    "InputError",
    "Model",
    "Plan",
    "PlanningError",
    "Profile",
    "ProfileError",
    "RuntimeFault",
    "Simulation",
    "Solution",
    "TransportError",
    "UsageError",
    "WorkerLostError",
    "compare",
    "deploy",
    "export",
    "load",
    "profile",
    "simulate",
    "solve",
]

#: Where names come from that `cutset.errors` does not define.
_HOMES = {
    "Cluster": "cluster",
    "Comparison": "comparison",
    "Deployed": "deployed",
    "Model": "onnx_io",
    "Plan": "plan",
    "Profile": "profiles",
    "Simulation": "simulation",
    "Solution": "problem",
    "compare": "api",
    "deploy": "api",
    "export": "api",
    "load": "api",
    "profile": "api",
    "simulate": "api",
    "solve": "api",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'errors')}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
