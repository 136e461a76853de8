"""Sizes of a stream's messages, read without their bodies."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Final

import nats.errors
from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import Error as JetStreamError

from contracts.errors import ErrorCode, SaccadeError

_BATCH: Final = 500
#: Header in which the server says how large the body is that it does not send.
_BODY_BYTES: Final = "Nats-Msg-Size"
_ANSWER_S: Final = 5.0
#: The server deletes a consumer that nobody reads after this.
_INACTIVE_S: Final = 30.0
#: What nats-server stores with each message, and with each of its headers.
_MESSAGE_BYTES: Final = 30
_HEADERS_BYTES, _HEADER_BYTES = 16, 4


@dataclass(frozen=True, slots=True)
class StoredSize:
    """One message: where it is, whose it is, and how much of the stream it takes."""

    sequence: int
    subject: str
    headers: Mapping[str, str]
    size_bytes: int


async def sizes(client: Client, stream: str, after: int) -> AsyncGenerator[StoredSize]:
    """Yield every message after a sequence that the stream has now, oldest first.

    Raises:
        SaccadeError: BUS_UNAVAILABLE.
    """
    jetstream = client.jetstream(timeout=_ANSWER_S)
    config = ConsumerConfig(
        deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
        opt_start_seq=after + 1,
        ack_policy=AckPolicy.NONE,
        headers_only=True,
        inactive_threshold=_INACTIVE_S,
        mem_storage=True,
        num_replicas=1,
    )
    try:
        consumer = await jetstream.add_consumer(stream, config)
        reader = await jetstream.pull_subscribe_bind(consumer=consumer.name, stream=stream)
        try:
            pending = consumer.num_pending or 0
            while pending:
                found = await reader.fetch(min(pending, _BATCH), timeout=_ANSWER_S)
                for message in found:
                    headers = dict(message.headers or {})
                    body_bytes = int(headers.pop(_BODY_BYTES, 0))
                    size = _MESSAGE_BYTES + len(message.subject) + body_bytes
                    if headers:
                        size += _HEADERS_BYTES
                        size += sum(_HEADER_BYTES + len(name) + len(value) for name, value in headers.items())
                    yield StoredSize(message.metadata.sequence.stream, message.subject, headers, size)
                pending = found[-1].metadata.num_pending or 0
        finally:
            await reader.unsubscribe()
            await jetstream.delete_consumer(stream, consumer.name)
    except (TimeoutError, nats.errors.Error, JetStreamError) as error:
        raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, f"NATS: the sizes of {stream} cannot be read.") from error
