"""Choice of a shot: what kind, where it is aimed at, its flight over the net, and its errors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.court.dimensions import (
    CENTRE_X_M,
    COURT_WIDTH_M,
    LONG_SERVICE_FROM_BACK_M,
    NET_HEIGHT_AT_CENTRE_M,
    NET_HEIGHT_AT_POSTS_M,
    NET_Y_M,
    SHORT_SERVICE_FROM_NET_M,
    SINGLES_INSET_M,
)
from simulators.badminton.play.shuttle_flight import RESTING_HEIGHT_M, ShuttleFlight, aim, fly

Floats = NDArray[np.float64]
ShotKind = Literal["short_serve", "high_serve", "clear", "drop", "smash", "net", "lift", "drive"]
ShotError = Literal["out", "net"]

#: Elevation in degrees, and where it is aimed at in metres behind the net: (least, most).
_ELEVATION_DEG: Final[dict[ShotKind, tuple[float, float]]] = {
    "short_serve": (18, 26),
    "high_serve": (52, 62),
    "clear": (22, 42),
    "drop": (-4, 8),
    "smash": (-14, -9),
    "net": (48, 62),
    "lift": (48, 60),
    "drive": (2, 10),
}
_DEPTH_M: Final[dict[ShotKind, tuple[float, float]]] = {
    "short_serve": (2.1, 2.6),
    "high_serve": (5.4, 6.3),
    "clear": (5.2, 6.3),
    "drop": (1.5, 2.6),
    "smash": (2.8, 4.8),
    "net": (0.8, 1.6),
    "lift": (5.0, 6.2),
    "drive": (3.2, 5.2),
}
_CLEARANCE_M: Final = 0.06


@dataclass(frozen=True)
class PlayedShot:
    """A shot from the hit until the shuttle is on the floor or has met the net."""

    kind: ShotKind
    flight: ShuttleFlight
    error: ShotError | None


def choose_kind(random: np.random.Generator, from_net_m: float, height_m: float) -> ShotKind:
    """Choose a shot by the distance to the net and the height of the hit."""
    chances: dict[ShotKind, float]
    if height_m > 1.8:
        if from_net_m > 4.2:
            chances = {"clear": 0.42, "drop": 0.26, "smash": 0.32}
        elif from_net_m > 2.2:
            chances = {"smash": 0.6, "drop": 0.25, "clear": 0.15}
        else:
            chances = {"smash": 0.75, "drop": 0.25}
    elif from_net_m < 2.9:
        chances = {"net": 0.42, "lift": 0.5, "drive": 0.08}
    elif height_m > 1.0:
        chances = {"drive": 0.45, "lift": 0.3, "drop": 0.25}
    else:
        chances = {"lift": 0.65, "drop": 0.25, "drive": 0.1}
    kinds = list(chances)
    return kinds[int(random.choice(len(kinds), p=list(chances.values())))]


def play_shot(
    random: np.random.Generator,
    kind: ShotKind,
    start_m: Floats,
    *,
    doubles: bool,
    error: ShotError | None = None,
    service_to_right: bool | None = None,
) -> PlayedShot:
    """Return a shot from a hit at ``start_m`` [3] to the other half.

    ``service_to_right``: which service court, seen in the picture, a serve has to land in.
    """
    away = -1.0 if start_m[1] > NET_Y_M else 1.0
    depth = float(random.uniform(*_DEPTH_M[kind]))
    if doubles and kind == "high_serve":
        depth = min(depth, NET_Y_M - LONG_SERVICE_FROM_BACK_M - 0.2)
    inset = (0.0 if doubles else SINGLES_INSET_M) + 0.35
    # Most shots are played nearer to the middle than to the lines: few rallies end with the third hit.
    aside = float(random.triangular(0.0, 0.35, 1.0) * random.choice([-1, 1]))
    x = CENTRE_X_M + aside * (CENTRE_X_M - inset)
    if service_to_right is not None:
        near, far = (CENTRE_X_M, COURT_WIDTH_M - inset) if service_to_right else (inset, CENTRE_X_M)
        x = float(np.clip(random.uniform(near, far), near + 0.3, far - 0.1))
        depth = max(depth, SHORT_SERVICE_FROM_NET_M + 0.15)
    if error == "out":
        if random.uniform() < 0.6 and kind in ("clear", "lift", "high_serve", "drive", "smash"):
            depth = float(NET_Y_M + random.uniform(0.12, 0.7))
        else:
            beyond = float(random.uniform(0.12, 0.6)) - (0.0 if doubles else SINGLES_INSET_M)
            x = COURT_WIDTH_M + beyond if x > CENTRE_X_M else -beyond
    target = np.array([x, NET_Y_M + away * depth, RESTING_HEIGHT_M])
    low, high = _ELEVATION_DEG[kind]
    flight = _over_the_net(start_m, target, float(random.uniform(low, high)))
    if error == "net":
        return _into_the_net(random, kind, start_m, flight)
    return PlayedShot(kind, flight, error)


def soft_pass(start_m: Floats, target_m: Floats) -> ShuttleFlight:
    """Return a slow flight [to a player's hand] over the net, as players give the shuttle back in a pause."""
    return _over_the_net(start_m, target_m, 50.0)


def net_height_m(x_m: float) -> float:
    """Return the height of the net's upper edge."""
    share = min(abs(x_m - CENTRE_X_M) / CENTRE_X_M, 1.0)
    return NET_HEIGHT_AT_CENTRE_M + (NET_HEIGHT_AT_POSTS_M - NET_HEIGHT_AT_CENTRE_M) * share**2


def _over_the_net(start_m: Floats, target_m: Floats, elevation_deg: float) -> ShuttleFlight:
    """Return the flattest flight from an elevation upwards that passes the net, or a flatter one.

    Drag limits how far a steep shot can go; a target out of reach is brought nearer.
    """
    flight = None
    steeper, flatter = np.arange(elevation_deg, 84.0, 3.0), np.arange(elevation_deg - 3.0, -15.0, -3.0)
    for elevation in (*steeper, *flatter):
        velocity = aim(start_m, target_m, math.radians(float(elevation)))
        if velocity is None:
            continue
        flight = fly(start_m, velocity, float(target_m[2]))
        if _clear_of_the_net(flight):
            return flight
    if flight is not None:
        return flight
    nearer = target_m.copy()
    nearer[:2] += 0.2 * (start_m[:2] - target_m[:2])
    return _over_the_net(start_m, nearer, elevation_deg)


def _clear_of_the_net(flight: ShuttleFlight) -> bool:
    crossing_s = flight.crossing_s(NET_Y_M)
    if crossing_s is None:
        return True
    x, _, height = flight.at(crossing_s)
    return bool(height > net_height_m(float(x)) + _CLEARANCE_M)


def _into_the_net(random: np.random.Generator, kind: ShotKind, start_m: Floats, intended: ShuttleFlight) -> PlayedShot:
    """Return a flight that ends at the net, where it meets it 10 to 70 cm below its edge."""
    share = float(np.clip(abs(NET_Y_M - start_m[1]) / max(abs(intended.xyz_m[-1, 1] - start_m[1]), 1e-6), 0.05, 1.0))
    x = float(start_m[0] + share * (intended.xyz_m[-1, 0] - start_m[0]))
    before = 0.02 if start_m[1] > NET_Y_M else -0.02
    height = net_height_m(x) - float(random.uniform(0.1, 0.7))
    met = np.array([x, NET_Y_M + before, height])
    # The straight line to the net, and from there upwards until gravity and drag let it meet the net there.
    way = math.hypot(met[0] - start_m[0], met[1] - start_m[1])
    straight = math.degrees(math.atan2(height - start_m[2], way))
    for elevation in np.arange(max(straight, -60.0) + 4.0, 84.0, 4.0):
        velocity = aim(start_m, met, math.radians(float(elevation)))
        if velocity is not None and np.linalg.norm(velocity) < 45.0:
            return PlayedShot(kind, fly(start_m, velocity, height), "net")
    return PlayedShot(kind, intended, None)
