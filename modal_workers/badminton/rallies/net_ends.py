"""Flights that end at the net, whether the track is cut there, elsewhere or nowhere.

One smooth path may fit a flight and the fall at the net, and one camera cannot tell it from a flight that comes back to
the hitter's side; of a short flight alone it hardly knows how far away it went. A hit goes to the other side, so each
moment is tried as the one in which the shuttle meets the net: before it a flight of a hit that is in the net's plane
then, after it the fall from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.court.dimensions import NET_HEIGHT_AT_POSTS_M, NET_Y_M
from modal_workers.badminton.rallies.flight_model import Prior
from modal_workers.badminton.rallies.flight_piece import SpacePath
from modal_workers.badminton.rallies.space_flights import refit

Floats = NDArray[np.float64]

#: Fewest sightings before and after the net, of those that a path keeps.
_FEWEST_BEFORE: Final = 3
_FEWEST_AFTER: Final = 3
#: A flight that meets the net is not above it there.
_ABOVE_M: Final = 0.15
#: What falls down at the net: mean velocity, and spreads of place and velocity.
_FALL_M_S: Final = np.array([0.0, 0.0, -0.5])
_FALL_SPREAD: Final = np.array([0.15, 0.15, 0.15, 0.7, 0.7, 1.5])
#: Log probability that a flight after which nothing is hit ends at the net: every third rally does.
_NET: Final = -1.1


@dataclass(frozen=True)
class NetEnd:
    """A hit whose flight ends at the net at ``end_s``; ``evidence`` as that of the hits without it."""

    hit: int
    end_s: float
    path: SpacePath
    fall: SpacePath
    evidence: float


def find_net_ends(path: SpacePath, begin_s: float, hits: Sequence[tuple[Floats, Floats, float]]) -> list[NetEnd]:
    """Return the ways in which a flight of ``path`` may have ended at the net.

    ``hits``: mean and spread [6] of the state at ``begin_s``, and log prior, of each hit that may have begun it.
    """
    moments = range(_FEWEST_BEFORE, len(path.seen_s) - _FEWEST_AFTER + 1)
    tried = [(moment, hit) for moment in moments for hit in range(len(hits))]
    if not tried:
        return []
    prior = Prior(np.array([hits[hit][0] for _, hit in tried]), np.array([hits[hit][1] for _, hit in tried]))
    before = [_part(path, slice(None, moment)) for moment, _ in tried]
    ends_s = [float(path.seen_s[moment - 1] + path.seen_s[moment]) / 2 for moment, _ in tried]
    paths, costs = refit(before, [begin_s] * len(tried), prior, ends_s)
    met: list[tuple[int, float, SpacePath, float, Floats]] = []
    for (_, hit), end_s, flown, cost in zip(tried, ends_s, paths, costs, strict=True):
        place = flown.place_m(end_s)
        if 0 < place[2] < NET_HEIGHT_AT_POSTS_M + _ABOVE_M:
            evidence = _evidence(flown, float(cost), hits[hit][1]) + hits[hit][2]
            met.append((hit, end_s, flown, evidence, np.array([place[0], NET_Y_M, place[2], *_FALL_M_S])))
    if not met:
        return []
    after = [_part(path, path.seen_s > end_s) for _, end_s, *_ in met]
    spread = np.tile(_FALL_SPREAD, (len(met), 1))
    falls, costs = refit(after, [end_s for _, end_s, *_ in met], Prior(np.array([each[4] for each in met]), spread))
    return [
        NetEnd(hit, end_s, flown, fall, evidence + _evidence(fall, float(cost), _FALL_SPREAD) + _NET)
        for (hit, end_s, flown, evidence, _), fall, cost in zip(met, falls, costs, strict=True)
    ]


def joined(path: SpacePath, following: SpacePath) -> SpacePath:
    """Return what was seen of two flights as that of one."""
    counts = len(path.seen_s), len(following.seen_s)
    return replace(
        path,
        seen_s=np.concatenate([path.seen_s, following.seen_s]),
        seen_px=np.concatenate([path.seen_px, following.seen_px]),
        weight=float(np.average([path.weight, following.weight], weights=counts)),
    )


def _part(path: SpacePath, seen: slice | NDArray[np.bool_]) -> SpacePath:
    return replace(path, seen_s=path.seen_s[seen], seen_px=path.seen_px[seen])


def _evidence(path: SpacePath, cost: float, spread: Floats) -> float:
    """Return the log evidence of a fit in Laplace's approximation."""
    return -cost / 2 - float(np.log(spread).sum()) + 0.5 * float(np.linalg.slogdet(path.covariance)[1])
