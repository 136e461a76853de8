"""Conversion to radians, checked against LeRobot's own formula for ticks, and descriptions of robots."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from saccade_robot.robot import describe
from saccade_robot.units import MotorDescription, scale_of

from tests.harness.sessions.robot_server import NAMES


class Mode(StrEnum):
    """As ``lerobot.motors.MotorNormMode``."""

    PERCENT = "range_0_100"
    SYMMETRIC = "range_m100_100"
    DEGREES = "degrees"


@dataclass
class Calibration:
    id: int
    range_min: int
    range_max: int
    drive_mode: int = 0
    homing_offset: int = 0


@dataclass
class Driven:
    norm_mode: Mode
    model: str = "sts3215"


@dataclass
class Bus:
    motors: dict[str, Driven]
    apply_drive_mode: bool = True
    model_resolution_table: dict[str, int] = field(default_factory=lambda: {"sts3215": 4096})


class Arm:
    """A robot by its shape alone."""

    name = robot_type = "so_follower"
    id = "black"

    def __init__(self, body: Mode, *, calibrated: bool = True) -> None:
        modes = [body] * 5 + [Mode.PERCENT]
        self.bus = Bus({name: Driven(mode) for name, mode in zip(NAMES, modes, strict=True)})
        ranges = enumerate(NAMES, start=1)
        self.calibration = {name: Calibration(i, 800 + i, 3300 + 2 * i) for i, name in ranges} if calibrated else {}
        features: dict[str, Any] = {f"{name}.pos": float for name in NAMES}
        self.observation_features = {**features, "wrist": (480, 640, 3), "wrist_depth": (480, 640, 1)}


def lerobot_degrees(tick: int, low: int, high: int) -> float:
    return (tick - (low + high) / 2) * 360 / 4095


def lerobot_symmetric(tick: int, low: int, high: int, drive_mode: int) -> float:
    norm = ((tick - low) / (high - low)) * 200 - 100
    return -norm if drive_mode else norm


@given(low=st.integers(0, 2000), span=st.integers(1, 2095), share=st.floats(0, 1), drive_mode=st.integers(0, 1))
def test_degrees_and_the_symmetric_range_say_the_same_angle(low: int, span: int, share: float, drive_mode: int) -> None:
    high, tick = low + span, low + round(share * span)
    calibration = {"range_min": low, "range_max": high, "drive_mode": drive_mode}
    degrees, symmetric = (
        scale_of(MotorDescription("degrees")),
        scale_of(MotorDescription("range_m100_100", calibration)),
    )
    assert degrees is not None
    assert symmetric is not None
    expected = math.radians(lerobot_degrees(tick, low, high))
    assert lerobot_degrees(tick, low, high) * degrees.rad_per_unit == pytest.approx(expected, abs=1e-12)
    value = lerobot_symmetric(tick, low, high, drive_mode)
    assert value * symmetric.rad_per_unit + symmetric.zero_rad == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("percent", "rad"), [(0.0, -0.174533), (100.0, 1.74533), (50.0, 0.7853985)])
def test_the_gripper_is_in_percent_of_its_own_range(percent: float, rad: float) -> None:
    scale = describe(Arm(Mode.DEGREES)).scales[-1]  # type: ignore[index]
    assert percent * scale.rad_per_unit + scale.zero_rad == pytest.approx(rad, abs=1e-6)


@pytest.mark.parametrize(
    "motor",
    [
        MotorDescription(),
        MotorDescription("radians"),
        MotorDescription("range_0_100"),
        MotorDescription("range_m100_100"),
        MotorDescription("range_m100_100", {"range_min": 5}),
        MotorDescription("range_m100_100", {"range_min": 7, "range_max": 7}),
        MotorDescription("range_m100_100", {"range_min": 1, "range_max": 9, "drive_mode": None}),
    ],
)
def test_what_is_not_known_has_no_radians(motor: MotorDescription) -> None:
    assert scale_of(motor) is None


def test_a_robot_is_read_by_its_features_motors_and_calibration() -> None:
    robot = describe(Arm(Mode.SYMMETRIC))
    assert robot.names == NAMES
    assert robot.cameras == ("wrist",)
    assert robot.unit == "rad"
    told = robot.as_parameter()
    assert set(told) == {"id", "type", "names", "calibration", "norm_modes"}
    assert told["norm_modes"] == {**dict.fromkeys(NAMES[:5], "range_m100_100"), "gripper": "range_0_100"}
    first = {"id": 1, "range_min": 801, "range_max": 3302, "drive_mode": 0, "homing_offset": 0}
    assert told["calibration"]["shoulder_pan"] == first


def test_one_joint_without_a_unit_makes_the_whole_robot_native() -> None:
    assert describe(Arm(Mode.SYMMETRIC, calibrated=False)).unit == "native"
    other = Arm(Mode.DEGREES)
    other.robot_type = other.name = "koch_follower"  # its gripper is another
    assert describe(other).unit == "native"


def test_a_pair_of_arms_is_read_side_by_side() -> None:
    class Pair:
        name = robot_type = "bi_so_follower"
        id = None
        left_arm, right_arm = Arm(Mode.DEGREES), Arm(Mode.SYMMETRIC)
        observation_features: ClassVar[dict[str, Any]] = {
            f"{side}_{n}.pos": float for side in ("left", "right") for n in NAMES
        }

    robot = describe(Pair())
    assert robot.unit == "rad"
    told = robot.as_parameter()
    assert (told["norm_modes"]["left_elbow_flex"], told["norm_modes"]["right_elbow_flex"]) == (
        "degrees",
        "range_m100_100",
    )
    assert len(told["calibration"]) == 12


def test_a_robot_of_motors_that_tell_nothing_falls_back_on_its_config() -> None:
    class Config:
        use_degrees = True

    class Plain:
        name = "so101_follower"
        config = Config()
        observation_features: ClassVar[dict[str, Any]] = {
            "shoulder_pan.pos": float,
            "gripper.pos": float,
            "x.vel": float,
        }

    robot = describe(Plain())
    assert (robot.unit, robot.names, robot.keys) == (
        "rad",
        ("shoulder_pan", "gripper"),
        ("shoulder_pan.pos", "gripper.pos"),
    )
    Plain.config.use_degrees = None  # type: ignore[assignment]
    assert describe(Plain()).unit == "native"
