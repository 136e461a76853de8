"""Description of a LeRobot robot for a session: joints, cameras, units and calibration.

LeRobot is not imported: any object with ``observation_features`` works (LeRobot's docs: "Bring Your Own Hardware").
"""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from saccade_robot.units import DEGREES, PERCENT, SO_GRIPPER_RAD, SYMMETRIC, MotorDescription, Scale, scale_of

log = logging.getLogger(__name__)

#: Names of joints and cameras that the server accepts.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
#: The server's limit of joints.
_MAX_JOINTS: Final = 64
_POSITION: Final = ".pos"
#: Robots whose gripper is that of the SO-101's URDF.
_SO_TYPES: Final = ("so_follower", "so100_follower", "so101_follower", "bi_so_follower")


@dataclasses.dataclass(frozen=True)
class RobotDescription:
    """Description of a robot for a session."""

    id: str | None
    type: str
    #: Joints in the robot's own order, and the keys of an observation that hold their positions.
    names: tuple[str, ...]
    keys: tuple[str, ...]
    cameras: tuple[str, ...]
    motors: tuple[MotorDescription, ...]

    @property
    def scales(self) -> tuple[Scale, ...] | None:
        """Conversion of each joint to radians; None unless it is known for all."""
        scales = [scale_of(motor) for motor in self.motors]
        known = tuple(scale for scale in scales if scale is not None)
        return known if scales and len(known) == len(scales) else None

    @property
    def unit(self) -> str:
        """The unit that is sent: ``rad``, or ``native`` without conversion."""
        return "rad" if self.scales is not None else "native"

    def as_parameter(self) -> dict[str, Any]:
        """Return the session's parameter ``robot``."""
        calibrated = {n: dict(m.calibration) for n, m in zip(self.names, self.motors, strict=True) if m.calibration}
        modes = {n: m.norm_mode for n, m in zip(self.names, self.motors, strict=True) if m.norm_mode}
        return {
            "id": self.id or "",
            "type": self.type,
            "names": list(self.names),
            "calibration": calibrated,
            "norm_modes": modes,
        }


def describe(robot: Any) -> RobotDescription:
    """Describe a robot by its features, its motors' norm modes and its calibration."""
    features: Mapping[str, Any] = robot.observation_features
    keys = tuple(key for key, kind in features.items() if key.endswith(_POSITION) and not isinstance(kind, tuple))
    names = tuple(key.removesuffix(_POSITION) for key in keys)
    if len(names) > _MAX_JOINTS or not all(_NAME.fullmatch(name) for name in names):
        log.warning("the joints are not sent: at most %d, each named %s", _MAX_JOINTS, _NAME.pattern)
        names = keys = ()
    kind = str(getattr(robot, "robot_type", None) or getattr(robot, "name", None) or type(robot).__name__)
    number = getattr(robot, "id", None)
    return RobotDescription(
        id=None if number is None else str(number),
        type=kind,
        names=names,
        keys=keys,
        cameras=tuple(
            key
            for key, shape in features.items()
            if isinstance(shape, tuple) and len(shape) == 3 and shape[2] == 3 and _NAME.fullmatch(key)
        ),
        motors=tuple(_motor(robot, name, is_so=kind in _SO_TYPES) for name in names),
    )


def _motor(robot: Any, name: str, *, is_so: bool) -> MotorDescription:
    is_gripper = name == "gripper" or name.endswith("_gripper")
    percent_rad = SO_GRIPPER_RAD if is_so and is_gripper else None
    for arm, own_name in _arms(robot, name):
        bus = getattr(arm, "bus", None)
        motor = (getattr(bus, "motors", None) or {}).get(own_name)
        mode = getattr(motor, "norm_mode", None)
        if mode is None:
            continue
        resolutions = getattr(bus, "model_resolution_table", None) or {}
        return MotorDescription(
            norm_mode=str(getattr(mode, "value", mode)),
            calibration=_calibration(arm, own_name),
            ticks=int(resolutions.get(getattr(motor, "model", None), MotorDescription().ticks)),
            turns_around=bool(getattr(bus, "apply_drive_mode", True)),
            percent_rad=percent_rad,
        )
    use_degrees = getattr(getattr(robot, "config", None), "use_degrees", None)
    if use_degrees is None:
        return MotorDescription(calibration=_calibration(robot, name))
    body = DEGREES if use_degrees else SYMMETRIC
    return MotorDescription(PERCENT if is_gripper else body, _calibration(robot, name), percent_rad=percent_rad)


def _arms(robot: Any, name: str) -> Iterator[tuple[Any, str]]:
    """Yield the objects that may own a motor, with its name there: the robot, or one arm of a pair."""
    yield robot, name
    for side in ("left", "right"):
        arm = getattr(robot, f"{side}_arm", None)
        if arm is not None and name.startswith(f"{side}_"):
            yield arm, name.removeprefix(f"{side}_")


def _calibration(arm: Any, name: str) -> dict[str, Any] | None:
    kept = (getattr(arm, "calibration", None) or {}).get(name)
    if dataclasses.is_dataclass(kept) and not isinstance(kept, type):
        return dataclasses.asdict(kept)
    return dict(kept) if isinstance(kept, Mapping) else None
