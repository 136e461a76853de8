"""Check of an event that a run publishes by HTTPS: parsing, and what the run's token allows."""

from __future__ import annotations

import re
from typing import Final

from pydantic import ValidationError

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import EVENT_CLASSES, Envelope, EventData, decode, decode_at
from contracts.ids import is_id
from kit.bus.event_store import StoredEvent
from services.gateway.worker_ingest.worker_token import WorkerClaims

#: The id becomes a header on the bus, which a line break would end.
_SAFE_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,200}")


def is_valid_event(stored: StoredEvent) -> bool:
    """Return whether stored bytes are an event of their subject: workers publish to NATS without this check."""
    try:
        decode_at(stored.subject, stored.body)
    except ValueError:
        return False
    return True


def parse_event(body: bytes) -> tuple[Envelope, EventData]:
    """Parse an event of a known type.

    Raises:
        SaccadeError: MALFORMED_REQUEST.
    """
    try:
        envelope = decode(body)
        if envelope.type in EVENT_CLASSES:
            return envelope, envelope.parsed()
        reason = f"there is no event {envelope.type!r}"
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        reason = f"{'.'.join(map(str, first['loc'])) or 'body'}: {first['msg']}"
    raise SaccadeError(
        ErrorCode.MALFORMED_REQUEST, f"This is not a valid event: {reason}.", hint="docs/events.md lists them."
    )


def check_own_event(claims: WorkerClaims, envelope: Envelope, data: EventData, subject: str) -> None:
    """Check that a token allows an event: its subject, source, run and id.

    Raises:
        SaccadeError: FORBIDDEN.
    """
    # Only the run's own ids: the stream drops a second event with the same id as a duplicate.
    is_own_id = _SAFE_ID.fullmatch(envelope.id) and (
        envelope.id.startswith(f"{claims.run_id}.") or is_id(envelope.id, "evt")
    )
    fault = (
        f"the token does not allow {envelope.type} of this job"
        if subject not in claims.subjects or not envelope.type.startswith("job.")
        else f"its source is {envelope.source!r} and not this run"
        if envelope.source != f"/worker/{claims.run_id}"
        else "it is about another run"
        if getattr(data, "run_id", None) != claims.run_id
        else "its id is neither one of this run nor a new one"
        if not is_own_id
        else None
    )
    if fault:
        raise SaccadeError(
            ErrorCode.FORBIDDEN, f"The event is rejected: {fault}.", hint="A run may publish only its own events."
        )
