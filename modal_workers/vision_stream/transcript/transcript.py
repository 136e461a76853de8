"""Texts and alerts of a vision stream in order, and their file of JSON lines."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from contracts.events.session import FrameTotals, SessionAlert, SessionText

#: Names of the files, which are artifacts of the session's job.
JSON_LINES: Final = "transcript.jsonl"
WEBVTT: Final = "transcript.vtt"
PAGE: Final = "transcript.html"


@dataclass(frozen=True)
class Transcript:
    """All texts and alerts of one session, each in order, with the facts of the session."""

    session_id: str
    opened_at: datetime
    model: str
    instruction: str
    texts: Sequence[SessionText]
    alerts: Sequence[SessionAlert]
    totals: FrameTotals
    #: Newest shown frame of each chunk, JPEG, by the chunk's number; some chunks may have none.
    key_frames: Mapping[int, bytes] = field(default_factory=dict)
    #: Text of each question by its id.
    questions: Mapping[str, str] = field(default_factory=dict)
    #: Further sentences for the page, such as figures of an evaluation.
    notes: Sequence[str] = ()

    @property
    def said(self) -> list[SessionText]:
        """The texts with words; the others are chunks whose inference failed."""
        return [text for text in self.texts if text.text]

    @property
    def length_s(self) -> float:
        """End of the last chunk, seconds since the session's first frame."""
        return max((text.end_s or 0.0 for text in self.texts), default=0.0)

    @cached_property
    def alerts_by_chunk(self) -> Mapping[int, Sequence[SessionAlert]]:
        """The alerts of each chunk that has published any; a session of hours may have thousands."""
        found: dict[int, list[SessionAlert]] = {}
        for alert in sorted(self.alerts, key=lambda alert: (alert.chunk, alert.alert)):
            found.setdefault(alert.chunk, []).append(alert)
        return found

    def alerts_of(self, chunk: int) -> Sequence[SessionAlert]:
        """Return the alerts that a chunk has published."""
        return self.alerts_by_chunk.get(chunk, ())


def write_json_lines(transcript: Transcript, path: Path) -> None:
    """Write one JSON object a line: the session, then its texts and alerts in the order of their chunks."""
    with path.open("w", encoding="utf-8") as out:
        for line in _lines(transcript):
            out.write(json.dumps(line, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n")


def _lines(transcript: Transcript) -> Iterator[dict[str, Any]]:
    yield {
        "type": "session",
        "id": transcript.session_id,
        "opened_at": transcript.opened_at.isoformat(),
        "model": transcript.model,
        "instruction": transcript.instruction,
        "frames": transcript.totals.model_dump(mode="json", exclude={"last_rejection"}),
    }
    alerts = dict(transcript.alerts_by_chunk)
    for text in transcript.texts:
        question = {} if text.prompt_id is None else {"question": transcript.questions.get(text.prompt_id)}
        yield {"type": "text", **text.model_dump(mode="json", exclude={"run_id"}, exclude_none=True), **question}
        for alert in alerts.pop(text.chunk, ()):
            yield _alert_line(alert)
    for alert in itertools.chain.from_iterable(alerts.values()):
        yield _alert_line(alert)


def _alert_line(alert: SessionAlert) -> dict[str, Any]:
    return {"type": "alert", **alert.model_dump(mode="json", exclude={"run_id"}, exclude_none=True)}
