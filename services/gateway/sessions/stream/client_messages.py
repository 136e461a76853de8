"""Messages of a client on a session's WebSocket: frames, questions, requests for the time."""

from __future__ import annotations

import json
import time
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from contracts.errors import ErrorCode, SaccadeError
from contracts.invalid_values import invalid_values
from contracts.limits import MESSAGE_BYTES, MIB
from contracts.telemetry import Finite
from kit.http.request_body import parse_body
from services.gateway.sessions.words.schemas import NewPrompt
from services.gateway.telemetry.publisher import FrameHeader

HINT: Final = (
    "Send joints, prompt, cancel, clock_ping, stop or reset; frames are binary messages. "
    "docs/sessions.md describes each."
)
_MAX_HEADER_BYTES: Final = 4096


class PromptMessage(NewPrompt):
    """A question about the live video."""

    type: Literal["prompt"]


class _Ping(BaseModel):
    model_config = ConfigDict(extra="ignore")

    sent_at_s: Finite


def parse_message(text: str) -> tuple[str, dict[str, Any]]:
    """Parse a text message; return its type and its fields.

    Raises:
        SaccadeError: BODY_TOO_LARGE; MALFORMED_REQUEST.
    """
    if len(text) > MESSAGE_BYTES:
        message = f"A text message has at most {MESSAGE_BYTES // MIB} MiB."
        raise SaccadeError(ErrorCode.BODY_TOO_LARGE, message, hint="Send smaller batches, more often.")
    try:
        received = json.loads(text)
        return received["type"], received
    except (ValueError, RecursionError, KeyError, TypeError):
        raise SaccadeError(
            ErrorCode.MALFORMED_REQUEST, "The message is not a JSON object with a type.", hint=HINT
        ) from None


def unknown_message(kind: object) -> SaccadeError:
    """Return the error for a message of an unknown type."""
    return SaccadeError(ErrorCode.MALFORMED_REQUEST, f"There is no message of type {str(kind)[:50]!r}.", hint=HINT)


def read_frame_message(message: bytes) -> tuple[FrameHeader, bytes]:
    """Parse a binary message: four bytes with the header's length, the header as JSON, and the picture.

    Raises:
        SaccadeError: MALFORMED_REQUEST; INVALID_PARAMETER.
    """
    length = int.from_bytes(message[:4])
    if len(message) < 4 or length > min(_MAX_HEADER_BYTES, len(message) - 4):
        raise SaccadeError(
            ErrorCode.MALFORMED_REQUEST,
            "The message does not begin with the length of its header.",
            hint="Send four bytes (big-endian) with the length of a JSON object, the object, and the picture.",
        )
    header = parse_body(FrameHeader, message[4 : 4 + length], hint=HINT)
    return header, message[4 + length :]


def clock_pong(received: dict[str, Any]) -> str:
    """Return the answer to a request for the time.

    Raises:
        SaccadeError: INVALID_PARAMETER.
    """
    try:
        ping = _Ping.model_validate(received)
    except ValidationError as error:
        raise invalid_values(error.errors(include_url=False, include_input=False), hint=HINT) from None
    return json.dumps({"type": "clock_pong", "sent_at_s": ping.sent_at_s, "time_s": time.time()})
