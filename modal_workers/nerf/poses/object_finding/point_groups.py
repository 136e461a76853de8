"""Groups of points that stand apart from all others, at any scale: single linkage of mutual reachability. Pure.

Source: Campello, Moulavi, Sander, Density-Based Clustering Based on Hierarchical Density Estimates, PAKDD 2013.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_NEIGHBOURS: Final = 4
#: A group is dense at the distance that joins this share of it; the rest are stray points.
_DENSE_SHARE: Final = 0.95
#: Points that are this many times as far away as those inside are from each other are no part of a group.
_FURTHER: Final = 1.6


@dataclass(frozen=True)
class PointGroup:
    """Points that are joined at a distance of ``inner`` and join others at ``outer`` (infinite for all points)."""

    members: Integers
    inner: float
    outer: float


def group_points(points: Floats, *, smallest: int) -> list[PointGroup]:
    """Return all groups of at least ``smallest`` of the points [N, 3], parts before wholes."""
    if len(points) < max(2, smallest):
        return []
    edges = _spanning_tree(points)
    parent, size = np.arange(len(points)), np.ones(len(points), np.int64)
    members: dict[int, list[int]] = {index: [index] for index in range(len(points))}
    joined: dict[int, list[float]] = {index: [] for index in range(len(points))}
    groups: list[PointGroup] = []

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = int(parent[node])
        return node

    def close(node: int, outer: float) -> None:
        inner = max(_dense(joined[node], size[node]), 1e-6)
        groups.append(PointGroup(np.array(members[node]), inner, outer))

    closed_at: dict[int, float] = {}
    for first, second, length in edges:
        one, other = root(int(first)), root(int(second))
        if size[one] < size[other]:
            one, other = other, one
        if size[other] >= smallest:
            close(other, length)
        # Before it takes up stray points from much further away, a group is a thing of its own.
        alone = size[one] >= smallest and length > _FURTHER * max(
            _dense(joined[one], size[one]), closed_at.get(one, 0.0)
        )
        if size[one] >= smallest and (size[other] >= smallest or alone):
            close(one, length)
            closed_at[one] = length
        parent[other] = one
        size[one] += size[other]
        members[one] += members.pop(other)
        joined[one] = sorted([*joined[one], *joined.pop(other), length])
    close(root(0), np.inf)
    return groups


def _dense(levels: list[float], size: int) -> float:
    """Return the distance that joins nearly all of a group, from the sorted distances of its joins."""
    needed = max(1, int(np.ceil(_DENSE_SHARE * size)) - 1)
    return levels[min(needed, len(levels)) - 1] if levels else 0.0


def _spanning_tree(points: Floats) -> list[tuple[int, int, float]]:
    """Return the edges of the minimum spanning tree (Prim), shortest first."""
    squares = (points * points).sum(1)
    distances = np.sqrt(np.maximum(0.0, squares[:, None] + squares - 2 * (points @ points.T)))
    nearest = min(_NEIGHBOURS, len(points) - 1)
    core = np.partition(distances, nearest, axis=1)[:, nearest]
    reach = np.maximum(distances, np.maximum(core[:, None], core[None]))
    best, origin = reach[0].copy(), np.zeros(len(points), np.int64)
    best[0] = np.inf
    outside = np.ones(len(points), bool)
    outside[0] = False
    edges = []
    for _ in range(len(points) - 1):
        place = int(np.argmin(best))
        edges.append((int(origin[place]), place, float(best[place])))
        outside[place], best[place] = False, np.inf
        nearer = (reach[place] < best) & outside
        best[nearer], origin[nearer] = reach[place][nearer], place
    return sorted(edges, key=lambda edge: edge[2])
