"""Reads that the leader of a stream answers.

In a cluster any replica answers a direct get, also one that has not applied the newest acknowledged events: from such
an answer nothing may be decided. What the leader answers, and a direct get that has reached what the leader has, may be
decided from (docs/adr/0036). A server without a cluster has no other replicas, and is never asked twice.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from nats.aio.client import Client

from contracts.errors import ErrorCode, SaccadeError
from kit.bus.jetstream_api import NO_MESSAGE_FOUND, error_code, request, stream_info
from kit.bus.stored_event import StoredEvent

_RETRY_S: Final = 0.05
#: Longer than the election of a leader takes, usually.
_ELECTION_S: Final = 10.0
_INFO_RETRY_S: Final = 0.1


def is_clustered(client: Client) -> bool:
    """Return whether the server is part of a cluster, in which a stream may have several replicas."""
    # nats-py has no public name for what the server says of itself at the connect.
    return bool(client._server_info.get("cluster"))  # noqa: SLF001


def has_leader(client: Client, info: Mapping[str, Any]) -> bool:
    """Return whether a stream has a leader, by what a server says of it; without a cluster the server itself leads."""
    return not is_clustered(client) or bool(info.get("cluster", {}).get("leader"))


async def info_of_leader(client: Client, stream: str) -> dict[str, Any]:
    """Return what the leader of a stream says of it.

    While a cluster has no leader for it, a node that lacks its newest events may answer (nats-server 2.15).

    Raises:
        StreamMissing: there is no such stream.
        SaccadeError: BUS_UNAVAILABLE, also while the stream has no leader.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + _ELECTION_S
    while True:
        info = await stream_info(client, stream)
        if has_leader(client, info):
            return info
        if loop.time() >= end:
            raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, f"No node leads the stream {stream}.")
        await asyncio.sleep(_INFO_RETRY_S)


def is_one_subject(subjects: str) -> bool:
    """Return whether a pattern matches one subject only."""
    return not {"*", ">"} & set(subjects.split("."))


async def newest_at_leader(client: Client, stream: str, subjects: str, deadline_s: float) -> StoredEvent | None:
    """Return the newest message of a stream below a pattern of subjects, with its headers; None: there is none.

    Raises:
        SaccadeError: BUS_UNAVAILABLE, also while the stream has no leader.
    """
    return await _ask(client, stream, {"last_by_subj": subjects}, deadline_s)


async def newest_sequence(client: Client, stream: str, deadline_s: float = 5.0) -> int:
    """Return the sequence of the newest message that a stream has; 0 for none. Later ones may have been deleted.

    Raises:
        SaccadeError: BUS_UNAVAILABLE, also while the stream has no leader.
    """
    newest = await newest_at_leader(client, stream, ">", deadline_s)
    return newest.sequence if newest else 0


async def next_at_leader(
    client: Client, stream: str, after: int, subjects: str, deadline_s: float
) -> StoredEvent | None:
    """Return the first message after a sequence below a pattern of subjects, with its headers; None: there is none.

    Raises:
        SaccadeError: BUS_UNAVAILABLE, also while the stream has no leader.
    """
    return await _ask(client, stream, {"seq": after + 1, "next_by_subj": subjects}, deadline_s)


async def completed(
    client: Client,
    stream: str,
    found: list[StoredEvent],
    newest: StoredEvent | None,
    *,
    subjects: str,
    deadline_s: float,
    up_to: int | None,
    with_headers: bool,
) -> list[StoredEvent]:
    """Return what a replica has found with what it lacks, up to the ``newest`` that the leader has.

    Raises:
        SaccadeError: BUS_UNAVAILABLE.
    """
    if newest is None:
        return []  # the replica has not deleted yet what the leader has
    until = newest.sequence if up_to is None else min(up_to, newest.sequence)
    by_subject = {stored.subject: stored for stored in found}
    last = found[-1].sequence if found else 0
    while last < until:  # a replica applies events in order: it lacks those after its last one
        following = await next_at_leader(client, stream, last, subjects, deadline_s)
        if following is None or following.sequence > until:
            break
        last = following.sequence
        by_subject[following.subject] = shown(following, with_headers=with_headers)
    return sorted(by_subject.values(), key=lambda stored: stored.sequence)


async def has_deleted(client: Client, stream: str, sequence: int, known_until: int) -> bool:
    """Return whether an event is older than the stream, and the stream begins with what follows ``known_until``.

    A replica may not have deleted yet what the leader has, and so say that the stream begins earlier than it does.

    Raises:
        SaccadeError: BUS_UNAVAILABLE, also while the stream has no leader.
    """
    if known_until < sequence:
        return False
    first = int((await info_of_leader(client, stream))["state"]["first_seq"])
    return sequence < first <= known_until + 1


def shown(stored: StoredEvent, *, with_headers: bool) -> StoredEvent:
    """Return an event of the leader's as a direct get returns it."""
    return stored if with_headers else replace(stored, headers={})


async def _ask(client: Client, stream: str, body: dict[str, Any], deadline_s: float) -> StoredEvent | None:
    loop = asyncio.get_running_loop()
    end = loop.time() + deadline_s
    while True:
        try:
            answer = await request(client, f"STREAM.MSG.GET.{stream}", body, max(0.1, min(2.0, end - loop.time())))
            if "message" in answer:
                return _stored(stream, answer["message"])
            if error_code(answer) == NO_MESSAGE_FOUND:
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
