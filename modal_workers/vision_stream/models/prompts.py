"""Text of a session's prompts in Gemma 3's chat format: the same for every backend, and what ``tiny`` is trained on."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from modal_workers.vision_stream.models.model import ChunkRequest, PastText

#: Place of one frame in a prompt; a backend puts the image's tokens there.
FRAME: Final = "<start_of_image>"
END_OF_TURN: Final = "<end_of_turn>"
_START: Final = "<start_of_turn>"
#: Control tokens of the chat format. In what a user wrote they would end the turn or stand for a frame.
_CONTROL: Final = re.compile(
    r"<(?=(?:start_of_turn|end_of_turn|start_of_image|end_of_image|image_soft_token|bos|eos|pad|unk|mask|unused\d+)>)"
)
_PAST: Final = "What was said of earlier frames (it may be out of date):"
_CONDITION: Final = "Is this true now or did it happen in these frames: {condition}? Answer yes or no."
#: Words that count as an answer of yes or no; models differ in which they begin with.
YES: Final = ("yes", "Yes", "YES", " yes", " Yes")
NO: Final = ("no", "No", "NO", " no", " No")


def frames_of_turn(frames: int, *, first: bool) -> str:
    """Return the beginning of a user's turn with its frames; ``first``: nothing was said before."""
    return f"{'' if first else END_OF_TURN + chr(10)}{_START}user\n{FRAME * frames}"


def end_of_turn(text: str) -> str:
    """Return the rest of a user's turn with its text, up to where the model's answer begins."""
    return f"{text.strip()}{END_OF_TURN}\n{_START}model\n"


def chunk_text(request: ChunkRequest, past: Sequence[PastText]) -> str:
    """Return the text of a chunk's turn: past texts, then the instruction or the question."""
    return "\n".join(
        [*past_lines(past), plain(request.question or request.instruction), *_schema_lines(request.answer_schema)]
    )


def condition_text(condition: str) -> str:
    """Return the question whether a condition is true."""
    return _CONDITION.format(condition=plain(condition).strip().rstrip(".?!"))


def past_lines(past: Sequence[PastText]) -> list[str]:
    """Return the lines that tell what was said before, none without any."""
    lines = [f"{said.start_s:.1f}-{said.end_s:.1f} s: {' '.join(plain(said.text).split())}" for said in past]
    return [_PAST, *lines] if lines else []


def plain(text: str) -> str:
    """Return what a user or the model wrote without control tokens: they are broken up, and still readable."""
    return _CONTROL.sub("< ", text)


def _schema_lines(schema: Mapping[str, Any] | None) -> list[str]:
    if schema is None:
        return []
    return [plain(f"Answer as JSON by this schema: {json.dumps(schema, ensure_ascii=False, separators=(',', ':'))}")]
