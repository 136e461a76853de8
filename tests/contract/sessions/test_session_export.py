"""A recorded session leaves the bus as it came: read by the API, written as MCAP, replayed, and nobody else's."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from mcap.reader import make_reader
from saccade_client import AsyncClient, Client, NotFoundError, Recorded, RefusedError
from saccade_client.async_sessions import AsyncTelemetryRecord

from cli.__main__ import saccade
from cli.failure import Failure
from cli.sessions.replay import ComparedValue, compare
from contracts.errors import ErrorCode
from contracts.job import State
from contracts.session import telemetry_subject
from kit.auth.api_keys import AuthSettings
from kit.bus.connection import request
from kit.http.server import serve
from modal_workers import catalog
from tests.harness.clients.python_clients import CLIENT_KINDS, opener
from tests.harness.network.cutting_pipe import CuttingPipe
from tests.harness.runtime.executor_environment import ExecutorHarness, open_local_harness
from tests.harness.runtime.job_driver import TENANT, WAIT_S
from tests.harness.runtime.session_driver import SessionDriver
from tests.harness.servers.embedded import HOST, EmbeddedNats, EmbeddedS3, NatsServer, S3Server, free_port
from tests.harness.servers.gateway import RunningGateway, keys_file, running_gateway
from tests.session_workers.watching.spec import WORKLOAD

pytestmark = pytest.mark.anyio

#: The robot's clock is behind and says so.
SKEW_S = 0.25


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[NatsServer, S3Server]]:
    with EmbeddedNats(tmp_path_factory.mktemp("nats")) as nats, EmbeddedS3(tmp_path_factory.mktemp("s3")) as s3:
        yield nats, s3


@dataclass
class Place:
    """A gateway that answers on a port, and what runs workers."""

    harness: ExecutorHarness
    running: RunningGateway
    port: int

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    async def call(self, *words: str, tenant: str = TENANT) -> Result:
        """Call the command as a tenant, in a thread: the gateway answers in this one."""
        environment = {"SACCADE_URL": self.url, "SACCADE_API_KEY": f"{tenant}.secret"}
        return await asyncio.to_thread(CliRunner(env=environment).invoke, saccade, ["sessions", *words])

    async def shown(self, *words: str) -> Any:
        """Call the command and read what it gives to programs."""
        result = await self.call(*words, "--json")
        assert result.exit_code == 0, (result.output, result.exception)
        return json.loads(result.stdout)

    async def refused(self, *words: str, tenant: str = TENANT) -> Failure:
        result = await self.call(*words, tenant=tenant)
        assert isinstance(result.exception, Failure), (result.output, result.exception)
        return result.exception

    async def record(self, frames: int = 9, **params: Any) -> SessionDriver:
        """Let the small worker see some frames, and one that is noise and one that was rejected by the gateway."""
        session = SessionDriver(self.harness.driver)
        assignment = await session.open({"chunk_frames": 4, "service_s": 0.02} | params)
        await self.harness.executor().launch(assignment, WORKLOAD.compute)
        await session.until_published("session.ready")
        for seq in range(frames):
            own_s = time.time() - SKEW_S
            clock = {"offset_s": SKEW_S, "error_s": 0.001}
            samples = [(2 * seq + step, own_s + 0.01 * step, [seq / 10 + step / 20]) for step in (0, 1)]
            await session.joints(*samples, clock=clock)
            await session.frame(seq, captured_at_s=own_s, offset_s=SKEW_S)
            await session.until(lambda acks, seq=seq: any(ack.seq == seq for ack in acks))
        await session.frame(frames, b"noise", offset_s=0.0)
        await session.frame(frames + 1, refused=ErrorCode.FRAME_TOO_LARGE, offset_s=0.0)
        await session.until(lambda acks: len(acks) == session.sent)
        await self.shown("stop", session.session_id, "--wait")
        return session

    async def purge(self, session: SessionDriver, keep: int = 0) -> None:
        """Purge frames from the bus, as retention does."""
        for name in ("joints", "frames", "acks"):
            subject = telemetry_subject(TENANT, session.session_id, name)
            wanted = {"filter": subject} | ({"keep": keep} if keep else {})
            assert (await request(self.running.store.client, "STREAM.PURGE.TELEMETRY", wanted))["success"]


@pytest.fixture
async def place(
    tmp_path: Path, servers: tuple[NatsServer, S3Server], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Place]:
    monkeypatch.setenv("WORKER_CATALOG", "tests.session_workers")
    catalog.forget_found()
    nats, s3 = servers
    auth = AuthSettings(api_keys_file=keys_file(tmp_path, TENANT, "other"))
    async with AsyncExitStack() as stack:
        harness = await stack.enter_async_context(open_local_harness(tmp_path / "data", nats, s3))
        running = await stack.enter_async_context(running_gateway(nats.settings, s3.settings, tmp_path, auth=auth))
        port, stop = free_port(), asyncio.Event()
        serving = asyncio.ensure_future(serve(running.app, HOST, port, authenticated=True, stop=stop))
        yield Place(harness, running, port)
        stop.set()
        await serving
    catalog.forget_found()


def messages(path: Path) -> dict[str, list[tuple[Any, dict[str, Any]]]]:
    """Read a file by topic: MCAP's message and its JSON."""
    found: dict[str, list[tuple[Any, dict[str, Any]]]] = {}
    with path.open("rb") as stream:
        for schema, channel, message in make_reader(stream, validate_crcs=True).iter_messages():
            assert schema is not None
            assert (schema.encoding, channel.message_encoding) == ("jsonschema", "json")
            body = json.loads(message.data)
            wanted = json.loads(schema.data)
            assert wanted["title"] == schema.name
            assert set(wanted["required"]) <= set(body) <= set(wanted["properties"])
            stamp = body["timestamp"]
            assert stamp["sec"] * 1_000_000_000 + stamp["nsec"] == message.log_time
            found.setdefault(channel.topic, []).append((message, body))
    return found


async def test_a_session_is_calibrated_with_by_its_id(place: Place) -> None:
    """It is exported first; what the small worker's robot has is no arm."""
    session = await place.record(frames=2)
    words = ["calibrate", session.session_id, "--charuco", "8x6", "--square-mm", "20"]
    environment = {"SACCADE_URL": place.url, "SACCADE_API_KEY": f"{TENANT}.secret"}
    result = await asyncio.to_thread(CliRunner(env=environment).invoke, saccade, words)
    assert isinstance(result.exception, Failure), (result.output, result.exception)
    assert result.exception.code == "joints_invalid"
    assert "no joint shoulder_pan" in result.exception.message


async def test_an_export_holds_every_picture_joint_and_verdict_at_its_time(place: Place, tmp_path: Path) -> None:
    session = await place.record()
    path = tmp_path / "session.mcap"
    told = await place.shown("export", session.session_id, str(path))
    assert (told["frames"], told["refused"], told["joint_samples"], told["verdicts"]) == (10, 1, 18, 11)
    assert (told["frames_missing"], told["unreadable"]) == (0, 0)
    assert told["bytes"] == path.stat().st_size
    found = messages(path)
    assert sorted(found) == ["/camera/camera", "/counts", "/joints", "/verdicts"] == told["topics"]

    subject = telemetry_subject(TENANT, session.session_id, "*")
    stored, left = await session.telemetry.batch(0, subject, with_headers=True)
    assert left == 0
    frames = [one for one in stored if one.subject.endswith(".frames") and one.body]
    pictures = found["/camera/camera"]
    assert [base64.b64decode(body["data"]) for _, body in pictures] == [one.body for one in frames]
    assert [body["seq"] for _, body in pictures] == [int(one.headers["Frame-Seq"]) for one in frames] == list(range(10))
    for (message, body), one in zip(pictures, frames, strict=True):
        captured_s = float(one.headers["Frame-Captured-At"])
        assert body["captured_at_s"] == captured_s
        assert message.log_time == pytest.approx((captured_s + body["clock_offset_s"]) * 1e9, abs=1000)
        assert message.log_time < message.publish_time, "captured before it was stored"
        whole, _, digits = one.headers["Nats-Time-Stamp"].removesuffix("Z").partition(".")
        assert message.publish_time % 1_000_000_000 == int(digits.ljust(9, "0"))
        assert time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(message.publish_time // 1_000_000_000)) == whole
    samples = found["/joints"]
    assert [body["seq"] for _, body in samples] == list(range(18))
    assert [body["joints"] for _, body in samples[2:4]] == [
        [{"name": "pan", "position": 0.1}],
        [{"name": "pan", "position": 0.15000000000000002}],
    ]
    assert samples[0][0].log_time == pictures[0][0].log_time, "taken at one moment, and corrected by what was stated"
    verdicts = [(body["seq"], body["status"], body.get("reason")) for _, body in found["/verdicts"]]
    assert verdicts == [(ack.seq, ack.status, ack.reason) for ack in await session.acks()]
    assert found["/counts"][-1][1]["sent"] == 11


async def test_a_file_that_is_there_stays_until_the_new_one_is_whole(place: Place, tmp_path: Path) -> None:
    path = tmp_path / "session.mcap"
    path.write_bytes(b"before")
    failure = await place.refused("export", "ses_00000000-0000-7000-8000-000000000000", str(path))
    assert failure.code == "session_not_found"
    assert path.read_bytes() == b"before"
    assert [one.name for one in tmp_path.iterdir() if one.name.endswith(".part")] == []


async def test_records_of_others_of_nothing_and_of_long_ago_are_refused(place: Place, tmp_path: Path) -> None:
    session = await place.record(frames=3)
    path = str(tmp_path / "session.mcap")
    assert (await place.refused("export", session.session_id, path, tenant="other")).code == "session_not_found"
    async with AsyncClient(place.url, "other.secret") as other:
        with pytest.raises(NotFoundError) as unknown:
            await other.sessions.record(session.session_id).size()
        assert unknown.value.status == 404
        assert [one async for one in other.sessions.all()] == []
    empty = await place.shown("open", "watching")
    assert (await place.refused("export", empty["id"], path)).code == "session_not_started"

    await place.purge(session, keep=2)
    told = await place.shown("export", session.session_id, path)
    assert (told["frames"] + told["refused"], told["frames_missing"]) == (2, 3)
    failure = await place.refused("replay", session.session_id)
    assert (failure.code, failure.message) == ("session_record_expired", "3 of 5 frames have expired.")
    await place.purge(session)
    failure = await place.refused("export", session.session_id, path)
    assert failure.code == "session_record_expired"
    assert "6 hours" in failure.hint
    async with AsyncClient(place.url, f"{TENANT}.secret") as client:
        with pytest.raises(RefusedError) as gone:
            await client.sessions.record(session.session_id).size()
        assert gone.value.status == 410


@pytest.mark.parametrize("face", CLIENT_KINDS)
async def test_a_record_comes_whole_over_connections_that_break(place: Place, face: str) -> None:
    """It is larger than what is read from the bus at a time, and it is cut three times, inside of pictures."""
    session = SessionDriver(place.harness.driver)
    await session.open({})
    pictures = [bytes([seq]) * 900_000 for seq in range(7)]
    for seq, picture in enumerate(pictures):
        await session.frame(seq, picture)
        await session.joints((seq, time.time(), [0.5]))
    subject = telemetry_subject(TENANT, session.session_id, "*")
    some, left = await session.telemetry.batch(0, subject, size_bytes=2_000_000)
    assert left > 0
    assert sum(len(one.body) for one in some) < 3_000_000
    wanted = [one async for one in session.telemetry.history(0, subject)]
    with CuttingPipe() as pipe:
        address = pipe.to(place.url)
        pipe.cut_down.extend([1_300_000, 950_000, 2_700_100])
        async with opener(face)(address, f"{TENANT}.secret") as client:
            record = client.sessions.record(session.session_id)
            got = await (drained(record) if face == "asyncio" else asyncio.to_thread(list, record))
    assert not pipe.cut_down
    asked = [int(one.partition("?after=")[2].split(" ")[0]) for one in pipe.asked]
    assert asked[0] == 0
    assert len(asked) == 4
    assert asked == sorted(asked), "it goes on from where it was cut"
    assert asked[-1] > wanted[0].sequence
    assert [(one.sequence, one.body) for one in got] == [(one.sequence, one.body) for one in wanted]
    assert [one.kind for one in got] == ["frames", "joints"] * 7


async def drained(record: AsyncTelemetryRecord) -> list[Recorded]:
    return [one async for one in record]


async def test_a_replay_makes_the_same_of_it_and_the_command_says_so(place: Place) -> None:
    session = await place.record()
    listed = await place.call()
    assert listed.exit_code == 0
    row = next(line.split() for line in listed.stdout.splitlines() if line.startswith(session.session_id))
    assert row[1:6] == ["watching", "stopped", "9", "0", "2"]
    following = asyncio.ensure_future(place.call("replay", session.session_id, "--follow", "--json"))
    await play_dispatcher(place, session.session_id)
    result = await following
    assert result.exit_code == 0, (result.output, result.exception)
    told = json.loads(result.stdout)
    assert told["same"] is True
    assert told["replay_of"] == session.session_id
    names = [one["name"] for one in told["compared"]]
    assert names == ["chunks", "accepted frames", "chunk_0001.json", "chunk_0002.json", "chunk_0003.json"]
    shown = await place.call("show", told["session"])
    assert f"replay of {session.session_id}" in shown.stdout
    assert "11 frames sent = 9 accepted + 0 dropped + 2 rejected" in shown.stdout

    bucket = place.running.bucket
    key = bucket.key("results", session.job_id, "manifest.json")
    manifest = json.loads(await bucket.get(key))
    manifest["artifacts"][1]["sha256"] = "0" * 64
    await bucket.put(key, json.dumps(manifest).encode(), "application/json")
    compared = await asyncio.to_thread(compare_again, place.url, session.session_id, told["session"])
    assert [one.name for one in compared if not one.same] == [manifest["artifacts"][1]["name"]]


def compare_again(url: str, *session_ids: str) -> list[ComparedValue]:
    """Hold two sessions against each other."""
    with Client(url, f"{TENANT}.secret") as client:
        original, replay = (client.sessions.get(one) for one in session_ids)
        return compare(client, original, replay)


async def play_dispatcher(place: Place, replay_of: str) -> None:
    """Start the worker of a session that replays another one, and wait for its end."""
    end = time.monotonic() + WAIT_S
    while True:
        sessions, _ = place.running.app.state.sessions.page(TENANT)
        found = [one.id for one in sessions if one.opened.replay_of == replay_of]
        if found:
            break
        assert time.monotonic() < end, "no replay was opened"
        await asyncio.sleep(0.05)
    job_id = found[0].replace("ses_", "job_")
    while not await place.harness.driver.types(job_id):
        await asyncio.sleep(0.02)
    assignment = await place.harness.driver.start(job_id)
    await place.harness.executor().launch(assignment, WORKLOAD.compute)
    await place.harness.driver.until(job_id, State.SUCCEEDED)
