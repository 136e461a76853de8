"""Both Python clients: jobs are checked before they are submitted, searched, counted, and acted on by plans."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from saccade_client import AsyncClient, ClientError

from tests.harness.clients.python_clients import CLIENT_KINDS, opener
from tests.harness.network.breaking_proxy import BreakingProxy

pytestmark = pytest.mark.anyio


@pytest.fixture(params=CLIENT_KINDS)
async def client(request: pytest.FixtureRequest, front: BreakingProxy) -> AsyncIterator[AsyncClient]:
    async with opener(request.param)(front.url) as client:
        yield client


async def test_jobs_are_searched_and_counted(client: AsyncClient, inputs: dict[str, str]) -> None:
    job = await client.submit("lap_compare", inputs, metadata={"lap": "Übung 77"})
    await client.submit("lap_compare", inputs)
    found = [found async for found in client.jobs(text="LAP=übung 77", page_size=1)]
    assert found[0].id == job.id
    assert {each.metadata["lap"] for each in found} == {"Übung 77"}
    counts = await client.count_jobs(text=job.id)
    assert (counts.count, counts.by_state, counts.by_workload) == (1, {"submitted": 1}, {"lap_compare": 1})
    assert (await client.count_jobs(state=["failed", "submitted"])).count > 1


async def test_a_job_is_checked_before_it_is_submitted(client: AsyncClient, inputs: dict[str, str]) -> None:
    early = await client.check("lap_compare", {"sectors": 4})
    assert (early.missing_inputs, early.params["sectors"]) == (["reference", "other"], 4)
    with pytest.raises(ClientError) as refusal:
        await client.check("lap_compare", partial=False)
    assert refusal.value.code == "missing_input"
    whole = await client.check("lap_compare", inputs=inputs, partial=False)
    assert (whole.missing_inputs, list(whole.inputs)) == ([], ["reference", "other"])
    assert whole.estimate["usd"] == (await client.submit("lap_compare", inputs)).cost.estimated_usd


async def test_jobs_are_cancelled_by_a_plan(client: AsyncClient, inputs: dict[str, str]) -> None:
    jobs = [await client.submit("lap_compare", inputs, metadata={"lap": "99"}) for _ in range(2)]
    trial = await client.job_plans.check("cancel", q="lap=99")
    assert {job.id for job in jobs} <= {job["id"] for job in trial["sample"]}
    plan = await client.job_plans.create("cancel", trial["count"], q="lap=99", why="test")
    while plan["state"] == "running":
        await asyncio.sleep(0.05)
        plan = await client.job_plans.get(plan["id"])
    assert plan["done"] == trial["count"]
    assert {job.id for job in jobs} <= {job.id async for job in client.jobs(plan=plan["id"])}
