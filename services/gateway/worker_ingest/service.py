"""What a run may read and say by HTTPS: the same as by NATS with the same token, and nothing else."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from pydantic import ValidationError

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import ADVISORY, EVENT_CLASSES, Envelope, EventData, Message, decode, decode_at, subject_of
from contracts.ids import is_id
from contracts.streams import PROGRESS, aggregate
from kit.bus.event_store import Conflict, EventStore, StoredEvent
from services.gateway.worker_ingest.worker_token import WorkerClaims, verify_worker_token

#: It becomes a header on the bus, which a line end in it would end.
_PLAIN_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,200}")
#: Less than a worker waits for an answer.
_DEADLINE_S: Final = 4.0


@dataclass(frozen=True)
class WorkerIngest:
    """The events of jobs as their own runs see them."""

    events: EventStore
    progress: EventStore
    #: Public key of the account whose tokens are taken; None takes nobody's.
    worker_key: str | None

    def admit(self, authorization: str, run_id: str) -> WorkerClaims:
        """Tell what the bearer of a token may do, and that it is this run.

        Raises:
            SaccadeError: NOT_FOUND, when this gateway takes no events; UNAUTHENTICATED; FORBIDDEN.
        """
        if self.worker_key is None:
            raise SaccadeError(
                ErrorCode.NOT_FOUND,
                "This gateway takes no events from workers.",
                hint="Set GATEWAY_WORKER_KEY to the public key of the account that signs the workers' tokens.",
            )
        kind, _, token = authorization.partition(" ")
        if kind.lower() != "bearer":
            raise SaccadeError(
                ErrorCode.UNAUTHENTICATED,
                "There is no worker's token.",
                hint="Send Authorization: Bearer with the run's own token; API keys do not count here.",
            )
        claims = verify_worker_token(token.strip(), self.worker_key, datetime.now(UTC))
        if claims.run_id != run_id:
            raise SaccadeError(ErrorCode.FORBIDDEN, "The token is another run's.")
        return claims

    async def read(self, claims: WorkerClaims) -> list[StoredEvent]:
        """Read the newest event of each type of the run's job, in the order of the stream.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        return await self.events.load(aggregate(claims.tenant, "job", claims.job_id), deadline_s=_DEADLINE_S)

    async def publish(self, claims: WorkerClaims, body: bytes, after: int | None) -> int:
        """Store an event as the run has encoded it and give its sequence; ``after`` makes it conditional.

        Raises:
            SaccadeError: MALFORMED_REQUEST, FORBIDDEN, BODY_TOO_LARGE, SEQUENCE_CONFLICT, BUS_UNAVAILABLE.
        """
        envelope, data = _read(body)
        _, _, verb = envelope.type.partition(".")
        subject = subject_of(data.kind, envelope.tenant, "job", envelope.subject, verb)
        _check(claims, envelope, data, subject)
        message = Message(subject=subject, id=envelope.id, body=body)
        if data.kind == ADVISORY:
            if len(body) > PROGRESS.max_message_bytes:
                raise SaccadeError(ErrorCode.BODY_TOO_LARGE, "Progress has at most 64 KiB.")
            return await self.progress.publish(message, deadline_s=_DEADLINE_S)
        among = aggregate(claims.tenant, "job", claims.job_id)
        try:
            return await self.events.publish(message, after=after, among=among, deadline_s=_DEADLINE_S)
        except Conflict:
            raise SaccadeError(ErrorCode.SEQUENCE_CONFLICT, f"The job's newest event is not number {after}.") from None


def readable(stored: StoredEvent) -> bool:
    """Tell whether an event is one, and of the subject that it stands on: a worker's own NATS may say anything."""
    try:
        decode_at(stored.subject, stored.body)
    except ValueError:
        return False
    return True


def _read(body: bytes) -> tuple[Envelope, EventData]:
    """Read an event of a known type.

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
        ErrorCode.MALFORMED_REQUEST, f"This is not one of our events: {reason}.", hint="docs/events.md lists them."
    )


def _check(claims: WorkerClaims, envelope: Envelope, data: EventData, subject: str) -> None:
    """Hold an event against the token.

    Raises:
        SaccadeError: FORBIDDEN.
    """
    # The run's own ids only: the stream takes a second event with the same id for a repeat of the first.
    own_id = _PLAIN_ID.fullmatch(envelope.id) and (
        envelope.id.startswith(f"{claims.run_id}.") or is_id(envelope.id, "evt")
    )
    wrong = (
        f"the token does not allow {envelope.type} of this job"
        if subject not in claims.subjects or not envelope.type.startswith("job.")
        else f"its source is {envelope.source!r} and not this run"
        if envelope.source != f"/worker/{claims.run_id}"
        else "it tells of another run"
        if getattr(data, "run_id", None) != claims.run_id
        else "its id is neither this run's nor a fresh one"
        if not own_id
        else None
    )
    if wrong:
        raise SaccadeError(ErrorCode.FORBIDDEN, f"The event is refused: {wrong}.", hint="A run speaks for itself only.")
