"""Creation of the consumer that delivers a session's telemetry or events: by the worker, or by the gateway for it.

nats-server can limit a consumer to one session's subjects, but not the delivery subject that its creator chooses, and
it creates no consumer for a request from another account. So a worker with one run's credentials sends a request to
the gateway, which delivers to subjects of that run only (docs/adr/0005).
"""

from __future__ import annotations

import json
from typing import Final, Protocol

import nats.errors
from nats.aio.client import Client

from contracts.errors import ErrorCode, SaccadeError
from contracts.ids import new_id
from contracts.session import telemetry_delivery_subject, telemetry_request_subject
from contracts.streams import EVENTS, TELEMETRY, Stream
from kit.bus.telemetry_consumer import create_telemetry_consumer

_REPLY_TIMEOUT_S: Final = 5.0


class TelemetrySource(Protocol):
    """Factory of consumers of one session's telemetry, or of its events."""

    client: Client

    def new_delivery_subject(self) -> str:
        """Return a new delivery subject of this worker."""

    async def create_consumer(self, delivery_subject: str, after: int) -> int:
        """Deliver what is stored after a sequence to a subject; return the number of pending messages.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """


class DirectTelemetrySource:
    """Consumers created by this worker, which has the services' rights."""

    def __init__(self, client: Client, subjects: str, stream: Stream = TELEMETRY) -> None:
        """Read ``subjects`` (``saccade.tele.<tenant>.session.<id>.*``)."""
        self.client = client
        self._subjects = subjects
        self._stream = stream

    def new_delivery_subject(self) -> str:
        """Return a new inbox."""
        return self.client.new_inbox()

    async def create_consumer(self, delivery_subject: str, after: int) -> int:
        """Create a consumer; return the number of pending messages."""
        name = new_id("run").rpartition("-")[2]
        return await create_telemetry_consumer(
            self.client, self._subjects, to=delivery_subject, after=after, name=name, stream=self._stream
        )


class GatewayTelemetrySource:
    """Consumers created by the gateway for a run with its own credentials."""

    def __init__(
        self,
        client: Client,
        tenant: str,
        run_id: str,
        session_id: str,
        stream: Stream = TELEMETRY,
        *,
        once: bool = False,
    ) -> None:
        """Read a session that the run's credentials allow; ``once``: beside a consumer that follows it."""
        self.client = client
        self._stream, self._once = stream, once
        self._tenant = tenant
        self._run_id = run_id
        self._subject = telemetry_request_subject(tenant, run_id, session_id)

    def new_delivery_subject(self) -> str:
        """Return a new delivery subject of the run."""
        return telemetry_delivery_subject(self._tenant, self._run_id, new_id("run").rpartition("-")[2])

    async def create_consumer(self, delivery_subject: str, after: int) -> int:
        """Request a consumer from the gateway; return the number of pending messages."""
        wanted = {"name": delivery_subject.rpartition(".")[2], "after": after, "once": self._once}
        if self._stream is EVENTS:
            wanted["stream"] = "events"
        request = json.dumps(wanted).encode()
        try:
            reply = json.loads((await self.client.request(self._subject, request, timeout=_REPLY_TIMEOUT_S)).data)
        except (TimeoutError, nats.errors.Error, ValueError) as error:
            raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, "The gateway does not answer.") from error
        if "pending" not in reply:
            raise SaccadeError(
                ErrorCode.BUS_UNAVAILABLE, f"The gateway created no telemetry consumer: {reply.get('error')}."
            )
        return int(reply["pending"])
