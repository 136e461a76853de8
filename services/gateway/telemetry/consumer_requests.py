"""Creates JetStream consumers for sessions' workers that may not create them: request and delivery by NATS.

The subject of a request determines of which session telemetry or events are sent and where to, and nats-server lets
each run publish on its own subjects only (contracts/worker_rights.py). The body chooses only which of the two, and
where to start.
"""

from __future__ import annotations

import json
import logging
from typing import Annotated, Any, Final, Literal

from nats.aio.client import Client
from nats.aio.msg import Msg
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from contracts.errors import SaccadeError
from contracts.ids import is_id
from contracts.session import telemetry_delivery_subject, telemetry_subject
from contracts.streams import EVENTS, TELEMETRY, aggregate
from kit.bus.telemetry_consumer import create_telemetry_consumer, delete_telemetry_consumer

log = logging.getLogger(__name__)

_REQUEST_SUBJECTS: Final = "saccade.feed.*.*.*"
_QUEUE: Final = "gateway"


class _ConsumerRequest(BaseModel):
    """Body of a request."""

    model_config = ConfigDict(extra="ignore")

    #: Last token of the delivery subject, to which the run has subscribed.
    name: Annotated[str, Field(pattern=r"^[0-9a-z]{1,40}$")]
    after: Annotated[int, Field(strict=True, ge=0, lt=1 << 62)]
    stream: Literal["telemetry", "events"] = "telemetry"
    #: Whether what is stored is read once, beside a consumer that follows what is new.
    once: bool = False


class TelemetryConsumerRequests:
    """Answers requests of runs for their session's telemetry and events."""

    def __init__(self, client: Client) -> None:
        """Use a connection with the rights of a service."""
        self._client = client

    async def start(self) -> None:
        """Subscribe in a queue group: one gateway answers each request."""
        await self._client.subscribe(_REQUEST_SUBJECTS, queue=_QUEUE, cb=self._on_request)

    async def _on_request(self, msg: Msg) -> None:
        _, _, tenant, run_id, session_id = msg.subject.split(".")
        answer: dict[str, Any]
        try:
            if not is_id(run_id, "run"):
                raise ValueError("the subject names no run")
            request = _ConsumerRequest.model_validate_json(msg.data)
            # One per run, session, stream and purpose: a repeated request means that the previous consumer is lost.
            name = f"{run_id}-{session_id}" + ("-once" if request.once else "")
            stream, subjects = TELEMETRY, telemetry_subject(tenant, session_id, "*")
            if request.stream == "events":
                stream, subjects = EVENTS, aggregate(tenant, "session", session_id)
            await delete_telemetry_consumer(self._client, name, stream)
            to = telemetry_delivery_subject(tenant, run_id, request.name)
            answer = {
                "pending": await create_telemetry_consumer(
                    self._client, subjects, to=to, after=request.after, name=name, stream=stream
                )
            }
        except (SaccadeError, ValidationError, ValueError) as error:
            log.warning("telemetry request of %s for %s rejected: %s", run_id, session_id, type(error).__name__)
            answer = {"error": "temporarily unavailable" if isinstance(error, SaccadeError) else "invalid request"}
        if msg.reply:
            await msg.respond(json.dumps(answer).encode())
