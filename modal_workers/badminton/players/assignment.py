"""Best one-to-one assignment of a few tracks to a few detections."""

from __future__ import annotations

import math
from collections.abc import Sequence


def best_assignment(scores: Sequence[Sequence[float]]) -> list[int]:
    """Return for each row the column that it is assigned to, or -1, so that the sum of scores is largest.

    A row without a column scores 0; ``-inf`` forbids a pair. The Hungarian method with row potentials, for matrices of
    a few rows: a player has few detections to choose from.
    """
    rows = len(scores)
    columns = len(scores[0]) if rows else 0
    # A column for each row that stands for "no detection": then there is always a complete assignment.
    width = columns + rows
    cost = [
        [*(-score if score > -math.inf else 1e12 for score in line), *(0.0 if k == i else 1e12 for k in range(rows))]
        for i, line in enumerate(scores)
    ]
    potential_row, potential_column = [0.0] * (rows + 1), [0.0] * (width + 1)
    owner = [0] * (width + 1)
    for row in range(1, rows + 1):
        _augment(cost, row, potential_row, potential_column, owner)
    found = [-1] * rows
    for column in range(1, columns + 1):
        row = owner[column]
        if row and scores[row - 1][column - 1] > -math.inf:
            found[row - 1] = column - 1
    return found


def _augment(
    cost: list[list[float]], row: int, potential_row: list[float], potential_column: list[float], owner: list[int]
) -> None:
    """Assign one more row along the shortest augmenting path."""
    width = len(owner) - 1
    owner[0] = row
    column = 0
    least, before = [math.inf] * (width + 1), [0] * (width + 1)
    used = [False] * (width + 1)
    while owner[column]:
        used[column] = True
        current, delta, following = owner[column], math.inf, 0
        line, own = cost[current - 1], potential_row[current]
        for k in range(1, width + 1):
            if used[k]:
                continue
            reduced = line[k - 1] - own - potential_column[k]
            if reduced < least[k]:
                least[k], before[k] = reduced, column
            if least[k] < delta:
                delta, following = least[k], k
        for k in range(width + 1):
            if used[k]:
                potential_row[owner[k]] += delta
                potential_column[k] -= delta
            else:
                least[k] -= delta
        column = following
    while column:
        owner[column] = owner[before[column]]
        column = before[column]
