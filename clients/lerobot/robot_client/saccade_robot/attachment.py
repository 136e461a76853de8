"""Lets a LeRobot robot stream what it observes, without changing what its control loop sees of it."""

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

#: What an attached robot keeps its attachment under.
_PLACE: Final = "_saccade_attachment"
_WRAPPED: Final = ("get_observation", "connect", "disconnect")

#: Gives the session to stream to, once the robot is connected and known; called in the streamer's thread.
Open = Callable[[RobotDescription], Session]


class Attachment:
    """One robot that streams from ``connect`` to ``disconnect``."""

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
        """Bind the robot's methods anew; stream at once if it is connected."""
        self.robot = robot
        self._to = session
        self._wanted = None if cameras is None else frozenset(cameras)
        self._stop_at_end = stop_at_end
        self._options: dict[str, Any] = {"economy": economy, "frame_rate_hz": frame_rate_hz, "encode": encode}
        self._session: Session | None = session if isinstance(session, Session) else None
        self._keys: tuple[str, ...] = ()
        self._cameras: tuple[str, ...] = ()
        self._last: dict[str, Any] = {}
        self._said = False
        self.streamer: Streamer | None = None
        self._get_observation, self._connect, self._disconnect = (getattr(robot, name) for name in _WRAPPED)
        robot.get_observation, robot.connect, robot.disconnect = self.get_observation, self.connect, self.disconnect
        setattr(robot, _PLACE, self)
        if getattr(robot, "is_connected", False):
            self._start()

    def get_observation(self, *arguments: Any, **options: Any) -> Any:
        """Observe as the robot does, and offer what came."""
        observation = self._get_observation(*arguments, **options)
        streamer = self.streamer
        if streamer is not None:
            try:
                self._offer(streamer, observation)
            except Exception:
                if not self._said:
                    self._said = True
                    log.exception("an observation could not be streamed; the robot is not affected")
        return observation

    def connect(self, *arguments: Any, **options: Any) -> Any:
        """Connect as the robot does; its calibration is known only then, so streaming starts here."""
        answer = self._connect(*arguments, **options)
        self._start()
        return answer

    def disconnect(self, *arguments: Any, **options: Any) -> Any:
        """Disconnect as the robot does, and then end streaming: an arm is let go of first."""
        try:
            return self._disconnect(*arguments, **options)
        finally:
            self.close()

    def stats(self) -> Stats | None:
        """Count what became of what was offered since the robot was connected."""
        return None if self.streamer is None else self.streamer.stats()

    def close(self) -> Stats | None:
        """End streaming; the robot stays as it is."""
        streamer, self.streamer = self.streamer, None
        return None if streamer is None else streamer.close()

    def detach(self) -> Stats | None:
        """End streaming and give the robot its methods back."""
        for name in (*_WRAPPED, _PLACE):
            vars(self.robot).pop(name, None)
        return self.close()

    def _offer(self, streamer: Streamer, observation: Any) -> None:
        # LeRobot tells no time of an observation; its joints were read a moment ago.
        captured_at_s = now_s()
        if self._keys:
            streamer.offer([observation[key] for key in self._keys], captured_at_s)
        for camera in self._cameras:
            picture = observation.get(camera)
            # A loop may be faster than its camera, which then gives the same picture again.
            if picture is not None and picture is not self._last.get(camera):
                self._last[camera] = picture
                streamer.offer_frame(picture, camera, captured_at_s - self._age_s(camera, picture))

    def _age_s(self, name: str, picture: Any) -> float:
        """Tell how old a picture is: LeRobot's cameras keep the moment of the newest (``latest_timestamp``)."""
        camera = (getattr(self.robot, "cameras", None) or {}).get(name)
        stamp = getattr(camera, "latest_timestamp", None)
        if stamp is None or getattr(camera, "latest_frame", None) is not picture:
            return 0.0
        return max(0.0, time.perf_counter() - float(stamp))

    def _start(self) -> None:
        if self.streamer is not None:
            return
        try:
            description = describe(self.robot)
            self._keys = description.keys
            self._cameras = tuple(c for c in description.cameras if self._wanted is None or c in self._wanted)
            if description.keys and description.unit == "native":
                log.warning("the unit of %s is not known: its joints are sent as they are", description.type)
            self.streamer = Streamer(
                self._target(description),
                names=description.names,
                scales=description.scales,
                on_close=self._stop if self._stop_at_end else None,
                **self._options,
            )
        except Exception:
            log.exception("the robot is not streamed; it works all the same")

    def _target(self, description: RobotDescription) -> IngestTarget | Callable[[], IngestTarget]:
        to = self._to
        if isinstance(to, Session):
            return to.target
        if isinstance(to, IngestTarget):
            return to

        def opened() -> IngestTarget:
            self._session = to(description)
            log.info("streaming to %s", self._session.page)
            return self._session.target

        return opened

    def _stop(self) -> None:
        if self._session is not None:
            self._session.stop()


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
    """Stream every observation that a LeRobot robot gives, from its ``connect`` to its ``disconnect``.

    The robot's ``get_observation``, ``connect`` and ``disconnect`` are bound anew on this instance; nothing that goes
    wrong with streaming reaches the caller.

    Args:
        robot: any LeRobot robot, connected or not.
        session: one that is open, addresses, or what opens one when the robot is known (in another thread).
        cameras: names of those to stream; all by default.
        stop_at_end: stop the session when the robot is disconnected.
        economy: send every 20 ms instead of every 5 ms.
        frame_rate_hz: pictures a second of each camera at most.
        encode: makes JPEG or PNG bytes of a picture; by default OpenCV or Pillow is looked for.

    Raises:
        ValueError: the robot is attached already.
    """
    if getattr(robot, _PLACE, None) is not None:
        raise ValueError("The robot streams already: detach it first.")
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
    """End streaming a robot's observations and give it its methods back; None if it did not stream."""
    attachment: Attachment | None = getattr(robot, _PLACE, None)
    return None if attachment is None else attachment.detach()
