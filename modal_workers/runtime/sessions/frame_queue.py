"""Frames that wait for the worker, the newest first in turn, and the one verdict that every frame gets."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from typing import Final

from contracts.events.session import FrameTotals
from contracts.telemetry import FrameAck
from modal_workers.runtime.sessions.frame import Frame

#: Numbers that are remembered for each source, to know a repeat from a frame that comes late.
_REMEMBERED: Final = 4096
#: What a worker says of an accepted frame itself.
_DETAILS: Final = {"positions", "joints_gap_s", "idle_steps", "steps"}


class Inbox:
    """What has been sent and not been judged yet. Put to by one thread, taken from by another.

    At most ``room`` frames wait, the newest: some until their joints are known, some until the worker has time, and
    then the newest is taken and those before it are dropped. A recorded verdict is followed: such a frame waits its
    turn, however many there are, for its worker has to do again what it did before.
    """

    def __init__(self, now_s: Callable[[], float], room: int = 16, totals: FrameTotals | None = None) -> None:
        """Begin with ``totals`` of an earlier run; ``now_s`` gives unix seconds of the server's clock."""
        self._now_s = now_s
        self._room = room
        counted = totals or FrameTotals()
        self._counts = {"accepted": counted.accepted, "dropped": counted.dropped, "rejected": counted.rejected}
        self._recorded: deque[Frame] = deque()
        self._waiting: deque[Frame] = deque()
        self._taken: Frame | None = None
        self._seen: dict[str, OrderedDict[int, None]] = {}
        self._newest: dict[str, int] = {}
        self._acks: list[FrameAck] = []
        self._changed = threading.Condition()

    def put(self, frame: Frame) -> None:
        """Take a frame in; it may displace an older one, or be judged at once."""
        with self._changed:
            seen = self._seen.setdefault(frame.source, OrderedDict())
            if frame.seq in seen:
                self._judge(frame, "dropped", "repeated")
            elif frame.refused is not None:
                self._remember(frame)
                self._judge(frame, "rejected", frame.refused)
            elif frame.recorded is not None and frame.recorded.status != "accepted":
                self._remember(frame)
                self._judge(frame, frame.recorded.status, frame.recorded.reason)
            elif frame.recorded is not None:
                self._remember(frame)
                self._recorded.append(frame)
            elif frame.seq < self._newest.get(frame.source, -1):
                self._remember(frame)
                self._judge(frame, "dropped", "late")
            else:
                self._remember(frame)
                self._newest[frame.source] = frame.seq
                self._waiting.append(frame)
                while len(self._waiting) > self._room:
                    self._judge(self._waiting.popleft(), "dropped", "superseded")
            self._changed.notify_all()

    def take(self, wait_s: float, ready: Callable[[Frame], bool]) -> Frame | None:
        """Give the next frame, once it is ``ready``; None when there is none after ``wait_s`` seconds.

        The newest frame that is ready goes first, and those that are older than it are dropped.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._recorded or self._waiting, timeout=wait_s)
            if self._recorded:
                self._taken = self._recorded.popleft()
                return self._taken
            for place in range(len(self._waiting) - 1, -1, -1):
                if ready(self._waiting[place]):
                    for _ in range(place):
                        self._judge(self._waiting.popleft(), "dropped", "superseded")
                    self._taken = self._waiting.popleft()
                    return self._taken
        return None

    def accept(self, frame: Frame, details: FrameAck | None = None) -> None:
        """Say that the frame was worked on; ``details`` carry what a replay needs."""
        with self._changed:
            self._judge(frame, "accepted", None, details)

    def reject(self, frame: Frame, reason: str) -> None:
        """Say that the frame is of no use by itself."""
        with self._changed:
            self._judge(frame, "rejected", reason)

    def drop_waiting(self, reason: str) -> None:
        """Judge all that waits: the session ends, or begins anew."""
        with self._changed:
            for frame in (*self._recorded, *self._waiting):
                self._judge(frame, "dropped", reason)
            self._recorded.clear()
            self._waiting.clear()

    def judged_before(self, keys: Iterable[tuple[str, int]]) -> None:
        """Remember frames that an earlier run has judged, so that a repeat of them is known."""
        with self._changed:
            for source, seq in keys:
                self._seen.setdefault(source, OrderedDict())[seq] = None
                self._newest[source] = max(seq, self._newest.get(source, -1))

    def unjudged(self) -> dict[tuple[str, int], int]:
        """Give frames that have no verdict yet, or whose work is not done again yet: their places in the telemetry."""
        with self._changed:
            kept = (*self._waiting, *self._recorded, *([self._taken] if self._taken else ()))
            return {frame.key: frame.sequence for frame in kept}

    def verdicts(self) -> tuple[list[FrameAck], FrameTotals]:
        """Give the verdicts since the last call, each once, and the totals as of them."""
        with self._changed:
            acks, self._acks = self._acks, []
            return acks, self._totals()

    @property
    def totals(self) -> FrameTotals:
        """Count all frames so far."""
        with self._changed:
            return self._totals()

    def _totals(self) -> FrameTotals:
        kept = (*self._waiting, *self._recorded, *([self._taken] if self._taken else ()))
        waiting = sum(not frame.counted for frame in kept)
        return FrameTotals(sent=sum(self._counts.values()) + waiting, waiting=waiting, **self._counts)

    def _remember(self, frame: Frame) -> None:
        seen = self._seen[frame.source]
        seen[frame.seq] = None
        if len(seen) > _REMEMBERED:
            seen.popitem(last=False)

    def _judge(self, frame: Frame, status: str, reason: str | None, details: FrameAck | None = None) -> None:
        if self._taken is frame:
            self._taken = None
        if frame.counted:
            return
        self._counts[status] += 1
        told = {} if details is None else details.model_dump(include=_DETAILS)
        ack = {
            "source": frame.source,
            "seq": frame.seq,
            "status": status,
            "reason": reason,
            "age_s": round(self._now_s() - frame.captured_at_s, 4),
            "queue_depth": len(self._waiting) + len(self._recorded),
        }
        self._acks.append(FrameAck.model_validate(ack | told))
