"""Selection of frames that are spread evenly over time. Pure."""

from __future__ import annotations

from collections.abc import Sequence


def spread_evenly(times_s: Sequence[float], count: int) -> list[int]:
    """Return the indexes of ``count`` of the times, in order, as evenly spaced as they are: the last one is among them.

    The times are those of frames in the order of their arrival; they may go back a little.
    """
    total = len(times_s)
    if total <= count:
        return list(range(total))
    if count == 1:
        return [total - 1]
    first_s, step_s = times_s[0], (times_s[-1] - times_s[0]) / (count - 1)
    chosen: list[int] = []
    start = 0
    for number in range(count - 1):
        # As many are left over as the later ones need.
        candidates = range(start, total - (count - 1 - number))
        wanted_s = first_s + number * step_s
        nearest = min(candidates, key=lambda index, wanted_s=wanted_s: abs(times_s[index] - wanted_s))  # type: ignore[misc]
        chosen.append(nearest)
        start = nearest + 1
    return [*chosen, total - 1]


def densest(times_s: Sequence[float]) -> int:
    """Return the index of the time that is missed least: its neighbours are closest together. Never the newest."""
    if len(times_s) < 3:
        return 0
    return min(range(1, len(times_s) - 1), key=lambda index: times_s[index + 1] - times_s[index - 1])
