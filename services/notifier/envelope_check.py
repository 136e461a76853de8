"""Sees at every event that it says of itself what its subject says: the contract's own check, by a shorter way.

Whatever the shorter way does not say yes to, the contract decides, so that the same events pass.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any, Final

from contracts.events.base import ADVISORY, DURABLE, RECORD, decode_at

_KINDS: Final = frozenset({DURABLE, ADVISORY, RECORD})
_UTC: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z")
#: What is nested deeper, the contract's parser might refuse where this one does not.
_NESTED: Final = 100


def check_at(subject: str, body: bytes) -> tuple[str, str, str, str]:
    """Read tenant, noun, id and verb of the NATS subject on which an event came, and see that its bytes say the same.

    Raises:
        ValueError: the bytes are not one of our events, or not of this subject.
    """
    place = subject.split(".")
    if not (len(place) == 6 and place[0] == "saccade" and place[1] in _KINDS and _says(body, place)):
        decode_at(subject, body)
    _, _, tenant, noun, subject_id, verb = place
    return tenant, noun, subject_id, verb


def _says(body: bytes, place: list[str]) -> bool:
    """Tell whether it is an event of this place, written as ours are; False also where it only may not be."""
    if b"\\u" in body or body.count(b"{") + body.count(b"[") > _NESTED:  # half a character; a deep nest
        return False
    try:
        text = body.decode()
        envelope, end = _JSON.raw_decode(text)
        return (
            end == len(text)
            and envelope["tenant"] == place[2]
            and envelope["subject"] == place[4]
            and envelope["type"] == f"{place[3]}.{place[5]}"
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
    raise ValueError(f"{name} is no JSON")


_JSON: Final = json.JSONDecoder(parse_constant=_not_json)
