"""Stored position up to which every event is planned and recorded: a lost projection is rebuilt from there."""

from __future__ import annotations

import json
from typing import Any, Final

from nats.aio.client import Client

from contracts.events.base import Cursor, Message
from contracts.ids import new_id
from contracts.streams import WEBHOOKS
from kit.bus.event_store import EventStore
from kit.bus.lineage import Lineage

_SUBJECT: Final = "saccade.whk.engine.position"


class PlannedPosition:
    """One record in WEBHOOKS, written by the notifier that sends and read by each at its start."""

    def __init__(self, client: Client) -> None:
        """Use a connection to NATS."""
        self._store = EventStore(client, WEBHOOKS.name)

    async def load(self, lineage: Lineage, last: int) -> int:
        """Return the position in EVENTS as it is today, at most ``last``; 0 when there is none.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        stored = await self._store.load(_SUBJECT)
        fields: dict[str, Any] = json.loads(stored[0].body) if stored else {}
        saved = Cursor(str(fields.get("epoch", "")), int(fields.get("sequence", 0)))
        return min(lineage.shared_with(saved), last)

    async def save(self, epoch: str, sequence: int) -> None:
        """Store the position.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        body = json.dumps({"epoch": epoch, "sequence": sequence}).encode()
        await self._store.publish(Message(subject=_SUBJECT, id=new_id("evt"), body=body))
