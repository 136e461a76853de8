"""Progress of the reaction to completed uploads, over all dispatchers: its consumer's acknowledgements."""

from __future__ import annotations

from typing import Any, Final

from nats.aio.client import Client

from contracts.consumers import consumer_name
from contracts.events.upload import UploadCompleted
from contracts.streams import EVENTS
from kit.bus.connection import request

#: Consumer of the reaction (services/dispatcher/rules/on_upload.py).
CONSUMER: Final = consumer_name("dispatcher", UploadCompleted.type)


class ReactionProgress:
    """Position of the newest completed upload, and whether a dispatcher has looked at those before one."""

    def __init__(self, client: Client) -> None:
        """Request the consumer's state over ``client``."""
        self._client = client
        #: Sequence of the newest completed upload that was folded.
        self.newest = 0

    async def has_seen(self, sequence: int) -> bool:
        """Return whether the reaction has handled every completed upload up to a sequence.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        info: dict[str, Any] = await request(self._client, f"CONSUMER.INFO.{EVENTS.name}.{CONSUMER}", {})
        if "ack_floor" not in info:
            return False  # the consumer was deleted; the reaction declares it again
        if not info["num_pending"] and not info["num_ack_pending"]:
            return True
        return int(info["ack_floor"]["stream_seq"]) >= sequence
