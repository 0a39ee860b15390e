"""Spans that fit a memory capacity with the least sum of transfers.

The partition of Parthasarathy and Krishnamachari, arXiv 2210.12219: the best continuation of every
point is memoised without regard to how many spans it takes; each first span is tried, and what then
takes more spans than there are devices is given up, not repaired.
"""

from __future__ import annotations

import numpy as np

from cutset.solvers.published.candidate_points import CandidatePoints


def least_sum_partition(
    points: CandidatePoints, capacity_bytes: float, most_spans: int
) -> tuple[tuple[int, ...] | None, int]:
    """Ends of the spans (indices into `points.positions`), and the fewest spans that were tried.

    Of equal sums the one of fewer spans, then of the earlier cut. None with 0 where the operators
    between two neighbouring points are over the capacity, with more where each partition tried
    takes more than `most_spans`.
    """
    last = points.last
    sums = np.full(last + 1, np.inf)  # the least sum of what is cut after a point
    spans = np.zeros(last + 1, dtype=np.int64)
    chosen = np.zeros(last + 1, dtype=np.int64)
    sums[last] = 0.0
    fewest = 0
    for begin in range(last - 1, -1, -1):
        ends = np.arange(begin + 1, points.reach(begin, capacity_bytes) + 1)
        ends = ends[np.isfinite(sums[ends])]
        if begin == 0 and len(ends):
            fewest = int(spans[ends].min()) + 1
            ends = ends[spans[ends] < most_spans]
        if not len(ends):
            continue
        costs = points.crossing_bytes[ends] + sums[ends]
        end = int(ends[np.lexsort((ends, spans[ends], costs))[0]])
        sums[begin] = points.crossing_bytes[end] + sums[end]
        spans[begin], chosen[begin] = spans[end] + 1, end
    if np.isinf(sums[0]):
        return None, fewest
    found = [int(chosen[0])]
    while found[-1] < last:
        found.append(int(chosen[found[-1]]))
    return tuple(found), fewest
