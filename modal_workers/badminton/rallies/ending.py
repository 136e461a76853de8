"""The end of a rally: where and when the flight after the last hit met floor or net, as far as it was seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from modal_workers.badminton.court.dimensions import NET_HEIGHT_AT_POSTS_M, NET_Y_M
from modal_workers.badminton.rallies.flight_piece import FlightPiece, SpacePath
from modal_workers.badminton.rallies.hits import JudgedContact
from modal_workers.badminton.rallies.rally import Hit

#: A flight goes on with the next piece of the track if that begins this soon.
_NEXT_PIECE_S: Final = 0.25
#: A shuttle below this is on the floor, as exactly as a flight is known.
_FLOOR_M: Final = 0.35
#: From the last place seen, the floor is met within this time; after a longer fall somebody may have hit it before.
_UNSEEN_FALL_S: Final = 0.12
_LONGEST_FALL_S: Final = 0.4
_STEP_S: Final = 0.01
#: A contact so near to the net's plane and so low is with the net.
_NET_M: Final = 0.8
_ABOVE_NET_M: Final = 0.15
#: The same where it lost its speed there.
_STOPPED_M_S: Final = 4.0
_NET_STOP_M: Final = 2.5
#: A flight that has passed the net at this height and is this far behind it did not end there.
_PASSED_NET_M: Final = 1.55
_BEHIND_NET_M: Final = 0.25
#: Without a court: pieces that stay within this many pixels of 720 are a shuttle that bounces and lies.
_LYING_PX: Final = 40.0
_SAMPLES: Final = 5


@dataclass(frozen=True)
class Ending:
    """The end of a rally; ``place_m`` on the floor with its standard deviation, where it is known.

    ``in_air``: the flight ended neither at the floor nor at the net: somebody caught the shuttle.
    """

    time_s: float
    kind: Literal["floor", "net", "in_air", "not_seen"]
    place_m: tuple[float, float] | None = None
    error_m: float = math.inf


def ending_of(last: Hit, contacts: Sequence[JudgedContact]) -> Ending | None:
    """Return how the flight after a hit ended; None if no flight begins with the hit."""
    start = next((index for index, each in enumerate(contacts) if each.hit is last or _same(each.hit, last)), None)
    if start is None:
        return None
    flight = contacts[start].contact.after
    for each in contacts[start + 1 :]:
        following = each.contact
        if each.hit is not None or following.after.start_s - flight.end_s > _NEXT_PIECE_S:
            break
        ending = _at_contact(flight, following.time_s, following.after)
        if ending is not None:
            return ending
        flight = following.after
    return _after_last_sight(flight)


def _same(hit: Hit | None, other: Hit) -> bool:
    return hit is not None and hit.frame == other.frame and hit.time_s == other.time_s


def _at_contact(flight: FlightPiece, time_s: float, after: FlightPiece) -> Ending | None:
    """Return the end at a contact that is no hit; None if the flight only seems to end there."""
    if flight.space is None:
        samples = np.linspace(after.start_s, after.end_s, _SAMPLES)
        extent = np.ptp([after.position_px(float(time)) for time in samples], axis=0).max()
        return Ending(time_s, "not_seen") if extent < _LYING_PX else None
    place = flight.space.place_m(time_s)
    if place[2] < _FLOOR_M:
        return _floor(flight.space, time_s)
    if after.space is not None and np.linalg.norm(after.space.velocity_m_s(time_s)) < _STOPPED_M_S:
        return _net(flight.space, time_s, sure_of_stop=True)
    return _net(flight.space, time_s)


def _after_last_sight(flight: FlightPiece) -> Ending:
    if flight.space is None:
        return Ending(flight.end_s, "not_seen")
    place = flight.space.place_m(flight.end_s)
    if place[2] < _FLOOR_M:
        return _floor(flight.space, flight.end_s)
    if (at_net := _net(flight.space, flight.end_s)) is not None:
        return at_net
    times = np.arange(flight.end_s, flight.end_s + _LONGEST_FALL_S, _STEP_S)
    for time_s, place in zip(times, flight.space.places_m(times), strict=True):
        if place[2] < 0.05:
            if time_s - flight.end_s > _UNSEEN_FALL_S:
                return Ending(float(time_s), "in_air")
            # Out of view in its last moments, but it can only have met the floor.
            return _floor(flight.space, float(time_s))
    return Ending(flight.end_s, "in_air")


def _net(path: SpacePath, time_s: float, *, sure_of_stop: bool = False) -> Ending | None:
    place, error_m = path.place_m(time_s), path.floor_deviation_m(time_s)
    # A shuttle that loses its speed in the air, away from the players, has met the net.
    margin_m = _NET_M + (min(2 * error_m, _NET_STOP_M) if sure_of_stop else min(error_m, _NET_M))
    if abs(place[1] - NET_Y_M) > margin_m or place[2] > NET_HEIGHT_AT_POSTS_M + _ABOVE_NET_M:
        return None
    if _has_passed_net(path, time_s):
        return None
    return Ending(time_s, "net", (float(place[0]), float(place[1])), error_m)


def _has_passed_net(path: SpacePath, time_s: float) -> bool:
    """Return whether a flight is behind the net at a time, and has passed above it."""
    start, end = path.place_m(path.origin_s), path.place_m(time_s)
    behind = (end[1] - NET_Y_M) * np.sign(NET_Y_M - start[1])
    if behind < max(_BEHIND_NET_M, 2 * float(np.sqrt(max(path.place_covariance(time_s)[1, 1], 0.0)))):
        return False
    times = np.arange(path.origin_s, time_s, _STEP_S)
    places = path.places_m(times)
    crossed = int(np.argmin(np.abs(places[:, 1] - NET_Y_M)))
    return bool(places[crossed, 2] > _PASSED_NET_M)


def _floor(path: SpacePath, time_s: float) -> Ending:
    place = path.place_m(time_s)
    return Ending(time_s, "floor", (float(place[0]), float(place[1])), path.floor_deviation_m(time_s))
