"""A problem after changes of its cluster: slower links, loaded devices."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from cutset.changes import Change, DeviceChange, apply_change
from cutset.cost import LoadedCost
from cutset.errors import UsageError
from cutset.problem import Problem


def what_if(problem: Problem, changes: Iterable[Change], where: str = "CHANGE") -> Problem:
    """The problem after the changes, made one after the other; of several loads the last counts.

    A load K makes every operator on the device take K times as long; what a stage and transfers
    cost beside the operators stays. Raises UsageError for a device or link that the cluster does
    not have, and for a share of a core, which only an emulated device can be given; its field
    begins with `where`: the option that the changes were given by.
    """
    cluster, load = problem.cluster, dict[str, float]()
    for change in changes:
        if isinstance(change, DeviceChange) and change.cpu_share is not None:
            raise UsageError(
                "a share of a core is for emulated devices: costs are measured at the share that"
                " the cluster file states, and need not follow it",
                field=f"{where} device:{change.device}.cpu",
                value=change.cpu_share,
                remedy=f"write device:{change.device}.load=K for K times the compute time, or"
                " change the share with `cutset lab set` and measure again",
            )
        cluster = apply_change(cluster, change, where)
        if isinstance(change, DeviceChange) and change.load is not None:
            load[change.device] = change.load
    cost = LoadedCost(problem.cost, load) if load else problem.cost
    return replace(problem, cluster=cluster, cost=cost)
