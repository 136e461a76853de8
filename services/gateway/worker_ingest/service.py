"""Access of a run to its job's events by HTTPS, with the same rights as by NATS with the same token."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import ADVISORY, Message, subject_of
from contracts.partitions import Partition
from contracts.streams import PROGRESS, aggregate
from kit.bus.event_store import Conflict, EventStore, StoredEvent
from services.gateway.worker_ingest.event_check import check_own_event, parse_event
from services.gateway.worker_ingest.worker_token import WorkerClaims, verify_worker_token

#: Shorter than the timeout of a worker's request.
_BUS_TIMEOUT_S: Final = 4.0


@dataclass(frozen=True)
class WorkerIngest:
    """Reads and publishes job events on behalf of runs."""

    events: EventStore
    progress: EventStore
    #: Public key of the account whose tokens are accepted; None accepts none.
    worker_key: str | None
    partition: Partition

    def authenticate(self, authorization: str, run_id: str) -> WorkerClaims:
        """Verify a bearer token and that it belongs to this run; return its claims.

        Raises:
            SaccadeError: NOT_FOUND, if this gateway accepts no workers' events; UNAUTHENTICATED; WRONG_PARTITION;
                FORBIDDEN.
        """
        if self.worker_key is None:
            raise SaccadeError(
                ErrorCode.NOT_FOUND,
                "This gateway does not accept events from workers.",
                hint="Set GATEWAY_WORKER_KEY to the public key of the account that signs the workers' tokens.",
            )
        kind, _, token = authorization.partition(" ")
        if kind.lower() != "bearer":
            raise SaccadeError(
                ErrorCode.UNAUTHENTICATED,
                "The request has no worker's token.",
                hint="Send Authorization: Bearer with the run's own token; API keys are not accepted here.",
            )
        claims = verify_worker_token(token.strip(), self.worker_key, datetime.now(UTC))
        self.partition.require(claims.tenant)
        if claims.run_id != run_id:
            raise SaccadeError(ErrorCode.FORBIDDEN, "The token belongs to another run.")
        return claims

    async def read(self, claims: WorkerClaims) -> list[StoredEvent]:
        """Return the newest event of each type of the run's job, in stream order.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        return await self.events.load(aggregate(claims.tenant, "job", claims.job_id), deadline_s=_BUS_TIMEOUT_S)

    async def publish(self, claims: WorkerClaims, body: bytes, after: int | None) -> int:
        """Store an event as the run has encoded it and return its sequence; ``after`` makes it conditional.

        Raises:
            SaccadeError: MALFORMED_REQUEST, FORBIDDEN, BODY_TOO_LARGE, SEQUENCE_CONFLICT, BUS_UNAVAILABLE.
        """
        envelope, data = parse_event(body)
        _, _, verb = envelope.type.partition(".")
        subject = subject_of(data.kind, envelope.tenant, "job", envelope.subject, verb)
        check_own_event(claims, envelope, data, subject)
        message = Message(subject=subject, id=envelope.id, body=body)
        if data.kind == ADVISORY:
            if len(body) > PROGRESS.max_message_bytes:
                raise SaccadeError(ErrorCode.BODY_TOO_LARGE, "A progress event may have at most 64 KiB.")
            return await self.progress.publish(message, deadline_s=_BUS_TIMEOUT_S)
        among = aggregate(claims.tenant, "job", claims.job_id)
        try:
            return await self.events.publish(message, after=after, among=among, deadline_s=_BUS_TIMEOUT_S)
        except Conflict:
            raise SaccadeError(
                ErrorCode.SEQUENCE_CONFLICT, f"The job's newest event does not have sequence {after}."
            ) from None
