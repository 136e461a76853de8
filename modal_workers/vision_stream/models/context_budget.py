"""Bound of a session's memory: what a chunk is put behind when the whole conversation does not fit any more.

Keys and values cannot be cut off at their beginning: all later ones were computed from them. So a memory that has
reached its limit is built anew from the last texts and the last frames, which costs one chunk's time now and then.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.vision_stream.models.model import ChunkRequest, Memory


class Base(Enum):
    """Beginnings of a conversation that a chunk's turn can be put behind, the longest first."""

    WHOLE = "the whole conversation"
    LAST_CHUNK = "the texts before the last chunk, its frames and its text"
    TEXTS = "the last texts"
    NOTHING = "nothing"


def base_that_fits(memory: Memory, tokens: Callable[[Base], int | None], limit: int) -> Base | None:
    """Return the first base behind which a chunk fits; None if it does not fit alone.

    ``tokens`` counts a base, the chunk's turn and its longest answer together; None for a base that there is not. The
    last chunk is left out where it would take half of the limit: the memory would soon be full again.
    """
    for base in Base:
        if memory == "history" and base in (Base.WHOLE, Base.LAST_CHUNK):
            continue
        count = tokens(base)
        if count is not None and count <= (limit // 2 if base is Base.LAST_CHUNK else limit):
            return base
    return None


def too_long(request: ChunkRequest, tokens: int, limit: int) -> SaccadeError:
    """Return the error of a chunk that does not fit alone."""
    return SaccadeError(
        ErrorCode.INVALID_PARAMETER,
        f"A chunk of {len(request.frames)} frames and its answer have {tokens} tokens;"
        f" the model's context has {limit}.",
        hint="Send fewer frames in a chunk, a shorter instruction, or a smaller max_new_tokens.",
    )
