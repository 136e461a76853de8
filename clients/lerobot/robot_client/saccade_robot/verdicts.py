"""Verdicts on the frames of a session, read from its JSON. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Verdicts:
    """Frames of a session by verdict, from all its senders."""

    accepted: int
    rejected: int
    #: Error code, and code with sentence, of the newest rejected frame; empty if none was rejected.
    reason: str = ""
    last_rejection: str = ""


def verdicts_of(session: Mapping[str, Any]) -> Verdicts | None:
    """Return the verdicts in a session's JSON; None if it has none."""
    frames = session.get("frames")
    if not isinstance(frames, Mapping):
        return None
    last = frames.get("last_rejection") or {}
    reason = str(last.get("reason") or "")
    text = f"{reason}: {last['detail']}" if last.get("detail") else reason
    return Verdicts(int(frames.get("accepted") or 0), int(frames.get("rejected") or 0), reason, text)
