"""Consumer of one live session's telemetry or events, stored and then live, that delivers to one subject."""

from __future__ import annotations

from typing import Any, Final

from nats.aio.client import Client

from contracts.errors import ErrorCode, SaccadeError
from contracts.streams import TELEMETRY, Stream
from kit.bus.connection import request

#: Interval of the server's idle heartbeats, which carry the last sequence and so reveal lost messages.
HEARTBEAT_S: Final = 1.0
#: The server deletes a consumer without subscribers after this.
_INACTIVE_S: Final = 10.0
_ANSWER_S: Final = 2.0
_BILLION: Final = 1_000_000_000


async def create_telemetry_consumer(
    client: Client, subjects: str, *, to: str, after: int, name: str, stream: Stream = TELEMETRY
) -> int:
    """Deliver what is stored under ``subjects`` after a sequence to the subject ``to``; return the number pending now.

    Subscribe to ``to`` first. A consumer of the same name must be gone (``delete_telemetry_consumer``).

    Raises:
        SaccadeError: BUS_UNAVAILABLE, also when the server refuses the consumer.
    """
    config = {
        "name": name,
        "deliver_subject": to,
        "deliver_policy": "by_start_sequence",
        "opt_start_seq": after + 1,
        "ack_policy": "none",
        "filter_subject": subjects,
        "idle_heartbeat": int(HEARTBEAT_S * _BILLION),
        "inactive_threshold": int(_INACTIVE_S * _BILLION),
        "mem_storage": True,
        "num_replicas": 1,
    }
    body: dict[str, Any] = {"stream_name": stream.name, "config": config, "action": "create"}
    reply = await request(client, f"CONSUMER.CREATE.{stream.name}.{name}.{subjects}", body, _ANSWER_S)
    if "error" in reply:
        raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, f"NATS: {reply['error'].get('description')}.")
    return int(reply.get("num_pending") or 0)


async def delete_telemetry_consumer(client: Client, name: str, stream: Stream = TELEMETRY) -> None:
    """Delete a consumer, if there is one.

    Raises:
        SaccadeError: BUS_UNAVAILABLE.
    """
    await request(client, f"CONSUMER.DELETE.{stream.name}.{name}", {}, _ANSWER_S)
