"""Parts of an answer that are kept: its structured value, and its text for later prompts."""

from __future__ import annotations

import json
from typing import Any

from modal_workers.vision_stream.models.model import ChunkRequest, FinishReason, PastText


def structured_answer(request: ChunkRequest, text: str, finish_reason: FinishReason) -> Any | None:
    """Return the value of an answer by schema; None without a schema, or if it was not generated to its end."""
    if request.answer_schema is None or finish_reason != "complete":
        return None
    # Half of a surrogate pair is JSON as an escape, and no text that could be stored: it becomes a question mark.
    return json.loads(json.dumps(json.loads(text), ensure_ascii=False).encode(errors="replace"))


def said(request: ChunkRequest, text: str) -> list[PastText]:
    """Return what later prompts tell of a chunk: nothing if nothing was said."""
    return [PastText(request.start_s, request.end_s, text)] if text.strip() else []
