"""Budgets over HTTP, on a real bus: set, read with their use, removed, and requests that they refuse."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import EventData, Message, encode
from contracts.events.budget import BudgetExhausted
from contracts.events.job import Cost, JobFailed, JobInterrupted, JobStarted, JobStarting, JobSucceeded
from contracts.ids import new_id
from contracts.streams import DISPATCHER_LEASE
from kit.auth.api_keys import AuthSettings
from kit.bus.event_store import EventStore
from kit.settings import NatsSettings, S3Settings
from tests.harness.servers.gateway import RunningGateway, code_of, keys_file, running_gateway

pytestmark = pytest.mark.anyio
Servers = tuple[NatsSettings, S3Settings]


@pytest.fixture
async def running(servers: Servers, tmp_path: Path) -> AsyncIterator[RunningGateway]:
    """Run a gateway that believes in paid workers, without the budget of an earlier test."""
    async with running_gateway(*servers, tmp_path, executor="modal", worker_bus="nats") as found:
        await found.http.delete("/v1/budgets")
        yield found


async def read(running: RunningGateway) -> dict[str, Any]:
    answer = await running.http.get("/v1/budgets")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def put(running: RunningGateway, **wanted: Any) -> dict[str, Any]:
    answer = await running.http.put("/v1/budgets", json=wanted)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def starting(running: RunningGateway, job_id: str, reserved_usd: float, attempt: int = 1) -> dict[str, Any]:
    """Start an attempt as the dispatcher does, and return what names it in events."""
    run = {"attempt": attempt, "run_id": new_id("run")}
    data = JobStarting(**run, executor="modal", device="T4", usd_per_s=0.0, reserved_usd=reserved_usd)
    await running.say(job_id, data)
    return run


async def test_a_budget_is_set_read_and_removed(running: RunningGateway) -> None:
    before = await read(running)
    assert (before["daily_usd"], before["set_at"], before["day"]["limit_usd"]) == (None, None, None)
    budget = await put(running, daily_usd=5, monthly_usd=50.5, warn_share=0.5)
    assert (budget["daily_usd"], budget["monthly_usd"], budget["warn_share"]) == (5.0, 50.5, 0.5)
    assert budget["day"]["limit_usd"] == 5.0
    now = datetime.now(UTC)
    assert datetime.fromisoformat(budget["day"]["began_at"]) <= now < datetime.fromisoformat(budget["day"]["ends_at"])
    assert budget["month"]["began_at"] == f"{now:%Y-%m}-01T00:00:00Z"
    stored = (await running.types()).count("budget.set")
    assert await put(running, daily_usd=5, monthly_usd=50.5, warn_share=0.5) == budget
    assert (await running.types()).count("budget.set") == stored, "no change, no event"
    assert (await put(running, daily_usd=0))["monthly_usd"] is None, "the whole budget is replaced"
    assert (await running.http.delete("/v1/budgets")).status_code == 204
    assert code_of(await running.http.delete("/v1/budgets")) == "budget_not_found"
    assert (await read(running))["day"]["limit_usd"] is None


@pytest.mark.parametrize(
    "wanted", [{}, {"daily_usd": -1}, {"daily_usd": "5"}, {"daily_usd": 5, "warn_share": 0}, {"weekly_usd": 5}]
)
async def test_a_budget_that_limits_nothing_or_makes_no_sense_is_refused(
    running: RunningGateway, wanted: dict[str, Any]
) -> None:
    answer = await running.http.put("/v1/budgets", json=wanted)
    assert answer.status_code == 422
    assert answer.json()["errors"]


async def test_use_is_shown_and_what_exceeds_the_rest_is_refused_at_once(running: RunningGateway) -> None:
    upload_id = await running.uploaded()
    job = await running.submitted(upload_id, max_cost_usd=0.4)
    used_before = (await read(running))["day"]["spent_usd"]
    await put(running, daily_usd=1.0 + used_before)
    run = await starting(running, job["id"], 0.4)
    day = (await read(running))["day"]
    assert (day["spent_usd"], day["reserved_usd"]) == (used_before, 0.4)
    assert day["remaining_usd"] == pytest.approx(0.6)

    body = {"workload": "lap_compare", "inputs": {"reference": upload_id, "other": upload_id}, "max_cost_usd": 0.7}
    checked = (await running.http.post("/v1/jobs", json=body, params={"dry_run": "true", "partial": "true"})).json()
    assert checked["budget"] == {
        "allowed": False,
        "reserved_usd": 0.7,
        "day_remaining_usd": 0.0,
        "month_remaining_usd": None,
    }
    refused = await running.http.post("/v1/jobs", json=body)
    assert (refused.status_code, code_of(refused)) == (402, ErrorCode.BUDGET_EXCEEDED)
    assert "0.40 USD reserved" in refused.json()["detail"]
    session = {"workload": "live_splat", "max_cost_usd": 0.7}
    assert code_of(await running.http.post("/v1/sessions", json=session)) == ErrorCode.BUDGET_EXCEEDED

    allowed = body | {"max_cost_usd": 0.5}
    checked = (await running.http.post("/v1/jobs", json=allowed, params={"dry_run": "true", "partial": "true"})).json()
    assert (checked["budget"]["allowed"], checked["budget"]["day_remaining_usd"]) == (True, pytest.approx(0.1))
    headers = {"Idempotency-Key": new_id("req")}
    taken = await running.http.post("/v1/jobs", json=allowed, headers=headers)
    assert taken.status_code == 202
    await starting(running, taken.json()["id"], 0.5)
    again = await running.http.post("/v1/jobs", json=allowed, headers=headers)
    assert (again.status_code, again.json()["id"]) == (202, taken.json()["id"]), "a job that is stored is not refused"

    error = SaccadeError(ErrorCode.WORKER_LOST).body()
    await running.say(job["id"], JobStarted(**run, device="T4", worker="w"))
    cost = Cost(device="T4", seconds=1, usd=0.25)
    await running.say(job["id"], JobInterrupted(**run, failure="lost", error=error, cost=cost))
    await running.say(job["id"], JobFailed(attempt=1, failure="lost", error=error))
    day = (await read(running))["day"]
    assert (day["spent_usd"], day["reserved_usd"]) == (pytest.approx(used_before + 0.25), 0.5)
    assert (await running.http.post(f"/v1/jobs/{job['id']}/retry")).status_code == 200
    await running.say(job["id"], JobFailed(attempt=1, failure="lost", error=error))
    await put(running, daily_usd=0.8 + used_before)
    assert code_of(await running.http.post(f"/v1/jobs/{job['id']}/retry")) == ErrorCode.BUDGET_EXCEEDED
    await running.say(taken.json()["id"], JobFailed(attempt=1, failure="lost", error=error))


async def test_a_workers_clock_moves_no_money_to_another_month(running: RunningGateway) -> None:
    before = await read(running)
    job_id = new_id("job")
    run = await starting(running, job_id, 0.5)
    cost = Cost(device="T4", seconds=1, usd=0.125)
    error = SaccadeError(ErrorCode.WORKER_LOST).body()
    wrong = datetime.now(UTC) - timedelta(days=45)
    await running.say(job_id, JobInterrupted(**run, failure="lost", error=error, cost=cost), time=wrong)
    after = await read(running)
    for period in ("day", "month"):
        assert after[period]["spent_usd"] == pytest.approx(before[period]["spent_usd"] + 0.125)


async def test_spending_is_told_by_day_workload_and_device_beside_the_estimate(running: RunningGateway) -> None:
    job = await running.submitted(await running.uploaded())
    before = (await running.http.get("/v1/spend")).json()
    error = SaccadeError(ErrorCode.WORKER_LOST).body()
    lost, done = Cost(device="L4", seconds=10.0, usd=0.2), Cost(device="H100", seconds=5.0, usd=0.3)
    run = await starting(running, job["id"], 1.0)
    await running.say(job["id"], JobStarted(**run, device="L4", worker="w"))
    for usd in (0.2, 0.25):  # the second time by what the provider has billed
        cost = lost.model_copy(update={"usd": usd})
        await running.say(job["id"], JobInterrupted(**run, failure="lost", error=error, cost=cost))
    run = await starting(running, job["id"], 1.0, attempt=2)
    await running.say(job["id"], JobStarted(**run, device="H100", worker="w"))
    end = JobSucceeded(**run, result={}, manifest_key="k", duration_s=5.0, cost=done)
    await running.say(job["id"], end)

    report = (await running.http.get("/v1/spend")).json()
    rows = {row["device"]: row for row in report["data"]}
    figures = ("workload", "attempts", "seconds", "usd", "estimated_usd")
    assert [rows["L4"][name] for name in figures] == [job["workload"], 1, 10.0, pytest.approx(0.25), 0.0]
    estimate = pytest.approx(job["cost"]["estimated_usd"])
    assert [rows["H100"][name] for name in figures] == [job["workload"], 1, 5.0, pytest.approx(0.3), estimate]
    assert report["usd"] - before["usd"] == pytest.approx(0.55)
    old = (await running.http.get("/v1/spend", params={"until": "2020-01-31"})).json()
    assert (old["since"], old["data"], old["usd"]) == ("2020-01-01", [], 0.0)


async def test_a_restarted_gateway_knows_what_was_spent(servers: Servers, tmp_path: Path) -> None:
    async with running_gateway(*servers, tmp_path, executor="modal") as running:
        await put(running, monthly_usd=100)
        upload_id = await running.uploaded()
        job = await running.submitted(upload_id, max_cost_usd=3.0)
        await starting(running, job["id"], 3.0)
        before = await read(running)
        assert before["month"]["reserved_usd"] >= 3.0
    async with running_gateway(*servers, tmp_path, executor="modal") as running:
        assert await read(running) == before


async def test_where_workers_cost_nothing_a_budget_refuses_nothing(servers: Servers, tmp_path: Path) -> None:
    async with running_gateway(*servers, tmp_path) as running:
        await put(running, daily_usd=0)
        upload_id = await running.uploaded()
        body = {"workload": "lap_compare", "inputs": {"reference": upload_id, "other": upload_id}, "max_cost_usd": 0.7}
        checked = (await running.http.post("/v1/jobs", json=body, params={"dry_run": "true", "partial": "true"})).json()
        assert checked["budget"] is None
        assert (await running.http.post("/v1/jobs", json=body)).status_code == 202


async def test_the_operators_limit_holds_for_every_tenant(servers: Servers, tmp_path: Path) -> None:
    async with running_gateway(*servers, tmp_path, executor="modal") as running:
        leases = EventStore(running.store.client, "LEASES")
        body = b'{"budget": {"daily_usd": 0.5, "monthly_usd": null, "warn_share": 0.8}}'
        await leases.publish(Message(DISPATCHER_LEASE, new_id("evt"), body))
        budget = await put(running, daily_usd=1000.0)
        assert (budget["daily_usd"], budget["operator"]["daily_usd"], budget["day"]["limit_usd"]) == (1000.0, 0.5, 0.5)
        upload_id = await running.uploaded()
        body_of = {"workload": "lap_compare", "inputs": {"reference": upload_id, "other": upload_id}}
        refused = await running.http.post("/v1/jobs", json=body_of | {"max_cost_usd": 0.6})
        assert code_of(refused) == ErrorCode.BUDGET_EXCEEDED


async def test_budgets_belong_to_a_tenant_and_only_its_writers_set_them(servers: Servers, tmp_path: Path) -> None:
    auth = AuthSettings(api_keys_file=keys_file(tmp_path, "acme", "other", "reads", read_only=("reads",)))
    async with running_gateway(*servers, tmp_path, auth=auth, executor="modal") as running:
        acme, other, reader = ({"Authorization": f"Bearer {key}.secret"} for key in ("acme", "other", "reads"))
        found = await running.http.put("/v1/budgets", json={"daily_usd": 7}, headers=acme)
        assert (found.status_code, found.json()["made_by"]) == (200, "acme")
        assert (await running.http.get("/v1/budgets", headers=acme)).json()["daily_usd"] == 7.0
        for stranger in (reader, other):
            assert (await running.http.get("/v1/budgets", headers=stranger)).json()["daily_usd"] is None
        assert (await running.http.put("/v1/budgets", json={"daily_usd": 9}, headers=reader)).status_code == 403
        data: EventData = BudgetExhausted(
            period="day", began=datetime.now(UTC).date(), limit_usd=7.0, spent_usd=7.0, reserved_usd=0.0
        )
        message = encode(data, tenant="acme", subject_id="acme", source="/dispatcher")
        assert await running.tail.wait_for(await running.store.publish(message), 5)
        changed = await running.http.put("/v1/budgets", json={"daily_usd": 8}, headers=acme)
        assert (changed.status_code, changed.json()["daily_usd"]) == (200, 8.0)


@pytest.mark.parametrize(
    "query", [{"since": "2020-01-01"}, {"since": "2030-01-01"}, {"until": "0001-01-01", "since": "0002-01-01"}]
)
async def test_a_period_of_spending_that_is_too_long_or_ends_before_it_begins(
    running: RunningGateway, query: dict[str, str]
) -> None:
    answer = await running.http.get("/v1/spend", params=query)
    assert (answer.status_code, code_of(answer)) == (422, "invalid_parameter")
