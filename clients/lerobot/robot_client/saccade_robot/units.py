"""Conversion of LeRobot's motor values to radians.

LeRobot's values carry no unit: each motor's norm mode and calibration decide what they are
(``lerobot/motors/motors_bus.py``, ``_normalize``). Zero is the middle of the calibrated range, as in the SO-101's URDF.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

DEGREES: Final = "degrees"
SYMMETRIC: Final = "range_m100_100"
PERCENT: Final = "range_0_100"

#: The gripper of an SO-100 and SO-101 by its URDF: 0 is closed, 100 open, rad.
SO_GRIPPER_RAD: Final = (-0.174533, 1.74533)
#: Ticks of a turn of an STS3215.
_TICKS: Final = 4096


class Scale(NamedTuple):
    """``rad = value * rad_per_unit + zero_rad``."""

    rad_per_unit: float
    zero_rad: float = 0.0


class MotorDescription(NamedTuple):
    """Known properties of one joint's motor."""

    norm_mode: str | None = None
    #: ``id``, ``drive_mode``, ``homing_offset``, ``range_min``, ``range_max`` in ticks, as LeRobot keeps them.
    calibration: Mapping[str, Any] | None = None
    ticks: int = _TICKS
    #: Whether the bus inverts values if the calibration's drive mode is set.
    turns_around: bool = True
    #: Positions of 0 and 100 of a motor in percent, rad.
    percent_rad: tuple[float, float] | None = None


#: The public name of ``MotorDescription``.
Motor = MotorDescription


def scale_of(motor: MotorDescription) -> Scale | None:
    """Return the conversion of a motor's values to radians; None if its mode or calibration is unknown."""
    if motor.norm_mode == DEGREES:
        return Scale(math.pi / 180)
    if motor.norm_mode == PERCENT and motor.percent_rad is not None:
        low, high = motor.percent_rad
        return Scale((high - low) / 100, low)
    if motor.norm_mode == SYMMETRIC and motor.calibration is not None:
        try:
            span = int(motor.calibration["range_max"]) - int(motor.calibration["range_min"])
            turned = motor.turns_around and int(motor.calibration.get("drive_mode", 0)) != 0
        except (KeyError, TypeError, ValueError):
            return None
        if span <= 0:
            return None
        half_rad = span / 2 * 2 * math.pi / (motor.ticks - 1)
        # Degrees are never inverted, and the URDF has the sign of degrees.
        return Scale((-half_rad if turned else half_rad) / 100)
    return None
