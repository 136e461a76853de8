"""Reads that the leader of a stream answers.

In a cluster any replica answers a direct get, also one that has not applied the newest acknowledged events: from such
an answer nothing may be decided. What the leader answers, and a direct get that has reached what the leader has, may be
decided from (docs/adr/0036). A server without a cluster has no other replicas, and is never asked twice.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from typing import Any, Final

from nats.aio.client import Client

from contracts.errors import ErrorCode, SaccadeError
from kit.bus.jetstream_api import error_code, request
from kit.bus.stored_event import StoredEvent

_NO_MESSAGE_FOUND: Final = 10037
_RETRY_S: Final = 0.05


def is_clustered(client: Client) -> bool:
    """Return whether the server is part of a cluster, in which a stream may have several replicas."""
    # nats-py has no public name for what the server says of itself at the connect.
    return bool(client._server_info.get("cluster"))  # noqa: SLF001


def has_leader(client: Client, info: Mapping[str, Any]) -> bool:
    """Return whether a stream has a leader, by what a server says of it; without a cluster the server itself leads."""
    return not is_clustered(client) or bool(info.get("cluster", {}).get("leader"))


def is_one_subject(subjects: str) -> bool:
    """Return whether a pattern matches one subject only."""
    return not {"*", ">"} & set(subjects.split("."))


async def newest_at_leader(client: Client, stream: str, subjects: str, deadline_s: float) -> StoredEvent | None:
    """Return the newest message of a stream below a pattern of subjects, with its headers; None: there is none.

    Raises:
        SaccadeError: BUS_UNAVAILABLE, also while the stream has no leader.
    """
    return await _ask(client, stream, {"last_by_subj": subjects}, deadline_s)


async def next_at_leader(
    client: Client, stream: str, after: int, subjects: str, deadline_s: float
) -> StoredEvent | None:
    """Return the first message after a sequence below a pattern of subjects, with its headers; None: there is none.

    Raises:
        SaccadeError: BUS_UNAVAILABLE, also while the stream has no leader.
    """
    return await _ask(client, stream, {"seq": after + 1, "next_by_subj": subjects}, deadline_s)


async def _ask(client: Client, stream: str, body: dict[str, Any], deadline_s: float) -> StoredEvent | None:
    loop = asyncio.get_running_loop()
    end = loop.time() + deadline_s
    while True:
        try:
            answer = await request(client, f"STREAM.MSG.GET.{stream}", body, max(0.1, min(2.0, end - loop.time())))
            if "message" in answer:
                return _stored(stream, answer["message"])
            if error_code(answer) == _NO_MESSAGE_FOUND:
                return None
            description = answer.get("error", {}).get("description", "no answer")
            raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, f"NATS: {description}.")
        except SaccadeError:
            if loop.time() >= end or client.is_closed:
                raise
            await asyncio.sleep(_RETRY_S)


def _stored(stream: str, message: dict[str, Any]) -> StoredEvent:
    """Return a message of the API in the form of a direct get's."""
    headers: dict[str, str] = {}
    for line in base64.b64decode(message.get("hdrs") or "").decode().split("\r\n")[1:]:
        name, separator, value = line.partition(":")
        if separator:
            headers[name] = value.strip()
    headers |= {
        "Nats-Stream": stream,
        "Nats-Subject": message["subject"],
        "Nats-Sequence": str(message["seq"]),
        "Nats-Time-Stamp": message["time"],
    }
    body = base64.b64decode(message.get("data") or "")
    return StoredEvent(int(message["seq"]), message["subject"], body, headers, message["time"])
