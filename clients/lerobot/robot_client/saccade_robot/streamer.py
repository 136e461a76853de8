"""Streams joints and pictures beside a control loop: the loop hands over references, a thread does all the rest."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from saccade_robot.background import BackgroundSender
from saccade_robot.clock import now_s
from saccade_robot.event_loop import DaemonLoop
from saccade_robot.frames import CameraQueue, FrameEncoder
from saccade_robot.image_encoding import Encode
from saccade_robot.outbox import JointBatchFormat, Outbox, Sample
from saccade_robot.ring import Ring
from saccade_robot.target import IngestTarget
from saccade_robot.units import Scale

log = logging.getLogger(__name__)

#: Samples that may wait: 2.5 s at 200 Hz.
_RING: Final = 512
_CAMERAS: Final = 16


@dataclass(frozen=True)
class Stats:
    """What became of everything offered: ``offered = sent + dropped + unconfirmed + waiting``."""

    offered: int
    #: Known to have arrived.
    sent: int
    dropped: int
    #: Has left and may have arrived.
    unconfirmed: int
    waiting: int
    frames_offered: int
    frames_sent: int
    frames_dropped: int
    #: Pictures above the rate that was asked for.
    frames_skipped: int
    frames_waiting: int
    reconnects: int
    errors: int
    #: ``nats`` or ``http``, None where nothing arrives at present.
    route: str | None
    clock_offset_s: float | None


class Streamer:
    """Sends what a control loop offers to a session.

    ``offer`` and ``offer_frame`` never raise, never wait and do no input or output; one thread calls them (LeRobot's
    does). A streamer that has nowhere to send to keeps the newest and counts what it drops.
    """

    def __init__(
        self,
        target: IngestTarget | Callable[[], IngestTarget],
        *,
        names: Sequence[str],
        scales: Sequence[Scale] | None = None,
        source: str = "arm",
        economy: bool = False,
        frame_rate_hz: float = 10.0,
        encode: Encode | None = None,
        capacity: int = _RING,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        """Start the thread, and do not wait for any connection.

        Args:
            target: where to; or what gives it, called in the thread and again until it does not raise.
            names: the joints, in the order in which ``offer`` gets their positions; none where only pictures come.
            scales: how each joint's values become radians; without them they are sent as they are, as ``native``.
            source: the robot's name among several of one session.
            economy: send every 20 ms instead of every 5 ms.
            frame_rate_hz: pictures a second of each camera at most.
            encode: makes JPEG or PNG bytes of a picture, in a thread; by default OpenCV or Pillow is looked for.
            capacity: samples that may wait.
            on_close: called in the thread after all has been sent.

        Raises:
            ValueError: names and scales do not match, or a number is not above zero.
        """
        if scales is not None and len(scales) != len(names):
            raise ValueError(f"{len(scales)} scales for {len(names)} joints")
        if capacity < 1 or not frame_rate_hz > 0:
            raise ValueError("capacity and frame_rate_hz are above zero")
        unit = "native" if scales is None else "rad"
        form = JointBatchFormat(source, tuple(names), unit, None if scales is None else tuple(scales))
        self._ring: Ring[Sample] = Ring(capacity)
        self._cameras: dict[str, CameraQueue] = {}
        self._frame_rate_hz = frame_rate_hz
        self._rejected = 0
        self._logged = False
        self._background = BackgroundSender(
            target,
            outbox=Outbox(self._ring, form, lambda: self._background.offset),
            cameras=self._cameras,
            frames=FrameEncoder(encode, lambda: self._background.offset),
            every_s=0.02 if economy else 0.005,
            on_close=on_close,
        )
        self._thread = threading.Thread(target=self._run, name="saccade-robot", daemon=True)
        self._thread.start()

    def offer(self, positions: Sequence[Any], captured_at_s: float | None = None) -> None:
        """Hand over all joints at one instant, in the order of ``names``, in the robot's own unit.

        ``captured_at_s`` is in unix seconds; without it the sample is of now.
        """
        try:
            self._ring.offer((now_s() if captured_at_s is None else captured_at_s, tuple(positions)))
        except Exception:  # noqa: BLE001 - a control loop is never stopped for this
            self._rejected += 1

    def offer_frame(self, picture: Any, camera: str = "camera", captured_at_s: float | None = None) -> None:
        """Hand over a picture: an RGB array, or JPEG or PNG bytes. It must not be changed afterwards."""
        try:
            of = self._cameras.get(camera)
            if of is None:
                if len(self._cameras) >= _CAMERAS:
                    raise ValueError("too many cameras")
                of = self._cameras[camera] = CameraQueue(camera, self._frame_rate_hz)
            of.offer(picture, now_s() if captured_at_s is None else captured_at_s)
        except Exception:  # noqa: BLE001 - a control loop is never stopped for this
            self._rejected += 1

    def stats(self) -> Stats:
        """Count; while the thread works the numbers are of slightly different moments."""
        cameras = list(self._cameras.values())
        outbox = self._background.outbox
        return Stats(
            offered=self._ring.offered,
            sent=outbox.sent,
            dropped=outbox.dropped,
            unconfirmed=outbox.unconfirmed,
            waiting=self._ring.waiting,
            frames_offered=sum(camera.offered for camera in cameras),
            frames_sent=sum(camera.sent for camera in cameras),
            frames_dropped=sum(camera.dropped for camera in cameras),
            frames_skipped=sum(camera.skipped for camera in cameras),
            frames_waiting=sum(camera.waiting for camera in cameras),
            reconnects=self._background.reconnects,
            errors=self._background.errors + self._rejected,
            route=self._background.route,
            clock_offset_s=None if self._background.offset is None else self._background.offset.offset_s,
        )

    def close(self, timeout_s: float = 3.0) -> Stats:
        """Send what waits if there is a way, for at most ``timeout_s``, end the thread and give the last numbers."""
        self._background.stop(time.monotonic() + timeout_s * 0.8)
        self._thread.join(timeout_s)
        stats = self.stats()
        if not self._logged:
            self._logged = True
            log.info("streamed: %s", stats)
        return stats

    def __enter__(self) -> Streamer:
        """Give itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def _run(self) -> None:
        loop = DaemonLoop()
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(self._background.run())
        except Exception:
            log.exception("streaming has ended")
        finally:
            loop.close()
