"""A model that watches, without a network: it names the mean colour of the newest frame, word by word."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.vision_stream.models.model import (
    HISTORY_TEXTS,
    ChunkAnswer,
    ChunkRequest,
    FinishReason,
    Memory,
    PastText,
    Rgb,
)

COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 200, 30),
    "blue": (30, 30, 220),
    "yellow": (220, 220, 30),
    "white": (240, 240, 240),
    "grey": (128, 128, 128),
}
#: It cannot describe darkness.
_DARKEST = 8.0
LONGEST_QUESTION = 300


def colour_of(frame: Rgb) -> str:
    """Return the name of a frame's mean colour.

    Raises:
        RuntimeError: the frame is dark.
    """
    mean = frame.reshape(-1, 3).mean(axis=0)
    if mean.max() < _DARKEST:
        raise RuntimeError("there is nothing to see in the dark")
    return min(COLOURS, key=lambda name: float(np.abs(mean - COLOURS[name]).sum()))


@dataclass
class ColourModel:
    """The model; it has no state of any session."""

    word_s: float = 0.0
    memory_px: int = 10_000_000
    name: str = "colour"

    def open_session(self, memory: Memory, *, history_texts: int = HISTORY_TEXTS) -> ColourSession:
        return ColourSession(self, memory, history_texts)

    def close(self) -> None:
        pass


@dataclass
class ColourSession:
    """What one session has seen."""

    model: ColourModel
    memory: Memory
    history_texts: int
    past: list[PastText] = field(default_factory=list)
    seen: str = ""

    def prime(self, past: Sequence[PastText]) -> None:
        self.past = list(past)[-self.history_texts :]

    def watch(
        self, request: ChunkRequest, on_text: Callable[[str], None], cancelled: Callable[[], bool]
    ) -> ChunkAnswer:
        if sum(frame.shape[0] * frame.shape[1] for frame in request.frames) > self.model.memory_px:
            raise MemoryError("the chunk is too large")
        if request.question is not None and len(request.question) > LONGEST_QUESTION:
            raise SaccadeError(ErrorCode.INVALID_PARAMETER, "The question is too long for the model.")
        colours = [colour_of(frame) for frame in request.frames]
        self.seen = colours[-1]
        words = self._words(request, colours)
        said: list[str] = []
        finish: FinishReason = "complete"
        for word in words:
            if cancelled():
                finish = "cancelled"
                break
            time.sleep(self.model.word_s)
            said.append(word)
            on_text(word)
        text = "".join(said)
        self.past = [*self.past, PastText(request.start_s, request.end_s, text)][-self.history_texts :]
        answer = {"colour": self.seen} if request.answer_schema is not None and finish == "complete" else None
        return ChunkAnswer(text, len(said), finish, answer, 1.0, 2.0, 1.5, 0, len(request.frames))

    def check(self, conditions: Sequence[str]) -> list[float]:
        return [0.9 if self.seen in condition else 0.1 for condition in conditions]

    def close(self) -> None:
        self.past = []

    def _words(self, request: ChunkRequest, colours: list[str]) -> list[str]:
        if request.question == "What was said before?":
            return [part for said in self.past for part in (said.text, " ")]
        if request.question is not None:
            return ["It ", "is ", f"{self.seen}."]
        return ["The ", "picture ", "is ", *(f"{colour} " for colour in dict.fromkeys(colours)), "now."]
