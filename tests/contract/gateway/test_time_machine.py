"""Jobs and sessions as they were: one, what changed of it, the list; and what cannot be known of the past."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from contracts.errors import ErrorBody, ErrorCode
from contracts.events import EventData, encode
from contracts.events.job import (
    Cost,
    JobCancelled,
    JobInterrupted,
    JobProgressed,
    JobRetrying,
    JobStageCompleted,
    JobStarted,
    JobStarting,
    JobSubmitted,
)
from contracts.events.session import SessionOpened, SessionPromptRequested, SessionReady, SessionText
from contracts.ids import new_id, stage_job_id
from kit.auth.api_keys import AuthSettings
from kit.settings import NatsSettings, S3Settings
from tests.harness.servers.gateway import RunningGateway, code_of, keys_file, running_gateway

pytestmark = pytest.mark.anyio
Servers = tuple[NatsSettings, S3Settings]
_FAULT = ErrorBody(code=ErrorCode.WORKER_LOST, message="It is gone.", hint="")


@pytest.fixture
async def running(servers: Servers, tmp_path: Path) -> AsyncIterator[RunningGateway]:
    async with running_gateway(*servers, tmp_path) as found:
        yield found


async def read(running: RunningGateway, path: str, **query: Any) -> dict[str, Any]:
    answer = await running.http.get(path, params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def now_cursor(running: RunningGateway, path: str) -> str:
    return str((await read(running, path))["cursor"])


async def retried_job(running: RunningGateway) -> tuple[str, list[tuple[str, dict[str, Any]]]]:
    """Run a job that loses its worker once; return its path, and its object after each event, as it was then."""
    job = await running.submitted(await running.uploaded())
    path, seen = f"/v1/jobs/{job['id']}", []
    seen.append(await read(running, path))
    run_id = await running.start_job(job["id"])
    seen.append(await read(running, path))
    await running.say(job["id"], JobStageCompleted(attempt=1, run_id=run_id, stage="align", duration_s=1))
    seen.append(await read(running, path))
    cost = Cost(device="cpu", seconds=1.0, usd=0.125)
    lost = JobInterrupted(attempt=1, run_id=run_id, failure="lost", error=_FAULT, cost=cost)
    await running.say(job["id"], lost)
    seen.append(await read(running, path))
    now = datetime.now(UTC)
    again = JobRetrying(
        attempt=2, first_attempt=1, after="lost", delay_s=0, rung=0, not_before=now, deadline=now + timedelta(hours=1)
    )
    await running.say(job["id"], again)
    seen.append(await read(running, path))
    second = new_id("run")
    await running.say(job["id"], JobStarting(attempt=2, run_id=second, executor="local", device="cpu"))
    await running.say(job["id"], JobStarted(attempt=2, run_id=second, device="cpu", worker="test"))
    seen.append(await read(running, path))
    await running.finish_job(job["id"], second, [], attempt=2)
    seen.append(await read(running, path))
    return path, [(found["cursor"], found) for found in seen]


def without_point(found: dict[str, Any]) -> dict[str, Any]:
    """Return an object without what only says of when it is."""
    return {**found, "as_of": None, "links": {**found["links"], "self": None}}


async def test_a_job_is_shown_as_it_was_after_each_of_its_events(running: RunningGateway):
    path, seen = await retried_job(running)
    for cursor, then in seen:
        found = await read(running, path, at=cursor)
        assert without_point(found) == without_point(then)
        assert found["as_of"]["cursor"] == cursor
        assert found["links"]["self"] == f"{path}?at={cursor}"
        # The time of the event stands for the same point.
        by_time = await read(running, path, at=found["as_of"]["time"])
        assert without_point(by_time) == without_point(then)
        assert by_time["as_of"] == found["as_of"]
    assert seen[-1][1]["cost"]["actual_usd"] == 0.375
    assert (await read(running, path, at="0"))["state"] == "succeeded"
    assert (await read(running, path))["as_of"] is None


async def test_events_of_others_between_do_not_matter(running: RunningGateway):
    path, seen = await retried_job(running)
    other = await running.submitted(await running.uploaded())
    for _ in range(2):
        found = await read(running, path, at=other["cursor"])
        assert (found["state"], found["as_of"]["cursor"]) == ("succeeded", other["cursor"])
        await running.start_job(other["id"])
    running.view._jobs.clear()
    assert (await read(running, path, at=seen[1][0]))["state"] == "running"


async def test_live_progress_is_no_part_of_the_past(running: RunningGateway):
    job = await running.submitted(await running.uploaded())
    path = f"/v1/jobs/{job['id']}"
    run_id = await running.start_job(job["id"])
    cursor = await now_cursor(running, path)
    told = JobProgressed(attempt=1, run_id=run_id, stage="align", fraction=0.5, stage_fraction=0.1, message="Half.")
    await running.say(job["id"], told)
    found = await read(running, path, at=cursor)
    assert (found["state"], found["progress"], found["message"]) == ("running", 0.0, "")


async def test_changes_name_fields_events_and_cost(running: RunningGateway):
    path, seen = await retried_job(running)
    running_then, interrupted = seen[2][0], seen[3][0]
    found = await read(running, f"{path}/changes", since=running_then, until=interrupted)
    assert (found["existed"], found["cost_usd"], found["events_left_out"]) == (True, 0.125, 0)
    assert [one["event"]["type"] for one in found["events"]] == ["job.interrupted"]
    assert [one["cursor"] for one in found["events"]] == [interrupted]
    changed = {one["pointer"]: (one["before"], one["after"]) for one in found["changed"]}
    assert changed["/state"] == ("running", "interrupted")
    assert changed["/cost/actual_usd"] == (0.0, 0.125)
    assert changed["/error"][0] is None
    assert not any(pointer.startswith(("/cursor", "/links", "/as_of")) for pointer in changed)
    # Up to now, and from before it was submitted.
    epoch, _, first = seen[0][0].partition(".")
    whole = await read(running, f"{path}/changes", since=f"{epoch}.{int(first) - 1}")
    assert (whole["existed"], whole["cost_usd"]) == (False, 0.375)
    assert whole["events"][0]["event"]["type"] == "job.submitted"
    assert {"pointer": "/state", "before": None, "after": "succeeded"} in whole["changed"]
    same = await read(running, f"{path}/changes", since=interrupted, until=interrupted)
    assert (same["changed"], same["events"], same["cost_usd"]) == ([], [], 0.0)
    turned = await running.http.get(f"{path}/changes", params={"since": interrupted, "until": running_then})
    assert code_of(turned) == "invalid_parameter"


async def test_points_that_cannot_be_answered_say_why(running: RunningGateway):
    path, seen = await retried_job(running)
    epoch, _, first = seen[0][0].partition(".")
    created = seen[0][1]["created_at"]
    later = datetime.now(UTC) + timedelta(minutes=1)
    wanted = {
        f"{epoch}.{int(first) - 1}": (404, "not_created_yet"),
        f"{epoch}.0": (404, "not_created_yet"),
        "2020-01-01T00:00:00Z": (404, "not_created_yet"),
        f"{epoch}.{10**9}": (422, "point_in_future"),
        later.isoformat(): (422, "point_in_future"),
        f"abc.{first}": (410, "point_unknown"),
        "nonsense": (422, "invalid_parameter"),
    }
    for at, (status, code) in wanted.items():
        answer = await running.http.get(path, params={"at": at})
        assert (answer.status_code, code_of(answer)) == (status, code), at
    early = (await running.http.get(path, params={"at": f"{epoch}.0"})).json()
    stored_after = datetime.fromisoformat(early["created_at"]) - datetime.fromisoformat(created)
    assert abs(stored_after) < timedelta(seconds=5), "when its first event was stored, by the clock of the bus"
    unknown = await running.http.get(f"/v1/jobs/{new_id('job')}", params={"at": seen[0][0]})
    assert code_of(unknown) == "job_not_found"


@pytest.mark.parametrize("uuid", ["ffffffff-ffff-7fff-8fff-ffffffffffff", "e677d21f-d000-7fff-8fff-ffffffffffff"])
async def test_an_id_of_a_year_that_no_clock_shows_is_not_found(running: RunningGateway, uuid: str):
    for path in (f"/v1/jobs/job_{uuid}", f"/v1/sessions/ses_{uuid}"):
        for answer in (
            await running.http.get(path, params={"at": "0"}),
            await running.http.get(f"{path}/changes", params={"since": "60"}),
        ):
            assert (answer.status_code, code_of(answer).partition("_")[2]) == (404, "not_found")


async def test_nothing_of_another_tenant_is_found_at_any_point(servers: Servers, tmp_path: Path):
    auth = AuthSettings(api_keys_file=keys_file(tmp_path, "acme", "other"))
    async with running_gateway(*servers, tmp_path, auth=auth) as running:
        acme, other = ({"Authorization": f"Bearer {name}.secret"} for name in ("acme", "other"))
        upload_id = await running.uploaded(headers=acme)
        body = {"workload": "lap_compare", "inputs": {"reference": upload_id, "other": upload_id}}
        job = (await running.http.post("/v1/jobs", json=body, headers=acme)).json()
        path, running.tenant = f"/v1/jobs/{job['id']}", "acme"
        await running.say(job["id"], JobCancelled(attempt=0))
        cursor = (await running.http.get(path, headers=acme)).json()["cursor"]
        for query in ({"at": cursor}, {"at": "0"}, {"at": "2020-01-01T00:00:00Z"}):
            stolen = await running.http.get(path, params=query, headers=other)
            assert (stolen.status_code, code_of(stolen)) == (404, "job_not_found")
            listed = (await running.http.get("/v1/jobs", params=query, headers=other)).json()
            assert listed["data"] == []
        stolen = await running.http.get(f"{path}/changes", params={"since": "3600"}, headers=other)
        assert code_of(stolen) == "job_not_found"
        assert (await running.http.get(path, params={"at": cursor}, headers=acme)).json()["state"] == "cancelled"


async def test_the_list_is_of_one_point_page_by_page(running: RunningGateway):
    upload_id = await running.uploaded()
    jobs = [(await running.submitted(upload_id))["id"] for _ in range(5)]
    await running.start_job(jobs[1])
    await running.say(jobs[4], JobCancelled(attempt=0))
    at = await now_cursor(running, f"/v1/jobs/{jobs[4]}")
    then = {one["id"]: one for one in (await read(running, "/v1/jobs"))["data"]}
    # What comes later changes nothing of it.
    await running.say(jobs[0], JobCancelled(attempt=0))
    await running.submitted(upload_id)
    seen: list[dict[str, Any]] = []
    query: dict[str, Any] = {"limit": 2, "at": at}
    while True:
        page = await read(running, "/v1/jobs", **query)
        assert page["as_of"]["cursor"] == at
        seen += page["data"]
        if page["next_cursor"] is None:
            break
        query = {"limit": 2, "cursor": page["next_cursor"]}
    ids = [one["id"] for one in seen]
    assert ids[:5] == jobs[::-1]
    assert [without_point(one) for one in seen] == [without_point(then[one]) for one in ids]

    async def listed(**query: Any) -> list[str]:
        found = (await read(running, "/v1/jobs", at=at, **query))["data"]
        return [one["id"] for one in found if one["id"] in jobs]

    assert await listed(state="running") == [jobs[1]]
    assert await listed(state="cancelled") == [jobs[4]]
    assert await listed(state=["cancelled", "running"], limit=200) == [jobs[4], jobs[1]]
    assert await listed(workload="other") == []
    bad = await running.http.get("/v1/jobs", params={"at": at, "cursor": "jobs-1-2-3"})
    assert code_of(bad) == "cursor_invalid"


async def test_a_settled_answer_may_be_kept_by_its_reader(running: RunningGateway):
    path, seen = await retried_job(running)
    for where, query in ((path, {"at": seen[1][0]}), (f"{path}/changes", {"since": seen[0][0], "until": seen[1][0]})):
        answer = await running.http.get(where, params=query)
        assert answer.headers["cache-control"].startswith("private, max-age=")
        # A browser in which another key logs in has another cookie, and must not show the answer to the first one.
        assert answer.headers["vary"] == "Authorization, Cookie"
        again = await running.http.get(where, params=query, headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        head = await running.http.head(where, params=query)
        assert (head.status_code, head.headers["etag"]) == (200, answer.headers["etag"])
    fresh = await running.http.get(path, params={"at": "0"})
    assert fresh.headers["cache-control"] == "private, no-cache"


async def test_files_that_were_deleted_since_are_not_offered(running: RunningGateway):
    path, seen = await retried_job(running)
    there = await read(running, path, at=seen[-1][0])
    assert (there["report"], there["as_of"]["files_removed"]) == (f"{path}/artifacts/report.html", False)
    await running.bucket.delete(running.bucket.key("results", there["id"], "manifest.json"))
    gone = await read(running, path, at=seen[-1][0])
    assert (gone["report"], gone["as_of"]["files_removed"]) == (None, True)


async def test_a_session_is_shown_as_it_was_with_every_question(running: RunningGateway):
    session_id = new_id("ses")
    path, run_id = f"/v1/sessions/{session_id}", new_id("run")

    async def say(data: EventData) -> str:
        sequence = await running.store.publish(encode(data, tenant="local", subject_id=session_id, source="/test"))
        assert await running.tail.wait_for(sequence, 5)
        return f"{running.tail.epoch}.{sequence}"

    opened = SessionOpened(workload="gone", workload_version="1", params={}, idle_timeout_s=9, max_length_s=9)
    points = [await say(opened)]
    points.append(await say(SessionReady(attempt=1, run_id=run_id, device="cpu")))
    for number in range(2):
        asked = SessionPromptRequested(prompt_id=f"prm_{number}", text=f"{number}?", by="test")
        points.append(await say(asked))
    points.append(await say(SessionText(run_id=run_id, chunk=1, text="No.", prompt_id="prm_0")))
    found = [await read(running, path, at=point) for point in points]
    assert [one["state"] for one in found] == ["opening", "ready", "ready", "ready", "ready"]
    # Two events of one type count both.
    assert [len(one["prompts"]) for one in found] == [0, 0, 1, 2, 1]
    assert [one["cursor"] for one in found] == points
    assert found[-1]["text"]["text"] == "No."
    changes = await read(running, f"{path}/changes", since=points[1], until=points[-1])
    assert [one["event"]["type"] for one in changes["events"]] == [
        "session.prompt_requested",
        "session.prompt_requested",
        "session.text",
    ]
    listed = await read(running, "/v1/sessions", at=points[0])
    assert [(one["id"], one["state"]) for one in listed["data"] if one["id"] == session_id] == [(session_id, "opening")]
    assert code_of(await running.http.get(path, params={"at": f"{running.tail.epoch}.0"})) == "not_created_yet"


async def test_a_pipeline_is_shown_with_its_stages_as_they_were(running: RunningGateway):
    pipeline_id = new_id("job")
    run_id = new_id("run")
    whole = {"workload": "nerf", "workload_version": "1", "inputs": {}, "params": {}, "deadline": datetime.now(UTC)}
    await running.say(pipeline_id, JobSubmitted.model_validate(whole))
    path = f"/v1/jobs/{pipeline_id}"
    points = [await now_cursor(running, path)]
    stages = [stage["name"] for stage in (await read(running, path))["stages"]]
    gather_id = stage_job_id(pipeline_id, stages[0], 0)
    part = {"part_of": {"job_id": pipeline_id, "stage": stages[0], "shard": 0, "shards": 1}}
    events: list[EventData] = [
        JobSubmitted.model_validate(whole | part),
        JobStarting(attempt=1, run_id=run_id, executor="local", device="cpu"),
        JobCancelled(attempt=1),
    ]
    for data in events:
        await running.say(gather_id, data)
        points.append(f"{running.tail.epoch}.{running.tail.last}")
    then = [(await read(running, path, at=point))["stages"][0] for point in points]
    assert [stage["state"] for stage in then] == ["waiting", "running", "running", "cancelled"]
    assert [[job["state"] for job in stage["jobs"]] for stage in then] == [
        [],
        ["submitted"],
        ["starting"],
        ["cancelled"],
    ]
    changes = await read(running, f"{path}/changes", since=points[0], until=points[2])
    assert [between["event"]["subject"] for between in changes["events"]] == [gather_id, gather_id]
    assert "/stages/0/state" in [field["pointer"] for field in changes["changed"]]


async def test_an_event_that_nobody_can_read_hides_none_before_it(running: RunningGateway):
    job = await running.submitted(await running.uploaded())
    path = f"/v1/jobs/{job['id']}"
    run_id = await running.start_job(job["id"])
    await running.say(job["id"], JobStageCompleted(attempt=1, run_id=run_id, stage="align", duration_s=1))
    good = JobStageCompleted(attempt=1, run_id=run_id, stage="train", duration_s=1)
    message = encode(good, tenant=running.tenant, subject_id=job["id"], source="/test")
    then = await now_cursor(running, path)
    sequence = await running.store.publish(replace(message, body=b'{"not": "an event"}'))
    assert await running.tail.wait_for(sequence, 10)
    unreadable = f"{running.tail.epoch}.{running.tail.last}"
    await running.say(job["id"], JobCancelled(attempt=1))
    for cursor in (then, unreadable):
        assert (await read(running, path, at=cursor))["state"] == "running"
        past = running.app.state.past_jobs
        was = await past.aggregates.read(running.tenant, job["id"], await past.points.point("at", cursor))
        assert was.stage == "align"


async def test_a_page_is_read_by_a_few_requests(running: RunningGateway):
    upload_id = await running.uploaded()
    jobs = [await running.submitted(upload_id) for _ in range(20)]
    for job in jobs:
        await running.start_job(job["id"])
    # More than would be read with those of the page.
    opened = SessionOpened(workload="live_splat", workload_version="1", params={}, idle_timeout_s=9, max_length_s=9)
    others = [encode(opened, tenant="crowd", subject_id=new_id("ses"), source="/test") for _ in range(1100)]
    sequence = max(await asyncio.gather(*map(running.store.publish, others)))
    assert await running.tail.wait_for(sequence, 30)
    point = f"{running.tail.epoch}.{sequence}"
    for job in jobs:
        await running.http.post(f"/v1/jobs/{job['id']}/cancel")
    sent = running.tail.store.client.stats["out_msgs"]
    page = await read(running, "/v1/jobs", at=point, limit=20)
    assert {one["id"] for one in page["data"]} == {job["id"] for job in jobs}
    assert {one["state"] for one in page["data"]} == {"running"}
    assert running.tail.store.client.stats["out_msgs"] - sent < len(jobs)
