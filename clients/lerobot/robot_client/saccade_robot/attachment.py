"""Streaming of a LeRobot robot's observations, without any change that its control loop notices."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from saccade_robot.clock import now_s
from saccade_robot.image_encoding import Encode
from saccade_robot.robot import RobotDescription, describe
from saccade_robot.session import Session
from saccade_robot.streamer import Stats, Streamer
from saccade_robot.target import IngestTarget

log = logging.getLogger(__name__)

#: Attribute of a robot that holds its attachment.
_ATTRIBUTE: Final = "_saccade_attachment"
_WRAPPED: Final = ("get_observation", "connect", "disconnect")

#: Opens the session to stream to when the robot is connected; called in the streamer's thread.
Open = Callable[[RobotDescription], Session]


class Attachment:
    """Attachment of one robot, which streams from ``connect`` to ``disconnect``."""

    def __init__(
        self,
        robot: Any,
        session: Session | IngestTarget | Open,
        *,
        cameras: Iterable[str] | None,
        stop_at_end: bool,
        economy: bool,
        frame_rate_hz: float,
        encode: Encode | None,
    ) -> None:
        """Wrap the robot's methods; stream at once if it is connected."""
        self.robot = robot
        self._destination = session
        self._wanted = None if cameras is None else frozenset(cameras)
        self._stop_at_end = stop_at_end
        self._options: dict[str, Any] = {"economy": economy, "frame_rate_hz": frame_rate_hz, "encode": encode}
        self._keys: tuple[str, ...] = ()
        self._cameras: tuple[str, ...] = ()
        self._last: dict[str, Any] = {}
        self._error_logged = False
        self.streamer: Streamer | None = None
        self._get_observation, self._connect, self._disconnect = (getattr(robot, name) for name in _WRAPPED)
        robot.get_observation, robot.connect, robot.disconnect = self.get_observation, self.connect, self.disconnect
        setattr(robot, _ATTRIBUTE, self)
        if getattr(robot, "is_connected", False):
            self._start()

    def get_observation(self, *arguments: Any, **options: Any) -> Any:
        """Return the robot's observation, and stream it."""
        observation = self._get_observation(*arguments, **options)
        streamer = self.streamer
        if streamer is not None:
            try:
                self._offer(streamer, observation)
            except Exception:
                if not self._error_logged:
                    self._error_logged = True
                    log.exception("an observation could not be streamed; the robot is not affected")
        return observation

    def connect(self, *arguments: Any, **options: Any) -> Any:
        """Connect the robot and start streaming; its calibration is known only now."""
        answer = self._connect(*arguments, **options)
        self._start()
        return answer

    def disconnect(self, *arguments: Any, **options: Any) -> Any:
        """Disconnect the robot, and then stop streaming: the arm's torque is released first."""
        try:
            return self._disconnect(*arguments, **options)
        finally:
            self.close()

    def stats(self) -> Stats | None:
        """Return the counts since the robot was connected."""
        return None if self.streamer is None else self.streamer.stats()

    def close(self) -> Stats | None:
        """Stop streaming and return the counts; the robot is not changed."""
        streamer, self.streamer = self.streamer, None
        return None if streamer is None else streamer.close()

    def detach(self) -> Stats | None:
        """Stop streaming and restore the robot's methods."""
        for name in (*_WRAPPED, _ATTRIBUTE):
            vars(self.robot).pop(name, None)
        return self.close()

    def _offer(self, streamer: Streamer, observation: Any) -> None:
        # LeRobot gives no time of an observation; the joints have just been read.
        captured_at_s = now_s()
        if self._keys:
            streamer.offer([observation[key] for key in self._keys], captured_at_s)
        for camera in self._cameras:
            picture = observation.get(camera)
            # A loop that is faster than its camera gets the same picture again.
            if picture is not None and picture is not self._last.get(camera):
                self._last[camera] = picture
                streamer.offer_frame(picture, camera, captured_at_s - self._age_s(camera, picture))

    def _age_s(self, name: str, picture: Any) -> float:
        """Return a picture's age: LeRobot's cameras store the time of the newest (``latest_timestamp``)."""
        camera = (getattr(self.robot, "cameras", None) or {}).get(name)
        stamp = getattr(camera, "latest_timestamp", None)
        if stamp is None or getattr(camera, "latest_frame", None) is not picture:
            return 0.0
        return max(0.0, time.perf_counter() - float(stamp))

    def _start(self) -> None:
        if self.streamer is not None:
            return
        opened: list[Session] = []
        try:
            description = describe(self.robot)
            self._keys = description.keys
            self._cameras = tuple(c for c in description.cameras if self._wanted is None or c in self._wanted)
            if unknown := (self._wanted or frozenset()) - set(description.cameras):
                log.warning("the robot has no camera %s that can be streamed", ", ".join(sorted(unknown)))
            if description.keys and description.unit == "native":
                log.warning("the unit of %s is unknown: its joints are sent without conversion", description.type)
            self.streamer = Streamer(
                self._target(description, opened),
                names=description.names,
                scales=description.scales,
                on_close=(lambda: _stop(opened)) if self._stop_at_end else None,
                **self._options,
            )
        except Exception:
            log.exception("the robot is not streamed; it works normally")

    def _target(
        self, description: RobotDescription, opened: list[Session]
    ) -> IngestTarget | Callable[[], IngestTarget]:
        """Return the addresses, or what opens the session; the session is added to ``opened``."""
        destination = self._destination
        if isinstance(destination, Session):
            opened.append(destination)
            return destination.target
        if isinstance(destination, IngestTarget):
            return destination

        def open_target() -> IngestTarget:
            session = destination(description)
            opened.append(session)
            log.info("streaming to %s", session.page)
            return session.target

        return open_target


def _stop(opened: list[Session]) -> None:
    for session in opened:
        session.stop()


def attach(
    robot: Any,
    session: Session | IngestTarget | Open,
    *,
    cameras: Iterable[str] | None = None,
    stop_at_end: bool = False,
    economy: bool = False,
    frame_rate_hz: float = 10.0,
    encode: Encode | None = None,
) -> Attachment:
    """Stream every observation of a LeRobot robot, from its ``connect`` to its ``disconnect``.

    ``get_observation``, ``connect`` and ``disconnect`` of this instance are wrapped; streaming errors never reach the
    caller.

    Args:
        robot: any LeRobot robot, connected or not.
        session: an open session, its addresses, or a function that opens one (called in another thread).
        cameras: names of the cameras to stream; all by default.
        stop_at_end: stop the session when the robot is disconnected.
        economy: send every 20 ms instead of every 5 ms.
        frame_rate_hz: maximum frame rate of each camera.
        encode: encodes a picture as JPEG or PNG; by default with OpenCV or Pillow.

    Raises:
        ValueError: the robot is already attached.
    """
    if getattr(robot, _ATTRIBUTE, None) is not None:
        raise ValueError("The robot is already streaming: detach it first.")
    return Attachment(
        robot,
        session,
        cameras=cameras,
        stop_at_end=stop_at_end,
        economy=economy,
        frame_rate_hz=frame_rate_hz,
        encode=encode,
    )


def detach(robot: Any) -> Stats | None:
    """Stop streaming, restore the robot's methods and return the counts; None if it was not attached."""
    attachment: Attachment | None = getattr(robot, _ATTRIBUTE, None)
    return None if attachment is None else attachment.detach()
