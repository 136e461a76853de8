"""What the notifier writes, for the clients that read event streams their own way: @microsoft/fetch-event-source.

It calls back for each empty line, also where there is no data, and stores an id as soon as it has read its line: an id
must come last in its block, and in one piece with the empty line that ends it.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from typing import Any

import pytest

from services.notifier.streams.sse import HEARTBEAT, LIVE, control_frame, frame, stream_head
from tests.harness.clients.node import find_node, in_node, installed_packages
from tests.harness.servers.embedded import NatsServer
from tests.harness.streams.notifier import interrupted, notifier, progressed, publisher, succeeded
from tests.harness.streams.raw_client import wire

pytestmark = pytest.mark.anyio

#: One call of the library's parser: retry, id or message, and what it is given.
Call = list[Any]
HEAD = rb":\nretry: [2-5]\d\d\d\n"


async def parsed_by_fetch_event_source(name: str, *given: object) -> Any:
    find_node()
    installed_packages()
    return (await in_node({"it": [name, *given]}))["it"]


def messages(calls: list[Call]) -> list[tuple[str, str]]:
    """Return type and id of each message; each has data, and follows its id at once."""
    told = []
    for number, (kind, *given) in enumerate(calls):
        if kind == "message":
            event, data, cursor = given
            assert json.loads(data), calls
            if cursor:
                assert calls[number - 1] == ["id", cursor]
            told.append((event, cursor))
    return told


async def test_every_frame_is_one_message_to_fetch_event_source_however_it_is_cut() -> None:
    envelope = '{"data":{"text":"€ 😀: \\n"}}'.encode()
    stream = stream_head() + HEARTBEAT + frame("job.started", envelope, "e0.7") + HEARTBEAT + HEARTBEAT
    stream += frame("job.progressed", envelope) + control_frame("gap", {"after": "e0.7", "first_available": "e0.9"})
    stream += HEARTBEAT + control_frame("snapshot", {"id": "job_1"}) + frame("job.succeeded", envelope, "e0.9")
    (calls,) = await parsed_by_fetch_event_source("microsoftParses", base64.b64encode(stream + HEARTBEAT).decode())
    assert [kind for kind, *_ in calls].count("retry") == 1
    assert messages(calls) == [
        ("job.started", "e0.7"),
        *(("job.progressed", ""), ("gap", ""), ("snapshot", "")),
        ("job.succeeded", "e0.9"),
    ]


async def test_no_stream_has_an_empty_message_for_fetch_event_source(nats_server: NatsServer) -> None:
    """A stream with heartbeats that is rotated, one after a lost cursor, and one that is asked to come back later."""
    options = {"heartbeat_s": 0.1, "rotate_s": 1.0, "max_streams": 3}
    async with publisher(nats_server.settings) as jobs, notifier(nats_server.settings, **options) as reader:
        job_id = await jobs.submit()
        await jobs.start(job_id)
        await jobs.say(job_id, progressed(0.5))
        url = f"{reader.url}/v1/jobs/{job_id}/events"
        requests = [[url, {}], [url, {"Last-Event-ID": "beef.3"}], [f"{reader.url}/v1/events", {}], [url, {}]]
        async with asyncio.timeout(20):
            whole, after_gap, quiet, refused = await parsed_by_fetch_event_source("microsoftReads", requests)
    history = ["job.submitted", "job.queued", "job.starting", "job.started"]
    assert [event for event, _ in messages(whole)] == [*history, "job.progressed"]
    assert [event for event, _ in messages(after_gap)] == ["gap", "snapshot", *history, "job.progressed"]
    for calls in (whole, after_gap, quiet, refused):
        assert calls[0][0] == "retry", "it comes first, also where no event follows"
        assert [kind for kind, *_ in calls].count("retry") == 1
    assert len(quiet) == len(refused) == 1


async def test_the_notifier_writes_whole_blocks(nats_server: NatsServer) -> None:
    """Each write is a chunk of the body: history, live events, and the backlog of a client that reads slowly."""
    limits = {"heartbeat_s": 0.1, "blocked_s": 30.0, "backlog_bytes": 2**24}
    async with publisher(nats_server.settings) as jobs, notifier(nats_server.settings, **limits) as reader:
        job_id = await jobs.submit()
        for _ in range(10):
            await jobs.say(job_id, interrupted("x" * 30_000))
        async with wire(reader.url, f"/v1/jobs/{job_id}/events", receive_buffer_bytes=4096) as stream:
            for number in range(60):
                await jobs.say(job_id, interrupted("x" * (60_000 if number < 40 else 10_000)))
                await jobs.say(job_id, progressed(number / 100))
            await jobs.say(job_id, succeeded())
            await stream.read_to_end()
    assert stream.whole
    assert len(stream.cursors) == 72
    assert re.fullmatch(HEAD, stream.chunks[0])
    blocks = [chunk for chunk in stream.chunks[1:] if chunk not in (HEARTBEAT, LIVE)]
    assert all(re.fullmatch(rb"(?:event: \S+\ndata: .*\n(?:id: \S+\n)?\n)+", chunk) for chunk in blocks)
    assert max(chunk.count(b"\n\n") for chunk in blocks) > 1
    assert b"".join(blocks).count(b"event: job.progressed\n") < 60, "it read slowly: only the newest progress is kept"
