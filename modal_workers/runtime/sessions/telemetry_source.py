"""Who makes the consumer that a session's telemetry comes by: this worker itself, or the gateway for it.

nats-server can hold a consumer to one session's subjects, and cannot hold its maker to a subject that it delivers to;
and it makes none at all over the way from another account. So whoever has no more than one run's credentials asks the
gateway, which delivers to subjects of that run alone (docs/adr/0005).
"""

from __future__ import annotations

import json
from typing import Final, Protocol

import nats.errors
from nats.aio.client import Client

from contracts.errors import ErrorCode, SaccadeError
from contracts.ids import new_id
from contracts.session import telemetry_delivery_subject, telemetry_request_subject
from kit.bus.telemetry_consumer import create_telemetry_consumer

_ANSWER_S: Final = 5.0


class TelemetrySource(Protocol):
    """Where telemetry comes from."""

    client: Client

    def new_subject(self) -> str:
        """Name a subject of this worker's own, on which nothing has ever been heard."""

    async def deliver(self, to: str, after: int) -> int:
        """Have the telemetry after a sequence sent to that subject; give how much there is now.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """


class OwnConsumers:
    """Consumers that this worker makes: it has the services' rights."""

    def __init__(self, client: Client, subjects: str) -> None:
        """Take what is under ``subjects`` (``saccade.tele.<tenant>.session.<id>.*``)."""
        self.client = client
        self._subjects = subjects

    def new_subject(self) -> str:
        """Name an inbox."""
        return self.client.new_inbox()

    async def deliver(self, to: str, after: int) -> int:
        """Make a consumer."""
        name = new_id("run").rpartition("-")[2]
        return await create_telemetry_consumer(self.client, self._subjects, to=to, after=after, name=name)


class AskedConsumers:
    """Consumers that the gateway makes for a run with credentials of its own."""

    def __init__(self, client: Client, tenant: str, run_id: str, session_id: str) -> None:
        """Use a run's connection, and take what is sent into a session that it may read."""
        self.client = client
        self._tenant = tenant
        self._run_id = run_id
        self._subject = telemetry_request_subject(tenant, run_id, session_id)

    def new_subject(self) -> str:
        """Name a subject of the run."""
        return telemetry_delivery_subject(self._tenant, self._run_id, new_id("run").rpartition("-")[2])

    async def deliver(self, to: str, after: int) -> int:
        """Ask for a consumer."""
        asked = json.dumps({"name": to.rpartition(".")[2], "after": after}).encode()
        try:
            reply = json.loads((await self.client.request(self._subject, asked, timeout=_ANSWER_S)).data)
        except (TimeoutError, nats.errors.Error, ValueError) as error:
            raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, "The gateway does not answer.") from error
        if "pending" not in reply:
            raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, f"The gateway: {reply.get('error')}.")
        return int(reply["pending"])
