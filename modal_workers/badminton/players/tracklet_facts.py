"""Facts about each tracklet, before it is decided which player it shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.players.floor_points import PLAYED_M, FloorPoints, half_of, outside_m
from modal_workers.badminton.players.tracklets import Tracklet

Floats = NDArray[np.float64]

#: Place and velocity at an end are fitted to this much of a tracklet.
_END_S: Final = 0.3
#: Who stands outside the court, within this distance of the mean place (RMS), for that long, is no player in play;
#: close behind a line it takes longer to tell, and less movement.
_STILL_M: Final = 0.45
_STILL_S: Final = 3.0
_STILL_AT_LINE_M: Final = 0.3
_STILL_AT_LINE_S: Final = 8.0
#: A tracklet around the place of such a person is that person.
_SAME_PLACE_M: Final = 0.6
#: Reward, per second, for following a person who is on the court; outside it may be a player who fetches something.
_REWARD_INSIDE: Final = 4.0
_REWARD_OUTSIDE: Final = 0.1
#: What a tracklet has to bring at least: false detections are short.
_TRACKLET_COST: Final = 2.0


@dataclass(frozen=True, eq=False)
class TrackletEnd:
    """First or last moment of a tracklet."""

    frame: int
    time_s: float
    place_m: tuple[float, float]
    velocity_m_s: tuple[float, float]
    variance_m2: tuple[float, float]
    half: int


@dataclass(frozen=True, eq=False)
class TrackletFacts:
    """A tracklet's ends and shirt, and ``worth``: how much its being a player explains, negative for bystanders."""

    segment: int
    first: TrackletEnd
    last: TrackletEnd
    count: int
    seconds_inside: float
    shirt: NDArray[np.float32]
    shirt_count: int
    worth: float
    parents: tuple[tuple[int, float], ...]


def facts_of(
    tracklets: Sequence[Tracklet], points: FloorPoints, times_s: Floats, shirts: NDArray[np.float32]
) -> list[TrackletFacts]:
    """Return the facts of all tracklets; ``shirts`` are square roots of histograms, by point."""
    interval_s = float(np.median(np.diff(times_s))) if len(times_s) > 1 else 1.0
    centres = np.array([points.position_m[tracklet.points].mean(axis=0) for tracklet in tracklets]).reshape(-1, 2)
    spreads = np.array([np.sqrt(points.position_m[tracklet.points].var(axis=0).sum()) for tracklet in tracklets])
    counts = np.array([len(tracklet.points) for tracklet in tracklets])
    outside, seconds = outside_m(centres), counts * interval_s
    still = (spreads < _STILL_M) & (outside > 0)
    beside = still & (outside > PLAYED_M / 2) & (seconds > _STILL_S)
    at_line = still & (spreads < _STILL_AT_LINE_M) & (seconds > _STILL_AT_LINE_S)
    places = centres[beside | at_line]
    return [
        _facts(
            tracklet, points, times_s, shirts, interval_s=interval_s, beside=_stands_beside(centre, bool(quiet), places)
        )
        for tracklet, centre, quiet in zip(tracklets, centres, still, strict=True)
    ]


def _stands_beside(centre_m: Floats, still: bool, places_m: Floats) -> bool:
    """Return whether a tracklet is a piece of somebody who stands or sits beside the court all the time."""
    return still and bool((np.hypot(*(places_m - centre_m).T) < _SAME_PLACE_M).any())


def _facts(
    tracklet: Tracklet,
    points: FloorPoints,
    times_s: Floats,
    shirts: NDArray[np.float32],
    *,
    interval_s: float,
    beside: bool,
) -> TrackletFacts:
    index = tracklet.points
    outside = outside_m(points.position_m[index])
    inside_s = float((outside <= PLAYED_M).sum()) * interval_s
    outside_s = len(index) * interval_s - inside_s
    worth = _REWARD_INSIDE * inside_s + _REWARD_OUTSIDE * outside_s - _TRACKLET_COST
    known = shirts[index].any(axis=1)
    mean = shirts[index].mean(axis=0)
    length = float(np.linalg.norm(mean))
    return TrackletFacts(
        segment=int(points.segment[index[0]]),
        first=_end(index, points, times_s, at_start=True),
        last=_end(index, points, times_s, at_start=False),
        count=len(index),
        seconds_inside=0.0 if beside else inside_s,
        shirt=(mean / length).astype(np.float32) if length > 0 else mean,
        shirt_count=int(known.sum()),
        worth=-20.0 - outside_s if beside else worth,
        parents=tracklet.parents,
    )


def _end(index: NDArray[np.int64], points: FloorPoints, times_s: Floats, *, at_start: bool) -> TrackletEnd:
    frame = int(points.frame[index[0 if at_start else -1]])
    time_s = float(times_s[frame])
    part = index[: len(index)] if len(index) < 3 else index[:40] if at_start else index[-40:]
    offset = times_s[points.frame[part]] - time_s
    part, offset = part[np.abs(offset) <= _END_S], offset[np.abs(offset) <= _END_S]
    place = points.position_m[part]
    # Errors of detections last for some frames: their mean is hardly better than each of them.
    variance = points.variance_m2[part].mean(axis=0)
    velocity = np.zeros(2)
    spread = float(((offset - offset.mean()) ** 2).sum())
    if len(part) >= 4 and spread > 0:
        velocity = ((offset - offset.mean())[:, None] * (place - place.mean(axis=0))).sum(axis=0) / spread
    # Too short a piece says little about a velocity.
    velocity *= min(len(part) / 8, 1.0)
    fitted = place.mean(axis=0) - velocity * offset.mean()
    return TrackletEnd(
        frame,
        time_s,
        (float(fitted[0]), float(fitted[1])),
        (float(velocity[0]), float(velocity[1])),
        (float(variance[0]), float(variance[1])),
        int(half_of(fitted)),
    )
