"""Upload rules over HTTP, on a real bus: what is taken, what is refused, and what a dry run shows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from contracts.errors import ErrorCode, SaccadeError
from contracts.events import EventData, decode, encode
from contracts.events.job import JobInput, JobSubmitted
from contracts.events.rule import JobRule, RuleSkipped
from contracts.ids import new_id
from contracts.limits import RULES
from contracts.rule import Rule, fold
from contracts.streams import aggregate
from kit.auth.api_keys import AuthSettings
from kit.settings import NatsSettings, S3Settings
from tests.harness.servers.gateway import RunningGateway, code_of, keys_file, picture, running_gateway

pytestmark = pytest.mark.anyio
Servers = tuple[NatsSettings, S3Settings]

PAIR = {"name": "Laps", "workload": "lap_compare", "group": {"by": "metadata.lap", "needs": 2, "order": "metadata.nr"}}
CLIPS = {"name": "Matches", "workload": "badminton", "match": {"filename": "*.MP4"}}


@pytest.fixture
async def running(servers: Servers, tmp_path: Path) -> AsyncIterator[RunningGateway]:
    """Run a gateway without rules of earlier tests."""
    async with running_gateway(*servers, tmp_path) as found:
        await delete_all(found)
        yield found


async def delete_all(running: RunningGateway) -> None:
    for rule in (await running.http.get("/v1/rules", params={"limit": 200})).json()["data"]:
        assert (await running.http.delete(f"/v1/rules/{rule['id']}")).status_code == 204


async def made(running: RunningGateway, wanted: dict[str, Any], **more: Any) -> dict[str, Any]:
    answer = await running.http.post("/v1/rules", json=wanted, **more)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"/v1/rules/{found['id']}"
    return found


async def say(running: RunningGateway, subject_id: str, data: EventData) -> None:
    """Publish an event as the dispatcher, and wait until the gateway has it."""
    message = encode(data, tenant="local", subject_id=subject_id, source="/dispatcher")
    assert await running.tail.wait_for(await running.store.publish(message), 5)


async def folded(running: RunningGateway, rule_id: str) -> Rule | None:
    rule: Rule | None = None
    for stored in await running.store.load(aggregate("local", "rule", rule_id)):
        rule = fold(rule, decode(stored.body), stored.sequence)
    return rule


async def submit_by_rule(running: RunningGateway, rule_id: str, upload_id: str, at: datetime) -> str:
    """Submit a job as the dispatcher does for a rule."""
    job_id = new_id("job")
    job_input = JobInput(
        upload_id=upload_id, key="k", filename="a.mp4", content_type="video/mp4", size_bytes=1, sha256="0" * 64
    )
    data = JobSubmitted(
        workload="badminton",
        workload_version="1",
        inputs={"video": [job_input]},
        params={},
        deadline=at + timedelta(hours=1),
        rule=JobRule(rule_id=rule_id, upload_ids=(upload_id,)),
    )
    message = encode(data, tenant="local", subject_id=job_id, source="/dispatcher", time=at)
    assert await running.tail.wait_for(await running.store.publish(message), 5)
    return job_id


async def test_a_rule_is_made_read_changed_and_deleted(running: RunningGateway) -> None:
    rule = await made(running, PAIR | {"params": {"sectors": 4}, "metadata": {"team": "red"}})
    assert (rule["enabled"], rule["inputs"], rule["match"]["media"]) == (True, ["reference", "other"], "video")
    assert rule["params"]["sectors"] == 4
    assert len(rule["params"]) > 1, "with the workload's defaults"
    assert rule["group"] == {"by": "metadata.lap", "needs": 2, "quiet_s": None, "minimum": 1, "order": "metadata.nr"}
    assert (rule["made_by"], rule["jobs_today"], rule["last_job"], rule["last_skipped"]) == (None, 0, None, None)
    path = rule["links"]["self"]
    assert (await running.http.get(path)).json() == rule

    changed = (await running.http.patch(path, json={"enabled": False, "params": {"sectors": 5}})).json()
    assert changed["updated_at"] > rule["updated_at"]
    differing = {name for name in rule if rule[name] != changed[name]}
    assert differing == {"enabled", "params", "updated_at"}
    assert (await running.http.patch(path, json={"enabled": False})).json() == changed, "no change, no event"
    stored = await folded(running, rule["id"])
    assert stored
    assert (stored.definition.enabled, stored.definition.params["sectors"]) == (False, 5)
    other = (await running.http.patch(path, json={"workload": "badminton", "group": None})).json()
    assert (other["workload"], other["group"], other["inputs"]) == ("badminton", None, ["video"])
    assert "sectors" not in other["params"]
    photos = (await running.http.patch(path, json={"workload": "nerf", "group": {"quiet_s": 30}})).json()
    assert photos["match"]["media"] != "video", "the media follow from the workload, unless they are sent with it"

    assert (await running.http.delete(path)).status_code == 204
    for method in ("GET", "PATCH", "DELETE"):
        assert code_of(await running.http.request(method, path, json={})) == "rule_not_found"
    types = [decode(each.body).type for each in await running.store.load(aggregate("local", "rule", rule["id"]))]
    assert types == ["rule.created", "rule.updated", "rule.deleted"], "the newest of each type"


async def test_requests_with_one_key_make_one_rule(running: RunningGateway) -> None:
    headers = {"Idempotency-Key": new_id("req")}
    answers = await asyncio.gather(*(made(running, CLIPS, headers=headers) for _ in range(4)))
    assert len({answer["id"] for answer in answers}) == 1
    assert len((await running.http.get("/v1/rules")).json()["data"]) == 1
    again = await running.http.post("/v1/rules", json=PAIR, headers=headers)
    assert code_of(again) == "idempotency_key_reused"


@pytest.mark.parametrize(
    ("change", "code", "pointer"),
    [
        ({"name": ""}, "invalid_parameter", "#/name"),
        ({"workload": "live_splat"}, "invalid_parameter", "#/workload"),
        ({"workload": "nerf_training"}, "invalid_parameter", "#/workload"),
        ({"workload": "nothing"}, "unknown_workload", None),
        ({"params": {"sector": 3}}, "unknown_parameter", "#/params/sector"),
        ({"params": {"sectors": "3"}}, "invalid_parameter", "#/params/sectors"),
        ({"gpu": "H100"}, "invalid_parameter", "#/gpu"),
        ({"metadata": {"a": "x" * 5000}}, "invalid_parameter", "#/metadata"),
        ({"webhook_url": "ftp://example.com"}, "invalid_parameter", "#/webhook_url"),
        ({"max_cost_usd": 0}, "invalid_parameter", "#/max_cost_usd"),
        ({"jobs_per_day": 0}, "invalid_parameter", "#/jobs_per_day"),
        ({"match": {"media": "image"}}, "wrong_input_media", "#/match/media"),
        ({"match": {"minimum_bytes": "1"}}, "invalid_parameter", "#/match/minimum_bytes"),
        ({"match": {"minimum_bytes": 2, "maximum_bytes": 1}}, "invalid_parameter", "#/match"),
        ({"match": {"filename": "*a" * 9}}, "invalid_parameter", "#/match/filename"),
        ({"match": {"metadata": {"lap": "*?" * 50}}}, "invalid_parameter", "#/match/metadata/lap"),
        ({"match": {"path": "*"}}, "unknown_parameter", "#/match/path"),
        ({"inputs": ["reference", "third"]}, "unknown_input", "#/inputs/1"),
        ({"inputs": ["other", "other"]}, "invalid_parameter", "#/inputs/1"),
        ({"inputs": ["other"]}, "invalid_parameter", "#/group/needs"),
        ({"group": None}, "missing_input", "#/group"),
        ({"group": {"needs": 3}}, "invalid_parameter", "#/group/needs"),
        ({"group": {"needs": 2, "quiet_s": 2}}, "invalid_parameter", "#/group"),
        ({"group": {"by": "filename", "needs": 2}}, "invalid_parameter", "#/group/by"),
        ({"group": {"quiet_s": 5}}, "missing_input", "#/group/minimum"),
        ({"workload": "nerf", "group": {"quiet_s": 5, "minimum": 501}}, "invalid_parameter", "#/group/minimum"),
        ({"every": 5}, "unknown_parameter", "#/every"),
    ],
)
async def test_what_makes_no_sense_is_refused_where_it_stands(
    running: RunningGateway, change: dict[str, Any], code: str, pointer: str | None
) -> None:
    for params in ({}, {"dry_run": True}):
        answer = await running.http.post("/v1/rules", json=PAIR | change, params=params)
        assert code_of(answer) == code, answer.text
        assert pointer is None or answer.json()["errors"][0]["pointer"] == pointer, answer.text
    if "workload" not in change:
        rule = await made(running, PAIR)
        assert code_of(await running.http.patch(f"/v1/rules/{rule['id']}", json=change)) == code
        assert (await running.http.get(f"/v1/rules/{rule['id']}")).json() == rule


async def test_photos_until_it_is_quiet_and_a_video_take_the_input_that_fits(running: RunningGateway) -> None:
    photos = {"name": "Object", "workload": "nerf", "group": {"quiet_s": 60, "minimum": 20}}
    assert (await made(running, photos))["inputs"] == ["photos"]
    filmed = await made(running, {"name": "Film", "workload": "nerf", "match": {"media": "video"}})
    assert filmed["inputs"] == ["video"]


async def test_a_tenant_has_a_limit_and_its_rules_come_in_pages(running: RunningGateway) -> None:
    for first in range(0, RULES, 10):
        batch = (CLIPS | {"name": f"{number}"} for number in range(first, first + 10))
        await asyncio.gather(*(made(running, wanted) for wanted in batch))
    assert code_of(await running.http.post("/v1/rules", json=CLIPS)) == "too_many_rules"
    names: list[str] = []
    cursor: str | None = None
    while True:
        params = {"limit": 40} | ({"cursor": cursor} if cursor else {})
        page = (await running.http.get("/v1/rules", params=params)).json()
        names += [rule["name"] for rule in page["data"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert sorted(map(int, names)) == list(range(RULES))
    assert code_of(await running.http.get("/v1/rules", params={"cursor": "jobs-1"})) == "cursor_invalid"


async def test_a_rule_tells_of_its_jobs_and_of_what_it_skipped(running: RunningGateway) -> None:
    rule = await made(running, CLIPS)
    upload_id, now = new_id("upl"), datetime.now(UTC)
    for at in (now - timedelta(days=2), now):
        job_id = await submit_by_rule(running, rule["id"], upload_id, at)
    error = SaccadeError(ErrorCode.UNKNOWN_WORKLOAD).body()
    await say(running, rule["id"], RuleSkipped(upload_ids=(upload_id,), error=error))
    found = (await running.http.get(f"/v1/rules/{rule['id']}")).json()
    assert (found["jobs_today"], found["last_job"]) == (1, job_id)
    assert found["last_skipped"]["upload_ids"] == [upload_id]
    assert found["last_skipped"]["error"]["code"] == "unknown_workload"

    listed = (await running.http.get("/v1/jobs", params={"rule": rule["id"]})).json()["data"]
    assert len(listed) == 2
    assert listed[0]["rule"] == {"rule_id": rule["id"], "upload_ids": [upload_id], "group_id": None}
    assert (await running.http.get("/v1/jobs", params={"rule": new_id("rul")})).json()["data"] == []
    own = await running.submitted(await running.uploaded())
    assert own["rule"] is None
    assert code_of(await running.http.get("/v1/jobs", params={"rule": "laps"})) == "invalid_parameter"


async def tried(running: RunningGateway, wanted: dict[str, Any], **params: Any) -> dict[str, Any]:
    before = await running.types()
    answer = await running.http.post("/v1/rules", json=wanted, params={"dry_run": True, **params})
    assert answer.status_code == 200, answer.text
    assert await running.types() == before, "nothing is stored"
    found: dict[str, Any] = answer.json()
    return found


async def test_a_dry_run_shows_groups_and_jobs_of_past_uploads(running: RunningGateway) -> None:
    since = datetime.now(UTC).isoformat()
    laps = [("7", "2"), ("8", "1"), ("7", "1")]
    ids = [await running.uploaded(metadata={"lap": lap, "nr": number}) for lap, number in laps]
    await running.uploaded()
    await running.uploaded(picture(), "image/png", filename="p.png", metadata={"lap": "7", "nr": "3"})
    trial = await tried(running, PAIR, since=since)
    assert (trial["considered"], trial["matched"], trial["inputs"]) == (5, 4, ["reference", "other"])
    pair, waiting = trial["jobs"]
    assert (pair["outcome"], pair["group"], pair["error"]) == ("submitted", "7", None)
    filled = {name: [each["upload_id"] for each in given] for name, given in pair["inputs"].items()}
    assert filled == {"reference": [ids[2]], "other": [ids[0]]}
    assert (waiting["outcome"], waiting["group"]) == ("waiting", "8")
    assert trial["estimated_usd"] == trial["estimate"]["usd"]
    assert trial["estimate"]["seconds"] > 0

    rule = await made(running, PAIR)
    changed = await running.http.patch(
        f"/v1/rules/{rule['id']}", json={"match": {"metadata": {"lap": "8"}}}, params={"dry_run": True, "since": since}
    )
    assert changed.json()["matched"] == 1
    assert (await running.http.get(f"/v1/rules/{rule['id']}")).json() == rule
    newest = await tried(running, PAIR, since=since, limit=2)
    assert (newest["considered"], newest["matched"], newest["jobs"]) == (2, 1, [])


async def test_a_dry_run_shows_what_is_skipped(running: RunningGateway) -> None:
    since = datetime.now(UTC).isoformat()
    rule = await made(running, CLIPS | {"jobs_per_day": 1})
    first = await running.uploaded(filename="A.mp4")
    job_id = await submit_by_rule(running, rule["id"], first, datetime.now(UTC))
    result = await running.uploaded(filename="B.mp4", from_job=job_id)
    # A job that a client submitted on the rule's result passes the loop on.
    second = (await running.submitted(result))["id"]
    derived = await running.uploaded(filename="C.mp4", from_job=second)
    await running.uploaded(filename="D.mov", from_job=second)
    last = await running.uploaded(filename="E.mp4")
    answer = await running.http.patch(f"/v1/rules/{rule['id']}", json={}, params={"dry_run": True, "since": since})
    jobs = {
        job["inputs"]["video"][0]["upload_id"]: (job["outcome"], (job["error"] or {}).get("code"))
        for job in answer.json()["jobs"]
    }
    assert jobs == {
        first: ("submitted", None),
        result: ("skipped", "rule_loop"),
        derived: ("skipped", "rule_loop"),
        last: ("skipped", "rule_limit_reached"),
    }


async def test_rules_are_each_tenants_own_and_name_the_key_that_made_them(servers: Servers, tmp_path: Path) -> None:
    auth = AuthSettings(api_keys_file=keys_file(tmp_path, "acme", "beta", "gamma", read_only=("gamma",)))
    async with running_gateway(*servers, tmp_path, auth=auth) as running:
        acme, beta, reader = ({"Authorization": f"Bearer {name}.secret"} for name in ("acme", "beta", "gamma"))
        rule = await made(running, CLIPS, headers=acme)
        assert rule["made_by"] == "acme"
        path = f"/v1/rules/{rule['id']}"
        for method in ("GET", "PATCH", "DELETE"):
            assert code_of(await running.http.request(method, path, json={}, headers=beta)) == "rule_not_found"
        assert (await running.http.get("/v1/rules", headers=beta)).json()["data"] == []
        assert code_of(await running.http.post("/v1/rules", json=CLIPS, headers=reader)) == "forbidden"
        await running.http.delete(path, headers=acme)
