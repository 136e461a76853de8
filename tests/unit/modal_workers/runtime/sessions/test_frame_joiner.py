"""Order of frames while joints are late: the newest with known joints, else the newest that is overdue."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from contracts.session import SessionLaunch
from modal_workers.runtime.sessions.frame_joiner import FrameJoiner
from modal_workers.runtime.sessions.telemetry_tail import TelemetryMessage

#: Longer than a frame waits for its joints.
LONG_S = 2.0
LONGEST_WAIT_S = 20.0


class JoinerInput:
    """A frame joiner that gets messages as from the bus."""

    def __init__(self) -> None:
        launch = SessionLaunch(
            session_id="ses_1", idle_timeout_s=60, max_length_s=60, opened_at=datetime.now(UTC), params={}
        )
        self.joiner = FrameJoiner(None, launch)  # type: ignore[arg-type]
        self.stored = 0
        self.started_s = time.time()

    def _deliver(self, name: str, headers: dict[str, str], body: bytes, ago_s: float) -> None:
        self.stored += 1
        self.joiner._on_live(TelemetryMessage(self.stored, name, time.time() - ago_s, headers, body, 0))

    def frame(self, seq: int, *, ago_s: float) -> None:
        """Deliver a frame that was captured and stored ``ago_s`` seconds ago."""
        headers = {
            "Frame-Seq": str(seq),
            "Frame-Captured-At": repr(self.started_s - ago_s),
            "Frame-Clock-Offset": "0.0",
            "Frame-Source": "camera",
        }
        self._deliver("frames", headers, b"image", ago_s)

    def joints(self, *, ago_s: float) -> None:
        """Deliver joints of ``ago_s`` seconds ago now."""
        sample = [self.stored, self.started_s - ago_s, [0.5]]
        clock = {"offset_s": 0.0, "error_s": 0.0}
        batch = {"names": ["pan"], "unit": "rad", "samples": [sample], "clock": clock}
        self._deliver("joints", {}, json.dumps(batch).encode(), 0.0)

    def taken(self) -> int | None:
        """Take the next frame, accept it and return its number."""
        frame = self.joiner.take(0.0)
        if frame is None:
            return None
        self.joiner.queue.accept(frame)
        return frame.seq


def test_a_frame_waits_for_joints_after_it() -> None:
    joiner = JoinerInput()
    joiner.joints(ago_s=0.5)
    joiner.frame(1, ago_s=0.4)
    assert joiner.taken() is None
    joiner.joints(ago_s=0.35)
    assert joiner.taken() == 1


def test_a_frame_with_known_joints_precedes_a_newer_overdue_frame() -> None:
    joiner = JoinerInput()
    joiner.joints(ago_s=LONG_S + 1.0)
    for seq, ago_s in enumerate((LONG_S + 0.4, LONG_S + 0.2, LONG_S)):
        joiner.frame(seq, ago_s=ago_s)
    joiner.joints(ago_s=LONG_S + 0.1)
    assert joiner.taken() == 1, "the newest with known joints, although a newer one is overdue"
    joiner.joints(ago_s=LONG_S - 0.1)
    assert joiner.taken() == 2
    assert joiner.joiner.queue.totals.dropped == 1, "the frame older than one that was taken"


def test_an_overdue_frame_is_taken_without_joints() -> None:
    joiner = JoinerInput()
    joiner.joints(ago_s=LONG_S + 1.0)
    for seq in range(3):
        joiner.frame(seq, ago_s=LONG_S - 0.1 * seq)
    joiner.frame(9, ago_s=0.1)
    assert joiner.taken() == 2, "the newest overdue frame"
    assert joiner.taken() is None


def test_joints_wake_whoever_waits_for_the_frame_that_they_complete() -> None:
    joiner = JoinerInput()
    joiner.joints(ago_s=0.5)
    joiner.frame(1, ago_s=0.4)
    begin_s = time.monotonic()
    with ThreadPoolExecutor(1) as worker:
        taken = worker.submit(joiner.joiner.take, LONGEST_WAIT_S)
        time.sleep(0.1)
        joiner.joints(ago_s=0.35)
        frame = taken.result()
    assert frame is not None
    assert frame.seq == 1
    assert time.monotonic() - begin_s < LONGEST_WAIT_S / 2, "no other frame came, and the wait is not over"


def test_without_any_joints_frames_do_not_wait() -> None:
    joiner = JoinerInput()
    joiner.frame(1, ago_s=0.0)
    assert joiner.taken() == 1
