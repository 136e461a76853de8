"""Acts on many jobs: counted first, carried out once each, also by another gateway after a kill."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cli.__main__ import saccade
from contracts.audit import Attribution
from contracts.events import decode
from contracts.events.job import JobCancelled
from contracts.ids import new_id
from contracts.job import State
from contracts.streams import OPS, aggregate
from kit.auth.api_keys import AuthSettings
from kit.bus.audit_log import AuditLog
from kit.bus.event_store import EventStore
from kit.settings import NatsSettings, S3Settings
from services.gateway.job_plans.job_items import PlannedJob, job_parts
from tests.harness.servers.gateway import RunningGateway, code_of, keys_file, running_gateway
from tests.harness.servers.served_gateway import served_gateway

pytestmark = pytest.mark.anyio
Servers = tuple[NatsSettings, S3Settings]


async def submit(running: RunningGateway, count: int, **metadata: str) -> list[str]:
    upload_id = await running.uploaded()
    return [(await running.submitted(upload_id, metadata=metadata))["id"] for _ in range(count)]


async def order(running: RunningGateway, action: str, headers: dict[str, str] | None = None, **body: Any) -> Any:
    return await running.http.post("/v1/job-plans", json={"action": action, "filter": {}} | body, headers=headers)


async def ended(running: RunningGateway, plan_id: str) -> dict[str, Any]:
    """Return a plan when it has ended."""
    while True:
        plan: dict[str, Any] = (await running.http.get(f"/v1/job-plans/{plan_id}")).json()
        if plan["state"] != "running":
            return plan
        await asyncio.sleep(0.05)


async def changes(running: RunningGateway, job_id: str, type_: str) -> list[str]:
    """Return the ids of a job's events of one type."""
    stored = [decode(event.body) for event in await running.store.load(aggregate("local", "job", job_id))]
    return [event.id for event in stored if event.type == type_]


async def test_all_that_match_are_cancelled_once_and_then_retried(empty_servers: Servers, tmp_path: Path) -> None:
    async with running_gateway(*empty_servers, tmp_path) as running:
        wanted, others = await submit(running, 5, lap="7"), await submit(running, 2, lap="8")
        trial = (await order(running, "cancel", filter={"q": "lap=7"}, dry_run=True)).json()
        assert (trial["count"], trial["by_state"], trial["by_workload"]) == (5, {"submitted": 5}, {"lap_compare": 5})
        assert [job["id"] for job in trial["sample"]] == wanted[::-1]
        before = await running.types()
        differs = await order(running, "cancel", filter={"q": "lap=7"}, expected_count=4)
        assert (differs.status_code, code_of(differs), differs.json()["count"]) == (409, "jobs_changed", 5)
        assert await running.types() == before

        headers = {"Idempotency-Key": new_id("req")}
        body: dict[str, Any] = {"filter": {"q": "lap=7"}, "expected_count": 5, "why": "wrong camera"}
        first = await order(running, "cancel", headers, **body)
        assert first.status_code == 202, first.text
        plan = await ended(running, first.json()["id"])
        assert (plan["state"], plan["count"], plan["done"], plan["failed"], plan["skipped"]) == ("ended", 5, 5, 0, 0)
        assert (plan["why"], plan["filter"]) == ("wrong camera", {"q": "lap=7"})
        again = await order(running, "cancel", headers, **body)
        assert again.json()["id"] == plan["id"], "the same request is the same plan"
        for job_id in wanted:
            assert await changes(running, job_id, "job.cancel_requested") == [f"{job_id}.{plan['id']}"]
        assert [await changes(running, job_id, "job.cancel_requested") for job_id in others] == [[], []]

        listed = (await running.http.get("/v1/jobs", params={"plan": plan["id"], "limit": 3})).json()
        assert [job["id"] for job in listed["data"]] == wanted[:1:-1]
        rest = await running.http.get("/v1/jobs", params={"plan": plan["id"], "cursor": listed["next_cursor"]})
        assert [job["id"] for job in rest.json()["data"]] == wanted[1::-1]
        counts = (await running.http.get("/v1/jobs/counts", params={"plan": plan["id"]})).json()
        assert counts["count"] == 5
        assert [each["id"] for each in (await running.http.get("/v1/job-plans")).json()["data"]] == [plan["id"]]

        for job_id in wanted[:3]:
            await running.say(job_id, JobCancelled(attempt=0))
        assert (await order(running, "cancel", filter={"q": "lap=7"}, dry_run=True)).json()["count"] == 0
        made = (await order(running, "retry", filter={"plan": plan["id"]}, expected_count=3)).json()
        plan = await ended(running, made["id"])
        assert (plan["done"], plan["skipped"], plan["failed"]) == (3, 0, 0)
        assert [(await running.job(job_id)).state for job_id in wanted[:3]] == [State.RETRYING] * 3


async def test_a_plan_goes_on_after_a_kill_and_names_what_has_changed(empty_servers: Servers, tmp_path: Path) -> None:
    """The records of a plan are there, and one of its jobs is done: what a gateway leaves that is killed."""
    async with running_gateway(*empty_servers, tmp_path) as running:
        jobs = await submit(running, 5)
        plan_id = new_id("jbp")
        planned = [PlannedJob(job_id, 0, (await running.job(job_id)).first_sequence) for job_id in jobs]
        await running.app.state.jobs.cancel("local", jobs[0], event_id=f"{jobs[0]}.{plan_id}")
        await running.http.post(f"/v1/jobs/{jobs[1]}/cancel")
        await running.say(jobs[2], JobCancelled(attempt=0))
        await running.start_job(jobs[3])
    audit = Attribution(by="me", why="test", request_id=new_id("req"))
    async with running_gateway(*empty_servers, tmp_path / "other") as running:
        log = AuditLog(EventStore(running.store.client, OPS.name), "/test")
        for part in job_parts(plan_id, "local", "cancel", planned, {"filter": {"state": ["submitted"]}}):
            await log.intent(part, "cancel_requested", audit)
        plan = await ended(running, plan_id)
        assert (plan["done"], plan["skipped"], plan["failed"]) == (2, 3, 0)
        assert plan["done"] + plan["skipped"] + plan["failed"] == plan["count"]
        reasons = {skip["id"]: (skip["code"], skip["message"]) for skip in plan["skips"]}
        assert reasons == {
            jobs[1]: ("already_requested", "The job is being cancelled already."),
            jobs[2]: ("state_changed", "The job is cancelled."),
            jobs[3]: ("state_changed", "The job is running."),
        }
        assert [len(await changes(running, job_id, "job.cancel_requested")) for job_id in jobs] == [1, 1, 0, 0, 1]


async def test_plans_belong_to_a_tenant_and_need_a_key_that_writes(empty_servers: Servers, tmp_path: Path) -> None:
    auth = AuthSettings(api_keys_file=keys_file(tmp_path, "acme", "rival", "reads", read_only=("reads",)))
    acme, rival, reads = ({"Authorization": f"Bearer {name}.secret"} for name in ("acme", "rival", "reads"))
    async with running_gateway(*empty_servers, tmp_path, auth=auth) as running:
        upload_id = await running.uploaded(headers=acme)
        body = {"workload": "lap_compare", "inputs": {"reference": upload_id, "other": upload_id}}
        assert (await running.http.post("/v1/jobs", json=body, headers=acme)).status_code == 202
        assert (await order(running, "cancel", rival, dry_run=True)).json()["count"] == 0
        refused = await order(running, "cancel", reads, dry_run=True)
        assert (refused.status_code, code_of(refused)) == (403, "forbidden")
        plan = (await order(running, "cancel", acme, expected_count=1)).json()
        assert (plan["by"], plan["count"]) == ("acme", 1)
        for path in (f"/v1/job-plans/{plan['id']}", f"/v1/jobs?plan={plan['id']}"):
            foreign = await running.http.get(path, headers=rival)
            assert (foreign.status_code, code_of(foreign)) == (404, "job_plan_not_found")
        unconfirmed = await order(running, "cancel", acme)
        assert (unconfirmed.status_code, code_of(unconfirmed)) == (422, "invalid_parameter")


async def test_orders_of_one_tenant_keep_no_other_waiting(empty_servers: Servers, tmp_path: Path) -> None:
    """All were counted one after the other, for as long as the jobs of each tenant take."""
    auth = AuthSettings(api_keys_file=keys_file(tmp_path, "acme", "rival"))
    async with running_gateway(*empty_servers, tmp_path, auth=auth) as running:
        acme, rival = ({"Authorization": f"Bearer {name}.secret"} for name in ("acme", "rival"))
        many = [asyncio.ensure_future(order(running, "cancel", acme, expected_count=7)) for _ in range(40)]
        await asyncio.sleep(0)
        assert code_of(await order(running, "cancel", rival, expected_count=7)) == "jobs_changed"
        assert not all(task.done() for task in many)
        assert {code_of(answer) for answer in await asyncio.gather(*many)} == {"jobs_changed"}


async def test_the_command_line_counts_before_it_acts(
    empty_servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served_gateway(*empty_servers, tmp_path) as (running, address):
        monkeypatch.setenv("SACCADE_URL", address)

        async def run(*words: str) -> str:
            done = await asyncio.to_thread(CliRunner().invoke, saccade, ["jobs", *words])
            assert done.exception is None, (done.exception, done.output)
            return done.output

        jobs = await submit(running, 3, lap="7")
        told = await run("cancel", "--matching", "lap=7")
        assert told.startswith("3 jobs match (3 submitted).\n")
        assert "--expect 3" in told
        assert await changes(running, jobs[0], "job.cancel_requested") == []
        assert "3 done, 0 skipped, 0 failed of 3 jobs" in await run("cancel", "--matching", "lap=7", "--expect", "3")
        for job_id in jobs:
            await running.say(job_id, JobCancelled(attempt=0))
        assert "3 done" in await run("retry", "--state", "cancelled", "--yes", "--why", "again")
        assert "0 jobs match." in await run("retry", "--yes")
        assert "      3  retrying" in await run("--count", "--search", "lap=7")
        assert jobs[0] in await run("--search", "LAP=7")
