"""Sessions over HTTP: opened once with their job, frames and joints taken or refused, stopped, reset, listed."""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from contracts.errors import ErrorCode, SaccadeError
from contracts.events import encode
from contracts.events.job import JobCancelled, JobFailed
from contracts.events.session import SessionOpened
from contracts.ids import new_id
from contracts.limits import SESSION_LENGTH_S
from contracts.session import SessionLaunch, job_id_of_session, telemetry_subject
from contracts.streams import aggregate
from kit.auth.api_keys import AuthSettings
from kit.bus.connection import request
from kit.settings import NatsSettings, S3Settings
from tests.harness.servers.gateway import RunningGateway, code_of, keys_file, running_gateway
from tests.harness.sessions.scripted_session_worker import batch, jpeg, opened, run_scripted_worker, send, shown

pytestmark = pytest.mark.anyio

Servers = tuple[NatsSettings, S3Settings]
NAMES = ["pan", "lift"]


@pytest.fixture
def running(session_gateway: RunningGateway) -> RunningGateway:
    return session_gateway


def counts(session: dict[str, Any]) -> dict[str, int]:
    """Return the frames of a session by verdict."""
    return {name: session["frames"][name] for name in ("sent", "accepted", "dropped", "rejected", "waiting")}


async def test_opening_submits_the_job_that_is_the_sessions_worker(running: RunningGateway):
    found = await opened(
        running, params={"steps": 9}, idle_timeout_s=30, max_length_s=600, max_cost_usd=2, metadata={"arm": "left"}
    )
    assert (found["state"], found["params"], found["metadata"]) == ("opening", {"steps": 9}, {"arm": "left"})
    assert found["cost"] == {"actual_usd": 0, "max_usd": 2}
    assert counts(found) == {"sent": 0, "accepted": 0, "dropped": 0, "rejected": 0, "waiting": 0}
    job = await running.job(job_id_of_session(found["id"]))
    assert (found["job"]["id"], found["job"]["state"]) == (job.id, "submitted")
    launch = SessionLaunch.model_validate(job.submitted.params)
    assert (launch.session_id, launch.params) == (found["id"], {"steps": 9})
    assert (launch.idle_timeout_s, launch.max_length_s) == (30, 600)
    assert (job.submitted.max_cost_usd, job.submitted.workload) == (2, "streamed")
    assert (job.submitted.deadline - job.created_at).total_seconds() > 600
    assert found["links"]["events"] == f"/v1/sessions/{found['id']}/events"
    types = await running.types()
    assert types[-2:] == ["session.opened", "job.submitted"]


async def test_one_key_opens_one_session_however_many_ask(running: RunningGateway):
    key = {"Idempotency-Key": new_id("req")}
    found = await asyncio.gather(*(opened(running, key) for _ in range(5)))
    assert len({one["id"] for one in found}) == 1
    assert (await opened(running, key))["id"] == found[0]["id"]
    other = await running.http.post("/v1/sessions", json={"workload": "streamed", "params": {"steps": 2}}, headers=key)
    assert code_of(other) == "idempotency_key_reused"
    mine = [one async for one in running.store.history(0, aggregate("local", "session", found[0]["id"]))]
    jobs = [one async for one in running.store.history(0, aggregate("local", "job", job_id_of_session(found[0]["id"])))]
    assert (len(mine), len(jobs)) == (1, 1)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"workload": "nothing"}, "unknown_workload"),
        ({"workload": "lap_compare"}, "invalid_parameter"),
        ({"workload": "streamed", "params": {"steps": 0}}, "invalid_parameter"),
        ({"workload": "streamed", "params": {"stepz": 1}}, "unknown_parameter"),
        ({"workload": "streamed", "idle_timeout_s": 0}, "invalid_parameter"),
        ({"workload": "streamed", "max_length_s": SESSION_LENGTH_S + 1}, "invalid_parameter"),
        ({"workload": "streamed", "max_cost_usd": -1}, "invalid_parameter"),
        ({"workload": "streamed", "inputs": {}}, "unknown_parameter"),
        ({"workload": "streamed", "metadata": {"a": "x" * 5000}}, "invalid_parameter"),
        ({"workload": "streamed", "replay_of": "ses_1"}, "invalid_parameter"),
        ({"workload": "streamed", "replay_of": "ses_01a1ff9d-3a22-7db6-87ae-98a61a830aba"}, "session_not_found"),
    ],
)
async def test_invalid_fields_are_refused(running: RunningGateway, body: dict[str, Any], code: str):
    answer = await running.http.post("/v1/sessions", json=body)
    assert code_of(answer) == code


async def test_a_session_is_no_job_and_its_job_is_not_retried(running: RunningGateway):
    answer = await running.http.post("/v1/jobs", json={"workload": "streamed"})
    assert code_of(answer) == "invalid_parameter"
    assert "POST /v1/sessions" in answer.json()["detail"]
    job_id = job_id_of_session((await opened(running))["id"])
    await running.say(job_id, JobCancelled(attempt=0))
    assert code_of(await running.http.post(f"/v1/jobs/{job_id}/retry")) == "job_not_retryable"


async def test_a_session_without_its_job_is_given_it(session_servers: Servers, tmp_path: Path):
    """A gateway that dies between both events, and one that starts again."""
    session_ids = [new_id("ses"), new_id("ses")]
    data = SessionOpened(
        workload="streamed", workload_version="1", params={"steps": 3}, idle_timeout_s=9, max_length_s=99
    )
    messages = [encode(data, tenant="local", subject_id=one, source="/gateway") for one in session_ids]
    async with running_gateway(*session_servers, tmp_path) as running:
        await running.store.publish(messages[0])
    async with running_gateway(*session_servers, tmp_path) as running:
        await running.store.publish(messages[1])
        async with asyncio.timeout(20):
            for session_id in session_ids:
                while not await running.store.load(aggregate("local", "job", job_id_of_session(session_id))):
                    await asyncio.sleep(0.05)
        for session_id in session_ids:
            job = await running.job(job_id_of_session(session_id))
            assert SessionLaunch.model_validate(job.submitted.params).session_id == session_id


async def test_a_life(running: RunningGateway):
    found = await opened(running)
    async with run_scripted_worker(running, found["id"]) as worker:
        await worker.claim()
        assert (await shown(running, found["id"]))["state"] == "ready"
        captured = time.time() - 0.5
        answer = await send(
            running, found["id"], X_Frame_Seq="7", X_Frame_Captured_At=repr(captured), X_Frame_Clock_Offset="0.25",
            X_Frame_Source="wrist",
        )  # fmt: skip
        assert (answer.status_code, answer.json()) == (202, {"source": "wrist", "seq": 7, "status": "received"})
        await worker.heard(frames=1)
        headers = worker.frames[0].headers
        assert worker.frames[0].data == jpeg()
        assert {name: headers[name] for name in headers if name.startswith(("Frame", "Content"))} == {
            "Frame-Seq": "7",
            "Frame-Captured-At": repr(captured),
            "Frame-Clock-Offset": "0.25",
            "Frame-Source": "wrist",
            "Content-Type": "image/jpeg",
        }
        await worker.progress(version=3, splats=12)
        await worker.export()
        async with asyncio.timeout(20):
            while (now := await shown(running, found["id"]))["figures"] != {"version": 3, "splats": 12}:
                await asyncio.sleep(0.02)
        assert now["state"] == "running"
        assert counts(now) == {"sent": 1, "accepted": 1, "dropped": 0, "rejected": 0, "waiting": 0}
        assert (now["chunk"], now["frame_age_s"]) == ({"number": 1, "artifact": "chunk_0001.ply"}, 0.02)
        assert now["cost"]["actual_usd"] == 0.01
        stopping = (await running.http.post(f"/v1/sessions/{found['id']}/stop")).json()
        assert (stopping["state"], stopping["job"]["state"]) == ("stopping", "running")
        assert code_of(await send(running, found["id"])) == "session_ended"
        waiting = asyncio.ensure_future(
            running.http.post(f"/v1/sessions/{found['id']}/stop", headers={"Prefer": "wait=10"})
        )
        await worker.succeed()
        answer = await waiting
        over = answer.json()
        assert answer.headers["preference-applied"] == "wait=10"
        assert (over["state"], over["reason"], over["cost"]["actual_usd"]) == ("stopped", "asked", 0.5)
        assert (over["result"]["chunks"], over["frames"]["accepted"]) == (1, 1)
        assert over["finished_at"]
        types = [one.subject.rpartition(".")[2] for one in await running.store.load(
            aggregate("local", "session", found["id"])
        )]  # fmt: skip
        assert types == ["opened", "ready", "started", "chunk_exported", "stop_requested", "stopped"]
    for path, body in (("frames", {"content": jpeg()}), ("joints", {"json": batch((0, 0))}), ("reset", {})):
        assert code_of(await running.http.post(f"/v1/sessions/{found['id']}/{path}", **body)) == "session_ended"
    again = await running.http.post(f"/v1/sessions/{found['id']}/stop")
    assert (again.status_code, again.json()["state"]) == (200, "stopped")


async def test_a_session_that_no_worker_has_begun_ends_at_once(running: RunningGateway):
    found = await opened(running)
    assert (await send(running, found["id"])).status_code == 202
    await running.http.post(f"/v1/sessions/{found['id']}/stop")
    job = await running.job(job_id_of_session(found["id"]))
    assert job.cancel_requested
    await running.say(job.id, JobCancelled(attempt=0))
    answer = await running.http.get(f"/v1/sessions/{found['id']}", headers={"Prefer": "wait=5"})
    over = answer.json()
    assert (over["state"], over["reason"]) == ("stopped", "asked")
    # A frame that nobody has counted was sent all the same.
    assert counts(over) == {"sent": 1, "accepted": 0, "dropped": 1, "rejected": 0, "waiting": 0}


async def test_a_session_whose_job_is_cancelled_ends_with_what_its_worker_counted(running: RunningGateway):
    found = await opened(running)
    async with run_scripted_worker(running, found["id"]) as worker:
        await worker.claim()
        await send(running, found["id"])
        await send(running, found["id"], b"")
        await worker.heard(frames=2)
        await worker.progress()
        await running.http.post(f"/v1/jobs/{job_id_of_session(found['id'])}/cancel")
        await running.say(job_id_of_session(found["id"]), JobCancelled(attempt=1))
    over = (await running.http.get(f"/v1/sessions/{found['id']}", headers={"Prefer": "wait=5"})).json()
    assert (over["state"], over["reason"]) == ("stopped", "asked")
    assert counts(over) == {"sent": 2, "accepted": 1, "dropped": 0, "rejected": 1, "waiting": 0}


async def test_a_view_that_is_lost_is_built_again(session_servers: Servers, tmp_path: Path):
    async with running_gateway(*session_servers, tmp_path) as running:
        ids = [(await opened(running))["id"] for _ in range(3)]
        async with run_scripted_worker(running, ids[0]) as worker:
            await worker.claim()
            await send(running, ids[0])
            await worker.heard(frames=1)
            await worker.progress(splats=5)
            await worker.export()
            async with asyncio.timeout(20):
                while (before := await shown(running, ids[0]))["figures"] != {"splats": 5}:
                    await asyncio.sleep(0.02)
    shutil.rmtree(tmp_path / "view")
    async with running_gateway(*session_servers, tmp_path) as running:
        after = await shown(running, ids[0])
        assert after == before
        listed = (await running.http.get("/v1/sessions", params={"limit": 3})).json()["data"]
        assert [one["id"] for one in listed] == ids[::-1]
        async with run_scripted_worker(running, ids[0]) as worker:
            worker.run_id = (await running.job(job_id_of_session(ids[0]))).run_id or ""
            await worker.succeed()
        over = await running.http.get(f"/v1/sessions/{ids[0]}", headers={"Prefer": "wait=5"})
        assert over.json()["state"] == "stopped"


async def test_a_session_whose_end_nobody_told_ends_when_a_gateway_starts(session_servers: Servers, tmp_path: Path):
    async with running_gateway(*session_servers, tmp_path) as running:
        found = await opened(running)
        async with run_scripted_worker(running, found["id"]) as worker:
            await worker.claim()
            running.loop.reconciler._running = False  # as if it had died before it could
            await worker.succeed("idle")
            assert (await shown(running, found["id"]))["state"] == "ready"
    async with running_gateway(*session_servers, tmp_path) as running:
        over = await running.http.get(f"/v1/sessions/{found['id']}", headers={"Prefer": "wait=5"})
        assert (over.json()["state"], over.json()["reason"]) == ("stopped", "idle")


async def test_a_job_that_fails_fails_its_session(running: RunningGateway):
    found = await opened(running)
    error = SaccadeError(ErrorCode.WORKER_LOST).body()
    await running.say(job_id_of_session(found["id"]), JobFailed(attempt=1, failure="lost", error=error))
    answer = await running.http.get(f"/v1/sessions/{found['id']}", headers={"Prefer": "wait=5"})
    assert (answer.json()["state"], answer.json()["error"]["code"]) == ("failed", "worker_lost")


async def test_reset_is_told_and_does_not_end(running: RunningGateway):
    found = await opened(running)
    answer = await running.http.post(f"/v1/sessions/{found['id']}/reset")
    assert (answer.status_code, answer.json()["state"]) == (200, "opening")
    assert (await running.types())[-1] == "session.reset_requested"


async def test_another_tenants_session_is_not_there(session_servers: Servers, tmp_path: Path):
    auth = AuthSettings(api_keys_file=keys_file(tmp_path, "acme", "rival", "looker", read_only=("looker",)))
    async with running_gateway(*session_servers, tmp_path, auth=auth) as running:
        mine, theirs = ({"Authorization": f"Bearer {name}.secret"} for name in ("acme", "rival"))
        session_id = (await opened(running, mine))["id"]
        here = f"/v1/sessions/{session_id}"
        for method, path, body in (
            ("GET", here, {}),
            ("POST", f"{here}/stop", {}),
            ("POST", f"{here}/reset", {}),
            ("POST", f"{here}/frames", {"content": jpeg()}),
            ("POST", f"{here}/joints", {"json": batch((0, 0))}),
        ):
            answer = await running.http.request(method, path, headers=theirs, **body)
            assert (answer.status_code, code_of(answer)) == (404, "session_not_found"), path
            assert (await running.http.request(method, path, **body)).status_code == 401
        replay = {"workload": "streamed", "replay_of": session_id}
        assert code_of(await running.http.post("/v1/sessions", json=replay, headers=theirs)) == "session_not_found"
        replayed = await running.http.post("/v1/sessions", json=replay, headers=mine)
        assert replayed.json()["replay_of"] == session_id
        assert (await running.http.get("/v1/sessions", headers=theirs)).json()["data"] == []
        reader = {"Authorization": "Bearer looker.secret"}
        answer = await running.http.post("/v1/sessions", json={"workload": "streamed"}, headers=reader)
        assert code_of(answer) == "forbidden"


async def test_a_workload_that_cannot_repeat_itself_is_not_replayed(running: RunningGateway):
    opening = await running.http.post("/v1/sessions", json={"workload": "describing"})
    assert opening.status_code == 201, opening.text
    replay = {"workload": "describing", "replay_of": opening.json()["id"]}
    answer = await running.http.post("/v1/sessions", json=replay)
    assert (answer.status_code, code_of(answer)) == (422, "invalid_parameter")
    assert "describing cannot be replayed" in answer.json()["detail"]
    assert answer.json()["errors"][0]["pointer"] == "#/replay_of"


async def test_only_a_whole_record_is_replayed(running: RunningGateway):
    found = await opened(running)
    replay = {"workload": "streamed", "replay_of": found["id"]}
    assert (await running.http.post("/v1/sessions", json=replay)).status_code == 201, (
        "nothing was sent, nothing is lost"
    )
    async with run_scripted_worker(running, found["id"]) as worker:
        await worker.claim()
        for _ in range(3):
            await send(running, found["id"], prefer="wait=5")
        again = await running.http.post("/v1/sessions", json=replay)
        assert again.status_code == 201
        of_replay = await running.http.post("/v1/sessions", json=replay | {"replay_of": again.json()["id"]})
        assert (code_of(of_replay), found["id"] in of_replay.json()["detail"]) == ("invalid_parameter", True)
        subject = telemetry_subject("local", found["id"], "frames")
        client = running.store.client
        assert (await request(client, "STREAM.PURGE.TELEMETRY", {"filter": subject, "keep": 2}))["success"]
        answer = await running.http.post("/v1/sessions", json=replay)
        assert (answer.status_code, code_of(answer)) == (410, "session_record_expired")
        assert "2 of 3 frames" in answer.json()["detail"]
        assert (await request(client, "STREAM.PURGE.TELEMETRY", {"filter": subject.replace("frames", "*")}))["success"]
        assert code_of(await running.http.post("/v1/sessions", json=replay)) == "session_record_expired"


async def test_the_list_goes_on_where_it_was(running: RunningGateway):
    made = [(await opened(running))["id"] for _ in range(5)]
    await running.http.post(f"/v1/sessions/{made[0]}/stop")
    first = (await running.http.get("/v1/sessions", params={"limit": 2})).json()
    assert [one["id"] for one in first["data"]] == made[:-3:-1]
    second = (await running.http.get("/v1/sessions", params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert [one["id"] for one in second["data"]] == made[2:0:-1]
    stopping = (await running.http.get("/v1/sessions", params={"state": "stopping"})).json()["data"]
    assert made[0] in [one["id"] for one in stopping]
    jobs = (await running.http.get("/v1/jobs", params={"limit": 1})).json()["next_cursor"]
    assert code_of(await running.http.get("/v1/sessions", params={"cursor": jobs})) == "cursor_invalid"


async def test_the_clock(running: RunningGateway):
    before = time.time()
    told = (await running.http.get("/v1/clock")).json()["time_s"]
    assert before <= told <= time.time()


async def test_metrics_tell_of_sessions(running: RunningGateway):
    found = await opened(running)
    await send(running, found["id"])
    await send(running, found["id"], b"")
    page = (await running.http.get("/metrics")).text
    assert 'saccade_gateway_frames_total{verdict="received"} 1.0' in page
    assert 'saccade_gateway_frames_total{verdict="refused"} 1.0' in page
    assert 'saccade_gateway_unfinished_sessions{state="opening"}' in page
