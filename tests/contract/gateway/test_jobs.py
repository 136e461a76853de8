"""Jobs and artifacts over HTTP: submitted once, decided about by condition, listed from a view that can be lost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from contracts.errors import ErrorCode
from contracts.events import Cursor, decode, encode
from contracts.events.job import JobCancelled, JobQueued
from contracts.ids import new_id
from contracts.job import State
from contracts.streams import aggregate
from kit.bus.event_store import Conflict, EventStore
from kit.bus.idempotency import Idempotency, idempotency_key
from kit.settings import NatsSettings, S3Settings
from modal_workers.lap_compare.spec import WORKLOAD
from tests.harness.servers.chosen_bus import chosen_bus
from tests.harness.servers.embedded import EmbeddedS3
from tests.harness.servers.gateway import RunningGateway, code_of, picture, running_gateway

pytestmark = pytest.mark.anyio
Servers = tuple[NatsSettings, S3Settings]
ABSENT = new_id("upl")


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Settings]:
    with EmbeddedS3(tmp_path_factory.mktemp("s3")) as server:
        yield server.settings


@pytest.fixture
def servers(tmp_path: Path, s3: S3Settings) -> Iterator[Servers]:
    folder = tmp_path / "nats"
    folder.mkdir()
    with chosen_bus(folder) as nats:
        yield nats.settings, s3


@pytest.fixture
async def running(servers: Servers, tmp_path: Path):
    async with running_gateway(*servers, tmp_path) as found:
        yield found


async def test_a_submitted_job_is_stored_and_can_be_followed_from_its_cursor(running: RunningGateway):
    upload_id = await running.uploaded()
    wanted = {"metadata": {"driver": "Ä"}, "priority": 3, "max_cost_usd": 1.5, "webhook_url": "https://a.example/x"}
    body = {
        "workload": "lap_compare",
        "inputs": {"reference": upload_id, "other": [upload_id]},
        "params": {"sectors": 4},
    }
    answer = await running.http.post("/v1/jobs", json=body | wanted)
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["location"] == job["links"]["self"] == f"/v1/jobs/{job['id']}"
    assert list(job) == [
        "id", "workload", "state", "stage", "progress", "message", "attempt", "created_at", "started_at",
        "finished_at", "inputs", "params", "result", "headline", "report", "error",
        "cost", "stages", "pipeline", "rule", "retry_of", "gpu", "retention", "metadata", "links", "cursor", "as_of",
    ]  # fmt: skip
    assert (job["state"], job["progress"], job["metadata"]) == ("submitted", 0.0, {"driver": "Ä"})
    assert (job["params"]["sectors"], job["params"]["flow"]) == (4, "dis")
    assert [one["upload_id"] for one in job["inputs"]["other"]] == [upload_id]

    after = Cursor.parse(job["cursor"]).sequence
    first = (await running.store.batch(after))[0][0]
    envelope = decode(first.body)
    assert (envelope.type, envelope.subject, envelope.source) == ("job.submitted", job["id"], "/gateway")
    assert envelope.data["webhook_url"] == "https://a.example/x"
    assert (envelope.data["priority"], envelope.data["max_cost_usd"]) == (3, 1.5)
    assert (await running.http.get(job["links"]["self"])).json() == job | {
        "cursor": str(Cursor(Cursor.parse(job["cursor"]).epoch, first.sequence))
    }


@pytest.mark.parametrize(
    ("wanted", "status", "code", "where"),
    [
        ({"workload": "no_such"}, 422, "unknown_workload", None),
        ({"params": {"secters": 3}}, 422, "unknown_parameter", "#/params/secters"),
        ({"params": {"opportunities": 9}}, 422, "invalid_parameter", "#/params/opportunities"),
        ({"params": {"detect": "yolo"}}, 422, "backend_not_installed", "#/params/detect"),
        ({"inputs": {"reference": "VIDEO"}}, 422, "missing_input", "#/inputs/other"),
        ({"inputs": {"reference": "VIDEO", "other": []}}, 422, "missing_input", "#/inputs/other"),
        ({"inputs": {"reference": "VIDEO", "other": "VIDEO", "x": "VIDEO"}}, 422, "unknown_input", "#/inputs/x"),
        ({"inputs": {"reference": "VIDEO", "other": ["VIDEO", "VIDEO"]}}, 422, "invalid_parameter", "#/inputs/other"),
        ({"inputs": {"reference": "VIDEO", "other": {"url": "x"}}}, 422, "url_input_not_allowed", "#/inputs/other"),
        ({"inputs": {"reference": "VIDEO", "other": "PICTURE"}}, 422, "wrong_input_media", "#/inputs/other"),
        ({"inputs": {"reference": "VIDEO", "other": "OPEN"}}, 409, "upload_not_completed", "#/inputs/other"),
        ({"inputs": {"reference": "VIDEO", "other": ABSENT}}, 404, "upload_not_found", None),
        ({"inputs": {"reference": "VIDEO", "other": "nonsense"}}, 404, "upload_not_found", "#/inputs/other/0"),
        ({"priority": 11}, 422, "invalid_parameter", "#/priority"),
        ({"max_cost_usd": -1}, 422, "invalid_parameter", "#/max_cost_usd"),
        ({"webhook_url": "ftp://plain.example"}, 422, "invalid_parameter", "#/webhook_url"),
        ({"metadata": {"note": "x" * 5000}}, 422, "invalid_parameter", "#/metadata"),
        ({"gpu": "T4"}, 422, "invalid_parameter", "#/gpu"),  # it runs on a CPU
        ({"gpu": "T5"}, 422, "invalid_parameter", "#/gpu"),
        ({"surprise": 1}, 422, "unknown_parameter", "#/surprise"),
        # Halves of surrogate pairs are no text, and true is no number.
        ({"metadata": {"note": "\udfff"}}, 422, "invalid_parameter", "#/metadata/note"),
        ({"metadata": {"a\ud83d": "x"}}, 422, "invalid_parameter", "#/metadata/a\ud83d"),
        ({"params": {"flow": "\udfff"}}, 422, "invalid_parameter", "#/params/flow"),
        ({"params": {"a": [{"\ud800": 1}]}}, 422, "invalid_parameter", "#/params/a/0/\ud800"),
        ({"priority": True}, 422, "invalid_parameter", "#/priority"),
        ({"priority": "1"}, 422, "invalid_parameter", "#/priority"),
        ({"max_cost_usd": True}, 422, "invalid_parameter", "#/max_cost_usd"),
        ({"params": {"opportunities": True}}, 422, "invalid_parameter", "#/params/opportunities"),
        ({"params": {"opportunities": "2"}}, 422, "invalid_parameter", "#/params/opportunities"),
        ({"params": {"sectors": [True, 2]}}, 422, "invalid_parameter", "#/params/sectors/0"),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_said_before_anything_is_stored(
    bad_input: tuple[RunningGateway, dict[str, str]], wanted: dict[str, Any], status: int, code: str, where: str | None
):
    running, names = bad_input
    body = {"workload": "lap_compare", "inputs": {"reference": "VIDEO", "other": "VIDEO"}} | wanted

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: filled(one) for name, one in value.items()}
        return [filled(one) for one in value] if isinstance(value, list) else names.get(value, value)

    sent = json.dumps({**body, "inputs": filled(body["inputs"])})
    json_type = {"Content-Type": "application/json"}
    tried = await running.http.post("/v1/jobs?dry_run=true", content=sent, headers=json_type)
    answer = await running.http.post("/v1/jobs", content=sent, headers=json_type)
    assert (answer.status_code, code_of(answer)) == (status, code)
    assert (tried.status_code, reason(tried)) == (status, reason(answer))
    if where:
        assert where in [one["pointer"] for one in answer.json()["errors"]]
    assert "job.submitted" not in await running.types()


def reason(answer: httpx.Response) -> dict[str, Any]:
    """Return a problem without what differs from one request to the next."""
    return {name: value for name, value in answer.json().items() if name not in ("request_id", "instance")}


@pytest.fixture(scope="module")
def bad_input_servers(tmp_path_factory: pytest.TempPathFactory, s3: S3Settings) -> Iterator[Servers]:
    with chosen_bus(tmp_path_factory.mktemp("nats")) as nats:
        yield nats.settings, s3


UPLOADED: dict[str, str] = {}


@pytest.fixture
async def bad_input(bad_input_servers: Servers, tmp_path: Path):
    async with running_gateway(*bad_input_servers, tmp_path) as running:
        if not UPLOADED:
            UPLOADED["VIDEO"] = await running.uploaded()
            UPLOADED["PICTURE"] = await running.uploaded(picture(), "image/png")
            UPLOADED["OPEN"] = await running.send(b"123")
        yield running, UPLOADED


async def test_an_option_is_taken_where_its_backend_is_installed(servers: Servers, tmp_path: Path):
    async with running_gateway(*servers, tmp_path, backends="saccade_yolo") as running:
        upload_id = await running.uploaded()
        assert (await running.submitted(upload_id, params={"detect": "yolo"}))["params"]["detect"] == "yolo"
        listed = (await running.http.get("/v1/workloads")).json()["data"]
        told = next(one for one in listed if one["name"] == "lap_compare")
        assert {one["package"]: one["installed"] for one in told["backends"]}["saccade_yolo"] is True
        assert told["params_schema"]["properties"]["detect"]["enum"] == ["off", "yolo"]


async def test_workloads_are_told_in_the_language_asked_for(running: RunningGateway):
    async def told(**query: str) -> dict[str, Any]:
        answer = await running.http.get("/v1/workloads", params=query)
        found: dict[str, Any] = next(one for one in answer.json()["data"] if one["name"] == "lap_compare")
        return found

    english, german = await told(), await told(lang="de-AT")
    assert english == await told(lang="en") == await told(lang="fr")
    assert (english["title"], german["title"]) == ("Lap comparison", "Rundenvergleich")
    assert german["stages"][0]["title"] == "Beide Videos lesen"
    assert german["inputs"][0]["title"].startswith("Runde A")
    assert german["params_schema"]["properties"]["sectors"]["title"] == "Sektoren"
    assert german["params_schema"]["$defs"]["LapSegment"]["properties"]["start_s"]["description"].startswith("Beginn")
    # All but the texts is the same.
    assert (
        german["params_schema"]["properties"]["sectors"]["anyOf"]
        == english["params_schema"]["properties"]["sectors"]["anyOf"]
    )
    assert (await running.http.get("/v1/workloads", params={"lang": "de;x"})).status_code == 422


async def test_a_whole_number_is_one_however_it_is_written(running: RunningGateway):
    upload_id = await running.uploaded()
    body = {"workload": "lap_compare", "inputs": {"reference": upload_id, "other": upload_id}}
    more = {"priority": 1.0, "params": {"opportunities": 2.0}, "metadata": {"note": "\x00\ufffe\U0001f600"}}
    answer = await running.http.post("/v1/jobs", json=body | more)
    assert answer.status_code == 202
    assert (answer.json()["params"]["opportunities"], answer.json()["metadata"]) == (2, more["metadata"])


async def test_twenty_identical_requests_make_one_job(running: RunningGateway):
    upload_id = await running.uploaded()
    body = {"workload": "lap_compare", "inputs": {"reference": upload_id, "other": upload_id}}
    posts = (running.http.post("/v1/jobs", json=body, headers={"Idempotency-Key": "k"}) for _ in range(20))
    answers = await asyncio.gather(*posts)
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len({answer.json()["cursor"] for answer in answers}) == 1
    assert (await running.types()).count("job.submitted") == 1

    same_meaning = {"inputs": {"other": upload_id, "reference": upload_id}, "workload": "lap_compare"}
    again = await running.http.post("/v1/jobs", json=same_meaning, headers={"Idempotency-Key": "k"})
    assert again.json()["id"] == answers[0].json()["id"]
    other = await running.http.post("/v1/jobs", json=body | {"priority": 1}, headers={"Idempotency-Key": "k"})
    assert (other.status_code, code_of(other)) == (409, "idempotency_key_reused")
    assert (await running.submitted(upload_id))["id"] != again.json()["id"]


@pytest.mark.parametrize("key", ["", " ", "x" * 256, "tab\tinside"])
async def test_a_key_that_cannot_be_used_is_refused(bad_input: tuple[RunningGateway, dict[str, str]], key: str):
    body = {"workload": "lap_compare", "inputs": {}}
    answer = await bad_input[0].http.post("/v1/jobs", json=body, headers={"Idempotency-Key": key})
    assert (answer.status_code, code_of(answer)) == (400, "idempotency_key_invalid")


async def test_a_request_whose_process_died_after_the_key_was_claimed_is_finished_by_the_next(running: RunningGateway):
    upload_id = await running.uploaded()
    body = {"workload": "lap_compare", "inputs": {"reference": upload_id, "other": upload_id}}
    claimed = new_id("job")
    key = idempotency_key("local", "POST /v1/jobs", "died", body)
    idempotency = Idempotency(EventStore(running.store.client, "IDEMPOTENCY"))
    assert await idempotency.claim(key, claimed) == claimed
    assert await idempotency.claim(key, new_id("job")) == claimed
    for _ in range(2):
        answer = await running.http.post("/v1/jobs", json=body, headers={"Idempotency-Key": "died"})
        assert (answer.status_code, answer.json()["id"]) == (202, claimed)
    assert (await running.types()).count("job.submitted") == 1


async def test_cancel_is_durable_without_a_dispatcher_and_may_be_repeated(running: RunningGateway):
    job = await running.submitted(await running.uploaded())
    for _ in range(2):
        answer = await running.http.post(f"/v1/jobs/{job['id']}/cancel")
        assert (answer.status_code, answer.json()["message"]) == (200, "Cancelling.")
    assert (await running.types()).count("job.cancel_requested") == 1
    assert (await running.job(job["id"])).cancel_requested
    await running.say(job["id"], JobCancelled(attempt=0))
    ended = await running.http.post(f"/v1/jobs/{job['id']}/cancel")
    assert (ended.status_code, code_of(ended)) == (409, "job_already_ended")
    assert code_of(await running.http.post(f"/v1/jobs/{new_id('job')}/cancel")) == "job_not_found"


async def test_cancel_wins_in_the_end_against_a_busy_writer(running: RunningGateway):
    job = await running.submitted(await running.uploaded())
    conflicts = 0

    async def write() -> None:
        nonlocal conflicts
        for position in range(40):
            among = aggregate("local", "job", job["id"])
            folded = await running.job(job["id"])
            message = encode(JobQueued(position=position), tenant="local", subject_id=job["id"], source="/test")
            try:
                await running.store.publish(message, after=folded.sequence, among=among)
            except Conflict:
                conflicts += 1

    answers, _ = await asyncio.gather(
        asyncio.gather(*(running.http.post(f"/v1/jobs/{job['id']}/cancel") for _ in range(5))), write()
    )
    assert {answer.status_code for answer in answers} == {200}
    assert (await running.types()).count("job.cancel_requested") == 1


async def test_a_job_that_ended_can_be_retried_once(running: RunningGateway):
    job = await running.submitted(await running.uploaded())
    here = f"/v1/jobs/{job['id']}"
    assert code_of(await running.http.post(f"{here}/retry")) == "job_not_retryable"
    await running.http.post(f"{here}/cancel")
    await running.say(job["id"], JobCancelled(attempt=0))
    assert (await running.http.post(f"{here}/retry")).json()["state"] == "retrying"
    assert code_of(await running.http.post(f"{here}/retry")) == "job_not_retryable"
    folded = await running.job(job["id"])
    assert (folded.state, folded.cancel_requested) == (State.RETRYING, False)


async def test_a_read_waits_for_the_end_of_the_job(running: RunningGateway):
    job = await running.submitted(await running.uploaded())
    here = f"/v1/jobs/{job['id']}"
    early = await running.http.get(here, headers={"Prefer": "wait=1"})
    assert (early.json()["state"], early.headers["preference-applied"]) == ("submitted", "wait=1")
    waiting = asyncio.ensure_future(running.http.get(here, headers={"Prefer": "respond-async, wait=600"}))
    run_id = await running.start_job(job["id"])
    assert not waiting.done()
    await running.finish_job(job["id"], run_id, [])
    answer = await asyncio.wait_for(waiting, 10)
    assert answer.headers["preference-applied"] == "wait=60"
    found = answer.json()
    assert (found["state"], found["progress"], found["result"]) == ("succeeded", 1.0, {"delta_s": 0.5})
    paid = {"run_id": run_id, "device": "cpu", "seconds": 1.5, "startup_s": 0.0, "usd": 0.25}
    assert found["cost"] == {
        "estimated_usd": 0.0,
        "estimated_from": "spec",
        "actual_usd": 0.25,
        "attempts": [paid],
    }
    assert found["finished_at"] > found["started_at"] > found["created_at"]


async def test_an_estimate_rests_on_what_such_jobs_took_once_there_is_a_history(servers: Servers, tmp_path: Path):
    async with running_gateway(*servers, tmp_path, executor="modal") as running:

        async def expected() -> dict[str, Any]:
            found = (await running.http.get("/v1/workloads")).json()["data"]
            estimate: dict[str, Any] = next(one for one in found if one["name"] == "lap_compare")["estimate"]
            return estimate

        before = await expected()
        assert (before["device"], before["seconds"]) == ("cpu", WORKLOAD.compute.typical_s)
        assert before["usd"] > 0
        upload_id = await running.uploaded()
        first = await running.submitted(upload_id)
        assert first["cost"] == {
            "estimated_usd": before["usd"],
            "estimated_from": "spec",
            "actual_usd": 0.0,
            "attempts": [],
        }
        await running.finish_job(first["id"], await running.start_job(first["id"]), [])
        await running.http.get(f"/v1/jobs/{first['id']}", headers={"Prefer": "wait=10"})
        after = await expected()
        assert (after["basis"], after["runs"], after["seconds"]) == ("history", 1, 1.5)
        second = await running.submitted(upload_id)
        assert (second["cost"]["estimated_from"], second["cost"]["estimated_usd"]) == ("history", after["usd"])


async def test_jobs_are_read_but_not_taken_while_the_bus_is_away(tmp_path: Path, s3: S3Settings):
    folder = tmp_path / "nats"
    folder.mkdir()
    with chosen_bus(folder) as nats:
        async with running_gateway(nats.settings, s3, tmp_path) as running:
            upload_id = await running.uploaded()
            job = await running.submitted(upload_id)
            nats.kill()
            body = {"workload": "lap_compare", "inputs": {"reference": upload_id, "other": upload_id}}
            headers = {"Idempotency-Key": "away"}
            away = await running.http.post("/v1/jobs", json=body, headers=headers)
            assert (away.status_code, code_of(away)) == (503, ErrorCode.BUS_UNAVAILABLE)
            assert int(away.headers["retry-after"]) > 0
            assert (await running.http.get(job["links"]["self"])).json()["state"] == "submitted"
            assert (await running.http.get("/health")).json()["status"] == "degraded"
            nats.start()
            for _ in range(30):
                back = await running.http.post("/v1/jobs", json=body, headers=headers)
                if back.status_code == 202:
                    break
            assert back.status_code == 202
            assert (await running.types()).count("job.submitted") == 2
