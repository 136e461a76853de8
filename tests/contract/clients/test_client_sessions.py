"""Both Python clients with a session: frames, joints, the model, and the WebSocket."""

from __future__ import annotations

import ast
import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from saccade_client import AsyncClient, Client, ClientError, NotFoundError, RefusedError, UnauthorizedError

from contracts.session import job_id_of_session
from contracts.telemetry import FRAME_SEQ, JointBatch
from kit.auth.api_keys import AuthSettings
from kit.http.server import serve
from kit.settings import NatsSettings, S3Settings
from tests.harness.clients.python_clients import CLIENT_KINDS, InThread, opener
from tests.harness.servers.embedded import HOST, ROOT, free_port, wait_for_port
from tests.harness.servers.gateway import RunningGateway, keys_file, running_gateway
from tests.harness.sessions.scripted_session_worker import jpeg, run_scripted_worker

pytestmark = pytest.mark.anyio

Servers = tuple[NatsSettings, S3Settings]
NAMES = ("pan", "lift")


@asynccontextmanager
async def answering(
    servers: Servers, folder: Path, auth: AuthSettings | None = None
) -> AsyncIterator[tuple[RunningGateway, str]]:
    """Run a gateway, and give its address."""
    stop, port = asyncio.Event(), free_port()
    async with running_gateway(*servers, folder, auth=auth) as running:
        keyed = running.authenticated
        serving = asyncio.ensure_future(serve(running.app, HOST, port, authenticated=keyed, stop=stop))
        try:
            await asyncio.to_thread(wait_for_port, port)
            yield running, f"http://{HOST}:{port}"
        finally:
            stop.set()
            await serving


@pytest.fixture
async def served(session_servers: Servers, tmp_path: Path):
    async with answering(session_servers, tmp_path) as found:
        yield found


@asynccontextmanager
async def sessions_of(face: str, url: str, key: str | None = None) -> AsyncIterator[Any]:
    async with opener(face)(url, key) as client:
        yield client.sessions if face == "asyncio" else InThread(client.sessions)


@pytest.mark.parametrize("face", CLIENT_KINDS)
async def test_frames_and_joints_go_in_by_http(served: tuple[RunningGateway, str], face: str):
    running, url = served
    async with sessions_of(face, url) as sessions:
        session_id = (await sessions.open("streamed")).id
        async with run_scripted_worker(running, session_id) as worker:
            await worker.claim()
            taken = await sessions.send_frame(
                session_id, jpeg(), captured_at_s=1e9, clock_offset_s=-0.25, source="wrist"
            )
            assert (taken.source, taken.status) == ("wrist", "received")
            assert taken.seq > 7, "numbered by the server"
            judged = await sessions.send_frame(session_id, jpeg(), seq=7, wait_s=20)
            assert (judged.source, judged.seq, judged.status, judged.age_s) == ("camera", 7, "accepted", 0.01)
            headers = worker.frames[0].headers
            assert headers is not None
            assert (float(headers["Frame-Captured-At"]), float(headers["Frame-Clock-Offset"])) == (1e9, -0.25)
            assert worker.frames[0].data == jpeg()
            samples = [(4, 1e9, (0.1, 0.2)), (5, 1e9 + 0.01, (0.1, 90.0), (3.0, 4.0))]
            answer = await sessions.send_joints(session_id, NAMES, samples, source="left", clock_offset_s=0.5)
            assert answer.received == 2
            await worker.heard(joints=1)
            batch = JointBatch.model_validate_json(worker.joints[0].data)
            assert (batch.source, batch.names, batch.unit) == ("left", NAMES, "rad")
            assert batch.clock is not None
            assert (batch.clock.offset_s, batch.samples[1].positions, batch.samples[1].raw) == (
                0.5,
                (0.1, 90.0),
                (3.0, 4.0),
            )


@pytest.mark.parametrize("face", CLIENT_KINDS)
async def test_what_is_wrong_is_the_servers_word(served: tuple[RunningGateway, str], face: str):
    _, url = served
    async with sessions_of(face, url) as sessions:
        session_id = (await sessions.open("streamed")).id
        with pytest.raises(RefusedError) as refused:
            await sessions.send_frame(session_id, b"")
        assert refused.value.code == "frame_empty"
        with pytest.raises(RefusedError) as refused:
            await sessions.send_frame(session_id, b"noise")
        assert refused.value.code == "frame_unreadable"
        for samples in ([(0, 1e9, (0.1,))], [(0, 1e9, (0.1, float("nan")))], []):
            with pytest.raises(RefusedError) as refused:
                await sessions.send_joints(session_id, NAMES, samples)
            assert refused.value.code == "joints_invalid", samples
        for call in (
            lambda other: sessions.send_frame(other, jpeg()),
            lambda other: sessions.send_joints(other, NAMES, [(0, 1e9, (0.1, 0.2))]),
            sessions.ply,
        ):
            with pytest.raises(NotFoundError):
                await call("ses_01890000-0000-7000-8000-000000000000")
        with pytest.raises(RefusedError) as refused:
            await sessions.ply(session_id)
        assert refused.value.code == "session_not_started"


@pytest.mark.parametrize("face", CLIENT_KINDS)
async def test_the_model_is_fetched_once_a_version(served: tuple[RunningGateway, str], face: str):
    running, url = served
    head = b"ply\nformat binary_little_endian 1.0\nelement vertex %d\nproperty float x\nend_header\n"
    async with sessions_of(face, url) as sessions:
        session_id = (await sessions.open("streamed")).id
        key = running.bucket.key("results", job_id_of_session(session_id), "live.ply")
        await running.bucket.put(key, head % 3 + bytes(12))
        whole = await sessions.ply(session_id)
        assert whole.body == head % 3 + bytes(12)
        assert await sessions.ply(session_id, etag=whole.etag) is None
        part = await sessions.ply(session_id, max_splats=2, etag=whole.etag)
        assert part.body == head % 2 + bytes(8)
        await running.bucket.put(key, head % 1 + b"next")
        newer = await sessions.ply(session_id, etag=whole.etag)
        assert newer.body == head % 1 + b"next"
        assert newer.etag != whole.etag


async def test_a_frame_that_did_not_get_through_is_not_sent_again(served: tuple[RunningGateway, str]):
    """The next one is newer; a client that tried for seconds would stand still meanwhile."""
    port = free_port()
    async with sessions_of("asyncio", f"http://{HOST}:{port}") as sessions:
        began_s = time.monotonic()
        with pytest.raises(ClientError) as failed:
            await sessions.send_frame("ses_1", jpeg())
        assert failed.value.code == "server_unreachable"
        assert time.monotonic() - began_s < 10


async def test_one_socket_takes_frames_and_gives_their_verdicts(served: tuple[RunningGateway, str]):
    running, url = served
    async with AsyncClient(url) as client:
        session_id = (await client.sessions.open("streamed")).id
        async with run_scripted_worker(running, session_id) as worker:
            await worker.claim()
            async with client.sessions.stream(session_id) as stream:
                before_s = time.time()
                first = await stream.send_frame(jpeg())
                second = await stream.send_frame(jpeg(), source="wrist", clock_offset_s=0.5)
                assert second > first > before_s * 1e6, "numbered by the clock"
                assert await stream.send_frame(jpeg(), seq=40, captured_at_s=1e9) == 40
                assert await stream.send_frame(b"noise") == 41
                await stream.send_joints(NAMES, [(0, 1e9, (0.1, 0.2))], source="left")
                acks = {}
                async with asyncio.timeout(20):
                    async for ack in stream.acks():
                        acks[ack.source, ack.seq] = ack
                        if len(acks) == 4:
                            break
                statuses = {key: ack.status for key, ack in acks.items()}
                assert statuses == {
                    ("camera", first): "accepted",
                    ("wrist", second): "accepted",
                    ("camera", 40): "accepted",
                    ("camera", 41): "rejected",
                }
                assert acks["camera", 41].reason == "frame_unreadable"
                assert stream.cursor
                await worker.heard(joints=1)
                headers = worker.frames[0].headers
                assert headers is not None
                assert before_s <= float(headers["Frame-Captured-At"]) <= time.time()
            # The next connection begins where this one was.
            async with client.sessions.stream(session_id, after=stream.cursor, joints=True) as again:
                await again.ask_time()
                seen: list[dict[str, Any]] = []
                async with asyncio.timeout(20):
                    async for message in again:
                        seen.append(message)
                        if message["type"] == "clock_pong":  # from here on nothing that comes is missed
                            await again.send_joints(NAMES, [(1, 1e9, (0.1, 0.2))])
                        if {"clock_pong", "joints"} <= {one["type"] for one in seen}:
                            break
                assert "session.opened" not in {one["type"] for one in seen}
                await again.reset()
                await again.stop()
                types = []
                async with asyncio.timeout(20):
                    async for message in again:
                        types.append(message["type"])
                        if message["type"] == "session.stop_requested":
                            break
                assert "session.reset_requested" in types


async def test_the_readmes_examples_lose_no_frame_one_after_the_other(served: tuple[RunningGateway, str]):
    running, url = served
    section = (ROOT / "clients/python/README.md").read_text().partition("## Live sessions\n")[2].partition("\n## ")[0]
    # The example after these asks about a described video: test_client_words.py calls what it shows.
    by_http, by_socket, model, _ = re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {"time": time, "calibration": {}, "positions_rad": [0.1] * 6, "jpeg": jpeg()}

    def run(example: str, client: Any) -> Any:
        names["client"] = client
        return eval(compile(example, "README.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)

    with Client(url) as client:
        # The example's workload needs a GPU or minutes of a CPU.
        names["session"] = await asyncio.to_thread(client.sessions.open, "streamed")
        session_id = names["session"].id
        opened, _, by_http = by_http.partition("\n")
        assert opened.startswith("session = client.sessions.open(")
        async with run_scripted_worker(running, session_id) as worker, AsyncClient(url) as in_asyncio:
            await worker.claim()
            await asyncio.to_thread(run, by_http, client)
            streaming = asyncio.ensure_future(run(by_socket, in_asyncio))
            await worker.heard(frames=2, joints=2)
            await worker.succeed()
            async with asyncio.timeout(20):
                await streaming
            head = b"ply\nformat binary_little_endian 1.0\nelement vertex 1\nproperty float x\nend_header\n"
            await running.bucket.put(
                running.bucket.key("results", job_id_of_session(session_id), "live.ply"), head + bytes(4)
            )
            await asyncio.to_thread(run, model, client)
        numbers = [int((frame.headers or {})[FRAME_SEQ]) for frame in worker.frames]
        assert len(numbers) == 2
        assert numbers[1] > numbers[0], "a worker drops a frame with a smaller number"


async def test_a_stream_ends_with_its_session_and_says_why_it_was_cut(served: tuple[RunningGateway, str]):
    running, url = served
    async with AsyncClient(url) as client:
        session_id = (await client.sessions.open("streamed")).id
        async with run_scripted_worker(running, session_id) as worker, client.sessions.stream(session_id) as stream:
            await worker.claim()
            number = await stream.send_frame(jpeg())
            ended = asyncio.ensure_future(collected(stream))
            await worker.heard(frames=1)
            await client.sessions.stop(session_id)
            await worker.succeed()
            async with asyncio.timeout(20):
                assert [ack.seq for ack in await ended] == [number]
            with pytest.raises(ClientError) as cut:
                await stream.send_frame(jpeg())
            assert (cut.value.code, cut.value.retryable) == ("stream_closed", True)
        with pytest.raises(NotFoundError):
            async with client.sessions.stream("ses_01890000-0000-7000-8000-000000000000"):
                pass
        with pytest.raises(ClientError) as closed:
            await client.sessions.stream(session_id).send_frame(jpeg())
        assert closed.value.code == "stream_closed"
    async with AsyncClient(f"http://{HOST}:{free_port()}") as nowhere:
        with pytest.raises(ClientError) as gone:
            async with nowhere.sessions.stream(session_id):
                pass
        assert gone.value.code == "server_unreachable"


async def collected(stream: Any) -> list[Any]:
    return [ack async for ack in stream.acks()]


async def test_a_stream_needs_the_key_of_its_tenant(session_servers: Servers, tmp_path: Path):
    auth = AuthSettings(api_keys_file=keys_file(tmp_path, "mine", "other"))
    async with answering(session_servers, tmp_path, auth) as (_, url), AsyncClient(url, "mine.secret") as client:
        session_id = (await client.sessions.open("streamed")).id
        async with client.sessions.stream(session_id) as stream:
            async with asyncio.timeout(20):
                async for message in stream:
                    assert message["type"] == "session.opened"
                    break
        async with AsyncClient(url, "other.secret") as other:
            with pytest.raises(NotFoundError):
                async with other.sessions.stream(session_id):
                    pass
        async with AsyncClient(url, "mine.wrong") as wrong:
            with pytest.raises(UnauthorizedError):
                async with wrong.sessions.stream(session_id):
                    pass
