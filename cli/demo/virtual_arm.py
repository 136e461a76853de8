"""Virtual robot arm of the demo: simulated servos in a child process, teleoperation loop and camera."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from saccade_robot import Session, attach, open_session
from saccade_robot.robot import describe

from cli.failure import Failure
from simulators.arm.motion import ArmMotion
from simulators.arm.robot import VirtualRobot, WristCamera
from simulators.arm.table_scene import TableScene
from simulators.arm.wrist_camera import GRIPPER_FROM_CAMERA, camera_matrix

WIDTH_PX: Final = 160
HEIGHT_PX: Final = 120
_LOOP_HZ: Final = 30.0
_START_S: Final = 15.0


@dataclass
class StreamingArm:
    """A teleoperated arm that streams to a session."""

    scene: TableScene
    motion: ArmMotion
    robot: VirtualRobot
    leader: VirtualRobot
    camera: WristCamera
    stopped: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None

    def stream_to(self, url: str, params: dict[str, Any], key: str | None = None) -> Session:
        """Open a session, and move and stream until ``stopped``."""
        session = open_session(url, key, params=self.parameters() | params, robot=describe(self.robot))
        self.attachment = attach(self.robot, session, frame_rate_hz=self.camera.rate_hz)
        self._thread = threading.Thread(target=self._move, name="arm", daemon=True)
        self._thread.start()
        return session

    def parameters(self) -> dict[str, Any]:
        """Return the camera's intrinsics and its pose on the gripper, as a calibration gives them."""
        matrix = camera_matrix(WIDTH_PX, HEIGHT_PX)
        return {
            # The simulator has pixel centres at integers, as OpenCV; the session has them at halves.
            "intrinsics": {
                "width_px": WIDTH_PX,
                "height_px": HEIGHT_PX,
                "fx_px": float(matrix[0, 0]),
                "fy_px": float(matrix[1, 1]),
                "cx_px": float(matrix[0, 2]) + 0.5,
                "cy_px": float(matrix[1, 2]) + 0.5,
            },
            "gripper_from_camera": [float(value) for value in GRIPPER_FROM_CAMERA.reshape(-1)],
        }

    def halt(self) -> Any:
        """Stop moving and streaming, and return the counts of what was sent."""
        self.stopped.set()
        self._thread.join(5.0)
        return self.attachment.detach()

    def _move(self) -> None:
        """Teleoperate: the follower copies the leader; its observations are streamed."""
        try:
            while not self.stopped.is_set():
                began_s = time.monotonic()
                self.robot.send_action(self.leader.get_action())
                self.robot.get_observation()
                self.stopped.wait(max(0.0, 1 / _LOOP_HZ - (time.monotonic() - began_s)))
        except Exception as error:  # noqa: BLE001 - raised in the main thread
            self.error = error


@contextmanager
def virtual_arm(seed: int, frame_rate_hz: float) -> Iterator[StreamingArm]:
    """Start the servos and connect to them.

    Raises:
        Failure: they did not start.
    """
    command = [sys.executable, "-m", "simulators.arm.servos", "--seed", str(seed)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin
    assert process.stdout
    try:
        line = process.stdout.readline()
        if not line:
            raise Failure("The virtual arm did not start.", code="program_failed")
        addresses = json.loads(line)
        scene = TableScene(seed)
        camera = WristCamera(scene, WIDTH_PX, HEIGHT_PX, rate_hz=frame_rate_hz)
        robot, leader = VirtualRobot(addresses["follower"], camera), VirtualRobot(addresses["leader"])
        leader.connect()
        robot.connect()
        arm = StreamingArm(scene, ArmMotion(seed), robot, leader, camera)
        try:
            yield arm
        finally:
            arm.stopped.set()
            robot.disconnect()
            leader.disconnect()
    finally:
        process.stdin.close()
        process.wait(_START_S)
