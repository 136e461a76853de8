"""Conversion between servo ticks, LeRobot's normalised values and radians, by a calibration in LeRobot's form."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

_LAST_TICK: Final = 4095
_TURN_DEG: Final = 360.0
GRIPPER: Final = "gripper"
#: Closed and open position of the jaws of the SO-101: 0 and 100 of LeRobot's gripper.
GRIPPER_RAD: Final = (-0.174533, 1.74533)


class MotorCalibration(NamedTuple):
    """One motor in LeRobot's calibration file: its id, and the first and last tick of its range."""

    id: int
    drive_mode: int
    homing_offset: int
    range_min: int
    range_max: int


#: Calibration of the virtual arm: its range is that of its URDF; the wrist roll has no stops.
CALIBRATION: Final = {
    "shoulder_pan": MotorCalibration(1, 0, 0, 793, 3297),
    "shoulder_lift": MotorCalibration(2, 0, 0, 909, 3185),
    "elbow_flex": MotorCalibration(3, 0, 0, 945, 3149),
    "wrist_flex": MotorCalibration(4, 0, 0, 966, 3128),
    "wrist_roll": MotorCalibration(5, 0, 0, 0, 4095),
    GRIPPER: MotorCalibration(6, 0, 0, 1934, 3185),
}


def value_of_tick(name: str, tick: float) -> float:
    """Return LeRobot's value: degrees from the middle of the range, or 0 to 100 for the gripper."""
    motor = CALIBRATION[name]
    if name == GRIPPER:
        share = (tick - motor.range_min) / (motor.range_max - motor.range_min)
        return 100.0 * min(1.0, max(0.0, share))
    return (tick - (motor.range_min + motor.range_max) / 2) * _TURN_DEG / _LAST_TICK


def tick_of_value(name: str, value: float) -> float:
    """Return the tick of LeRobot's value: the inverse of ``value_of_tick``."""
    motor = CALIBRATION[name]
    if name == GRIPPER:
        return motor.range_min + value / 100.0 * (motor.range_max - motor.range_min)
    return (motor.range_min + motor.range_max) / 2 + value * _LAST_TICK / _TURN_DEG


def rad_of_value(name: str, value: float) -> float:
    """Return the joint position in rad of LeRobot's value."""
    if name == GRIPPER:
        return GRIPPER_RAD[0] + value / 100.0 * (GRIPPER_RAD[1] - GRIPPER_RAD[0])
    return math.radians(value)


def value_of_rad(name: str, position_rad: float) -> float:
    """Return LeRobot's value of a joint position in rad."""
    if name == GRIPPER:
        return 100.0 * (position_rad - GRIPPER_RAD[0]) / (GRIPPER_RAD[1] - GRIPPER_RAD[0])
    return math.degrees(position_rad)


def tick_of_rad(name: str, position_rad: float) -> float:
    """Return the fractional tick of a joint position in rad."""
    return tick_of_value(name, value_of_rad(name, position_rad))
