"""Dead letters over HTTP: three kinds in one list, groups, acts on one letter and on all that match."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from contracts.audit import ChainVerifier
from contracts.errors import ErrorCode
from contracts.events.job import JobSubmitted
from contracts.ids import new_id
from contracts.streams import OPS
from kit.auth.api_keys import AuthSettings
from kit.bus.event_store import EventStore
from kit.bus.idempotency import IdempotencyKey
from kit.settings import NatsSettings, S3Settings
from services.gateway.dead_letters.plan_runner import PlanRunner
from tests.contract.gateway.test_audit import operators_keys
from tests.harness.dead_letters import LetterMaker, OperatorClient
from tests.harness.servers.gateway import RunningGateway, code_of, running_gateway

pytestmark = pytest.mark.anyio
Servers = tuple[NatsSettings, S3Settings]


@pytest.fixture
def auth(tmp_path: Path) -> AuthSettings:
    return operators_keys(tmp_path)


@pytest.fixture
async def running(empty_servers: Servers, auth: AuthSettings, tmp_path: Path) -> AsyncIterator[RunningGateway]:
    async with running_gateway(*empty_servers, tmp_path, auth=auth) as found:
        yield found


async def records(running: RunningGateway) -> list[Any]:
    verifier = ChainVerifier()
    history = EventStore(running.store.client, OPS.name).history(0)
    found = [verifier.add(stored.sequence, stored.subject, stored.body) async for stored in history]
    assert verifier.faults == []
    return found


async def test_three_kinds_are_one_list_with_groups_and_filters(running: RunningGateway) -> None:
    make, rival = LetterMaker(running.store.client), LetterMaker(running.store.client, "rival")
    acme, everyone = OperatorClient(running, "acme"), OperatorClient(running, "all")
    assert await acme.ls() == {
        "data": [], "next_cursor": None, "count": 0, "by_kind": {"event": 0, "delivery": 0, "job": 0}, "groups": [],
    }  # fmt: skip
    endpoint = new_id("whk")
    jobs = [await make.job(f"frame {number} of {new_id('upl')} is broken") for number in range(3)]
    other_job = await make.job("no court was found")
    number = await make.event()
    await make.delivery(endpoint, 4, attempt=8, last=False)
    await make.delivery(endpoint, 4)
    await make.delivery(endpoint, 5, last=False)
    await make.delivery(endpoint, 6, status=404)
    foreign = await rival.job()
    page = await acme.ls()
    assert {letter["id"] for letter in page["data"]} == {
        *jobs, other_job, str(number), f"{endpoint}:4", f"{endpoint}:6",
    }  # fmt: skip
    assert (page["count"], page["by_kind"]) == (7, {"event": 1, "delivery": 2, "job": 4})
    assert await everyone.ids() - await acme.ids() == {foreign}
    assert await everyone.ids(tenant="rival") == {foreign}
    groups = {(group["kind"], group["error"]): group for group in page["groups"]}
    assert groups["job", "input_unreadable: frame N of ID is broken"]["count"] == 3
    assert {error for kind, error in groups if kind == "delivery"} == {"http_status 500", "http_status 404"}
    frames = groups["job", "input_unreadable: frame N of ID is broken"]["id"]
    assert await acme.ids(group=frames) == set(jobs)
    assert await acme.ids(kind="delivery", error="404") == {f"{endpoint}:6"}
    assert await acme.ids(service="gateway") == {str(number)}
    assert await acme.ids(type="job.succeeded", kind="delivery") == {f"{endpoint}:4", f"{endpoint}:6"}
    moment = (await acme.show(jobs[1]))["time"]
    assert await acme.ids(kind="job", since=moment) == {jobs[1], jobs[2], other_job}
    assert await acme.ids(kind="job", until=moment) == {jobs[0]}
    seen: list[str] = []
    page = await acme.ls(limit=3)
    while page["next_cursor"]:
        seen += [letter["id"] for letter in page["data"]]
        page = await acme.ls(limit=3, cursor=page["next_cursor"])
    assert len({*seen, *(letter["id"] for letter in page["data"])}) == 7
    lines = ['{kind="delivery",service="notifier"} 2.0', '{kind="event",service="gateway"} 1.0']
    lines.append('{kind="job",service="dispatcher"} 5.0')
    async with asyncio.timeout(15):
        shown = ""
        while not all(f"saccade_dead_letters{line}" in shown for line in lines):
            await asyncio.sleep(0.2)
            shown = (await running.http.get("/metrics")).text


async def test_a_letter_is_shown_with_its_event_and_hidden_from_others(running: RunningGateway) -> None:
    make = LetterMaker(running.store.client)
    number = await make.event("dispatcher", body=b'{"source": "/gateway", "dataschema": "s/1"}')
    shown = await OperatorClient(running, "acme").show(number)
    assert (shown["kind"], shown["service"], shown["error"], shown["state"]) == (
        "event", "dispatcher", "KeyError: 'x'", "open",
    )  # fmt: skip
    assert (shown["redrive"], shown["made_by"], shown["version"], shown["acts"]) == ("refold", "/gateway", "s/1", [])
    for key, code in (("rival", ErrorCode.DEAD_LETTER_NOT_FOUND), ("reader", ErrorCode.FORBIDDEN)):
        headers = {"Authorization": f"Bearer {key}.secret"}
        assert code_of(await running.http.get(f"/v1/dead-letters/{number}", headers=headers)) == code
        body = {"why": "mine"}
        for act in ("redrive", "discard"):
            answer = await running.http.post(f"/v1/dead-letters/{number}/{act}", json=body, headers=headers)
            assert code_of(answer) == code
    assert await records(running) == []


async def test_discarding_hides_and_deletes_nothing_and_a_further_fault_is_listed_again(
    running: RunningGateway,
) -> None:
    make, acme = LetterMaker(running.store.client), OperatorClient(running, "acme")
    job, number = await make.job(), await make.event()
    for letter_id in (job, number):
        answer = await acme.post(f"{letter_id}/discard", why="known")
        assert answer.status_code == 200, answer.text
        assert code_of(await acme.post(f"{letter_id}/discard")) == ErrorCode.DEAD_LETTER_SETTLED
        assert code_of(await acme.post(f"{letter_id}/redrive")) == ErrorCode.DEAD_LETTER_SETTLED
    assert await acme.ids() == set()
    assert await acme.ids(state="discarded") == {job, str(number)} == await acme.ids(every_state=True)
    shown = await acme.show(job)
    assert [(act["verb"], act["by"], act["by_verified"], act["why"]) for act in shown["acts"]] == [
        ("discard_requested", "acme", True, "known"),
        ("discarded", "acme", True, "known"),
    ]
    assert shown["event"]["data"]["attempt"] == 0
    await make.job(job_id=job, attempt=1)
    assert await acme.ids() == {job}
    assert (await acme.show(job))["attempt"] == 1


async def test_without_a_dispatcher_an_events_letter_stays_open(running: RunningGateway) -> None:
    make, acme = LetterMaker(running.store.client), OperatorClient(running, "acme")
    number = await make.event("dispatcher")
    assert code_of(await acme.post(f"{number}/redrive")) == ErrorCode.SERVICE_UNAVAILABLE
    assert await acme.ids() == {str(number)}


async def test_many_are_discarded_by_an_expected_count(running: RunningGateway) -> None:
    make, acme = LetterMaker(running.store.client), OperatorClient(running, "acme")
    letters = {str(await make.event(error=f"ValueError: {number}")) for number in range(7)}
    kept = await make.job()
    trial = (await acme.post("discard", kind="event", dry_run=True)).json()
    assert (trial["count"], trial["by_kind"]["event"], trial["groups"][0]["error"]) == (7, 7, "ValueError: N")
    assert (await acme.post("redrive", kind="event", dry_run=True)).json()["left_out"] == 7
    refused = await acme.post("discard", kind="event", expected_count=6)
    assert code_of(refused) == ErrorCode.DEAD_LETTERS_CHANGED
    assert refused.json()["count"] == 7
    assert code_of(await acme.post("discard", kind="event")) == ErrorCode.INVALID_PARAMETER
    assert await records(running) == []
    answer = await acme.post("discard", kind="event", expected_count=7, why="a bug of Monday")
    assert answer.status_code == 202, answer.text
    plan = await acme.ended(answer.json()["id"])
    assert (plan["state"], plan["done"], plan["failed"], plan["skipped"]) == ("ended", 7, 0, 0)
    assert await acme.ids(state="discarded") == letters
    assert await acme.ids() == {kept}
    assert code_of(await acme.post("discard", kind="event", expected_count=7)) == ErrorCode.DEAD_LETTERS_CHANGED
    found = await records(running)
    assert len(found) == 2 + 2 * 7
    assert {(one.data.why, one.data.by, one.data.request_id) for one in found} == {
        ("a bug of Monday", "acme", plan["request_id"])
    }
    headers = {"Authorization": "Bearer rival.secret"}
    answer = await running.http.get(f"/v1/dead-letter-plans/{plan['id']}", headers=headers)
    assert code_of(answer) == ErrorCode.DEAD_LETTER_PLAN_NOT_FOUND


async def test_a_plan_with_a_key_waits_for_none_of_another_tenant(
    running: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, letters = LetterMaker(running.store.client), running.app.state.dead_letters
    began, slow = asyncio.Event(), asyncio.Event()
    await make.event()
    recall = letters._idempotency.recall

    async def recall_late(key: IdempotencyKey) -> str | None:
        if key.tenant == "acme":
            began.set()
            await slow.wait()
        found: str | None = await recall(key)
        return found

    monkeypatch.setattr(letters._idempotency, "recall", recall_late)

    def plan(operator: str, expected: int) -> Any:
        headers = {"Authorization": f"Bearer {operator}.secret", "Idempotency-Key": "key-1"}
        body = {"action": "discard", "why": "a test", "expected_count": expected}
        return running.http.post("/v1/dead-letter-plans", json=body, headers=headers)

    waiting = [asyncio.ensure_future(plan("acme", 1)) for _ in range(2)]
    async with asyncio.timeout(10):
        await began.wait()
        other = await plan("all", 7)
    assert code_of(other) == ErrorCode.DEAD_LETTERS_CHANGED
    assert not any(request.done() for request in waiting)
    slow.set()
    first, second = [answer.json()["id"] for answer in await asyncio.gather(*waiting)]
    assert first == second


async def test_a_second_plan_with_the_same_request_id_tries_again(running: RunningGateway) -> None:
    make, job = LetterMaker(running.store.client), new_id("job")
    deadline = datetime.now(UTC) + timedelta(hours=1)
    gone = JobSubmitted(workload="removed_since", workload_version="1", inputs={}, params={}, deadline=deadline)
    await make.say(job, gone)
    await make.job(job_id=job)
    headers = {"Authorization": "Bearer acme.secret", "X-Request-Id": "the-id-of-a-script"}
    body = {"action": "redrive", "why": "a test", "expected_count": 1}
    for tries in (1, 2):
        answer = await running.http.post("/v1/dead-letter-plans", json=body, headers=headers)
        plan = await OperatorClient(running, "acme").ended(answer.json()["id"])
        assert (plan["done"], plan["failed"], plan["failures"][0]["id"]) == (0, 1, job)
        verbs = [one.verb for one in await records(running) if one.subject_id == job]
        assert verbs == ["redrive_requested", "redrive_failed"] * tries


async def test_a_plan_goes_on_where_a_killed_gateway_was(
    empty_servers: Servers, auth: AuthSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at every step of a plan in turn: each letter is discarded once, and what is not planned is left alone."""
    plan_id = None
    for life in range(6):
        async with running_gateway(*empty_servers, tmp_path / str(life), auth=auth) as running:
            make, acme = LetterMaker(running.store.client), OperatorClient(running, "acme")
            if plan_id is None:
                for number in range(8):
                    await make.event(error=f"ValueError: {number}")
                monkeypatch.setattr(PlanRunner, "wake", lambda _: None)
                answer = await acme.post("discard", kind="event", expected_count=8)
                plan_id = answer.json()["id"]
                continue  # killed before anything was done
            target = 2 * life + 1
            if life < 5:
                await make.event(error="a later one")
                end = asyncio.get_running_loop().time() + 15
                while len(await records(running)) < target:
                    assert asyncio.get_running_loop().time() < end
                    await asyncio.sleep(0)
                continue  # killed at whatever step it is
            plan = await acme.ended(plan_id)
            assert (plan["done"], plan["failed"], plan["skipped"]) == (8, 0, 0)
            discarded = [one.subject_id for one in await records(running) if one.verb == "discarded"]
            assert sorted(one for one in discarded if not one.startswith("dlp_")) == [str(n) for n in range(1, 9)]
            assert (await acme.ls())["count"] == 4
