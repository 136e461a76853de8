"""The gateway's routes for workers that cannot reach NATS: who is let in, what is taken, what is answered."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from nats.aio.client import Client, RawCredentials

from contracts.events import encode
from contracts.events.base import Message
from contracts.events.job import (
    Cost,
    JobArtifactReady,
    JobCancelRequested,
    JobFailed,
    JobProgressed,
    JobStageCompleted,
    JobStarted,
    JobStarting,
    JobSubmitted,
    JobSucceeded,
)
from contracts.ids import new_id
from contracts.limits import EVENT_BYTES
from contracts.manifest import Artifact
from contracts.streams import aggregate
from contracts.worker_rights import run_grant
from kit.auth.api_keys import AuthSettings
from kit.auth.bus_token import BusToken
from kit.bus.event_store import EventStore
from tests.harness.runtime.job_driver import TENANT
from tests.harness.servers.embedded import OperatorNats, S3Server
from tests.harness.servers.gateway import RunningGateway, code_of, keys_file, running_gateway

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorNats]:
    with OperatorNats(tmp_path_factory.mktemp("nats")) as server:
        yield server


@dataclass
class Run:
    """A run that was begun, its token, and the routes it has."""

    running: RunningGateway
    token: BusToken
    job_id: str
    run_id: str
    #: Sequence of the job's newest event.
    sequence: int

    def say(self, data: Any, event_id: str, **other: str) -> Message:
        given = {"tenant": TENANT, "subject_id": self.job_id, "source": f"/worker/{self.run_id}"} | other
        return encode(data, event_id=event_id, **given)

    def started(self) -> Message:
        data = JobStarted(attempt=1, run_id=self.run_id, device="cpu", worker="w")
        return self.say(data, f"{self.run_id}.started.w")

    def completed(self, stage: str = "a") -> Message:
        data = JobStageCompleted(attempt=1, run_id=self.run_id, stage=stage, duration_s=1)
        return self.say(data, f"{self.run_id}.stage.1")

    async def post(self, body: bytes, after: int | None = None, **headers: str) -> httpx.Response:
        given = {"Authorization": f"Bearer {self.token.jwt}", "Content-Type": "application/cloudevents+json"}
        given |= {} if after is None else {"Saccade-After": str(after)}
        return await self.running.http.post(f"/v1/runs/{self.run_id}/events", content=body, headers=given | headers)

    async def get(self, **headers: str) -> httpx.Response:
        given = {"Authorization": f"Bearer {self.token.jwt}"} | headers
        return await self.running.http.get(f"/v1/runs/{self.run_id}", headers=given)

    async def stored(self) -> list[tuple[int, bytes]]:
        subjects = aggregate(TENANT, "job", self.job_id)
        return [(one.sequence, one.body) async for one in self.running.store.history(self.sequence, subjects)]


async def begin(running: RunningGateway, server: OperatorNats, lifetime_s: float = 600.0) -> Run:
    job_id, run_id = new_id("job"), new_id("run")
    submitted = JobSubmitted(
        workload="lap_compare",
        workload_version="1",
        inputs={},
        params={},
        deadline=datetime.now(UTC) + timedelta(hours=1),
    )
    starting = JobStarting(attempt=1, run_id=run_id, executor="modal", device="T4")
    for data in (submitted, starting):
        sequence = await running.store.publish(encode(data, tenant=TENANT, subject_id=job_id, source="/test"))
    return Run(running, server.tokens.issue(run_grant(TENANT, job_id, run_id), lifetime_s), job_id, run_id, sequence)


@pytest.fixture
async def running(server: OperatorNats, s3_server: S3Server, tmp_path: Path) -> AsyncIterator[RunningGateway]:
    worker_key = (server.keys / "workers.key").read_text()
    auth = AuthSettings(api_keys_file=keys_file(tmp_path, TENANT))
    async with running_gateway(
        server.settings, s3_server.settings, tmp_path, auth=auth, worker_key=worker_key
    ) as running:
        yield running


@pytest.fixture
async def run(running: RunningGateway, server: OperatorNats) -> Run:
    return await begin(running, server)


async def test_a_run_reads_its_own_job(run: Run) -> None:
    answer = await run.get()
    assert answer.status_code == 200
    body = answer.json()
    assert (body["job_id"], body["run_id"], body["sequence"]) == (run.job_id, run.run_id, run.sequence)
    assert [one["event"]["type"] for one in body["events"]] == ["job.submitted", "job.starting"]
    assert [one["sequence"] for one in body["events"]] == [run.sequence - 1, run.sequence]


async def test_an_event_is_stored_as_it_was_sent_and_once(run: Run) -> None:
    message = run.completed()
    body = message.body.replace(b'":', b'" : ', 3)  # as nobody of ours would write it
    answer = await run.post(body)
    assert answer.status_code == 200, answer.text
    again = await run.post(body)
    assert again.json() == answer.json()
    assert await run.stored() == [(answer.json()["sequence"], body)]


async def test_a_condition_holds_or_is_a_conflict(run: Run) -> None:
    message = run.started()
    conflict = await run.post(message.body, after=run.sequence - 1)
    assert (conflict.status_code, code_of(conflict)) == (409, "sequence_conflict")
    assert await run.stored() == []
    answer = await run.post(message.body, after=run.sequence)
    assert answer.json()["sequence"] > run.sequence
    assert (await run.post(message.body, after=run.sequence)).status_code == 409


async def test_progress_goes_to_its_own_stream(run: Run) -> None:
    data = JobProgressed(attempt=1, run_id=run.run_id, stage="a", fraction=0.5, stage_fraction=0.5)
    message = encode(data, tenant=TENANT, subject_id=run.job_id, source=f"/worker/{run.run_id}")
    assert (await run.post(message.body)).status_code == 200
    progress = EventStore(run.running.store.client, "PROGRESS")
    assert [one.body for one in await progress.load(message.subject)] == [message.body]
    assert await run.stored() == []
    large = data.model_copy(update={"message": "x" * 70_000})
    message = encode(large, tenant=TENANT, subject_id=run.job_id, source=f"/worker/{run.run_id}")
    assert code_of(await run.post(message.body)) == "body_too_large"


async def test_only_this_runs_token_opens_its_routes(
    run: Run, running: RunningGateway, server: OperatorNats, tmp_path: Path
) -> None:
    (tmp_path / "forger").mkdir()
    forged = OperatorNats(tmp_path / "forger", own_keys=True).tokens.issue(
        run_grant(TENANT, run.job_id, run.run_id), 600
    )
    expired = server.tokens.issue(run_grant(TENANT, run.job_id, run.run_id), -1)
    other = await begin(running, server)
    header, claims, _ = run.token.jwt.split(".")
    for bearer, status, code, words in [
        (f"Bearer {forged.jwt}", 401, "unauthenticated", "signature is not right"),
        (f"Bearer {expired.jwt}", 401, "unauthenticated", "has expired"),
        (f"Bearer {header}.{claims}.", 401, "unauthenticated", "signature is not right"),
        (f"Bearer {TENANT}.secret", 401, "unauthenticated", "not a worker's token"),
        (run.token.jwt, 401, "unauthenticated", "no worker's token"),
        ("", 401, "unauthenticated", "no worker's token"),
        (f"Bearer {other.token.jwt}", 403, "forbidden", "another run"),
    ]:
        for answer in (
            await run.get(Authorization=bearer),
            await run.post(run.completed().body, Authorization=bearer),
        ):
            assert (answer.status_code, code_of(answer)) == (status, code), bearer
            assert words in answer.json()["detail"]
            assert run.token.jwt not in answer.text
    assert await run.stored() == []


async def test_a_workers_token_opens_nothing_else(run: Run, running: RunningGateway) -> None:
    headers = {"Authorization": f"Bearer {run.token.jwt}"}
    for method, path in [
        ("GET", "/v1/jobs"),
        ("GET", f"/v1/jobs/{run.job_id}"),
        ("POST", f"/v1/jobs/{run.job_id}/cancel"),
        ("GET", f"/v1/jobs/{run.job_id}/artifacts"),
        ("POST", "/v1/uploads"),
    ]:
        answer = await running.http.request(method, path, headers=headers)
        assert (answer.status_code, code_of(answer)) == (401, "unauthenticated"), path


async def test_a_run_speaks_for_itself_only(run: Run, running: RunningGateway, server: OperatorNats) -> None:
    other = await begin(running, server)
    done = JobStageCompleted(attempt=1, run_id=run.run_id, stage="a", duration_s=1)
    own = f"{run.run_id}.x"
    failed = JobFailed(attempt=1, failure="user", error={"code": "clip_static", "message": "", "hint": ""})
    foreign = {
        "another job": run.say(done, own, subject_id=other.job_id),
        "another tenant": run.say(done, own, tenant="rival"),
        "a source of ours": run.say(done, own, source="/dispatcher"),
        "another run as source": run.say(done, own, source=f"/worker/{other.run_id}"),
        "another run's data": run.say(done.model_copy(update={"run_id": other.run_id}), own),
        "another run's event id": run.say(done, f"{other.run_id}.succeeded"),
        "an id with a line end": run.say(done, f"{own}\r\nNats-Rollup: all"),
        "what the dispatcher says": run.say(failed, own),
        "what the gateway says": run.say(JobCancelRequested(by="worker"), own),
        "a wildcard": run.say(done, own, subject_id="*"),
    }
    before = await other.stored()
    for what, message in foreign.items():
        answer = await run.post(message.body)
        assert (answer.status_code, code_of(answer)) == (403, "forbidden"), what
    assert await run.stored() == []
    assert await other.stored() == before


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"{}", b"\xff\xfe", b'{"specversion": "1.0"}', b"[" * 50_000, b"null"]
)
async def test_what_is_no_event_is_refused(run: Run, body: bytes) -> None:
    answer = await run.post(body)
    assert (answer.status_code, code_of(answer)) == (400, "malformed_request")


async def test_an_event_of_an_unknown_type_or_with_wrong_data_is_refused(run: Run) -> None:
    event = json.loads(run.completed().body)
    for changed in (event | {"type": "job.vanished"}, event | {"data": {"attempt": "many"}}):
        answer = await run.post(json.dumps(changed).encode())
        assert (answer.status_code, code_of(answer)) == (400, "malformed_request")


async def test_an_event_may_be_as_large_as_on_the_bus_and_no_larger(run: Run) -> None:
    fixed = len(run.completed("").body)
    large = run.completed("x" * (EVENT_BYTES - 4096 - fixed))
    assert (await run.post(large.body)).status_code == 200
    too_large = run.completed("x" * EVENT_BYTES)
    answer = await run.post(too_large.body)
    assert (answer.status_code, code_of(answer)) == (413, "body_too_large")


@pytest.mark.parametrize("after", ["-1", "x", "1.5"])
async def test_a_condition_that_is_no_sequence_is_refused(run: Run, after: str) -> None:
    answer = await run.post(run.completed().body, **{"Saccade-After": after})
    assert (answer.status_code, code_of(answer)) == (422, "invalid_parameter")


async def test_a_gateway_without_the_key_says_how_to_get_one(
    server: OperatorNats, s3_server: S3Server, tmp_path: Path
) -> None:
    async with running_gateway(server.settings, s3_server.settings, tmp_path) as running:
        run = await begin(running, server)
        for answer in (await run.get(), await run.post(run.completed().body)):
            assert (answer.status_code, code_of(answer)) == (404, "not_found")
            assert "GATEWAY_WORKER_KEY" in answer.json()["hint"]


async def test_a_token_counts_by_nats_and_by_https_alike(run: Run, server: OperatorNats) -> None:
    """What was said one way is read, and conditioned on, the other."""
    message = run.started()
    answer = await run.post(message.body, after=run.sequence)
    settings = server.settings_of(run.token)
    assert settings.credentials is not None
    client = Client()
    await client.connect(
        server.url,
        user_credentials=RawCredentials(settings.credentials.get_secret_value()),
        inbox_prefix=run.token.inbox_prefix.encode(),
    )
    reply = await client.request(f"$JS.API.DIRECT.GET.EVENTS.saccade.evt.{TENANT}.job.{run.job_id}.started")
    assert reply.headers["Nats-Sequence"] == str(answer.json()["sequence"])
    assert reply.data == message.body
    await client.close()


async def test_by_nats_too_an_event_counts_for_its_own_subject_only(
    run: Run, running: RunningGateway, server: OperatorNats
) -> None:
    """By NATS a worker writes what bytes it likes, where it may write."""
    victim = await begin(running, server)
    headers = {"Authorization": f"Bearer {TENANT}.secret"}
    cost = Cost(device="T4", seconds=1, usd=0)
    succeeded = JobSucceeded(
        attempt=1, run_id=victim.run_id, result={}, manifest_key="uploads/x", duration_s=1, cost=cost
    )
    lie = encode(succeeded, tenant=TENANT, subject_id=victim.job_id, source=f"/worker/{victim.run_id}")
    own = f"saccade.evt.{TENANT}.job.{run.job_id}.succeeded"
    for body in (lie.body, b"\xff not an event"):
        sequence = await running.store.publish(Message(own, new_id("evt"), body))
        assert await running.tail.wait_for(sequence, 5)
    for job_id in (victim.job_id, run.job_id):
        answer = await running.http.get(f"/v1/jobs/{job_id}", headers=headers)
        assert answer.json()["state"] == "starting"
    # Nor is its own job stuck: the next condition holds.
    newest = (await run.get()).json()["sequence"]
    assert (await run.post(run.started().body, after=newest)).status_code == 200


async def test_a_file_that_a_worker_names_must_be_its_jobs(
    run: Run, running: RunningGateway, server: OperatorNats
) -> None:
    victim = await begin(running, server)
    headers = {"Authorization": f"Bearer {TENANT}.secret"}
    secret = running.bucket.key("results", victim.job_id, "secret.txt")
    await running.bucket.put(secret, b"secret")
    assert (await run.post(run.started().body)).status_code == 200
    own = running.bucket.key("results", run.job_id)
    for number, key in enumerate((secret, f"{own}/../{victim.job_id}/secret.txt", f"{own}x/secret.txt", "")):
        artifact = Artifact(name=f"{number}.txt", key=key, bytes=6, sha256="0" * 64, media_type="text/plain")
        data = JobArtifactReady(attempt=1, run_id=run.run_id, artifact=artifact)
        stored = await run.post(run.say(data, f"{run.run_id}.artifact.{number}").body)
        assert await running.tail.wait_for(stored.json()["sequence"], 5)
        answer = await running.http.get(f"/v1/jobs/{run.job_id}/artifacts/{number}.txt", headers=headers)
        assert (answer.status_code, code_of(answer)) == (404, "artifact_not_found"), key
