"""Backups of a stream by JetStream's snapshot API, as the ``nats`` command makes and restores them."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg

_TIMEOUT_S = 20


@dataclass(frozen=True)
class StreamBackup:
    """A backup: configuration and state as the server told them, and its archive."""

    config: dict[str, Any]
    state: dict[str, Any]
    chunks: list[bytes] = field(repr=False)


async def back_up(client: Client, stream: str) -> StreamBackup:
    """Make a backup of a stream, without its consumers."""
    chunks: list[bytes] = []
    done = asyncio.get_running_loop().create_future()

    async def on_chunk(msg: Msg) -> None:
        if msg.reply:
            await client.publish(msg.reply)
        if msg.data:
            chunks.append(msg.data)
        elif not done.done():
            done.set_result(None)

    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox, cb=on_chunk)
    try:
        answer = await _ask(client, f"STREAM.SNAPSHOT.{stream}", {"deliver_subject": inbox, "no_consumers": True})
        async with asyncio.timeout(_TIMEOUT_S):
            await done
    finally:
        await subscription.unsubscribe()
    return StreamBackup(answer["config"], answer["state"], chunks)


async def restore(client: Client, backup: StreamBackup, config: dict[str, Any] | None = None) -> dict[str, Any]:
    """Delete the stream, if it exists, and restore a backup under its name; return what the server says about it."""
    name = backup.config["name"]
    await client.request(f"$JS.API.STREAM.DELETE.{name}", b"", timeout=_TIMEOUT_S)
    body = {"config": config or backup.config, "state": backup.state}
    answer = await _ask(client, f"STREAM.RESTORE.{name}", body)
    for chunk in [*backup.chunks, b""]:
        reply = await client.request(answer["deliver_subject"], chunk, timeout=_TIMEOUT_S)
    restored: dict[str, Any] = json.loads(reply.data)
    assert "error" not in restored, restored
    return restored


async def _ask(client: Client, subject: str, body: dict[str, Any]) -> dict[str, Any]:
    reply = await client.request(f"$JS.API.{subject}", json.dumps(body).encode(), timeout=_TIMEOUT_S)
    answer: dict[str, Any] = json.loads(reply.data)
    assert "error" not in answer, answer
    return answer
