"""One person's motion on the floor while detections come in: constant velocity with random acceleration, per axis."""

from __future__ import annotations

from array import array
from typing import Final

#: Spectral density of the acceleration: players change their velocity by about 4 m/s within a second.
ACCELERATION_M2_S3: Final = 16.0
#: A person whose velocity is not known yet.
START_SPEED_M_S: Final = 2.5
#: Squared distance, in standard deviations, beyond which a detection is not this person (two axes: 1 in 10,000).
GATE: Final = 18.4


class MovingPerson:
    """State of one person: places and velocities with their variances, and the detections so far.

    Plain numbers and no arrays: a step costs a microsecond.
    """

    __slots__ = (
        "begun_s", "detections", "last_frame", "last_seen_s", "number", "rejected", "slot", "time_s",
        "x", "x_speed", "xpp", "xpv", "xvv", "y", "y_speed", "ypp", "ypv", "yvv",
    )  # fmt: skip

    def __init__(self, number: int, slot: int, time_s: float, place: tuple[float, float, float, float]) -> None:
        """Begin at a detection: x, y and their variances."""
        self.number, self.slot = number, slot
        self.time_s = self.begun_s = self.last_seen_s = time_s
        self.last_frame = -1
        self.detections = array("q")
        self.rejected = 0
        self.x, self.y, self.xpp, self.ypp = place
        self.x_speed = self.y_speed = self.xpv = self.ypv = 0.0
        self.xvv = self.yvv = START_SPEED_M_S**2

    def predict(self, time_s: float) -> None:
        """Move on to a time."""
        step = time_s - self.time_s
        self.time_s = time_s
        half, third = ACCELERATION_M2_S3 * step * step / 2, ACCELERATION_M2_S3 * step * step * step / 3
        added = ACCELERATION_M2_S3 * step
        self.x += self.x_speed * step
        self.y += self.y_speed * step
        self.xpp += (2 * self.xpv + step * self.xvv) * step + third
        self.ypp += (2 * self.ypv + step * self.yvv) * step + third
        self.xpv += step * self.xvv + half
        self.ypv += step * self.yvv + half
        self.xvv += added
        self.yvv += added

    def update(self, x: float, y: float, x_variance: float, y_variance: float) -> None:
        """Take a detection in."""
        gain = 1.0 / (self.xpp + x_variance)
        place, speed, off = self.xpp * gain, self.xpv * gain, x - self.x
        self.x += place * off
        self.x_speed += speed * off
        self.xvv -= speed * self.xpv
        self.xpv -= place * self.xpv
        self.xpp -= place * self.xpp
        gain = 1.0 / (self.ypp + y_variance)
        place, speed, off = self.ypp * gain, self.ypv * gain, y - self.y
        self.y += place * off
        self.y_speed += speed * off
        self.yvv -= speed * self.ypv
        self.ypv -= place * self.ypv
        self.ypp -= place * self.ypp
        self.last_seen_s = self.time_s
