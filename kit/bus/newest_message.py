"""Read of the newest message below a pattern of subjects: a direct get (NATS ADR-31), or in a cluster the leader's."""

from __future__ import annotations

import asyncio
import json
from typing import Final

import nats.errors
from nats.aio.client import Client

from contracts.errors import ErrorCode, SaccadeError
from kit.bus.leader_reads import is_clustered, newest_at_leader
from kit.bus.stored_event import StoredEvent

_NOT_FOUND: Final = "404"


async def newest_message(client: Client, stream: str, subjects: str, deadline_s: float = 5.0) -> StoredEvent | None:
    """Return the newest message of a stream with one of these subjects, with its headers; None: there is none.

    Raises:
        SaccadeError: BUS_UNAVAILABLE.
    """
    if is_clustered(client):
        return await newest_at_leader(client, stream, subjects, deadline_s)
    body = json.dumps({"last_by_subj": subjects}).encode()
    loop = asyncio.get_running_loop()
    end = loop.time() + deadline_s
    while True:
        try:
            timeout_s = max(0.1, min(2.0, end - loop.time()))
            reply = await client.request(f"$JS.API.DIRECT.GET.{stream}", body, timeout=timeout_s)
        except (TimeoutError, nats.errors.Error, OSError) as error:
            if loop.time() >= end or client.is_closed:
                raise SaccadeError(ErrorCode.BUS_UNAVAILABLE) from error
            await asyncio.sleep(0.05)
            continue
        headers = reply.headers or {}
        if headers.get("Status") == _NOT_FOUND:
            return None
        if "Status" in headers:
            raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, f"NATS: {headers.get('Description', headers['Status'])}.")
        return StoredEvent(
            int(headers["Nats-Sequence"]),
            headers["Nats-Subject"],
            reply.data,
            headers,
            headers.get("Nats-Time-Stamp", ""),
        )
