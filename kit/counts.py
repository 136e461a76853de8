"""Counts of what went wrong in this process, for its metrics: plain numbers, because workers use the same modules.

The values of labels are names of streams, leases, operations and classes of errors: never ids or what users sent.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

#: Occurrences by metric and the values of its labels.
COUNTS: Final[Counter[tuple[str, tuple[str, ...]]]] = Counter()
#: Different values of the labels of all metrics: far above what there is, so that a mistake does not fill the memory.
_MOST: Final = 1000


def count(metric: str, *labels: str) -> None:
    """Count one occurrence."""
    if (metric, labels) in COUNTS or len(COUNTS) < _MOST:
        COUNTS[metric, labels] += 1
