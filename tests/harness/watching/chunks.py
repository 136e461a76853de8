"""Chunks of a session, and what is done with them where a test looks at the answer only."""

from __future__ import annotations

from typing import Any

from modal_workers.vision_stream.models.model import ChunkAnswer, ChunkRequest, WatchSession
from tests.harness.watching.random_gemma import random_frames


def chunk(
    number: int, *, frames: int = 1, max_new_tokens: int = 2, instruction: str = "What?", **how: Any
) -> ChunkRequest:
    """Return a chunk with frames of its own."""
    own = random_frames(frames, number)
    return ChunkRequest(own, number, number + 1.0, instruction, max_new_tokens=max_new_tokens, **how)


def watched(session: WatchSession, number: int, **how: Any) -> ChunkAnswer:
    """Return the answer for a chunk."""
    return session.watch(chunk(number, **how), said_to_nobody, never)


def said_to_nobody(text: str) -> None:
    """Discard new text."""


def never() -> bool:
    """Let it go on."""
    return False


def told_to_nobody(doing: str, done: float) -> None:
    """Discard the progress."""
