"""Gives a live session's worker its telemetry where it may not make a consumer itself: asked by NATS, sent by NATS.

Everything that decides what is sent, and where to, stands in the subject of the request, and nats-server lets each run
ask on its own subjects only (contracts/worker_rights.py). The body chooses no more than where to begin.
"""

from __future__ import annotations

import json
import logging
from typing import Annotated, Any, Final

from nats.aio.client import Client
from nats.aio.msg import Msg
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from contracts.errors import SaccadeError
from contracts.ids import is_id
from contracts.session import telemetry_delivery_subject, telemetry_subject
from kit.bus.telemetry_consumer import create_telemetry_consumer, delete_telemetry_consumer

log = logging.getLogger(__name__)

_ASKED: Final = "saccade.feed.*.*.*"
_QUEUE: Final = "gateway"


class _Wanted(BaseModel):
    """What a run chooses itself."""

    model_config = ConfigDict(extra="ignore")

    #: Last token of the subject on which it hears already.
    name: Annotated[str, Field(pattern=r"^[0-9a-z]{1,40}$")]
    after: Annotated[int, Field(ge=0, lt=1 << 62)]


class TelemetryConsumerRequests:
    """Answers runs that ask for a session's telemetry."""

    def __init__(self, client: Client) -> None:
        """Use a connection of the services."""
        self._client = client

    async def start(self) -> None:
        """Hear them, one gateway of all for each."""
        await self._client.subscribe(_ASKED, queue=_QUEUE, cb=self._on_asked)

    async def _on_asked(self, msg: Msg) -> None:
        _, _, tenant, run_id, session_id = msg.subject.split(".")
        answer: dict[str, Any]
        try:
            if not is_id(run_id, "run"):
                raise ValueError("no run asks on this subject")
            wanted = _Wanted.model_validate_json(msg.data)
            # One at a time for a run and a session: whoever asks again has lost the one before.
            name = f"{run_id}-{session_id}"
            await delete_telemetry_consumer(self._client, name)
            to = telemetry_delivery_subject(tenant, run_id, wanted.name)
            subjects = telemetry_subject(tenant, session_id, "*")
            answer = {
                "pending": await create_telemetry_consumer(self._client, subjects, to=to, after=wanted.after, name=name)
            }
        except (SaccadeError, ValidationError, ValueError) as error:
            log.warning("%s asks for %s in vain: %s", run_id, session_id, type(error).__name__)
            answer = {"error": "not now" if isinstance(error, SaccadeError) else "not like this"}
        if msg.reply:
            await msg.respond(json.dumps(answer).encode())
