"""Where a delivery goes and what is sent there: an endpoint, or the URL that a job named, and the signed bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from services.notifier.webhooks.deliveries.delivery import Planned
from services.notifier.webhooks.deliveries.delivery_projector import Ledger
from services.notifier.webhooks.deliveries.planner import lane_of_url, origin_of
from services.notifier.webhooks.endpoints.endpoint import Endpoint, EndpointSecret
from services.notifier.webhooks.endpoints.endpoint_store import Endpoints
from services.notifier.webhooks.endpoints.secret_encryption import UnsealableError
from services.notifier.webhooks.sending.sender import Outgoing
from services.notifier.webhooks.sending.signing import Signer, Signing


@dataclass(frozen=True)
class Receiver:
    """Who is sent to: ``endpoint`` is None for the URL that a job named."""

    id: str
    lane: str
    url: str
    secrets: tuple[EndpointSecret, ...]
    signing: Signing
    headers: Mapping[str, str]
    endpoint: Endpoint | None


class Receivers:
    """Finds receivers and writes what is sent to them."""

    def __init__(
        self, ledger: Ledger, endpoints: Endpoints, signer: Signer, epoch: str, now: Callable[[], datetime]
    ) -> None:
        """Sign with ``signer``; ``epoch`` is that of the cursors that are sent."""
        self._ledger = ledger
        self._endpoints = endpoints
        self._signer = signer
        self._epoch = epoch
        self._now = now

    async def find(self, tenant: str, receiver_id: str) -> Receiver | None:
        """Give a receiver; None when nothing is sent to it any more.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
            UnsealableError: what would sign was sealed with another key.
        """
        if receiver_id.startswith("whk_"):
            endpoint = self._ledger.active(tenant, receiver_id)
            return self.of(endpoint) if endpoint else None
        if (url := self._ledger.job_url(receiver_id, tenant)) is None:
            return None
        if not (secrets := (await self._endpoints.default_secrets(tenant)).secrets):
            raise UnsealableError(f"the default secret of {tenant} was sealed with another key, or changed")
        lane = lane_of_url(tenant, origin_of(url))
        return Receiver(receiver_id, lane, url, secrets, "v1", {}, None)

    def of(self, endpoint: Endpoint) -> Receiver:
        """Describe an endpoint as a receiver."""
        return Receiver(
            endpoint.id, endpoint.id, endpoint.url, endpoint.secrets, endpoint.signing, endpoint.headers, endpoint
        )

    def sign(self, receiver: Receiver, event_id: str, body: bytes) -> Outgoing:
        """Write what an attempt sends: the event's own bytes, signed for this second."""
        signed = self._signer.headers(event_id, body, receiver.secrets, receiver.signing, self._now())
        return Outgoing(receiver.url, {**receiver.headers, **signed}, body)

    def write(self, receiver: Receiver, delivery: Planned, body: bytes, attempt: int) -> Outgoing:
        """Write what an attempt to deliver a stored event sends: also where it stands in the stream."""
        outgoing = self.sign(receiver, delivery.event_id, body)
        ours = {"saccade-cursor": f"{self._epoch}.{delivery.sequence}", "saccade-attempt": str(attempt)}
        return Outgoing(outgoing.url, {**outgoing.headers, **ours}, body)
