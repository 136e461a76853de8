"""Snapshot of a stream, and restore of one from a snapshot's bytes, by JetStream's API (nats-server 2.15, ADR-63)."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from contracts.errors import ErrorCode, SaccadeError
from kit.bus.jetstream_api import StreamMissing, request, stream_info

_CHUNK_BYTES: Final = 128 * 1024
#: Chunks that are sent before the server has taken the first of them.
_WINDOW: Final = 16
#: The server gives up a transfer that stands still for 5 s; it also needs time to write what it was sent.
_STALLED_S: Final = 15.0
_COMPLETED_S: Final = 120.0
_RETRY_S: Final = 0.05


class CopyFailed(SaccadeError):  # noqa: N818 - what the server answered
    """The server did not complete a snapshot or a restore."""

    def __init__(self, what: str) -> None:
        """``what``: the sentence without its period."""
        super().__init__(ErrorCode.BUS_UNAVAILABLE, f"{what}.")


class StreamSnapshot:
    """Snapshot of one stream: its configuration and state, then its bytes."""

    def __init__(self, config: dict[str, Any], state: dict[str, Any], chunks: AsyncIterator[bytes]) -> None:
        """``chunks`` must be read to the end."""
        self.config = config
        self.state = state
        self.chunks = chunks


@contextlib.asynccontextmanager
async def open_snapshot(client: Client, stream: str) -> AsyncIterator[StreamSnapshot]:
    """Begin a snapshot of a stream with its consumers.

    Raises:
        CopyFailed: the server refuses it; while the chunks are read: it stopped.
        SaccadeError: BUS_UNAVAILABLE.
    """
    inbox = client.new_inbox()
    received: asyncio.Queue[Msg] = asyncio.Queue()
    subscription = await client.subscribe(inbox, cb=received.put)
    try:
        await client.flush()
        body = {"deliver_subject": inbox, "no_consumers": False, "chunk_size": _CHUNK_BYTES}
        answer = await request(client, f"STREAM.SNAPSHOT.{stream}", body)
        if "error" in answer:
            raise CopyFailed(f"NATS refused a snapshot of {stream}: {answer['error'].get('description')}")
        yield StreamSnapshot(answer["config"], answer["state"], _received(stream, received))
    finally:
        if not client.is_closed:
            await subscription.unsubscribe()


async def _received(stream: str, received: asyncio.Queue[Msg]) -> AsyncIterator[bytes]:
    """Yield the chunks of a snapshot until the message that ends it."""
    while True:
        try:
            async with asyncio.timeout(_STALLED_S):
                message = await received.get()
        except TimeoutError as error:
            raise CopyFailed(f"The snapshot of {stream} stopped") from error
        if not message.data:
            status = (message.headers or {}).get("Status", "204")
            if status != "204":
                description = (message.headers or {}).get("Description", "")
                raise CopyFailed(f"The snapshot of {stream} failed: {status} {description}".rstrip())
            return
        if message.reply:
            await message.respond(b"")
        yield message.data


async def restore_stream(
    client: Client, config: dict[str, Any], state: dict[str, Any], chunks: Iterable[bytes]
) -> dict[str, Any]:
    """Make a stream from an archive and return its state; there must be none of that name.

    A restore that fails leaves a stream with what was read so far (nats-server 2.15): it is deleted.

    Raises:
        CopyFailed: there is a stream of that name, or the archive is not whole.
        SaccadeError: BUS_UNAVAILABLE.
    """
    stream = str(config["name"])
    answer = await request(client, f"STREAM.RESTORE.{stream}", {"config": config, "state": state})
    if "error" in answer:
        raise CopyFailed(f"NATS refused to restore {stream}: {answer['error'].get('description')}")
    subject = str(answer["deliver_subject"])
    try:
        completed = await _send(client, subject, chunks)
        if "error" in completed:
            raise CopyFailed(f"NATS could not restore {stream}: {completed['error'].get('description')}")
    except BaseException as error:
        with contextlib.suppress(SaccadeError):
            await asyncio.shield(_delete_partial(client, stream, subject))
        if isinstance(error, TimeoutError | nats.errors.Error | OSError):
            raise CopyFailed(f"The restore of {stream} stopped: NATS does not answer") from error
        raise
    restored: dict[str, Any] = completed["state"]
    return restored


async def _send(client: Client, subject: str, chunks: Iterable[bytes]) -> dict[str, Any]:
    """Send an archive in chunks, a window of them ahead of the server, and return its answer to the end.

    Raises:
        TimeoutError, nats.errors.Error: the server stopped.
    """
    inbox = client.new_inbox()
    answers: asyncio.Queue[Msg] = asyncio.Queue()
    subscription = await client.subscribe(inbox, cb=answers.put)
    outstanding = 0
    try:
        for number, chunk in enumerate(_cut(chunks)):
            if number == 0:
                if failed := _failure(await _send_first(client, subject, chunk, inbox, answers)):
                    return failed
                continue
            if outstanding >= _WINDOW:
                if failed := _failure(await _next(answers, _STALLED_S)):
                    return failed
                outstanding -= 1
            await client.publish(subject, chunk, reply=inbox)
            outstanding += 1
        await client.publish(subject, b"", reply=inbox)
        while True:
            answer = await _next(answers, _COMPLETED_S)
            if answer.data:
                completed: dict[str, Any] = json.loads(answer.data)
                return completed
    finally:
        if not client.is_closed:
            await subscription.unsubscribe()


async def _send_first(client: Client, subject: str, chunk: bytes, inbox: str, answers: asyncio.Queue[Msg]) -> Msg:
    """Send the first chunk and return the server's answer.

    In a cluster another node may take the archive, and our node learns of it after the answer that names the subject:
    until then it says that nobody takes what we send, and nobody has got it.

    Raises:
        TimeoutError, nats.errors.Error: the server stopped.
    """
    end = asyncio.get_running_loop().time() + _STALLED_S
    while True:
        await client.publish(subject, chunk, reply=inbox)
        try:
            return await _next(answers, _STALLED_S)
        except nats.errors.NoRespondersError:
            if asyncio.get_running_loop().time() >= end:
                raise
            await asyncio.sleep(_RETRY_S)


async def _next(answers: asyncio.Queue[Msg], timeout_s: float) -> Msg:
    async with asyncio.timeout(timeout_s):
        message = await answers.get()
    if (message.headers or {}).get("Status") == "503":
        raise nats.errors.NoRespondersError
    return message


def _failure(message: Msg) -> dict[str, Any] | None:
    if not message.data:
        return None
    answer: dict[str, Any] = json.loads(message.data)
    return answer if "error" in answer else None


def _cut(chunks: Iterable[bytes]) -> Iterable[bytes]:
    """Yield bytes in chunks of equal size."""
    rest = bytearray()
    for chunk in chunks:
        rest += chunk
        while len(rest) >= _CHUNK_BYTES:
            yield bytes(rest[:_CHUNK_BYTES])
            del rest[:_CHUNK_BYTES]
    if rest:
        yield bytes(rest)


async def _delete_partial(client: Client, stream: str, subject: str) -> None:
    """End the upload, which the server otherwise waits for and holds the name of the stream; delete what it stored."""
    with contextlib.suppress(TimeoutError, nats.errors.Error):
        await client.request(subject, b"", timeout=_STALLED_S)
    await request(client, f"STREAM.DELETE.{stream}", {})


async def stream_state(client: Client, stream: str) -> dict[str, Any] | None:
    """Return the state of a stream; None if there is no such stream.

    Raises:
        SaccadeError: BUS_UNAVAILABLE.
    """
    try:
        info = await stream_info(client, stream)
    except StreamMissing:
        return None
    state: dict[str, Any] = info["state"]
    return state
