"""Stored position up to which every event is planned and recorded: a lost projection is rebuilt from there."""

from __future__ import annotations

import json
from typing import Any, Final

from nats.aio.client import Client

from contracts.events.base import Cursor, Message
from contracts.ids import new_id
from contracts.streams import POSITIONS, WEBHOOKS, WEBHOOKS_POSITION
from kit.bus.event_store import EventStore
from kit.bus.lineage import Lineage

#: Where earlier versions kept it: among the endpoints, whose number is limited by what the stream holds.
_EARLIER: Final = "saccade.whk.engine.position"


class PlannedPosition:
    """One record in POSITIONS, written by the notifier that sends and read by each at its start."""

    def __init__(self, client: Client) -> None:
        """Use a connection to NATS."""
        self._store = EventStore(client, POSITIONS.name)
        self._earlier = EventStore(client, WEBHOOKS.name)

    async def load(self, lineage: Lineage, last: int) -> int:
        """Return the position in EVENTS as it is today, at most ``last``; 0 when there is none.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        stored = await self._store.load(WEBHOOKS_POSITION) or await self._earlier.load(_EARLIER)
        fields: dict[str, Any] = json.loads(stored[0].body) if stored else {}
        saved = Cursor(str(fields.get("epoch", "")), int(fields.get("sequence", 0)))
        return min(lineage.shared_with(saved), last)

    async def save(self, epoch: str, sequence: int) -> None:
        """Store the position.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        body = json.dumps({"epoch": epoch, "sequence": sequence}).encode()
        await self._store.publish(Message(subject=WEBHOOKS_POSITION, id=new_id("evt"), body=body))
