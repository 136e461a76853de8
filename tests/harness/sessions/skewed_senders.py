"""An arm and a camera in processes of their own, whose clocks may be wrong, that stream the time into a session.

The arm's only joint is where the hand of a clock is, in radians: true seconds since the beginning. Each picture says
when it was taken. So how far the joints of a frame are from its moment can be read off.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection

import saccade_robot.clock
from saccade_robot import Scale, Stats, Streamer, Target

from tests.harness.sessions.scripted_session_worker import jpeg

WAIT_S = 60.0


@dataclass(frozen=True)
class Sending:
    """What one process sends."""

    target: Target
    began_s: float
    #: Ahead of the true time.
    skew_s: float = 0.0
    joints_hz: float = 0.0
    frames_hz: float = 0.0

    @property
    def rate_hz(self) -> float:
        return self.joints_hz or self.frames_hz


class Sender:
    """The process, as the test sees it."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def _hear(self) -> Stats | None:
        assert self._pipe.poll(WAIT_S), "the sender says nothing"
        heard: Stats | None = self._pipe.recv()
        return heard

    def start(self) -> None:
        """Begin, once the server's clock is known."""
        self._hear()
        self._pipe.send("go")

    def stop(self) -> Stats:
        """Send what waits and give the numbers."""
        self._pipe.send("stop")
        stats = self._hear()
        assert stats is not None
        return stats


@contextmanager
def sending(*wanted: Sending) -> Iterator[list[Sender]]:
    """Run senders until the end of the block."""
    spawn = multiprocessing.get_context("spawn")
    processes, senders = [], []
    for one in wanted:
        ours, theirs = spawn.Pipe()
        processes.append(spawn.Process(target=_send, args=(one, theirs), daemon=True))
        processes[-1].start()
        senders.append(Sender(ours))
    try:
        yield senders
    finally:
        for process in processes:
            process.kill()
            process.join(timeout=30)


def _send(wanted: Sending, pipe: Connection) -> None:
    # The process's clock is wrong from here on, for all that its client does.
    saccade_robot.clock._ANCHOR_S += wanted.skew_s  # type: ignore[misc]
    options = {"names": ("hand",), "scales": [Scale(1.0)], "frame_rate_hz": 1000.0}
    with Streamer(wanted.target, **options) as streamer:  # type: ignore[arg-type]
        end_s = time.monotonic() + WAIT_S
        while streamer.stats().clock_offset_s is None and time.monotonic() < end_s:
            time.sleep(0.01)
        pipe.send(None)
        assert pipe.poll(WAIT_S), "the test says nothing"
        pipe.recv()
        _beat(wanted.rate_hz, lambda: _offer(wanted, streamer), lambda: not pipe.poll())
        pipe.send(streamer.close())


def _offer(wanted: Sending, streamer: Streamer) -> None:
    own_s = saccade_robot.clock.now_s()
    true_s = own_s - wanted.skew_s - wanted.began_s
    if wanted.joints_hz:
        streamer.offer([true_s], own_s)
    else:
        streamer.offer_frame(JPEG + f"picture {true_s!r}".encode(), "camera", own_s)


def _beat(rate_hz: float, work: Callable[[], None], goes_on: Callable[[], bool]) -> None:
    begun_s, tick = time.monotonic(), 0
    while goes_on():
        work()
        tick += 1
        time.sleep(max(0.0, begun_s + tick / rate_hz - time.monotonic()))


JPEG = jpeg()
