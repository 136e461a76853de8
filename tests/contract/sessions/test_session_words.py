"""Questions about the video, the request to stop a text, and the texts that a session has said."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from contracts.events.base import decode, encode
from contracts.events.session import SessionAlert, SessionStopped, SessionText, SessionTextDelta
from contracts.limits import SESSION_PROMPTS
from kit.settings import NatsSettings, S3Settings
from tests.harness.servers.gateway import RunningGateway, code_of, running_gateway
from tests.harness.servers.session_sockets import Served, closed, frame, serving, until
from tests.harness.sessions.scripted_session_worker import opened, run_scripted_worker, shown

pytestmark = pytest.mark.anyio

Servers = tuple[NatsSettings, S3Settings]
SCHEMA = {"type": "object", "properties": {"colour": {"type": "string"}}, "required": ["colour"]}


@pytest.fixture
def running(session_gateway: RunningGateway) -> RunningGateway:
    return session_gateway


def text(chunk: int, said: str = "The arm moves.", **more: Any) -> SessionText:
    return SessionText(run_id="run_test", chunk=chunk, text=said, first_seq=chunk, last_seq=chunk + 1, **more)


def alert(number: int) -> SessionAlert:
    return SessionAlert(
        run_id="run_test", alert=number, rule="dropped", condition="the cube falls", chunk=3, confidence=0.9, text="It."
    )


async def test_a_question_is_stored_and_answered_by_a_text(running: RunningGateway):
    found = await opened(running, workload="described")
    path = f"/v1/sessions/{found['id']}/prompt"
    async with run_scripted_worker(running, found["id"]) as worker:
        answer = await running.http.post(path, json={"text": "What is red?", "answer_schema": SCHEMA})
        assert answer.status_code == 202, answer.text
        asked = answer.json()
        assert (asked["state"], asked["answer"], asked["session_id"]) == ("waiting", None, found["id"])
        assert (await shown(running, found["id"]))["prompts"] == [
            {"prompt_id": asked["prompt_id"], "text": "What is red?"}
        ]
        stored = [decode(one.body) async for one in running.store.history(0)][-1]
        assert (stored.type, stored.data["answer_schema"]) == ("session.prompt_requested", SCHEMA)
        waiting = asyncio.ensure_future(
            running.http.post(path, json={"text": "What is left of it?"}, headers={"Prefer": "wait=20"})
        )
        async with asyncio.timeout(20):
            while len(prompts := (await shown(running, found["id"]))["prompts"]) < 2:
                await asyncio.sleep(0.01)
        await worker.say(text(1, "The cube.", prompt_id=prompts[0]["prompt_id"], answer={"colour": "red"}))
        await worker.say(text(2, "The arm.", prompt_id=prompts[1]["prompt_id"]))
        await worker.say(text(3, "Nothing moves."))
        waited = await waiting
        assert (waited.status_code, waited.json()["state"]) == (200, "answered")
        assert waited.json()["answer"]["text"] == "The arm."
        session = await shown(running, found["id"])
        assert (session["prompts"], session["text"]["chunk"], session["alert"]) == ([], 3, None)


async def test_a_repeated_question_is_the_same_question(running: RunningGateway):
    found = await opened(running, workload="described")
    path, key = f"/v1/sessions/{found['id']}/prompt", {"Idempotency-Key": "a"}
    body = {"text": "What is red?"}
    answers = await asyncio.gather(*(running.http.post(path, json=body, headers=key) for _ in range(4)))
    assert {answer.status_code for answer in answers} == {202}
    (prompt_id,) = {answer.json()["prompt_id"] for answer in answers}
    assert len((await shown(running, found["id"]))["prompts"]) == 1
    async with run_scripted_worker(running, found["id"]) as worker:
        await worker.say(text(1, "The cube.", prompt_id=prompt_id))
        await worker.say(text(2))
    again = await running.http.post(path, json=body, headers=key)
    assert (again.status_code, again.json()["prompt_id"], again.json()["answer"]["chunk"]) == (200, prompt_id, 1)
    other = await running.http.post(path, json={"text": "Another?"}, headers=key)
    assert code_of(other) == "idempotency_key_reused"


async def test_an_answer_is_found_behind_an_event_that_cannot_be_read(running: RunningGateway):
    found = await opened(running, workload="described")
    path, key = f"/v1/sessions/{found['id']}/prompt", {"Idempotency-Key": "b"}
    prompt_id = (await running.http.post(path, json={"text": "What?"}, headers=key)).json()["prompt_id"]
    async with run_scripted_worker(running, found["id"]) as worker:
        good = encode(text(1), tenant="local", subject_id=found["id"], source="/worker/r")
        await running.store.publish(replace(good, body=good.body.replace(b'"chunk":1', b'"chunk":"one"')))
        await worker.say(text(2, "The cube.", prompt_id=prompt_id))
        await worker.say(text(3))
    again = await running.http.post(path, json={"text": "What?"}, headers=key)
    assert (again.status_code, again.json()["answer"]["chunk"]) == (200, 2)


async def test_only_so_many_questions_wait(running: RunningGateway):
    found = await opened(running, workload="described")
    path = f"/v1/sessions/{found['id']}/prompt"
    answers = await asyncio.gather(
        *(running.http.post(path, json={"text": f"Question {number}?"}) for number in range(SESSION_PROMPTS + 4))
    )
    assert sorted(answer.status_code for answer in answers) == [202] * SESSION_PROMPTS + [429] * 4
    assert {code_of(answer) for answer in answers if answer.status_code == 429} == {"too_many_prompts"}
    waiting = (await shown(running, found["id"]))["prompts"]
    assert len(waiting) == SESSION_PROMPTS
    async with run_scripted_worker(running, found["id"]) as worker:
        await worker.say(text(1, prompt_id=waiting[3]["prompt_id"]))
        assert (await running.http.post(path, json={"text": "One more?"})).status_code == 202


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"text": ""}, 422, "invalid_parameter"),
        ({"text": "x" * 2001}, 422, "invalid_parameter"),
        ({"text": "x" * (1 << 20)}, 413, "body_too_large"),
        ({"text": "\udfff"}, 422, "invalid_parameter"),
        ({"text": 5}, 422, "invalid_parameter"),
        ({}, 422, "invalid_parameter"),
        ({"text": "What?", "more": 1}, 422, "unknown_parameter"),
        ({"text": "What?", "answer_schema": {"type": "string"}}, 422, "answer_schema_invalid"),
        (
            {"text": "What?", "answer_schema": {"type": "object", "properties": {}, "required": ["a"]}},
            422,
            "answer_schema_invalid",
        ),
        ({"text": "What?", "answer_schema": {"$ref": "https://a.example"}}, 422, "answer_schema_invalid"),
        (
            {"text": "What?", "answer_schema": {"type": "object", "properties": 5, "required": ["a"]}},
            422,
            "answer_schema_invalid",
        ),
        (
            {"text": "What?", "answer_schema": {"type": "object", "properties": {"a": {"enum": [1], "minLength": -1}}}},
            422,
            "answer_schema_invalid",
        ),
    ],
)
async def test_questions_that_cannot_be_asked(running: RunningGateway, body: dict[str, Any], status: int, code: str):
    found = await opened(running, workload="described")
    sent = json.dumps(body)
    answer = await running.http.post(
        f"/v1/sessions/{found['id']}/prompt", content=sent, headers={"Content-Type": "application/json"}
    )
    assert (answer.status_code, code_of(answer)) == (status, code)


async def test_sessions_that_take_no_questions(running: RunningGateway):
    answer = await running.http.post("/v1/sessions", json={"workload": "streamed"})
    for name, body in (("prompt", {"text": "What?"}), ("cancel", None)):
        refused = await running.http.post(f"/v1/sessions/{answer.json()['id']}/{name}", json=body)
        assert (refused.status_code, code_of(refused)) == (409, "prompts_not_supported")
    found = await opened(running, workload="described")
    await running.http.post(f"/v1/sessions/{found['id']}/stop")
    for name, body in (("prompt", {"text": "What?"}), ("cancel", None)):
        refused = await running.http.post(f"/v1/sessions/{found['id']}/{name}", json=body)
        assert (refused.status_code, code_of(refused)) == (409, "session_ended")


async def test_the_texts_of_a_session_by_pages(running: RunningGateway):
    found = await opened(running, workload="described")
    path = f"/v1/sessions/{found['id']}/texts"
    empty = (await running.http.get(path)).json()
    assert (empty["data"], empty["next_cursor"]) == ([], None)
    async with run_scripted_worker(running, found["id"]) as worker:
        await worker.claim()
        for chunk in range(1, 6):
            await worker.say(text(chunk))
        await worker.say(alert(1))
    await running.http.post(f"/v1/sessions/{found['id']}/prompt", json={"text": "What?"})
    whole = (await running.http.get(path)).json()
    assert [one["type"].removeprefix("session.") for one in whole["data"]] == [
        *["text"] * 5,
        "alert",
        "prompt_requested",
    ]
    assert [one["data"]["chunk"] for one in whole["data"][:5]] == [1, 2, 3, 4, 5]
    assert whole["next_cursor"] is None
    paged: list[Any] = []
    search: dict[str, Any] = {"limit": 2}
    while search.get("cursor", "first"):
        page = (await running.http.get(path, params=search)).json()
        paged += page["data"]
        search["cursor"] = page["next_cursor"]
        assert len(page["data"]) <= 2
    assert paged == whole["data"]
    assert (await running.http.get(path, params={"cursor": whole["cursor"]})).json()["data"] == []
    assert code_of(await running.http.get(path, params={"cursor": "nonsense"})) == "invalid_parameter"
    assert code_of(await running.http.get(path, params={"cursor": "otherepoch.3"})) == "cursor_invalid"


async def test_questions_and_cancellations_over_the_socket(served: Served):
    session_id = (await served.opened(workload="described"))["id"]
    async with run_scripted_worker(served.running, session_id) as worker, served.stream(session_id) as socket:
        await worker.claim()
        await socket.send_str(json.dumps({"type": "prompt", "text": "What is red?", "answer_schema": SCHEMA}))
        accepted = await until(socket, "prompt_accepted")
        (waiting,) = (await shown(served.running, session_id))["prompts"]
        assert accepted == {"type": "prompt_accepted", "prompt_id": waiting["prompt_id"]}
        await socket.send_str(json.dumps({"type": "cancel"}))
        assert (await until(socket, "session.cancel_requested"))["subject"] == session_id
        await worker.say(SessionTextDelta(run_id="run_test", chunk=1, n=1, delta="The", text="The"))
        assert (await until(socket, "session.text_delta"))["data"]["text"] == "The"
        await worker.say(text(1, "The cube.", prompt_id=waiting["prompt_id"]))
        assert (await until(socket, "session.text"))["data"]["prompt_id"] == waiting["prompt_id"]
        await worker.say(alert(1))
        assert (await until(socket, "session.alert"))["data"]["rule"] == "dropped"
        for sent, code in (
            ({"text": "x" * (1 << 19)}, "invalid_parameter"),
            ({"text": ""}, "invalid_parameter"),
            ({"text": "What?", "answer_schema": {"type": "object", "properties": {}, "required": ["a"]}}, None),
            ({"text": "What?", "answer_schema": {"type": "object", "properties": None, "required": ["a"]}}, None),
            ({"text": "\udfff"}, "invalid_parameter"),
        ):
            await socket.send_str(json.dumps({"type": "prompt"} | sent))
            error = await until(socket, "error")
            assert (error["code"], error["in_reply_to"]) == (code or "answer_schema_invalid", "prompt")
        for _ in range(40):
            await socket.send_str(json.dumps({"type": "prompt", "text": "What?"}))
        codes = []
        for _ in range(40):
            async with asyncio.timeout(20):
                while (message := json.loads(await socket.receive_str()))["type"] not in ("error", "prompt_accepted"):
                    pass
            codes.append(message.get("code"))
        assert codes.count(None) == SESSION_PROMPTS
        assert set(codes) <= {None, "too_many_prompts", "rate_limited"}


async def test_two_viewers_see_the_words_of_their_own_session_only(served: Served):
    ids = [(await served.opened(workload="described"))["id"] for _ in range(2)]
    async with (
        run_scripted_worker(served.running, ids[0]) as first,
        run_scripted_worker(served.running, ids[1]) as second,
        served.stream(ids[0], "?acks=1") as viewer,
        served.stream(ids[1], "?acks=1") as other,
    ):
        for number in range(1, 20):
            await first.say(text(number, f"first {number}"))
            await second.say(text(number, f"second {number}"))
            await first.say(SessionTextDelta(run_id="r", chunk=number + 1, n=1, delta="first", text="first"))
            await second.say(SessionTextDelta(run_id="r", chunk=number + 1, n=1, delta="second", text="second"))
        for socket, session_id, mine in ((viewer, ids[0], "first"), (other, ids[1], "second")):
            texts = 0
            while texts < 19:
                async with asyncio.timeout(20):
                    message = json.loads(await socket.receive_str())
                if message["type"] in ("session.text", "session.text_delta"):
                    assert message["subject"] == session_id
                    assert message["data"]["text"].startswith(mine)
                    texts += message["type"] == "session.text"


async def test_a_reader_in_this_process_learns_of_an_end_before_it_subscribed(running: RunningGateway):
    found = await opened(running, workload="described")
    async with run_scripted_worker(running, found["id"]) as worker:
        state = running.app.state
        session = await state.sessions.get("local", found["id"])
        stopped = SessionStopped(reason="idle", chunks=0, totals=worker.totals, result={}, cost_usd=0.0)
        await worker.say(stopped)
        with state.session_words.subscribe(session) as subscription:
            assert subscription.end == stopped


async def test_a_client_that_reconnects_is_told_where_the_session_stands(served: Served):
    session_id = (await served.opened(workload="described"))["id"]
    async with run_scripted_worker(served.running, session_id) as worker:
        async with served.stream(session_id, "?acks=1") as socket:
            told = await until(socket, "resume")
            assert (told["chunk"], told["last_seq"], told["prompts"], told["state"]) == (0, None, [], "opening")
        await worker.claim()
        for chunk in range(1, 4):
            await worker.say(text(chunk))
        cursor = (await shown(served.running, session_id))["cursor"]
        await worker.say(text(4))
        asked = await served.running.http.post(f"/v1/sessions/{session_id}/prompt", json={"text": "What?"})
        async with served.stream(session_id, f"?acks=1&after={cursor}") as socket:
            assert (await until(socket, "session.text"))["data"]["chunk"] == 4
            told = await until(socket, "resume")
            assert told == {
                "type": "resume",
                "state": "ready",
                "chunk": 4,
                "last_seq": 5,
                "prompts": [asked.json()["prompt_id"]],
            }


async def test_the_end_is_announced(served: Served, session_servers: Servers, tmp_path: Path):
    answer = await served.running.http.post("/v1/sessions", json={"workload": "streamed", "max_length_s": 30})
    async with served.stream(answer.json()["id"]) as socket:
        told = await until(socket, "going_away")
        assert told["reason"] == "length"
        assert 20 < told["after_s"] <= 30
    answer = await served.running.http.post("/v1/sessions", json={"workload": "streamed", "max_cost_usd": 0.0101})
    session_id = answer.json()["id"]
    async with run_scripted_worker(served.running, session_id) as worker:
        await worker.claim()
        await worker.progress()
        async with served.stream(session_id) as socket:
            told = await until(socket, "going_away")
            assert (told["reason"], told["after_s"] < 60) == ("cost_cap", True)


async def test_a_gateway_that_stops_says_where_to_resume(session_servers: Servers, tmp_path: Path):
    async with serving(session_servers, tmp_path) as served:
        session_id = (await served.opened(workload="described"))["id"]
        socket = await served.session.ws_connect(f"{served.url}/v1/sessions/{session_id}/stream?acks=1")
        cursor = (await until(socket, "cursor"))["cursor"]
        await socket.send_bytes(frame(1))
        await until(socket, "ack")
        stopping = asyncio.ensure_future(served.stop())
        told = await until(socket, "going_away")
        assert told == {"type": "going_away", "reason": "shutdown", "after_s": 0.0, "cursor": cursor}
        assert await closed(socket) == 1012
        await stopping


async def test_the_words_survive_a_new_gateway(session_servers: Servers, tmp_path: Path):
    async with running_gateway(*session_servers, tmp_path / "first") as running:
        found = await opened(running, workload="described")
        path = f"/v1/sessions/{found['id']}/prompt"
        for number in range(3):
            await running.http.post(path, json={"text": f"Question {number}?"})
    async with running_gateway(*session_servers, tmp_path / "second") as running:
        assert len((await shown(running, found["id"]))["prompts"]) == 3
