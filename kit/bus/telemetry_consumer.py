"""A consumer that sends what was streamed into one live session to one subject: what was kept, then what comes."""

from __future__ import annotations

from typing import Any, Final

from nats.aio.client import Client

from contracts.errors import ErrorCode, SaccadeError
from contracts.streams import TELEMETRY
from kit.bus.connection import request

#: The server says so often that there is nothing, and how much it has sent: what was lost shows by that.
HEARTBEAT_S: Final = 1.0
#: It forgets a consumer whose subject nobody hears any more after so long.
_INACTIVE_S: Final = 10.0
_ANSWER_S: Final = 2.0
_BILLION: Final = 1_000_000_000


async def create_telemetry_consumer(client: Client, subjects: str, *, to: str, after: int, name: str) -> int:
    """Have the telemetry under ``subjects`` after a sequence sent to the subject ``to``; give how much there is now.

    Somebody must hear ``to`` already. A consumer of the same name must be gone (``delete_telemetry_consumer``).

    Raises:
        SaccadeError: BUS_UNAVAILABLE, also when the server does not make it.
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
    body: dict[str, Any] = {"stream_name": TELEMETRY.name, "config": config, "action": "create"}
    reply = await request(client, f"CONSUMER.CREATE.{TELEMETRY.name}.{name}.{subjects}", body, _ANSWER_S)
    if "error" in reply:
        raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, f"NATS: {reply['error'].get('description')}.")
    return int(reply.get("num_pending") or 0)


async def delete_telemetry_consumer(client: Client, name: str) -> None:
    """Forget a consumer, if there is one.

    Raises:
        SaccadeError: BUS_UNAVAILABLE.
    """
    await request(client, f"CONSUMER.DELETE.{TELEMETRY.name}.{name}", {}, _ANSWER_S)
