"""Queue of frames for the worker, newest first, and the one acknowledgement that every frame gets."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable
from typing import Final

from contracts.events.session import FrameRejection, FrameTotals
from contracts.telemetry import FrameAck
from modal_workers.runtime.sessions.frame import SessionFrame

#: Frame numbers remembered per source, to tell a repeat from a late frame.
_REMEMBERED: Final = 4096
#: Longest sentence about a rejected frame; it is part of every count of frames.
_DETAIL_CHARS: Final = 300
#: Fields of an acknowledgement that the worker sets.
_WORKER_FIELDS: Final = {"positions", "joints_gap_s", "idle_steps", "steps"}


class FrameQueue:
    """Frames that are not acknowledged yet: filled by one thread, drained by another.

    At most ``capacity`` of the newest frames wait, until their joints are known and the worker is free; then the newest
    is taken and the older ones are dropped. Frames with a recorded acknowledgement are never dropped: the worker has to
    repeat in order what an earlier run did.
    """

    def __init__(self, now_s: Callable[[], float], capacity: int = 16, totals: FrameTotals | None = None) -> None:
        """Start from ``totals`` of an earlier run; ``now_s`` returns unix seconds of the server's clock."""
        self._now_s = now_s
        self._capacity = capacity
        counted = totals or FrameTotals()
        self._counts = {"accepted": counted.accepted, "dropped": counted.dropped, "rejected": counted.rejected}
        self._reasons, self._last_rejection = Counter(counted.reasons), counted.last_rejection
        self._recorded: deque[SessionFrame] = deque()
        self._waiting: deque[SessionFrame] = deque()
        self._taken: SessionFrame | None = None
        self._seen: dict[str, OrderedDict[int, None]] = {}
        self._newest: dict[str, int] = {}
        self._acks: list[FrameAck] = []
        self._changed = threading.Condition()

    def put(self, frame: SessionFrame) -> None:
        """Add a frame; it may displace an older one, or be acknowledged at once."""
        with self._changed:
            seen = self._seen.setdefault(frame.source, OrderedDict())
            if frame.seq in seen:
                self._acknowledge(frame, "dropped", "repeated")
            elif frame.refusal_reason is not None:
                self._remember(frame)
                self._acknowledge(frame, "rejected", frame.refusal_reason)
            elif frame.recorded_ack is not None and frame.recorded_ack.status != "accepted":
                self._remember(frame)
                recorded = frame.recorded_ack
                self._acknowledge(frame, recorded.status, recorded.reason, detail=recorded.detail)
            elif frame.recorded_ack is not None:
                self._remember(frame)
                self._recorded.append(frame)
            elif frame.seq < self._newest.get(frame.source, -1):
                self._remember(frame)
                self._acknowledge(frame, "dropped", "late")
            else:
                self._remember(frame)
                self._newest[frame.source] = frame.seq
                self._waiting.append(frame)
                while len(self._waiting) > self._capacity:
                    self._acknowledge(self._waiting.popleft(), "dropped", "superseded")
            self._changed.notify_all()

    def take(self, wait_s: float, ready: Callable[[SessionFrame], bool]) -> SessionFrame | None:
        """Return the newest frame that is ``ready`` and drop the older ones; None after ``wait_s`` seconds without one.

        Recorded frames come first, in their order.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._recorded or self._waiting, timeout=wait_s)
            if self._recorded:
                self._taken = self._recorded.popleft()
                return self._taken
            for index in range(len(self._waiting) - 1, -1, -1):
                if ready(self._waiting[index]):
                    for _ in range(index):
                        self._acknowledge(self._waiting.popleft(), "dropped", "superseded")
                    self._taken = self._waiting.popleft()
                    return self._taken
        return None

    def accept(self, frame: SessionFrame, details: FrameAck | None = None) -> None:
        """Acknowledge a frame as accepted; ``details`` hold what a replay needs."""
        with self._changed:
            self._acknowledge(frame, "accepted", None, details)

    def reject(self, frame: SessionFrame, reason: str, detail: str | None = None) -> None:
        """Acknowledge a frame as rejected, unusable by itself; ``detail`` says what was wrong, in a sentence."""
        with self._changed:
            self._acknowledge(frame, "rejected", reason, detail=detail)

    def drop_waiting(self, reason: str) -> None:
        """Acknowledge all waiting frames as dropped, at the end or a reset of the session."""
        with self._changed:
            for frame in (*self._recorded, *self._waiting):
                self._acknowledge(frame, "dropped", reason)
            self._recorded.clear()
            self._waiting.clear()

    def mark_acknowledged(self, keys: Iterable[tuple[str, int]]) -> None:
        """Remember frames that an earlier run has acknowledged, so that their repeats are recognised."""
        with self._changed:
            for source, seq in keys:
                self._seen.setdefault(source, OrderedDict())[seq] = None
                self._newest[source] = max(seq, self._newest.get(source, -1))

    def unacknowledged(self) -> dict[tuple[str, int], int]:
        """Return the telemetry sequences of the frames that are waiting or being worked on, by key."""
        with self._changed:
            pending = (*self._waiting, *self._recorded, *([self._taken] if self._taken else ()))
            return {frame.key: frame.sequence for frame in pending}

    def take_acks(self) -> tuple[list[FrameAck], FrameTotals]:
        """Return the acknowledgements since the last call, each once, and the totals up to them."""
        with self._changed:
            acks, self._acks = self._acks, []
            return acks, self._totals()

    @property
    def totals(self) -> FrameTotals:
        """Counts of all frames so far."""
        with self._changed:
            return self._totals()

    def _totals(self) -> FrameTotals:
        pending = (*self._waiting, *self._recorded, *([self._taken] if self._taken else ()))
        waiting = sum(not frame.is_counted for frame in pending)
        return FrameTotals(
            sent=sum(self._counts.values()) + waiting,
            waiting=waiting,
            reasons=dict(self._reasons),
            last_rejection=self._last_rejection,
            **self._counts,
        )

    def _remember(self, frame: SessionFrame) -> None:
        seen = self._seen[frame.source]
        seen[frame.seq] = None
        if len(seen) > _REMEMBERED:
            seen.popitem(last=False)

    def _acknowledge(
        self,
        frame: SessionFrame,
        status: str,
        reason: str | None,
        details: FrameAck | None = None,
        *,
        detail: str | None = None,
    ) -> None:
        if self._taken is frame:
            self._taken = None
        if frame.is_counted:
            return
        self._counts[status] += 1
        if reason is not None:
            self._reasons[reason] += 1
            if status == "rejected":
                detail = detail and detail[:_DETAIL_CHARS]
                self._last_rejection = FrameRejection(source=frame.source, seq=frame.seq, reason=reason, detail=detail)
        extra = {} if details is None else details.model_dump(include=_WORKER_FIELDS)
        ack = {
            "source": frame.source,
            "seq": frame.seq,
            "status": status,
            "reason": reason,
            "detail": detail,
            "age_s": round(self._now_s() - frame.captured_at_s, 4),
            "queue_depth": len(self._waiting) + len(self._recorded),
        }
        self._acks.append(FrameAck.model_validate(ack | extra))
