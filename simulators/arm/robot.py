"""The virtual arm with the interface of a LeRobot robot: observations, actions, a rendered wrist camera."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from modal_workers.live_splat.kinematics import SO101_JOINTS
from modal_workers.live_splat.rigid_transform import inverse_poses
from simulators.arm.feetech_client import ServoBus
from simulators.arm.servo_calibration import (
    CALIBRATION,
    GRIPPER,
    rad_of_value,
    tick_of_value,
    value_of_tick,
)
from simulators.arm.table_scene import TableScene
from simulators.arm.wrist_camera import camera_matrix, world_from_camera

Picture = NDArray[np.uint8]
_POSITION: Final = ".pos"


class NormMode(StrEnum):
    """Unit of a motor's values, by LeRobot's names."""

    DEGREES = "degrees"
    RANGE_0_100 = "range_0_100"


@dataclass(frozen=True)
class VirtualMotor:
    """One motor as in LeRobot's buses."""

    id: int
    model: str
    norm_mode: NormMode


@dataclass(frozen=True)
class VirtualMotorsBus:
    """The attributes of an arm's bus that LeRobot's programs read."""

    motors: Mapping[str, VirtualMotor]
    calibration: Mapping[str, Mapping[str, int]]


class WristCamera:
    """Renderer of the gripper camera, at most ``rate_hz`` times a second.

    ``offsets_rad``: true minus reported joints, as with a badly calibrated arm.
    """

    def __init__(
        self,
        scene: TableScene,
        width_px: int = 160,
        height_px: int = 120,
        *,
        rate_hz: float = 10.0,
        offsets_rad: Mapping[str, float] | None = None,
    ) -> None:
        """Set the scene; nothing is rendered yet."""
        self.width_px, self.height_px, self.rate_hz = width_px, height_px, rate_hz
        self.matrix = camera_matrix(width_px, height_px)
        self.latest_frame: Picture | None = None
        #: Time of the joints of the newest frame, by ``time.perf_counter``, as in LeRobot's cameras.
        self.latest_timestamp: float | None = None
        self._scene = scene
        self._offsets = np.array([(offsets_rad or {}).get(name, 0.0) for name in SO101_JOINTS])

    @property
    def due(self) -> bool:
        """Whether it is time for the next frame."""
        taken_s = self.latest_timestamp
        return taken_s is None or time.perf_counter() - taken_s >= 1 / self.rate_hz

    def take(self, positions_rad: Mapping[str, float], read_at_s: float) -> Picture:
        """Render the view at the positions that the servos report."""
        reported = np.array([positions_rad[name] for name in SO101_JOINTS])
        pose = inverse_poses(world_from_camera(reported + self._offsets))
        picture = self._scene.render(self.matrix, pose, self.width_px, self.height_px)
        self.latest_frame, self.latest_timestamp = picture, read_at_s
        return picture


class VirtualRobot:
    """An SO-101 on a serial line, with the methods and attributes of a LeRobot robot.

    It may be the leader too: then nothing is sent to it. Raises as `ServoBus`.
    """

    name = "so101_follower"
    robot_type = "so101_follower"

    def __init__(self, path: str, camera: WristCamera | None = None, robot_id: str = "virtual") -> None:
        """Set the line; ``connect`` opens it."""
        self.id = robot_id
        self.cameras = {} if camera is None else {"wrist": camera}
        modes = {name: NormMode.RANGE_0_100 if name == GRIPPER else NormMode.DEGREES for name in CALIBRATION}
        self.calibration = {name: motor._asdict() for name, motor in CALIBRATION.items()}
        motors = {name: VirtualMotor(motor.id, "sts3215", modes[name]) for name, motor in CALIBRATION.items()}
        self.bus = VirtualMotorsBus(motors, self.calibration)
        self._path = path
        self._line: ServoBus | None = None

    @property
    def observation_features(self) -> dict[str, Any]:
        """Features of an observation: floats by joint, and the shapes of frames."""
        pictures = {name: (camera.height_px, camera.width_px, 3) for name, camera in self.cameras.items()}
        return self.action_features | pictures

    @property
    def action_features(self) -> dict[str, Any]:
        """Features of an action."""
        return {name + _POSITION: float for name in CALIBRATION}

    @property
    def is_connected(self) -> bool:
        """Whether the line is open."""
        return self._line is not None

    def connect(self, calibrate: bool = True) -> None:  # noqa: ARG002 - as LeRobot calls it
        """Open the line and turn the torque on."""
        if self._line is None:
            self._line = ServoBus(self._path)
            self._line.torque([motor.id for motor in CALIBRATION.values()], on=True)

    def disconnect(self) -> None:
        """Turn the torque off and close the line."""
        if self._line is not None:
            line, self._line = self._line, None
            line.torque([motor.id for motor in CALIBRATION.values()], on=False)
            line.close()

    def get_observation(self) -> dict[str, Any]:
        """Return all positions (degrees; the gripper 0 to 100), and the newest frame (RGB [H, W, 3]) of the camera.

        A frame is rendered at exactly the positions of the servos; as rendering takes time, they are read again after
        it.
        """
        values, read_at_s = self._read()
        pictures: dict[str, Picture] = {}
        for name, camera in self.cameras.items():
            if camera.due:
                camera.take({joint: rad_of_value(joint, value) for joint, value in values.items()}, read_at_s)
                values, _ = self._read()
            if camera.latest_frame is not None:
                pictures[name] = camera.latest_frame
        return {name + _POSITION: value for name, value in values.items()} | pictures

    def get_action(self) -> dict[str, float]:
        """Return all positions as a leader returns them."""
        return {name + _POSITION: value for name, value in self._read()[0].items()}

    def send_action(self, action: Mapping[str, float]) -> dict[str, float]:
        """Send goal positions in the units of observations, clamped to the calibrated range; return what was sent."""
        sent: dict[str, float] = {}
        ticks: dict[int, int] = {}
        for name, motor in CALIBRATION.items():
            if (value := action.get(name + _POSITION)) is not None:
                tick = min(motor.range_max, max(motor.range_min, round(tick_of_value(name, value))))
                ticks[motor.id], sent[name + _POSITION] = tick, value_of_tick(name, tick)
        self._open().move(ticks)
        return sent

    def _read(self) -> tuple[dict[str, float], float]:
        before_s = time.perf_counter()
        ticks = self._open().positions([motor.id for motor in CALIBRATION.values()])
        after_s = time.perf_counter()
        values = {name: value_of_tick(name, ticks[motor.id]) for name, motor in CALIBRATION.items()}
        return values, (before_s + after_s) / 2

    def _open(self) -> ServoBus:
        if self._line is None:
            raise ConnectionError(f"{self._path} is not open: call connect() first")
        return self._line
