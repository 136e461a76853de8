"""Quotas over HTTP: each refuses one tenant with what is used and until when, and no other tenant."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from contracts.events.base import encode
from contracts.events.session import FrameTotals, SessionStopped
from contracts.ids import new_id
from contracts.limits import UNSIZED_PUT_BYTES
from kit.auth.api_keys import AuthSettings
from kit.settings import NatsSettings, S3Settings
from tests.harness.servers.gateway import RunningGateway, keys_file, running_gateway, video

pytestmark = pytest.mark.anyio
ACME, RIVAL = ({"Authorization": f"Bearer {name}.secret"} for name in ("acme", "rival"))
UPLOAD = {"filename": "a.mp4", "content_type": "video/mp4"}


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return keys_file(tmp_path, "acme", "rival")


@pytest.fixture
async def running(servers: tuple[NatsSettings, S3Settings], tmp_path: Path, keys: Path):
    async with running_gateway(*servers, tmp_path, auth=AuthSettings(api_keys_file=keys)) as found:
        yield found


def limit(keys: Path, **quotas: int) -> None:
    """Limit the tenant acme; the file is read again with the next request."""
    entries = [entry for entry in json.loads(keys.read_text()) if "quotas" not in entry]
    keys.write_text(json.dumps([*entries, {"tenant": "acme", "quotas": quotas}]))


async def job(running: RunningGateway, upload_id: str, headers: dict[str, str], **more: Any) -> Any:
    body = {"workload": "lap_compare", "inputs": {"reference": upload_id, "other": upload_id}} | more
    return await running.http.post("/v1/jobs", json=body, headers=headers)


async def test_unfinished_jobs(running: RunningGateway, keys: Path) -> None:
    mine, theirs = await running.uploaded(headers=ACME), await running.uploaded(headers=RIVAL)
    used = (await running.http.get("/v1/jobs", headers=ACME)).json()["data"]
    limit(keys, unfinished_jobs=len(used) + 1)
    key = ACME | {"Idempotency-Key": new_id("evt")}
    first = await job(running, mine, key)
    assert first.status_code == 202, first.text
    assert (await job(running, mine, key)).json()["id"] == first.json()["id"], "the same job is no further one"
    refused = await job(running, mine, ACME)
    problem = refused.json()
    assert (refused.status_code, problem["code"], problem["retryable"]) == (409, "quota_exceeded", False)
    assert problem["quota"] == {
        "name": "unfinished_jobs",
        "limit": len(used) + 1,
        "used": len(used) + 1,
        "until": None,
    }
    assert (await job(running, theirs, RIVAL)).status_code == 202
    metrics = (await running.http.get("/metrics")).text
    assert 'saccade_quota_refused_total{quota="unfinished_jobs",tenant="acme"} 1.0' in metrics
    limit(keys)
    assert (await job(running, mine, ACME)).status_code == 202


async def test_requests_and_their_retry_after(running: RunningGateway, keys: Path) -> None:
    limit(keys, requests=1)
    answers = [await running.http.get("/v1/workloads", headers=ACME) for _ in range(12)]
    answers = [await running.http.get("/v1/jobs", headers=ACME) for _ in range(12)]
    refused = answers[-1]
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert refused.headers["retry-after"] == "1"
    assert refused.json()["quota"]["name"] == "requests"
    assert refused.json()["quota"]["until"]
    assert (await running.http.get("/v1/jobs", headers=RIVAL)).status_code == 200
    assert (await running.http.get("/health")).status_code == 200


async def test_requests_that_wait_for_their_answer(running: RunningGateway, keys: Path) -> None:
    found = (await job(running, await running.uploaded(headers=ACME), ACME)).json()
    limit(keys, open_requests=3)
    path, prefer = f"/v1/jobs/{found['id']}", {"Prefer": "wait=5"}
    waiting = [asyncio.ensure_future(running.http.get(path, headers=ACME | prefer)) for _ in range(3)]
    await asyncio.sleep(1)
    refused = await running.http.get(path, headers=ACME)
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert refused.json()["quota"] == {"name": "open_requests", "limit": 3, "used": 3, "until": None}
    laps = await running.http.post("/compat/laps/detect-laps", json={}, headers=ACME)
    assert (laps.status_code, laps.json()["quota"]["name"]) == (429, "open_requests")
    assert (await running.http.get("/v1/jobs", headers=RIVAL)).status_code == 200
    assert [answer.status_code for answer in await asyncio.gather(*waiting)] == [200] * 3
    assert (await running.http.get(path, headers=ACME)).status_code == 200


async def test_events_a_minute_but_reading_goes_on(running: RunningGateway, keys: Path) -> None:
    upload_id = await running.uploaded(headers=ACME)
    limit(keys, events=0)
    refused = await job(running, upload_id, ACME)
    assert (refused.status_code, refused.json()["quota"]["name"]) == (429, "events")
    assert (await running.http.get("/v1/jobs", headers=ACME)).status_code == 200


async def test_bytes_of_uploads(running: RunningGateway, keys: Path) -> None:
    limit(keys, unfinished_input_bytes=1_000_000_000)
    body = UPLOAD | {"size_bytes": 600_000_000}
    first = await running.http.post("/v1/uploads", json=body, headers=ACME)
    assert first.status_code == 201, first.text
    refused = await running.http.post("/v1/uploads", json=body, headers=ACME)
    assert (refused.status_code, refused.json()["quota"]["name"]) == (409, "unfinished_input_bytes")
    assert refused.json()["quota"]["used"] == 600_000_000
    assert (await running.http.post("/v1/uploads", json=body, headers=RIVAL)).status_code == 201
    limit(keys, storage_bytes=700_000_000)
    refused = await running.http.post("/v1/uploads", json=body, headers=ACME)
    assert (refused.status_code, refused.json()["quota"]["name"]) == (409, "storage_bytes")
    deleted = await running.http.delete(f"/v1/uploads/{first.json()['id']}", headers=ACME)
    assert deleted.is_success, deleted.text  # other tests of this tenant count from nothing


async def sign_lap(running: RunningGateway) -> httpx.Response:
    return await running.http.post("/compat/laps/sign-upload", json={"filename": "lap.mp4"}, headers=ACME)


async def test_an_upload_without_a_declared_size_reserves_what_its_client_may_send(
    running: RunningGateway, keys: Path
) -> None:
    limit(keys, unfinished_input_bytes=2 * UNSIZED_PUT_BYTES)
    signed = [await sign_lap(running) for _ in range(2)]
    assert [answer.status_code for answer in signed] == [200, 200], signed[0].text
    refused = await sign_lap(running)
    assert (refused.status_code, refused.json()["code"]) == (409, "quota_exceeded")
    await asyncio.sleep(6)  # until the uploads are summed again, by the view
    assert (await sign_lap(running)).status_code == 409
    file = {"bucket": signed[0].json()["bucket"], "key": signed[0].json()["key"]}
    sent = await running.put(signed[0].json()["put_url"], video(), {"Content-Type": "video/mp4"})
    assert sent.is_success, sent.text
    # Its own size was not announced, and is less than what was reserved for it.
    body = {"mode": "pair", "lapA": file, "lapB": file}
    started = await running.http.post("/compat/laps/start-job", json=body, headers=ACME)
    assert started.status_code == 200, started.text
    async with asyncio.timeout(20):
        while (await sign_lap(running)).status_code != 200:
            await asyncio.sleep(0.5)


async def test_sessions(running: RunningGateway, keys: Path) -> None:
    limit(keys, sessions=1)
    wanted = {"workload": "live_splat"}
    first = await running.http.post("/v1/sessions", json=wanted, headers=ACME)
    assert first.status_code == 201, first.text
    refused = await running.http.post("/v1/sessions", json=wanted, headers=ACME)
    assert (refused.status_code, refused.json()["quota"]["name"]) == (409, "sessions")
    assert (await running.http.post("/v1/sessions", json=wanted, headers=RIVAL)).status_code == 201
    nothing = FrameTotals(sent=0, accepted=0, dropped=0)
    stopped = SessionStopped(reason="asked", chunks=0, totals=nothing, result={}, cost_usd=0)
    await running.store.publish(encode(stopped, tenant="acme", subject_id=first.json()["id"], source="/test"))
    async with asyncio.timeout(20):  # until the gateway has read it
        while (await running.http.post("/v1/sessions", json=wanted, headers=ACME)).status_code != 201:
            await asyncio.sleep(0.05)


async def test_idempotency_keys(running: RunningGateway, keys: Path) -> None:
    upload_id = await running.uploaded(headers=ACME)
    limit(keys, idempotency_keys=0)
    refused = await job(running, upload_id, ACME | {"Idempotency-Key": "one"})
    assert (refused.status_code, refused.json()["quota"]["name"]) == (429, "idempotency_keys")
    assert (await job(running, upload_id, ACME)).status_code == 202


async def test_a_wrong_entry_changes_nothing(running: RunningGateway, keys: Path) -> None:
    limit(keys, sessions=0)
    assert (await running.http.get("/v1/jobs", headers=ACME)).status_code == 200
    keys.write_text(keys.read_text().replace('"sessions"', '"seesions"'))
    assert (await running.http.get("/v1/jobs", headers=ACME)).status_code == 200
    refused = await running.http.post("/v1/sessions", json={"workload": "live_splat"}, headers=ACME)
    assert refused.json()["quota"]["name"] == "sessions"


async def test_bytes_of_captions(running: RunningGateway, keys: Path) -> None:
    """Their stream deletes its oldest: those of one tenant must not push out those of others."""
    limit(keys, caption_bytes=1_000)

    async def upload(headers: dict[str, str]) -> Any:
        body = {"windowId": new_id("evt"), "timestamp": 1.0, "chunkStartS": 1.0, "chunkEndS": 2.0, "caption": "x" * 400}
        return await running.http.post("/compat/vision/captions/upload", json=body, headers=headers)

    assert (await upload(ACME)).status_code == 200
    refused = await upload(ACME)
    assert (refused.status_code, refused.headers["retry-after"].isdigit()) == (429, True)
    assert "quota of 1,000 bytes of uploaded captions a day" in refused.json()["detail"]
    assert (await upload(RIVAL)).status_code == 200
    metrics = (await running.http.get("/metrics")).text
    assert 'saccade_quota_refused_total{quota="caption_bytes",tenant="acme"}' in metrics
