"""Queue of frames for the worker, newest first, and the one acknowledgement that every frame gets."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable
from typing import Final

from contracts.errors import ErrorCode
from contracts.events.session import FrameRejection, FrameTotals
from contracts.limits import MIB
from contracts.telemetry import FrameAck
from modal_workers.runtime.sessions.frame import SessionFrame
from modal_workers.runtime.sessions.frame_spread import densest, spread_evenly

#: Frame numbers remembered per source, to tell a repeat from a late frame.
_REMEMBERED: Final = 4096
#: Longest sentence about a rejected frame; it is part of every count of frames.
_DETAIL_CHARS: Final = 300
#: Waiting frames for each frame of a chunk: the more of them, the more evenly a chunk is spread over its time.
_PER_CHUNK_FRAME: Final = 4
#: Fields of an acknowledgement that the worker sets.
_WORKER_FIELDS: Final = {"positions", "joints_gap_s", "idle_steps", "steps"}


class FrameQueue:
    """Frames that are not acknowledged yet: filled by one thread, drained by another.

    At most ``capacity`` of the newest frames wait, until their joints are known and the worker is free; then the newest
    is taken and the older ones are dropped. Frames with a recorded acknowledgement are never dropped: the worker has to
    repeat in order what an earlier run did.

    A worker that takes chunks gets several frames at once. From its first chunk on, waiting frames cover all the time
    since the chunk before: a frame that is one too many displaces not the oldest, but one between two others.
    """

    def __init__(
        self,
        now_s: Callable[[], float],
        capacity: int = 16,
        totals: FrameTotals | None = None,
        *,
        capacity_bytes: int = 32 * MIB,
    ) -> None:
        """Start from ``totals`` of an earlier run; ``now_s`` returns unix seconds of the server's clock."""
        self._now_s = now_s
        self._capacity, self._capacity_bytes = capacity, capacity_bytes
        self._spread = False
        self._waiting_bytes = 0
        #: Monotonic time at which the first of the waiting frames came.
        self._waiting_since_s = 0.0
        #: Number of the newest chunk that was taken of each source.
        self._chunks: dict[str, int] = {}
        counted = totals or FrameTotals()
        self._counts = {"accepted": counted.accepted, "dropped": counted.dropped, "rejected": counted.rejected}
        self._reasons, self._last_rejection = Counter(counted.reasons), counted.last_rejection
        self._recorded: deque[SessionFrame] = deque()
        self._waiting: deque[SessionFrame] = deque()
        self._taken: dict[tuple[str, int], SessionFrame] = {}
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
                status = "dropped" if frame.refusal_reason == ErrorCode.RATE_LIMITED else "rejected"
                self._acknowledge(frame, status, frame.refusal_reason)
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
                if not self._waiting:
                    self._waiting_since_s = time.monotonic()
                self._waiting.append(frame)
                self._waiting_bytes += len(frame.image)
                self._displace()
            self._changed.notify_all()

    def take(self, wait_s: float, ready: Callable[[SessionFrame], bool]) -> SessionFrame | None:
        """Return the newest frame that is ``ready`` and drop the older ones; None after ``wait_s`` seconds without one.

        Recorded frames come first, in their order.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._recorded or any(map(ready, self._waiting)), timeout=wait_s)
            if self._recorded:
                return self._take(self._recorded.popleft())
            for index in range(len(self._waiting) - 1, -1, -1):
                if ready(self._waiting[index]):
                    for _ in range(index):
                        self._acknowledge(self._pop_waiting(0), "dropped", "superseded")
                    return self._take(self._pop_waiting(0))
        return None

    def take_chunk(self, max_frames: int, span_s: float, wait_s: float) -> list[SessionFrame]:
        """Return the frames of the next chunk of one source, oldest first; none after ``wait_s`` without a chunk.

        A chunk is complete when ``max_frames`` wait, or ``span_s`` after the first of them came. Of more frames
        ``max_frames`` are returned, evenly spread over their time, with the newest; the others are dropped. Of several
        sources, the one is taken that was taken the longest ago. Recorded frames come first: they are those of a chunk
        that an earlier run began.
        """
        with self._changed:
            self._spread = True
            self._capacity = max(self._capacity, _PER_CHUNK_FRAME * max_frames)
            end_s = time.monotonic() + wait_s
            while not self._recorded and (missing_s := self._missing_s(max_frames, span_s)) > 0:
                left_s = end_s - time.monotonic()
                if left_s <= 0:
                    return []
                self._changed.wait(min(left_s, missing_s))
            if self._recorded:
                begun = itertools.takewhile(lambda frame: frame.source == self._recorded[0].source, self._recorded)
                count = len(list(itertools.islice(begun, max_frames)))
                return [self._take(self._recorded.popleft()) for _ in range(count)]
            return self._take_spread(max_frames)

    def wake(self) -> None:
        """Check again which frames are ready: joints have come. Not while holding a lock that ``ready`` takes."""
        with self._changed:
            self._changed.notify_all()

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
            self._waiting_bytes = 0

    def mark_acknowledged(self, keys: Iterable[tuple[str, int]]) -> None:
        """Remember frames that an earlier run has acknowledged, so that their repeats are recognised."""
        with self._changed:
            for source, seq in keys:
                self._seen.setdefault(source, OrderedDict())[seq] = None
                self._newest[source] = max(seq, self._newest.get(source, -1))

    def unacknowledged(self) -> dict[tuple[str, int], int]:
        """Return the telemetry sequences of the frames that are waiting or being worked on, by key."""
        with self._changed:
            pending = (*self._waiting, *self._recorded, *self._taken.values())
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

    def _missing_s(self, max_frames: int, span_s: float) -> float:
        """Return the time until the waiting frames are a chunk, unless more of them come; 0 if they are one."""
        if not self._waiting:
            return float(threading.TIMEOUT_MAX)
        if len(self._waiting) >= max_frames:
            return 0.0
        return max(0.0, self._waiting_since_s + span_s - time.monotonic())

    def _take_spread(self, max_frames: int) -> list[SessionFrame]:
        source = min({frame.source for frame in self._waiting}, key=lambda name: (self._chunks.get(name, 0), name))
        self._chunks[source] = max(self._chunks.values(), default=0) + 1
        frames = [frame for frame in self._waiting if frame.source == source]
        others = [frame for frame in self._waiting if frame.source != source]
        self._waiting = deque(others)
        self._waiting_bytes = sum(len(frame.image) for frame in others)
        chosen = set(spread_evenly([frame.captured_at_s for frame in frames], max_frames))
        for index, frame in enumerate(frames):
            if index not in chosen:
                self._acknowledge(frame, "dropped", "superseded")
        return [self._take(frames[index]) for index in sorted(chosen)]

    def _take(self, frame: SessionFrame) -> SessionFrame:
        self._taken[frame.key] = frame
        return frame

    def _pop_waiting(self, index: int) -> SessionFrame:
        frame = self._waiting[index]
        del self._waiting[index]
        self._waiting_bytes -= len(frame.image)
        return frame

    def _displace(self) -> None:
        """Drop waiting frames that are too many, or too many bytes."""
        while len(self._waiting) > self._capacity or (
            self._waiting_bytes > self._capacity_bytes and len(self._waiting) > 1
        ):
            self._acknowledge(self._pop_waiting(self._missed_least() if self._spread else 0), "dropped", "superseded")

    def _missed_least(self) -> int:
        """Return the index of the waiting frame that is missed least, one of the source with the most frames."""
        sources = Counter(frame.source for frame in self._waiting)
        source = max(sources, key=lambda name: sources[name])
        indexes = [index for index, frame in enumerate(self._waiting) if frame.source == source]
        return indexes[densest([self._waiting[index].captured_at_s for index in indexes])]

    def _totals(self) -> FrameTotals:
        pending = (*self._waiting, *self._recorded, *self._taken.values())
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
        if self._taken.get(frame.key) is frame:
            del self._taken[frame.key]
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
