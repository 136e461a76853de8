"""Readers of the stream EVENTS that need its older events: consumers of reactions, and the sender of webhooks."""

from __future__ import annotations

import json
from typing import Any, Final

from nats.aio.client import Client

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import Cursor
from contracts.streams import EVENTS, POSITIONS, WEBHOOKS_POSITION
from kit.bus.event_store import EventStore
from kit.bus.jetstream_api import request
from kit.bus.lineage import Lineage

_MOST_PAGES: Final = 100


async def read_by_all(client: Client, lineage: Lineage) -> int | None:
    """Return the sequence up to which every durable reader of the stream is done; None if there is none.

    Raises:
        SaccadeError: BUS_UNAVAILABLE.
    """
    positions = await _consumers(client)
    for stored in await EventStore(client, POSITIONS.name).load(WEBHOOKS_POSITION):
        fields: dict[str, Any] = json.loads(stored.body)
        positions.append(lineage.shared_with(Cursor(str(fields["epoch"]), int(fields["sequence"]))))
    return min(positions, default=None)


async def _consumers(client: Client) -> list[int]:
    """Return for each durable consumer the sequence up to which it has handled everything.

    Raises:
        SaccadeError: BUS_UNAVAILABLE.
    """
    positions: list[int] = []
    seen = 0
    for _ in range(_MOST_PAGES):
        answer = await request(client, f"CONSUMER.LIST.{EVENTS.name}", {"offset": seen})
        if "error" in answer:
            raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, f"NATS: {answer['error'].get('description')}.")
        consumers: list[dict[str, Any]] = answer.get("consumers") or []
        for consumer in consumers:
            if consumer["config"].get("durable_name"):
                positions += _position(consumer)
        seen += len(consumers)
        if not consumers or seen >= int(answer.get("total", 0)):
            break
    return positions


def _position(consumer: dict[str, Any]) -> list[int]:
    """Return the position of a consumer that has not handled everything that it matches; none of one that has."""
    if not consumer.get("num_pending") and not consumer.get("num_ack_pending"):
        return []
    return [int(consumer["ack_floor"]["stream_seq"])]
