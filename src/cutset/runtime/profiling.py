"""Measuring a submodel on this device: whole runs, kernels, and what loading it takes."""

from __future__ import annotations

from collections.abc import Callable

from cutset import engine
from cutset.cluster import Engine
from cutset.engine import Submodel
from cutset.pacing import Runnable
from cutset.ports import Array
from cutset.runtime import growth
from cutset.runtime.measuring_messages import KernelSeconds, Profiled, RunProfile
from cutset.runtime.message_parts import EngineSpec

LoadEngine = Callable[[Submodel, EngineSpec], Runnable]


def profiled(
    body: RunProfile,
    feeds: dict[str, Array],
    load: LoadEngine,
    fetch: Callable[[], Submodel],
) -> Profiled:
    """Raw times and sizes of the submodel that `fetch` gets; whole runs are paced as `load` has it.

    Raises what loading and running raise, ProfileError where the provider reports no kernels.
    """
    whole: tuple[float, ...] = ()

    def times(runnable: Runnable) -> None:
        nonlocal whole
        whole = engine.whole_times(runnable, feeds, body.whole_runs, body.pause_s)

    grown = growth.by_loading(
        lambda submodel: load(submodel, body.engine),
        fetch,
        times if body.whole_runs else growth.runs(feeds, 1),
    )
    submodel = fetch()
    kernels: tuple[engine.KernelTimes, ...] = ()
    if body.kernel_runs:
        spec = body.engine
        unpaced = Engine(spec.provider, spec.threads, spec.options)
        kernels = engine.kernel_times(submodel, unpaced, feeds, body.kernel_runs)
    return Profiled(
        tuple(KernelSeconds(k.node, k.op_type, k.seconds) for k in kernels),
        whole,
        body.engine.threads or engine.physical_cores(),
        grown.stage_bytes,
        grown.load_bytes,
        grown.run_bytes,
    )
