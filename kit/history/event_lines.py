"""Lines of the archive: one stored event as one line of JSON, from which its bytes come back unchanged. Pure.

The event stands last in its line and as its own bytes, so nothing is encoded again; an event that cannot stand there
(no JSON object, or one with a line feed between its fields) is kept as ``body`` in base64.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pydantic_core import from_json

from kit.history.manifest import SegmentInvalid, subject_id_of, tenant_and_type

_EVENT: Final = b',"event":'
#: Text that JSON writes as it is.
_PLAIN: Final = re.compile(r"[ !#-\[\]-~]*")
#: A line without escapes before its event: nearly every one.
_LINE: Final = re.compile(
    rb'\{"seq":(\d+),"subject":"([ !#-\[\]-~]*)","time":"([ !#-\[\]-~]*)","id":"([ !#-\[\]-~]*)","event":(.*)\}',
    re.DOTALL,
)
_FRACTION: Final = re.compile(r"\.(\d+)")


@dataclass(frozen=True, slots=True)
class HistoryEvent:
    """One stored event: where it is in the stream, when it was stored, and its bytes."""

    sequence: int
    subject: str
    #: When the server stored it, as it wrote it: RFC 3339 with up to nine digits of a second.
    timestamp: str
    #: ``Nats-Msg-Id``; empty without one.
    id: str
    body: bytes

    @property
    def time(self) -> datetime:
        """When the server stored it, in microseconds."""
        return parse_timestamp(self.timestamp)

    @property
    def type(self) -> str:
        """Type, from the subject: ``job.succeeded``."""
        return tenant_and_type(self.subject)[1]

    @property
    def tenant(self) -> str:
        """Tenant, from the subject."""
        return tenant_and_type(self.subject)[0]

    @property
    def subject_id(self) -> str:
        """Id of what it is about, from the subject; the subject itself, if it is no event's."""
        return subject_id_of(self.subject)


def parse_timestamp(text: str) -> datetime:
    """Return a time of RFC 3339; digits beyond microseconds are cut off."""
    return datetime.fromisoformat(_FRACTION.sub(lambda match: f".{match[1][:6]:<06}", text, count=1))


def encode_line(event: HistoryEvent) -> bytes:
    """Return the line of an event, with its line feed."""
    head = f'{{"seq":{event.sequence},"subject":{_quoted(event.subject)},"time":{_quoted(event.timestamp)}'
    head = f'{head},"id":{_quoted(event.id)}'
    if _stands_in_a_line(event.body):
        return b"%b%b%b}\n" % (head.encode(), _EVENT, event.body)
    return b'%b,"body":"%b"}\n' % (head.encode(), base64.b64encode(event.body))


def _quoted(text: str) -> str:
    return f'"{text}"' if _PLAIN.fullmatch(text) else json.dumps(text)


def decode_lines(raw: bytes, name: str) -> list[HistoryEvent]:
    """Return the events of lines; ``name`` names the frame in errors.

    Raises:
        SegmentInvalid: a line is not that of an event.
    """
    return list(decode_each(raw.removesuffix(b"\n").split(b"\n") if raw else (), name))


def decode_each(lines: Iterable[bytes], name: str) -> Iterator[HistoryEvent]:
    """Yield the events of lines; ``name`` names the frame in errors.

    Raises:
        SegmentInvalid: a line is not that of an event.
    """
    for line in lines:
        if (match := _LINE.fullmatch(line)) is not None:
            sequence, subject, timestamp, message_id, body = match.groups()
            yield HistoryEvent(int(sequence), subject.decode(), timestamp.decode(), message_id.decode(), body)
        else:
            yield _decode_other(line, name)


def _decode_other(line: bytes, name: str) -> HistoryEvent:
    """Return the event of a line whose texts have escapes, or whose bytes are in base64.

    Raises:
        SegmentInvalid: it is not that of an event.
    """
    # A quotation mark in a string has a backslash before it, so this is never inside one.
    head, separator, body = line.partition(_EVENT)
    try:
        fields = json.loads(head + b"}" if separator else line)
        event = body[:-1] if separator else base64.b64decode(fields["body"], validate=True)
        return HistoryEvent(fields["seq"], fields["subject"], fields["time"], fields["id"], event)
    except (ValueError, KeyError, TypeError) as error:
        raise SegmentInvalid(f"{name} has a line that is no event: {error}") from error


def _stands_in_a_line(body: bytes) -> bool:
    if b"\n" in body or not body.startswith(b"{") or not body.endswith(b"}"):
        return False
    try:
        return isinstance(from_json(body, allow_inf_nan=False), dict)
    except ValueError:
        return False
