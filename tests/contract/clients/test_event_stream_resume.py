"""What the clients do with the cursor, the reconnection time and the end of a stream whose bytes a test writes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from saccade_client import ClientError

from tests.harness.clients.javascript_client import use
from tests.harness.clients.node import find_node
from tests.harness.clients.python_clients import CLIENT_KINDS, opener
from tests.harness.clients.scripted_streams import Body, Script, ScriptedStreams, scripted_job

pytestmark = pytest.mark.anyio

#: Type and cursor of each event, and the error's code and hint, if any.
Told = tuple[list[tuple[str, str | None]], tuple[str, str] | None]
#: Follows ``job_1`` to the end of its stream, or for so many events.
Follow = Callable[[str, int], Awaitable[Told]]
ALL = 1000


def block(kind: str, cursor: str | None = None, end: str = "\n", event_id: str | None = None) -> bytes:
    """Return an event of ``job_1``."""
    envelope = {"specversion": "1.0", "id": event_id or f"evt_{cursor}", "subject": "job_1", "data": {}}
    lines = [f"event: {kind}", f"data: {json.dumps(envelope)}", *([f"id: {cursor}"] if cursor else []), "", ""]
    return end.join(lines).encode()


async def follow_in_node(url: str, count: int) -> Told:
    find_node()
    found: dict[str, Any] = await use("followed", url, "job_1", count)
    refused = found["refused"]
    error = (refused["code"], refused["hint"]) if "code" in refused else None
    return [(kind, cursor) for kind, _, cursor in found["told"]], error


def follow_in_python(kind: str) -> Follow:
    async def follow(url: str, count: int) -> Told:
        told: list[tuple[str, str | None]] = []
        async with opener(kind)(url) as client:
            try:
                async for event in client.events("job_1"):
                    told.append((event.type, event.cursor))
                    if len(told) == count:
                        break
            except ClientError as error:
                return told, (error.code, error.hint)
        return told, None

    return follow


@pytest.fixture(params=[*CLIENT_KINDS, "javascript"])
def follow(request: pytest.FixtureRequest) -> Follow:
    return follow_in_node if request.param == "javascript" else follow_in_python(request.param)


def cursors(script: Script) -> list[str | None]:
    """List where each connection resumed, as its query says; the Python clients say it in the header too."""
    asked = [parse_qs(urlsplit(one.target).query).get("last_event_id", [None])[0] for one in script.asked]
    for cursor, one in zip(asked, script.asked, strict=True):
        assert one.last_event_id in (None, (cursor or "").encode())
    return asked


async def test_a_block_of_an_id_only_is_where_a_client_resumes(follow: Follow) -> None:
    bodies = [
        [b"retry: 1\n", block("job.submitted", "e.1"), b"id: e.7\n\n"],
        [b":\nretry: 1\n"],  # a stream without an event keeps the cursor
        [block("job.submitted", "e.6"), block("job.progressed"), block("job.succeeded", "e.8"), b"id: e.5\n\n"],
    ]
    async with asyncio.timeout(20), scripted_job(*bodies) as (server, script):
        told, error = await follow(server.url, ALL)
    assert error is None
    assert told == [("job.submitted", "e.1"), ("job.progressed", None), ("job.succeeded", "e.8")]
    assert cursors(script) == [None, "e.7", "e.7", "e.8"]


async def test_an_empty_id_lets_a_client_resume_from_the_beginning(follow: Follow) -> None:
    bodies = [
        [b"retry: 1\n", block("job.submitted", "e.1"), b"id\n\n"],
        [block("job.submitted", "e.1"), block("job.succeeded", "e.2")],
    ]
    async with asyncio.timeout(20), scripted_job(*bodies) as (server, script):
        told, error = await follow(server.url, ALL)
    assert (told, error) == ([("job.submitted", "e.1"), ("job.succeeded", "e.2")], None)
    assert cursors(script) == [None, None, "e.2"]


async def test_events_that_a_restored_stream_repeats_are_dropped(follow: Follow) -> None:
    """They have their ids, and cursors of another epoch."""
    repeated = [
        block("job.submitted", "f.1", event_id="evt_e.1"),
        block("job.started", "f.2", event_id="evt_e.2"),
        block("job.succeeded", "f.3"),
    ]
    bodies = [[b"retry: 1\n", block("job.submitted", "e.1"), block("job.started", "e.2")], repeated]
    async with asyncio.timeout(20), scripted_job(*bodies) as (server, script):
        told, error = await follow(server.url, ALL)
    assert (told, error) == ([("job.submitted", "e.1"), ("job.started", "e.2"), ("job.succeeded", "f.3")], None)
    assert cursors(script) == [None, "e.2", "f.3"], "what is dropped is where a client resumes"


class RestoredJob(ScriptedStreams):
    """Also answers what the job is, by its newest cursor: first before, then after a restore."""

    def __init__(self, bodies: Mapping[str, Sequence[Body]], job_cursors: list[str]) -> None:
        super().__init__(bodies)
        self.job_cursors = job_cursors

    async def _respond(self, _target: str, _writer: asyncio.StreamWriter) -> bool:
        if _target.partition("?")[0] != "/v1/jobs/job_1":
            return False
        job = json.dumps({"id": "job_1", "state": "running", "cursor": self.job_cursors.pop(0)}).encode()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        _writer.write(head % len(job) + job)
        await _writer.drain()
        return True


async def test_a_multiplexed_job_is_not_told_again_what_it_reads_again_after_a_restore() -> None:
    find_node()
    gap = b"event: gap\ndata: {}\n\n"
    bodies = {
        "/v1/events": [[block("job.started", "e.2"), 0.3, gap, block("job.succeeded", "f.3")]],
        "/v1/jobs/job_1/events": [
            [block("job.submitted", "e.1")],
            [block("job.submitted", "f.1", event_id="evt_e.1"), block("job.started", "f.2", event_id="evt_e.2")],
        ],
    }
    async with asyncio.timeout(20), RestoredJob(bodies, ["e.1", "e.1", "f.2"]) as server:
        found = await use("followed", server.url, "job_1", ALL, True)
    told = [(kind, cursor) for kind, _, cursor in found["told"]]
    assert told == [("job.submitted", "e.1"), ("job.started", "e.2"), ("job.succeeded", "f.3")]


async def test_carriage_returns_end_an_event_without_a_byte_after_them(follow: Follow) -> None:
    body = [b"retry: 1\r\r", block("job.submitted", "e.1", "\r\n"), block("job.succeeded", "e.2", "\r")]
    async with asyncio.timeout(20), scripted_job(body, hold=True) as (server, _):
        told, error = await follow(server.url, 2)
    assert (told, error) == ([("job.submitted", "e.1"), ("job.succeeded", "e.2")], None)


async def test_a_client_waits_as_long_as_a_stream_without_an_event_asks(follow: Follow) -> None:
    """The services answer so while they cannot stream: no empty line, which some clients take for an event."""
    bodies = [[b":\nretry: 600\n"], [b"retry: 1\n", block("job.succeeded", "e.1")]]
    async with asyncio.timeout(20), scripted_job(*bodies) as (server, script):
        told, error = await follow(server.url, ALL)
    assert (told, error) == ([("job.succeeded", "e.1")], None)
    assert (script.asked[1].pause_s or 0) >= 0.6


async def test_a_client_waits_longer_each_time_a_stream_ends_without_an_event(follow: Follow) -> None:
    """A server or proxy that asks for no time is not asked many times a second for ever."""
    bodies = [*[[b":\n"]] * 4, [b"retry: 1\n", block("job.succeeded", "e.1")]]
    async with asyncio.timeout(20), scripted_job(*bodies) as (server, script):
        told, error = await follow(server.url, ALL)
    assert (told, error) == ([("job.succeeded", "e.1")], None)
    assert (script.asked[4].pause_s or 0) >= 0.35


async def test_a_stream_that_is_no_saccade_servers_is_an_error(follow: Follow) -> None:
    """A line that never ends, after a reconnection time that is longer than an integer of Python may be."""
    endless = [b"\xef\xbb\xbfretry: " + b"9" * 5000 + b"\nretry: 1\n", block("job.submitted", "e.1"), b"data: "]
    endless += [b"a" * 2**20] * 17
    async with asyncio.timeout(30), scripted_job(endless) as (server, script):
        told, error = await follow(server.url, ALL)
    assert told == [("job.submitted", "e.1")]
    assert error
    assert error[0] == "event_too_large"
    assert "proxy" in error[1]
    assert len(script.asked) == 1, "it is not asked again"


async def past_in_node(url: str) -> Told:
    find_node()
    found: dict[str, Any] = await use("pastOfTenant", url)
    told = [(kind, cursor) for kind, cursor in found["told"]]
    return told, (found["refused"], "") if found["refused"] else None


async def past_in_python(url: str, kind: str) -> Told:
    async with opener(kind)(url) as client:
        past = client.events(types=["job.failed"], since=3600, follow=False)
        try:
            return [(event.type, event.cursor) async for event in past], None
        except ClientError as error:
            return [], (error.code, "")


@pytest.mark.parametrize("kind", [*CLIENT_KINDS, "javascript"])
async def test_past_events_are_all_however_long_the_server_reads_for_them(kind: str) -> None:
    """A history with few events of the wanted types is silent for as long as the server reads through the others."""
    body: list[bytes | float] = [b":\nretry: 1\n", 2.0, block("job.failed", "e.1"), b": reading\n", 2.0]
    body += [block("job.failed", "e.9"), b": live\n", block("job.failed", "e.10"), block("job.progressed")]
    streams = ScriptedStreams({"/v1/events": [body]}, hold=True)
    async with asyncio.timeout(20), streams:
        told, error = await (past_in_node(streams.url) if kind == "javascript" else past_in_python(streams.url, kind))
    assert (told, error) == ([("job.failed", "e.1"), ("job.failed", "e.9")], None)


@pytest.mark.parametrize("kind", [*CLIENT_KINDS, "javascript"])
async def test_past_events_of_a_server_that_does_not_say_where_they_end_are_refused(kind: str) -> None:
    streams = ScriptedStreams({"/v1/events": [[b":\nretry: 1\n", block("job.failed", "e.1"), b":\n"]]}, hold=True)
    async with asyncio.timeout(20), streams:
        _, error = await (past_in_node(streams.url) if kind == "javascript" else past_in_python(streams.url, kind))
    assert error == ("unexpected_answer", "")
