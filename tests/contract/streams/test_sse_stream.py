"""Content of one stream: history, live events, end, resume, gaps, tenants, refusals."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import pytest

from contracts.ids import new_id
from contracts.job import State
from kit.auth.api_keys import AuthSettings
from kit.bus.connection import request
from tests.harness.servers.embedded import NatsServer
from tests.harness.streams.notifier import (
    failed,
    notifier,
    progressed,
    publisher,
    retrying,
    succeeded,
)

pytestmark = pytest.mark.anyio


async def test_a_job_stream_has_all_events_and_ends_with_the_job(nats_server: NatsServer) -> None:
    async with publisher(nats_server.settings) as jobs, notifier(nats_server.settings) as reader:
        job_id = await jobs.submit()
        await jobs.start(job_id)
        async with reader.open(f"/v1/jobs/{job_id}/events") as stream:
            assert stream.status == 200
            assert stream.response.headers["content-type"].startswith("text/event-stream")
            assert stream.response.headers["cache-control"] == "no-store"
            assert stream.response.headers["x-accel-buffering"] == "no"
            history = await stream.take(4)
            await jobs.say(job_id, progressed(0.5))
            (progress,) = await stream.take(1)
            await jobs.say(job_id, succeeded())
            (end,) = await stream.rest()
        assert bytes(stream.raw).startswith(b":\n")
        assert [block.event for block in history] == ["job.submitted", "job.queued", "job.starting", "job.started"]
        assert history[0].retry
        assert 2000 <= int(history[0].retry) <= 5000
        assert not any(block.retry for block in [*history[1:], progress, end])
        assert (progress.event, progress.id) == ("job.progressed", None)
        assert end.event == "job.succeeded"
        stored = {stored.sequence: stored.body for stored in await jobs.store.load(f"saccade.evt.local.job.{job_id}.*")}
        for block in [*history, end]:
            assert block.data.encode() == stored[block.sequence]
        for name in ("last_event_id", "lastEventId"):
            assert (await reader.http.get(f"/v1/jobs/{job_id}/events?{name}={end.id}")).status_code == 204
        async with reader.open(f"/v1/jobs/{job_id}/events", history[2].id) as stream:
            assert [block.event for block in await stream.rest()] == ["job.started", "job.succeeded"]
        async with reader.open(f"/v1/jobs/{job_id}/events") as stream:
            assert [block.event for block in await stream.rest()] == [block.event for block in [*history, end]]


async def test_a_retried_job_reopens_its_stream(nats_server: NatsServer) -> None:
    async with publisher(nats_server.settings) as jobs, notifier(nats_server.settings) as reader:
        job_id = await jobs.submit()
        await jobs.say(job_id, failed())
        async with reader.open(f"/v1/jobs/{job_id}/events") as stream:
            last = (await stream.rest())[-1]
        path = f"/v1/jobs/{job_id}/events"
        assert (await reader.http.get(path, headers={"Last-Event-ID": last.id or ""})).status_code == 204
        await jobs.say(job_id, retrying())
        async with reader.open(path, last.id) as resumed, reader.open(path) as whole:
            assert [block.event for block in await resumed.take(1)] == ["job.retrying"]
            assert [block.event for block in await whole.take(3)] == ["job.submitted", "job.failed", "job.retrying"]
            await jobs.start(job_id)
            await jobs.say(job_id, succeeded())
            assert (await resumed.rest())[-1].event == (await whole.rest())[-1].event == "job.succeeded"


async def test_the_newest_progress_of_a_running_job_is_sent_first(nats_server: NatsServer) -> None:
    async with publisher(nats_server.settings) as jobs, notifier(nats_server.settings) as reader:
        job_id = await jobs.submit()
        await jobs.start(job_id)
        for fraction in (0.1, 0.2, 0.3):
            await jobs.say(job_id, progressed(fraction))
        async with reader.open(f"/v1/jobs/{job_id}/events") as stream:
            blocks = await stream.take(5)
        assert blocks[4].event == "job.progressed"
        assert blocks[4].json["data"]["fraction"] == 0.3


async def test_progress_that_comes_after_the_end_is_dropped_until_the_job_is_retried(nats_server: NatsServer) -> None:
    async with publisher(nats_server.settings) as jobs, notifier(nats_server.settings) as reader:
        job_id = await jobs.submit()
        another = await jobs.submit()
        await jobs.start(job_id)
        await jobs.start(another)
        async with reader.open("/v1/events?types=job.*&since=3600") as stream:
            await stream.take(8)
            await jobs.say(job_id, progressed(0.4))
            assert [block.event for block in await stream.take(1)] == ["job.progressed"]
            await jobs.say(job_id, failed())
            assert [block.event for block in await stream.take(1)] == ["job.failed"]
            await jobs.say(job_id, progressed(0.5))
            await jobs.say(another, progressed(0.9))
            (progress,) = await stream.take(1)
            assert progress.json["subject"] == another
            await jobs.say(job_id, retrying())
            assert [block.event for block in await stream.take(1)] == ["job.retrying"]
            await jobs.say(job_id, progressed(0.1))
            (progress,) = await stream.take(1)
        assert (progress.json["subject"], progress.json["data"]["fraction"]) == (job_id, 0.1)


async def test_a_tenant_stream_starts_now_or_since_and_filters(nats_server: NatsServer) -> None:
    async with publisher(nats_server.settings) as jobs, notifier(nats_server.settings) as reader:
        old = await jobs.submit()
        await asyncio.sleep(0.05)
        moment = datetime.now(UTC)
        await jobs.start(old)
        async with reader.open(f"/v1/jobs/{old}/events") as stream:
            await stream.take(4)  # "now" starts when the notifier has read all of them
        since = moment.isoformat()
        paths = {
            "/v1/events": ["job.submitted", "job.failed"],
            "/v1/events?types=job.failed": ["job.failed"],
            f"/v1/events?subject={old}&since=60": ["job.submitted", "job.queued", "job.starting", "job.started"],
            f"/v1/events?since={since}&types=job.started,job.failed": ["job.started", "job.failed"],
            "/v1/events?since=3600s&types=job.submitted&types=job.failed": ["job.submitted"] * 2 + ["job.failed"],
            "/v1/events?types=job.*&since=2099-01-01T00:00:00Z": ["job.submitted", "job.failed"],
            "/v1/events?types=upload.*": [],
        }

        async def read(path: str, wanted: list[str], ready: asyncio.Semaphore) -> None:
            async with reader.open(path) as stream:
                assert stream.status == 200, path
                ready.release()
                assert [block.event for block in await stream.take(len(wanted) or 1)] == wanted, path

        ready = asyncio.Semaphore(0)
        tasks = [asyncio.ensure_future(read(path, wanted, ready)) for path, wanted in paths.items() if wanted]
        for _ in tasks:
            await ready.acquire()
        await asyncio.sleep(0.2)
        new = await jobs.submit()
        await jobs.say(new, failed())
        await asyncio.gather(*tasks)
        async with reader.open("/v1/events?types=upload.*&since=3600") as stream:
            with pytest.raises(TimeoutError):
                await stream.take(1, timeout_s=0.5)


async def test_events_past_retention_cause_a_gap_and_a_snapshot(nats_server: NatsServer) -> None:
    async with publisher(nats_server.settings) as jobs, notifier(nats_server.settings, ring_events=1) as reader:
        job_id = await jobs.submit()
        await jobs.start(job_id)
        await jobs.submit()
        async with reader.open(f"/v1/jobs/{job_id}/events") as stream:
            history = await stream.take(4)
        path, epoch = f"/v1/jobs/{job_id}/events", (history[0].id or "").partition(".")[0]
        async with reader.open(path, f"beef.{history[3].sequence}") as stream:
            gap, snapshot, *rest = await stream.take(6)
        assert (gap.event, gap.id, bool(gap.retry)) == ("gap", None, True)
        assert gap.json == {"after": f"beef.{history[3].sequence}", "first_available": f"{epoch}.1"}
        assert (snapshot.event, snapshot.id) == ("snapshot", None)
        assert (snapshot.json["id"], snapshot.json["state"]) == (job_id, State.RUNNING)
        assert snapshot.json["submitted"]["workload"] == "lap_compare"
        assert [block.id for block in rest] == [block.id for block in history]

        await request(jobs.client, "STREAM.PURGE.EVENTS", {"seq": history[2].sequence})
        for cursor in (history[0].id, None):
            async with reader.open(path, cursor) as stream:
                gap, snapshot, *rest = await stream.take(4)
                assert gap.json == {"after": cursor, "first_available": history[2].id}
                assert (snapshot.json["state"], snapshot.json["run_id"]) == (State.RUNNING, "run_1")
                assert snapshot.json["submitted"] is None
                assert [block.id for block in rest] == [block.id for block in history[2:]]
        async with reader.open(path, history[1].id) as stream:
            assert (await stream.take(1))[0].id == history[2].id
        async with reader.open("/v1/events", history[0].id) as stream:
            gap, first = await stream.take(2)
            assert (gap.event, first.id) == ("gap", history[2].id)


async def test_a_gap_repeats_the_cursor_as_it_was_sent(nats_server: NatsServer) -> None:
    async with publisher(nats_server.settings) as jobs, notifier(nats_server.settings) as reader:
        job_id = await jobs.submit()
        path = f"/v1/jobs/{job_id}/events"
        async with reader.open(path) as stream:
            epoch = ((await stream.take(1))[0].id or "").partition(".")[0]
        for sent in ("nonsense", "beef.007", "x" * 300, "é😀.3", '"\\', f"{epoch}.{'9' * 30}", f"{epoch}.0099"):
            async with reader.open(path, headers={"Last-Event-ID": sent.encode()}) as stream:
                assert (await stream.take(1))[0].json["after"] == sent
        for sent in ("beef.7 ", " x\ny ", "é😀.3"):
            for query in (f"{path}?last_event_id={quote(sent)}", f"/v1/events?lastEventId={quote(sent)}"):
                async with reader.open(query) as stream:
                    assert (await stream.take(1))[0].json["after"] == sent
        async with reader.open("/v1/events?since=beef.007") as stream:
            assert (await stream.take(1))[0].json["after"] == "beef.007"


async def test_an_idle_stream_sends_heartbeats_and_a_stream_rotates(nats_server: NatsServer) -> None:
    options = {"heartbeat_s": 0.1, "rotate_s": 1.0}
    async with publisher(nats_server.settings) as jobs, notifier(nats_server.settings, **options) as reader:
        job_id = await jobs.submit()
        async with reader.open(f"/v1/jobs/{job_id}/events") as stream:
            blocks = await stream.rest()
        assert [block.event for block in blocks] == ["job.submitted"]
        assert stream.comments >= 4
        assert b"\n:\n\n" not in bytes(stream.raw)


def keys_file(folder: Path, *names: str) -> Path:
    """Write API keys whose id, secret and tenant are one name; ``mute`` may not read."""
    path = folder / "keys.json"
    entries = [
        {
            "id": name,
            "sha256": hashlib.sha256(name.encode()).hexdigest(),
            "tenant": name,
            "scopes": ["write"] if name == "mute" else ["read"],
        }
        for name in names
    ]
    path.write_text(json.dumps(entries))
    return path


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}.{name}"}


async def test_streams_are_isolated_between_tenants(nats_server: NatsServer, tmp_path: Path) -> None:
    auth = AuthSettings(api_keys_file=keys_file(tmp_path, "acme", "rival", "mute"))
    async with publisher(nats_server.settings) as jobs, notifier(nats_server.settings, auth, ring_events=2) as reader:
        job_id = await jobs.submit("acme")
        own = await jobs.submit("rival")
        path = f"/v1/jobs/{job_id}/events"
        assert (await reader.http.get(path)).status_code == 401
        assert (await reader.http.get(path, headers=bearer("mute"))).status_code == 403
        assert (await reader.http.get(path, headers=bearer("rival"))).status_code == 404
        async with (
            reader.open("/v1/events?since=3600", headers=bearer("rival")) as all_events,
            reader.open(f"/v1/events?subject={job_id}&since=3600", headers=bearer("rival")) as by_subject,
            reader.open(path, headers=bearer("acme")) as right,
        ):
            assert (await all_events.take(1))[0].json["subject"] == own
            assert (await right.take(1))[0].json["subject"] == job_id
            await jobs.start(job_id, "acme")
            await jobs.say(job_id, progressed(0.5), "acme")
            await jobs.start(own, "rival")
            assert {block.json["tenant"] for block in await all_events.take(3)} == {"rival"}
            assert len(await right.take(4)) == 4
            with pytest.raises(TimeoutError):
                await by_subject.take(1, timeout_s=0.3)


async def test_a_stream_of_several_subjects_has_only_their_events(nats_server: NatsServer) -> None:
    async with publisher(nats_server.settings) as jobs, notifier(nats_server.settings) as reader:
        one, between, other = [await jobs.submit() for _ in range(3)]
        async with reader.open(f"/v1/jobs/{other}/events") as stream:
            await stream.take(1)  # the notifier has read all three
        asked = f"/v1/events?subject={one}&subject={other}"
        async with reader.open(f"{asked}&subject={one}&since=60") as replayed, reader.open(asked) as live:
            assert [block.json["subject"] for block in await replayed.take(2)] == [one, other]
            for job_id in (one, between, other):
                await jobs.start(job_id)
            for stream in (replayed, live):
                subjects = [block.json["subject"] for block in await stream.take(6)]
                assert subjects == [one] * 3 + [other] * 3
        too_many = "&".join(f"subject={new_id('job')}" for _ in range(51))
        for query in (f"subject={one}&subject=*", too_many):
            answer = await reader.http.get(f"/v1/events?{query}")
            assert (answer.status_code, answer.json()["code"]) == (422, "invalid_parameter"), query


async def test_a_request_that_can_never_succeed_gets_a_problem(nats_server: NatsServer) -> None:
    async with notifier(nats_server.settings) as reader:
        for path, status, code in (
            (f"/v1/jobs/{new_id('job')}/events", 404, "job_not_found"),
            ("/v1/jobs/*/events", 404, "job_not_found"),
            ("/v1/jobs/%3E/events", 404, "job_not_found"),
            (f"/v1/sessions/{new_id('ses')}/events", 404, "session_not_found"),
            ("/v1/sessions/x/events", 404, "session_not_found"),
            ("/v1/events?types=Job.Succeeded", 422, "invalid_parameter"),
            ("/v1/events?subject=*", 422, "invalid_parameter"),
            ("/v1/events?since=yesterday", 422, "invalid_parameter"),
            ("/v1/nothing", 404, "not_found"),
        ):
            answer = await reader.http.get(path)
            assert (answer.status_code, answer.json()["code"]) == (status, code), path
            assert answer.headers["content-type"] == "application/problem+json"


async def test_a_request_that_could_succeed_later_is_asked_to_retry(nats_server: NatsServer) -> None:
    async with publisher(nats_server.settings) as jobs, notifier(nats_server.settings, max_streams=1) as reader:
        job_id = await jobs.submit()
        async with reader.open(f"/v1/jobs/{job_id}/events") as stream:
            await stream.take(1)
            async with reader.open(f"/v1/jobs/{job_id}/events") as refused:
                assert refused.status == 200
                assert await refused.rest() == [], "an empty line would be an empty message to some clients"
                assert re.fullmatch(rb":\nretry: [2-5]\d\d\d\n", refused.raw)
            nats_server.kill()
        async with asyncio.timeout(10):
            while True:
                async with reader.open(f"/v1/jobs/{job_id}/events") as refused:
                    assert refused.status == 200
                    if await refused.rest(5) == [] and b"retry: " in refused.raw:
                        break
        assert (await reader.http.get("/health")).json()["status"] == "degraded"
        nats_server.start()


async def test_a_ticket_opens_one_stream_any_number_of_times(nats_server: NatsServer, tmp_path: Path) -> None:
    keys = keys_file(tmp_path, "acme", "rival")
    auth = AuthSettings(api_keys_file=keys)
    async with publisher(nats_server.settings) as jobs, notifier(nats_server.settings, auth, ticket_key="k") as reader:
        job_id, other = await jobs.submit("acme"), await jobs.submit("acme")
        body = {"resource": f"/v1/jobs/{job_id}/events"}
        assert (await reader.http.post("/v1/tickets", json=body)).status_code == 401
        answer = await reader.http.post("/v1/tickets", json=body, headers=bearer("acme"))
        assert answer.status_code == 201
        url, ticket = answer.json()["url"], answer.json()["ticket"]
        for cursor in (None, "x.0", None):
            async with reader.open(url, cursor) as stream:
                assert stream.status == 200
                assert (await stream.take(1))[0].event in {"job.submitted", "gap"}
        head, _, tail = ticket.partition(".")
        for wrong in (
            f"/v1/jobs/{other}/events?ticket={ticket}",
            f"/v1/events?ticket={ticket}",
            f"/v1/jobs/{job_id}/events?ticket={head}.{tail[::-1]}",
            f"/v1/jobs/{job_id}/events?ticket=%00",
            f"/v1/jobs/{job_id}/events?ticket=",
        ):
            assert (await reader.http.get(wrong)).status_code == 401, wrong
        rivals = await reader.http.post("/v1/tickets", json=body, headers=bearer("rival"))
        assert (await reader.http.get(rivals.json()["url"])).status_code == 404
        for sent in ({"resource": "/v1/jobs"}, {"resource": "/v1/events", "x": 1}, [], {"resource": "x" * 5000}):
            refused = await reader.http.post("/v1/tickets", json=sent, headers=bearer("acme"))
            assert refused.status_code in {413, 422}, sent
        keys_file(tmp_path, "rival")
        assert (await reader.http.get(url)).status_code == 401
