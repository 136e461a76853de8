"""How far a session had come when its state was kept: what a later run goes on from."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from pydantic import BaseModel, ConfigDict

from contracts.events.session import FrameTotals, SessionFrameAcked
from contracts.manifest import Artifact
from modal_workers.runtime.sessions.frame import Frame

POSITION_NAME = "position.json"


class Position(BaseModel):
    """Kept last of all, in one write: it names the state that belongs to it."""

    model_config = ConfigDict(frozen=True)

    #: Of two places for the state that are written in turn, the one that is whole.
    state: str | None = None
    #: Telemetry from here on has to be read again: no frame before it is without a verdict.
    after: int = 0
    chunks: tuple[Artifact, ...] = ()
    totals: FrameTotals = FrameTotals()
    started: bool = False
    reset_sequence: int = 0
    #: Frames whose telemetry has to be read again and whose work is in the state already.
    done: tuple[tuple[str, int], ...] = ()


class Record:
    """What was recorded of a session after a position, in the order in which its worker went through it."""

    def __init__(self, done: tuple[tuple[str, int], ...] = ()) -> None:
        """Leave out frames whose work is ``done`` already."""
        self._known = set(done)
        self._frames: dict[tuple[str, int], Frame] = {}
        #: Frames that came again under a number that is taken, less verdicts on such.
        self._repeats: Counter[tuple[str, int]] = Counter()
        self._repeat: dict[tuple[str, int], Frame] = {}
        #: Accepted frames with their verdicts in the order of the work, and None where the session began anew.
        self.steps: list[Frame | None] = []
        #: Frames that were dropped or rejected, with their verdicts; without their pictures.
        self.refused: list[Frame] = []
        self.judged: list[tuple[str, int]] = []
        self.totals: FrameTotals | None = None
        self.last_idle_steps: int | None = None
        self.last = 0

    @property
    def unjudged(self) -> list[Frame]:
        """Frames that nobody has said anything of yet, oldest first; repeats last."""
        repeats = [self._repeat[key] for key, count in self._repeats.items() for _ in range(count)]
        return [*self._frames.values(), *repeats]

    def frame(self, frame: Frame) -> None:
        """Take note of a frame; of two with one number the first is the one that is worked on."""
        self.last = frame.sequence
        if frame.key in self._known:
            self._repeats[frame.key] += 1
            self._repeat[frame.key] = replace(frame, picture=b"")
        else:
            self._known.add(frame.key)
            self._frames[frame.key] = frame

    def acked(self, acked: SessionFrameAcked, sequence: int) -> None:
        """Take note of verdicts."""
        self.last, self.totals = sequence, acked.totals
        self.last_idle_steps = acked.last_idle_steps
        for ack in acked.acks:
            key = (ack.source, ack.seq)
            if ack.reason == "repeated":
                self._repeats[key] -= 1
            elif frame := self._frames.pop(key, None):
                self.judged.append(key)
                if ack.status == "accepted":
                    self.steps.append(replace(frame, recorded=ack))
                else:
                    self.refused.append(replace(frame, recorded=ack, picture=b""))
        if acked.reset:
            self.steps.append(None)
