"""Flights linked from contact to contact: where one ended, the next begins.

One camera hardly knows how far away a short flight is. The flight before it, seen for longer, says where it began; a
shot that would have to begin metres away from there is none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.rallies.flight_piece import SpacePath

Floats = NDArray[np.float64]

#: Errors of the place of a contact that no fit contains: the shuttle's own, and of the time of the contact.
_PLACE_M: Final = 0.15
_TIME_S: Final = 0.015
#: Fits of flights that hardly say how far away they were are too sure of it.
_INFLATED: Final = 2.0
#: Squared distance in standard deviations beyond which one of the two flights is not what it seems.
_MOST: Final = 20.0


@dataclass(frozen=True, eq=False)
class FlightEnd:
    """End of a flight at the time of a contact: place [3], its covariance [3, 3] and velocity [3]."""

    place_m: Floats
    covariance: Floats
    velocity_m_s: Floats

    @classmethod
    def of(cls, path: SpacePath, time_s: float) -> FlightEnd:
        """Return the end of a flight."""
        return cls(path.place_m(time_s), path.place_covariance(time_s), path.velocity_m_s(time_s))


def linked(path: SpacePath, before: FlightEnd) -> tuple[SpacePath, float]:
    """Return a flight corrected by the end of the one before, at its origin, and how well the two join.

    The second value is the logarithm of a likelihood, 0 where they meet exactly.
    """
    away = before.place_m - path.state[:3]
    joint = path.covariance[:3, :3] + _INFLATED * before.covariance + _PLACE_M**2 * np.eye(3)
    for velocity in (path.state[3:], before.velocity_m_s):
        joint = joint + _TIME_S**2 * np.outer(velocity, velocity)
    inverse = np.linalg.inv(joint)
    distance = float(away @ inverse @ away)
    if distance > _MOST:
        return path, -_MOST / 2
    gain = path.covariance[:, :3] @ inverse
    covariance = path.covariance - gain @ path.covariance[:3]
    return replace(path, state=path.state + gain @ away, covariance=(covariance + covariance.T) / 2), -distance / 2
