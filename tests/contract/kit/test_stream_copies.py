"""Streams on real NATS servers: written as an archive, restored as they were, and never left half restored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from nats.aio.client import Client

from kit.bus.connection import connect, request
from kit.bus.event_store import EventStore
from kit.bus.stream_copies import CopyFailed, open_snapshot, restore_stream, stream_state
from kit.history.nats_archive import ArchiveBounds, ArchivedMessage, encode_archive
from tests.harness.servers.embedded import NatsServer

pytestmark = pytest.mark.anyio
CONFIG: dict[str, Any] = {
    "name": "COPIED",
    "subjects": ["copied.>"],
    "storage": "file",
    "allow_direct": True,
    "metadata": {"saccade.epochs": '[{"id":"abc","from":1}]'},
}


def messages() -> list[ArchivedMessage]:
    """Return 3,000 messages from sequence 70,001, with gaps, of a year ago: more than one batch of frames."""
    return [
        ArchivedMessage(
            sequence=70_001 + number + number // 7,
            subject=f"copied.job_{number % 50}.v{number % 9}",
            time_ns=1_760_000_000_123_456_789 + number * 1_000_003,
            body=bytes([number % 256]) * (number % 5000),
            headers={"Nats-Msg-Id": f"evt_{number}", "Content-Type": "application/json"},
        )
        for number in range(3000)
    ]


def bounds_of(listed: list[ArchivedMessage]) -> ArchiveBounds:
    size = sum(len(message.body) + 200 for message in listed)
    return ArchiveBounds(listed[0].sequence, listed[-1].sequence + 5, size, len(listed))


@asynccontextmanager
async def opened(server: NatsServer) -> AsyncIterator[Client]:
    client = await connect(server.settings, "test")
    try:
        await request(client, "STREAM.DELETE.COPIED", {})
        yield client
    finally:
        await client.close()


async def stored(client: Client) -> list[tuple[int, str, bytes, str, str]]:
    """Return each message with its id and its time."""
    found, remaining = await EventStore(client, "COPIED").batch(0, size=5000, with_headers=True)
    assert not remaining
    return [
        (event.sequence, event.subject, event.body, event.headers["Nats-Msg-Id"], event.headers["Nats-Time-Stamp"])
        for event in found
    ]


async def test_a_written_archive_is_restored_with_its_sequences_and_times(any_nats_server: NatsServer) -> None:
    async with opened(any_nats_server) as client:
        listed = messages()
        bounds = bounds_of(listed)
        state = await restore_stream(client, CONFIG, bounds.state(), encode_archive(bounds, listed))
        assert (state["first_seq"], state["last_seq"], state["messages"]) == (70_001, bounds.last, 3000)
        found = await stored(client)
        assert [event[:4] for event in found] == [
            (message.sequence, message.subject, message.body, message.headers["Nats-Msg-Id"]) for message in listed
        ]
        assert found[1][4] == "2025-10-09T08:53:20.124456792Z"
        acknowledged = await client.jetstream().publish("copied.next", b"")
        assert acknowledged.seq == bounds.last + 1
        info = await request(client, "STREAM.INFO.COPIED", {})
        assert info["config"]["metadata"]["saccade.epochs"] == CONFIG["metadata"]["saccade.epochs"]


async def test_a_snapshot_is_restored_as_it_was(any_nats_server: NatsServer) -> None:
    async with opened(any_nats_server) as client:
        listed = messages()
        bounds = bounds_of(listed)
        await restore_stream(client, CONFIG, bounds.state(), encode_archive(bounds, listed))
        before = await stored(client)
        async with open_snapshot(client, "COPIED") as snapshot:
            chunks = [chunk async for chunk in snapshot.chunks]
        await request(client, "STREAM.DELETE.COPIED", {})
        await restore_stream(client, snapshot.config, snapshot.state, chunks)
        assert await stored(client) == before


def faulty(whole: bytes) -> Iterator[tuple[str, bytes]]:
    yield "nothing", b""
    yield "its first bytes", whole[:10]
    yield "half", whole[: len(whole) // 2]
    yield "all but its end", whole[:-5]
    yield "a changed bit", whole[: len(whole) // 2] + bytes([whole[len(whole) // 2] ^ 1]) + whole[len(whole) // 2 + 1 :]


async def test_an_archive_that_is_not_whole_leaves_no_stream(any_nats_server: NatsServer) -> None:
    async with opened(any_nats_server) as client:
        listed = messages()
        bounds = bounds_of(listed)
        whole = b"".join(encode_archive(bounds, listed))
        for what, data in faulty(whole):
            with pytest.raises(CopyFailed):
                await restore_stream(client, CONFIG, bounds.state(), [data])
            assert await stream_state(client, "COPIED") is None, what


async def test_a_restore_that_is_cancelled_leaves_no_stream(any_nats_server: NatsServer) -> None:
    async with opened(any_nats_server) as client:
        listed = messages()
        bounds = bounds_of(listed)
        half = list(encode_archive(bounds, listed))[:2]

        def interrupted() -> Iterator[bytes]:
            yield from half
            raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            await restore_stream(client, CONFIG, bounds.state(), interrupted())
        assert await stream_state(client, "COPIED") is None
        # The server waits for no more of the first one, and takes another at once.
        state = await restore_stream(client, CONFIG, bounds.state(), encode_archive(bounds, listed))
        assert state["messages"] == 3000


async def test_an_existing_stream_is_refused_and_stays(any_nats_server: NatsServer) -> None:
    async with opened(any_nats_server) as client:
        listed = messages()
        bounds = bounds_of(listed)
        await restore_stream(client, CONFIG, bounds.state(), encode_archive(bounds, listed))
        with pytest.raises(CopyFailed, match="in use"):
            await restore_stream(client, CONFIG, bounds.state(), encode_archive(bounds, listed))
        state = await stream_state(client, "COPIED")
        assert state
        assert state["messages"] == 3000


class LateInterest:
    """A connection whose node learns late that another node takes the archive: until then nobody gets what is sent."""

    def __init__(self, client: Client, lost: int) -> None:
        self._client, self.lost = client, lost

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def publish(self, subject: str, body: bytes, reply: str = "") -> None:
        self.lost -= 1
        await self._client.publish("nobody.listens" if self.lost >= 0 else subject, body, reply=reply)


async def test_a_restore_waits_until_its_node_knows_who_takes_the_archive(any_nats_server: NatsServer) -> None:
    async with opened(any_nats_server) as client:
        listed = messages()[:10]
        bounds = bounds_of(listed)
        late = LateInterest(client, lost=3)
        await restore_stream(late, CONFIG, bounds.state(), encode_archive(bounds, listed))  # type: ignore[arg-type]
        assert [row[0] for row in await stored(client)] == [message.sequence for message in listed]
