"""Which frame goes next while joints are late: one that has them, else the one that waited for long enough."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime

from contracts.session import SessionLaunch
from modal_workers.runtime.sessions.frame_joiner import Feed
from modal_workers.runtime.sessions.telemetry_tail import Recorded

#: Longer than a frame waits.
LONG_S = 2.0


class Session:
    """A feed that is given messages as the bus would."""

    def __init__(self) -> None:
        launch = SessionLaunch(
            session_id="ses_1", idle_timeout_s=60, max_length_s=60, opened_at=datetime.now(UTC), params={}
        )
        self.feed = Feed(None, launch)  # type: ignore[arg-type]
        self.stored = 0
        self.began_s = time.time()

    def _heard(self, name: str, headers: dict[str, str], body: bytes, ago_s: float) -> None:
        self.stored += 1
        self.feed._on_live(Recorded(self.stored, name, time.time() - ago_s, headers, body, 0))

    def frame(self, seq: int, *, ago_s: float) -> None:
        """A frame that was taken, and came, so long ago."""
        headers = {
            "Frame-Seq": str(seq),
            "Frame-Captured-At": repr(self.began_s - ago_s),
            "Frame-Clock-Offset": "0.0",
            "Frame-Source": "camera",
        }
        self._heard("frames", headers, b"picture", ago_s)

    def joints(self, *, ago_s: float) -> None:
        """Joints as they were so long ago, which come now."""
        sample = [self.stored, self.began_s - ago_s, [0.5]]
        clock = {"offset_s": 0.0, "error_s": 0.0}
        batch = {"names": ["pan"], "unit": "rad", "samples": [sample], "clock": clock}
        self._heard("joints", {}, json.dumps(batch).encode(), 0.0)

    def taken(self) -> int | None:
        """Take the next frame and have it accepted."""
        frame = self.feed.take(0.0)
        if frame is None:
            return None
        self.feed.inbox.accept(frame)
        return frame.seq


def test_a_frame_waits_for_joints_after_it() -> None:
    session = Session()
    session.joints(ago_s=0.5)
    session.frame(1, ago_s=0.4)
    assert session.taken() is None
    session.joints(ago_s=0.35)
    assert session.taken() == 1


def test_late_joints_are_better_than_a_newer_frame_that_has_waited() -> None:
    session = Session()
    session.joints(ago_s=LONG_S + 1.0)
    for seq, ago_s in enumerate((LONG_S + 0.4, LONG_S + 0.2, LONG_S)):
        session.frame(seq, ago_s=ago_s)
    session.joints(ago_s=LONG_S + 0.1)
    assert session.taken() == 1, "the newest whose joints are known, though a newer one has waited"
    session.joints(ago_s=LONG_S - 0.1)
    assert session.taken() == 2
    assert session.feed.inbox.totals.dropped == 1, "what is older than one that was taken"


def test_joints_that_do_not_come_are_not_waited_for_any_longer() -> None:
    session = Session()
    session.joints(ago_s=LONG_S + 1.0)
    for seq in range(3):
        session.frame(seq, ago_s=LONG_S - 0.1 * seq)
    session.frame(9, ago_s=0.1)
    assert session.taken() == 2, "the newest that has waited for long enough"
    assert session.taken() is None


def test_without_any_joints_nothing_is_waited_for() -> None:
    session = Session()
    session.frame(1, ago_s=0.0)
    assert session.taken() == 1
