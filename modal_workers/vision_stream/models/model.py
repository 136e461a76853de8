"""Protocol of a model that watches: a chunk of frames in, text out, with the memory of one session only."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

#: Frame as the model sees it: RGB, height x width x 3.
Rgb = NDArray[np.uint8]
#: ``cache``: keys and values of all chunks are kept. ``history``: each chunk's prompt has the texts of the last ones.
Memory = Literal["cache", "history"]
FinishReason = Literal["complete", "length", "cancelled"]
#: Past texts in the prompt of a chunk (``history``), and those that a rolling summary is made of (``cache``).
HISTORY_TEXTS = 6


@dataclass(frozen=True)
class PastText:
    """Text of an earlier chunk, with the times of its frames."""

    start_s: float
    end_s: float
    text: str


@dataclass(frozen=True)
class ChunkRequest:
    """Frames of one chunk in the order of time, and what is asked of them."""

    frames: Sequence[Rgb]
    start_s: float
    end_s: float
    instruction: str
    #: Asked in place of the instruction, for this chunk only.
    question: str | None = None
    #: JSON Schema of the answer: the text is then one JSON value that is valid by it.
    answer_schema: Mapping[str, Any] | None = None
    max_new_tokens: int = 64
    #: 0 is greedy: always the likeliest token.
    temperature: float = 0.0
    top_p: float = 0.9
    #: A chunk's choices depend on this seed and its ``start_s`` only, never on other sessions of the process.
    seed: int = 42

    @property
    def chunk_seed(self) -> int:
        """Seed of this chunk's draws."""
        digest = hashlib.blake2b(f"{self.seed} {self.start_s:.3f}".encode(), digest_size=7).digest()
        return int.from_bytes(digest, "big")


@dataclass(frozen=True)
class ChunkAnswer:
    """Text of one chunk, and the time and tokens that it took."""

    text: str
    tokens: int
    finish_reason: FinishReason
    #: JSON value that is valid by ``answer_schema``; None without one and unless the answer is complete.
    answer: Any | None
    prefill_ms: float
    decode_ms: float
    #: From the call to the first token; 0 if it was cancelled before.
    first_token_ms: float
    #: Tokens before this answer that were computed in an earlier chunk, and all of them.
    cached_tokens: int
    prompt_tokens: int
    #: The memory had reached its limit and was built anew before this chunk, from past texts and the last frames.
    reprimed: bool = False


class WatchSession(Protocol):
    """Model's state of one session. It is used by one thread at a time and never shared between sessions."""

    def prime(self, past: Sequence[PastText]) -> None:
        """Replace the memory by the texts of chunks that another worker watched."""

    def watch(
        self, request: ChunkRequest, on_text: Callable[[str], None], cancelled: Callable[[], bool]
    ) -> ChunkAnswer:
        """Return the text for a chunk.

        ``on_text`` gets the new text after each token that ends a character; put together it is the answer's text.
        ``cancelled`` is asked before each token: the answer then has what was generated until then. If this raises, the
        memory is as it was before.
        """

    def check(self, conditions: Sequence[str]) -> list[float]:
        """Return for each condition the probability (0 to 1) that it is true in the frames of the last chunk.

        The memory stays as it is. Before the first chunk there is nothing to look at: ValueError.
        """

    def close(self) -> None:
        """Free the memory; the session cannot be used afterwards."""


class WatchModel(Protocol):
    """Loaded model, shared by the sessions of a process; it holds no state of any of them."""

    #: What was loaded, as in ``session.text``: "tiny", "google/gemma-3-4b-it".
    name: str

    def open_session(self, memory: Memory, *, history_texts: int = HISTORY_TEXTS) -> WatchSession:
        """Open a session with an empty memory."""

    def close(self) -> None:
        """Free the model and what it holds on the device."""
