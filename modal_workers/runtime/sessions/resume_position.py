"""Position from which a later run resumes a session, and the telemetry recorded after it."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import replace
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from contracts.events.session import FrameTotals, SessionFrameAcked
from contracts.manifest import Artifact
from modal_workers.runtime.sessions.frame import SessionFrame
from modal_workers.runtime.sessions.telemetry_tail import TelemetryMessage

POSITION_NAME = "position.json"
#: Frames without an acknowledgement whose images are kept: many more than a queue has room for, so that the images of
#: hours without a worker do not fill its memory.
_IMAGES: Final = 1024


class ResumePosition(BaseModel):
    """Checkpoint that is written last, in one write; it names the state that belongs to it."""

    model_config = ConfigDict(frozen=True)

    #: Checkpoint that holds the complete state: one of two that are written alternately.
    state: str | None = None
    #: Telemetry after this sequence has to be read again; every frame up to it is acknowledged.
    after: int = 0
    chunks: tuple[Artifact, ...] = ()
    #: Figures of the newest chunk.
    figures: dict[str, Any] = {}
    totals: FrameTotals = FrameTotals()
    started: bool = False
    reset_sequence: int = 0
    #: Frames after ``after`` that are already part of the state.
    done: tuple[tuple[str, int], ...] = ()


class RecordedSession:
    """Frames and acknowledgements recorded after a position, in the order of the work."""

    def __init__(self, done: tuple[tuple[str, int], ...] = ()) -> None:
        """Omit the frames in ``done``."""
        self._known = set(done)
        self._frames: dict[tuple[str, int], SessionFrame] = {}
        self._with_image: deque[tuple[str, int]] = deque()
        #: Repeated frames by key, minus the acknowledgements of such.
        self._repeats: Counter[tuple[str, int]] = Counter()
        self._repeat: dict[tuple[str, int], SessionFrame] = {}
        #: Accepted frames with their acknowledgements in the order of the work; None for a reset.
        self.steps: list[SessionFrame | None] = []
        #: Dropped and rejected frames with their acknowledgements, without images.
        self.refused: list[SessionFrame] = []
        self.acknowledged: list[tuple[str, int]] = []
        self.totals: FrameTotals | None = None
        self.last_idle_steps: int | None = None
        self.last_sequence = 0

    @property
    def unacknowledged(self) -> list[SessionFrame]:
        """Frames without an acknowledgement, oldest first; repeats last."""
        repeats = [self._repeat[key] for key, count in self._repeats.items() for _ in range(count)]
        return [*self._frames.values(), *repeats]

    def add_frame(self, frame: SessionFrame) -> None:
        """Add a frame; of two with the same number the first is the one that is worked on."""
        self.last_sequence = frame.sequence
        if frame.key in self._known:
            self._repeats[frame.key] += 1
            self._repeat[frame.key] = replace(frame, image=b"")
        else:
            self._known.add(frame.key)
            self._frames[frame.key] = frame
            self._with_image.append(frame.key)
            if len(self._with_image) > _IMAGES and (old := self._frames.get(self._with_image.popleft())):
                self._frames[old.key] = replace(old, image=b"")

    def add_acks(self, acked: SessionFrameAcked, sequence: int) -> None:
        """Add acknowledgements."""
        self.last_sequence, self.totals = sequence, acked.totals
        self.last_idle_steps = acked.last_idle_steps
        for ack in acked.acks:
            key = (ack.source, ack.seq)
            if ack.reason == "repeated":
                self._repeats[key] -= 1
            elif frame := self._frames.pop(key, None):
                self.acknowledged.append(key)
                if ack.status == "accepted":
                    self.steps.append(replace(frame, recorded_ack=ack))
                else:
                    self.refused.append(replace(frame, recorded_ack=ack, image=b""))
        if acked.reset:
            self.steps.append(None)


class ReplayedVerdicts:
    """Frames whose verdict earlier runs of a replay have published, and the newest totals."""

    def __init__(self, totals: FrameTotals) -> None:
        """Start from the totals of the saved position."""
        self.keys: set[tuple[str, int]] = set()
        self.totals = totals

    def add(self, message: TelemetryMessage) -> None:
        """Add a message of the replay's own telemetry."""
        if message.name == "acks":
            acked = SessionFrameAcked.model_validate_json(message.body)
            self.keys.update((ack.source, ack.seq) for ack in acked.acks)
            self.totals = acked.totals
