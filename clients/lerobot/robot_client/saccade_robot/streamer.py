"""Streamer of joints and pictures: the control loop passes references, a thread does the rest."""

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

#: Maximum of waiting samples: 2.5 s at 200 Hz.
_RING: Final = 512
_CAMERAS: Final = 16


@dataclass(frozen=True)
class Stats:
    """Counts of a streamer: ``offered = sent + dropped + unconfirmed + waiting``."""

    offered: int
    #: Have arrived.
    sent: int
    dropped: int
    #: Were sent and may have arrived.
    unconfirmed: int
    waiting: int
    frames_offered: int
    frames_sent: int
    frames_dropped: int
    #: Pictures above the requested rate.
    frames_skipped: int
    frames_waiting: int
    #: Frames of the session by verdict, from all its senders, as it reported them last; None before its first answer.
    frames_accepted: int | None
    frames_rejected: int | None
    #: Why the session rejected its newest rejected frame.
    last_rejection: str | None
    reconnects: int
    errors: int
    #: ``nats`` or ``http``; None while nothing arrives.
    route: str | None
    clock_offset_s: float | None


class Streamer:
    """Streamer of a control loop's joints and pictures to a session.

    ``offer`` and ``offer_frame`` never raise, wait or do I/O; one thread calls them, as LeRobot's does. Without a
    connection the streamer keeps the newest samples and counts what it drops.
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
        """Start the thread without waiting for a connection.

        Args:
            target: the session's addresses, or a function that returns them, called in the thread until it succeeds.
            names: the joints, in the order of the positions of ``offer``; empty if only pictures are sent.
            scales: conversion of each joint to radians; without it values are sent unchanged, as ``native``.
            source: name of the robot, if a session has several.
            economy: send every 20 ms instead of every 5 ms.
            frame_rate_hz: maximum frame rate of each camera.
            encode: encodes a picture as JPEG or PNG, in a thread; by default with OpenCV or Pillow.
            capacity: maximum of waiting samples.
            on_close: called in the thread after everything was sent, or when a session is opened after ``close``.

        Raises:
            ValueError: names and scales do not match, or a number is not above zero.
        """
        if scales is not None and len(scales) != len(names):
            raise ValueError(f"{len(scales)} scales for {len(names)} joints")
        if capacity < 1 or not frame_rate_hz > 0:
            raise ValueError("capacity and frame_rate_hz must be above zero")
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
        """Queue the positions of all joints at one instant, in the order of ``names`` and in the robot's unit.

        ``captured_at_s`` is in unix seconds; now by default.
        """
        try:
            self._ring.offer((now_s() if captured_at_s is None else float(captured_at_s), tuple(positions)))
        except Exception:  # noqa: BLE001 - never raise into a control loop
            self._rejected += 1

    def offer_frame(self, picture: Any, camera: str = "camera", captured_at_s: float | None = None) -> None:
        """Queue a picture: an RGB array, or JPEG or PNG bytes. It must not be changed afterwards."""
        try:
            queue = self._cameras.get(camera)
            if queue is None:
                if len(self._cameras) >= _CAMERAS:
                    raise ValueError("too many cameras")
                queue = self._cameras[camera] = CameraQueue(camera, self._frame_rate_hz)
            queue.offer(picture, now_s() if captured_at_s is None else float(captured_at_s))
        except Exception:  # noqa: BLE001 - never raise into a control loop
            self._rejected += 1

    def stats(self) -> Stats:
        """Return the counts; while the thread runs they are of slightly different moments."""
        cameras = list(self._cameras.values())
        outbox, verdicts = self._background.outbox, self._background.verdicts
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
            frames_accepted=None if verdicts is None else verdicts.accepted,
            frames_rejected=None if verdicts is None else verdicts.rejected,
            last_rejection=None if verdicts is None else verdicts.last_rejection or None,
            reconnects=self._background.reconnects,
            errors=self._background.errors + self._rejected,
            route=self._background.route,
            clock_offset_s=None if self._background.offset is None else self._background.offset.offset_s,
        )

    def close(self, timeout_s: float = 3.0) -> Stats:
        """Send what waits, for at most ``timeout_s``, end the thread and return the final counts."""
        self._background.stop(time.monotonic() + timeout_s * 0.8)
        self._thread.join(timeout_s)
        stats = self.stats()
        if not self._logged:
            self._logged = True
            log.info("streamed: %s", stats)
        return stats

    def __enter__(self) -> Streamer:
        """Return the streamer."""
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
            log.exception("streaming has stopped")
        finally:
            loop.close()
