"""Dry runs of jobs and sessions: what a submission would say and cost, and nothing is stored or used up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from contracts.events.base import Message, decode
from contracts.ids import new_id
from contracts.streams import DISPATCHER_LEASE, STREAMS
from kit.auth.api_keys import AuthSettings
from kit.bus.event_store import EventStore
from kit.bus.jetstream_api import stream_info
from kit.settings import NatsSettings, S3Settings
from modal_workers.lap_compare.spec import WORKLOAD
from tests.harness.servers.chosen_bus import chosen_bus
from tests.harness.servers.embedded import EmbeddedS3
from tests.harness.servers.gateway import RunningGateway, code_of, keys_file, picture, running_gateway

pytestmark = pytest.mark.anyio
Servers = tuple[NatsSettings, S3Settings]
ABSENT = new_id("upl")
DRY = {"dry_run": "true"}
PARTIAL = DRY | {"partial": "true"}
ACME = {"Authorization": "Bearer acme.secret"}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, shared_s3: EmbeddedS3) -> Iterator[Servers]:
    with chosen_bus(tmp_path_factory.mktemp("nats")) as nats:
        yield nats.settings, shared_s3.with_new_bucket().settings


@pytest.fixture
async def running(servers: Servers, tmp_path: Path):
    async with running_gateway(*servers, tmp_path, executor="modal") as found:
        yield found


async def stored(running: RunningGateway) -> dict[str, tuple[int, int]]:
    """Return number of messages and last sequence of every stream but the leases, which are renewed by themselves."""
    found: dict[str, tuple[int, int]] = {}
    for stream in STREAMS:
        if stream.name != "LEASES":
            state = (await stream_info(running.store.client, stream.name))["state"]
            found[stream.name] = state["messages"], state["last_seq"]
    return found


def body_of(upload_id: str, **more: Any) -> dict[str, Any]:
    return {"workload": "lap_compare", "inputs": {"reference": upload_id, "other": [upload_id]}} | more


async def photos(running: RunningGateway, count: int = 3) -> list[str]:
    return [await running.uploaded(picture(32 + n), "image/png", filename=f"{n}.png") for n in range(count)]


async def test_the_answer_is_what_the_submission_stores_and_nothing_is_stored_before(running: RunningGateway) -> None:
    upload_id = await running.uploaded()
    body = body_of(upload_id, params={"sectors": 4}, max_cost_usd=1.0, metadata={"lap": "7"})
    before = await stored(running)
    key = {"Idempotency-Key": new_id("req")}
    for _ in range(3):
        tried = await running.http.post("/v1/jobs", json=body, params=DRY, headers=key)
        assert tried.status_code == 200, tried.text
    assert await stored(running) == before
    check = tried.json()
    job = (await running.http.post("/v1/jobs", json=body | {"priority": 1}, headers=key)).json()
    event = decode((await running.store.load(f"saccade.evt.local.job.{job['id']}.submitted"))[-1].body).data
    assert check["params"] == event["params"]
    assert check["workload_version"] == event["workload_version"]
    assert (check["estimate"]["usd"], check["estimate"]["basis"]) == (event["estimated_usd"], event["estimated_from"])
    assert check["inputs"] == job["inputs"]
    assert check["missing_inputs"] == []
    assert check["devices"][0]["device"] == check["estimate"]["device"] == "cpu"
    assert [stage["name"] for stage in check["stages"]] == ["read", "align", "compare", "render", "report"]
    codes = [warning["code"] for warning in check["warnings"]]
    assert codes == ["same_file", "no_dispatcher"]


async def test_the_estimate_follows_the_history_as_the_submission_does(running: RunningGateway) -> None:
    upload_id = await running.uploaded()
    first = await running.submitted(upload_id)
    await running.finish_job(first["id"], await running.start_job(first["id"]), [])
    await running.http.get(f"/v1/jobs/{first['id']}", headers={"Prefer": "wait=10"})
    check = (await running.http.post("/v1/jobs", json=body_of(upload_id), params=DRY)).json()
    job = await running.submitted(upload_id)
    assert (check["estimate"]["basis"], check["estimate"]["seconds"]) == ("history", 1.5)
    assert check["estimate"]["runs"] >= 1
    assert job["cost"]["estimated_usd"] == check["estimate"]["usd"]


async def test_a_pipeline_shows_its_stages_their_ladders_and_what_they_cost(running: RunningGateway) -> None:
    body = {"workload": "nerf", "inputs": {"photos": await photos(running)}}
    before = await stored(running)
    answer = await running.http.post("/v1/jobs", json=body, params=DRY)
    assert answer.status_code == 200, answer.text
    assert await stored(running) == before
    check = answer.json()
    needed = [stage for stage in check["stages"] if stage["needed"]]
    total = sum(stage["shards"] * stage["estimate"]["usd"] for stage in needed)
    assert check["estimate"]["usd"] == pytest.approx(total, abs=1e-5)
    ladders = [[device["device"] for device in stage["devices"]] for stage in needed]
    assert any(len(ladder) > 1 for ladder in ladders)
    assert [device["device"] for device in check["devices"]] == list(dict.fromkeys(chain.from_iterable(ladders)))
    assert all(stage["shards"] == 0 for stage in check["stages"] if not stage["needed"])
    job = (await running.http.post("/v1/jobs", json=body)).json()
    assert job["cost"]["estimated_usd"] == check["estimate"]["usd"]
    assert [stage["shards"] for stage in job["stages"]] == [stage["shards"] for stage in check["stages"]]

    only = (await running.http.post("/v1/jobs", json=body | {"gpu": "A100"}, params=DRY)).json()
    gpus = {device["device"] for device in only["devices"]} - {"cpu"}
    assert gpus == {"A100-40GB"}
    assert "price_unconfirmed" in [warning["code"] for warning in only["warnings"]]


async def test_a_session_shows_what_its_worker_costs(running: RunningGateway, servers: Servers, tmp_path: Path) -> None:
    refused = await running.http.post("/v1/sessions", json={"workload": "live_splat"}, params=DRY)
    assert code_of(refused) == "sessions_not_configured"
    async with running_gateway(*servers, tmp_path / "local") as local:
        before = await stored(local)
        answer = await local.http.post("/v1/sessions", json={"workload": "live_splat"}, params=DRY)
        assert answer.status_code == 200, answer.text
        assert answer.json()["estimate"]["usd"] == 0.0
        assert answer.json()["devices"][0]["device"] == "cpu"
        wrong = await local.http.post("/v1/sessions", json={"workload": "lap_compare"}, params=DRY)
        assert code_of(wrong) == "invalid_parameter"
        assert await stored(local) == before


async def test_a_budget_refuses_a_dry_run_as_it_would_the_job(running: RunningGateway) -> None:
    upload_id = await running.uploaded()
    await running.http.put("/v1/budgets", json={"daily_usd": 0.5})
    body = body_of(upload_id, max_cost_usd=0.7)
    tried, refused = [await running.http.post("/v1/jobs", json=body, params=query) for query in (DRY, {})]
    assert tried.status_code == refused.status_code == 402
    assert tried.json()["detail"] == refused.json()["detail"]
    partial = (await running.http.post("/v1/jobs", json=body, params=PARTIAL)).json()
    assert partial["budget"]["allowed"] is False
    assert "budget_exceeded" in [warning["code"] for warning in partial["warnings"]]
    await running.http.delete("/v1/budgets")


async def test_quotas_refuse_a_dry_run_and_are_not_used_up_by_it(servers: Servers, tmp_path: Path) -> None:
    keys = keys_file(tmp_path, "acme")
    auth = AuthSettings(api_keys_file=keys)
    async with running_gateway(*servers, tmp_path, auth=auth) as running:
        upload_id = await running.uploaded(headers=ACME)
        entries = json.loads(keys.read_text())
        limits = {"tenant": "acme", "quotas": {"unfinished_jobs": 1, "events": 1, "idempotency_keys": 1}}
        keys.write_text(json.dumps([*entries, limits]))
        for number in range(5):
            headers = ACME | {"Idempotency-Key": f"dry-{number}"}
            tried = await running.http.post("/v1/jobs", json=body_of(upload_id), params=DRY, headers=headers)
            assert tried.status_code == 200, tried.text
        headers = ACME | {"Idempotency-Key": new_id("req")}
        taken = await running.http.post("/v1/jobs", json=body_of(upload_id), headers=headers)
        assert taken.status_code == 202, taken.text
        tried, refused = [
            await running.http.post("/v1/jobs", json=body_of(upload_id), params=query, headers=ACME)
            for query in (DRY, {})
        ]
        assert (tried.status_code, code_of(tried)) == (409, "quota_exceeded")
        assert tried.json()["quota"] == refused.json()["quota"]
        partial = await running.http.post("/v1/jobs", json=body_of(upload_id), params=PARTIAL, headers=ACME)
        assert partial.status_code == 200


async def test_who_may_not_write_may_not_try(servers: Servers, tmp_path: Path) -> None:
    auth = AuthSettings(api_keys_file=keys_file(tmp_path, "reads", read_only=("reads",)))
    async with running_gateway(*servers, tmp_path, auth=auth) as running:
        headers = {"Authorization": "Bearer reads.secret"}
        answer = await running.http.post("/v1/jobs", json=body_of(ABSENT), params=DRY, headers=headers)
        assert (answer.status_code, code_of(answer)) == (403, "forbidden")


async def test_partial_takes_what_there_is_and_checks_that(running: RunningGateway) -> None:
    upload_id, image_id = await running.uploaded(), await running.uploaded(picture(), "image/png", filename="a.png")

    async def dry(**body: Any) -> tuple[int, dict[str, Any]]:
        answer = await running.http.post("/v1/jobs", json={"workload": "lap_compare"} | body, params=PARTIAL)
        return answer.status_code, answer.json()

    before = await stored(running)
    status, checked = await dry(params={"sectors": 4}, inputs={"reference": upload_id})
    assert (status, checked["workload"], checked["params"]["sectors"]) == (200, "lap_compare", 4)
    assert (checked["params"]["flow"], checked["missing_inputs"]) == ("dis", ["other"])
    assert checked["warnings"][0]["code"] == "inputs_missing"
    status, checked = await dry(workload="nerf")
    assert (status, checked["missing_inputs"]) == (200, ["photos", "archive", "video"])
    for body, code in (
        ({"params": {"speed": 9}}, "unknown_parameter"),
        ({"params": {"sectors": 99}}, "invalid_parameter"),
        ({"gpu": "H100"}, "invalid_parameter"),
        ({"workload": "nothing"}, "unknown_workload"),
        ({"inputs": {"reference": ABSENT}}, "upload_not_found"),
        ({"inputs": {"reference": image_id}}, "wrong_input_media"),
        ({"inputs": {"third": upload_id}}, "unknown_input"),
    ):
        status, problem = await dry(**body)
        assert (status >= 400, problem["code"]) == (True, code), body
    assert await stored(running) == before


async def test_an_operators_order_is_told(servers: Servers, tmp_path: Path) -> None:
    async with running_gateway(*servers, tmp_path) as running:
        upload_id = await running.uploaded()
        report = {"backends": list(WORKLOAD.requires), "holds": {"drained": {"why": "new disks"}, "paused": {}}}
        leases = EventStore(running.store.client, "LEASES")
        await leases.publish(Message(DISPATCHER_LEASE, new_id("evt"), json.dumps(report).encode()))
        await running.loop.holds.refresh()
        answer = await running.http.post("/v1/jobs", json=body_of(upload_id), params=DRY)
        warnings = {warning["code"]: warning["message"] for warning in answer.json()["warnings"]}
        assert "new disks" in warnings["held"]
        assert "no_dispatcher" not in warnings
