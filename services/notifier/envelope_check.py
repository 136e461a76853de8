"""Check that an event's envelope matches its NATS subject: a fast path of the contract's own check.

An event that the fast path does not accept is decided by the contract, so that both accept the same events.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any, Final

from contracts.events.base import ADVISORY, DURABLE, RECORD, decode_at

_KINDS: Final = frozenset({DURABLE, ADVISORY, RECORD})
_UTC: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z")
#: Deeper nesting is left to the contract's parser, which may refuse it.
_MAX_NESTING: Final = 100


def check_envelope(subject: str, body: bytes) -> tuple[str, str, str, str]:
    """Return tenant, noun, id and verb of an event's NATS subject after checking that its bytes match.

    Raises:
        ValueError: the bytes are not an event, or belong to another subject.
    """
    parts = subject.split(".")
    if not (len(parts) == 6 and parts[0] == "saccade" and parts[1] in _KINDS and _matches(body, parts)):
        decode_at(subject, body)
    _, _, tenant, noun, subject_id, verb = parts
    return tenant, noun, subject_id, verb


def _matches(body: bytes, parts: list[str]) -> bool:
    """Return whether the envelope matches the parts of its subject; False also where the fast path cannot decide."""
    if b"\\u" in body or body.count(b"{") + body.count(b"[") > _MAX_NESTING:  # lone surrogates; deep nesting
        return False
    try:
        text = body.decode()
        envelope, end = _JSON.raw_decode(text)
        return (
            end == len(text)
            and envelope["tenant"] == parts[2]
            and envelope["subject"] == parts[4]
            and envelope["type"] == f"{parts[3]}.{parts[5]}"
            and envelope["specversion"] == "1.0"
            and envelope["datacontenttype"] == "application/json"
            and isinstance(envelope["id"], str)
            and isinstance(envelope["source"], str)
            and isinstance(envelope["data"], dict)
            and isinstance(envelope.get("traceparent", ""), str)
            and _UTC.fullmatch(envelope["time"]) is not None
            and datetime.fromisoformat(envelope["time"]).tzinfo is not None
        )
    except (ValueError, KeyError, TypeError):
        return False


def _not_json(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_JSON: Final = json.JSONDecoder(parse_constant=_not_json)
