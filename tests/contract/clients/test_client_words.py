"""All clients and the command line with a session that describes video: questions, texts, acknowledgements."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from saccade_client import AsyncClient, RefusedError

from cli.__main__ import saccade
from contracts.events.session import SessionAlert, SessionText
from kit.settings import NatsSettings, S3Settings
from tests.contract.clients.test_client_sessions import answering, sessions_of
from tests.harness.clients.javascript_client import use
from tests.harness.clients.python_clients import CLIENT_KINDS
from tests.harness.servers.gateway import RunningGateway
from tests.harness.sessions.scripted_session_worker import jpeg, run_scripted_worker

pytestmark = pytest.mark.anyio

Servers = tuple[NatsSettings, S3Settings]


@pytest.fixture
async def served(session_servers: Servers, tmp_path: Path):
    async with answering(session_servers, tmp_path) as found:
        yield found


def said(chunk: int, **more: Any) -> SessionText:
    return SessionText(run_id="run_test", chunk=chunk, text=f"Text {chunk}.", start_s=chunk - 1, end_s=chunk, **more)


@pytest.mark.parametrize("face", CLIENT_KINDS)
async def test_questions_and_texts(served: tuple[RunningGateway, str], face: str):
    running, url = served
    async with sessions_of(face, url) as sessions:
        session_id = (await sessions.open("described")).id
        async with run_scripted_worker(running, session_id) as worker:
            await worker.claim()
            asked = await sessions.prompt(session_id, "What is red?", answer_schema={"type": "object"})
            assert (asked.state, asked.answer, asked.session_id) == ("waiting", None, session_id)
            await worker.say(said(1))
            waiting = asyncio.ensure_future(
                sessions.prompt(session_id, "What moves?", wait_s=20, idempotency_key="only once")
            )
            async with asyncio.timeout(20):
                while len(prompts := (await sessions.get(session_id)).prompts) < 2:
                    await asyncio.sleep(0.02)
            await worker.say(said(2, prompt_id=prompts[1]["prompt_id"], answer={"moves": "the arm"}))
            answered = await waiting
            assert answered.answer is not None
            assert (answered.state, answered.answer.chunk) == ("answered", 2)
            assert answered.answer.answer == {"moves": "the arm"}
            alert = SessionAlert(
                run_id="run_test", alert=1, rule="dropped", condition="it falls", chunk=2, confidence=0.9, text="It."
            )
            await worker.say(alert)
            words = sessions.texts(session_id, page_size=2)
            found = [word async for word in words] if face == "asyncio" else await asyncio.to_thread(list, await words)
            assert [word.text and word.text.text for word in found] == [None, "Text 1.", None, "Text 2.", None]
            assert [word.alert and word.alert.rule for word in found][-1] == "dropped"
            session = await sessions.cancel(session_id)
            assert (session.text.chunk, session.alert.confidence) == (2, 0.9)
            with pytest.raises(RefusedError) as refused:
                await sessions.prompt(session_id, "What?", answer_schema={"type": "string"})
            assert refused.value.code == "answer_schema_invalid"


async def test_a_stream_acknowledges_each_frame(served: tuple[RunningGateway, str]):
    running, url = served
    async with AsyncClient(url) as client:
        session_id = (await client.sessions.open("described")).id
        async with (
            run_scripted_worker(running, session_id) as worker,
            client.sessions.stream(session_id, acks=True) as stream,
        ):
            await worker.claim()
            first = await stream.send_frame(jpeg())
            await stream.send_frame(b"noise")
            await stream.prompt("What is red?")
            await stream.cancel()
            told: list[dict[str, Any]] = []
            async with asyncio.timeout(20):
                async for message in stream:
                    told.append(message)
                    if message["type"] == "session.cancel_requested":
                        break
            acks = [message for message in told if message["type"] == "ack"]
            assert [(ack["status"], ack["reason"]) for ack in acks] == [
                ("accepted", None),
                ("rejected", "frame_unreadable"),
            ]
            assert acks[0]["seq"] == first
            (accepted,) = [message for message in told if message["type"] == "prompt_accepted"]
            assert (await client.sessions.get(session_id)).prompts[0]["prompt_id"] == accepted["prompt_id"]


async def test_the_command_line_asks_and_reads(served: tuple[RunningGateway, str]):
    running, url = served
    async with AsyncClient(url) as client:
        session_id = (await client.sessions.open("described")).id
        async with run_scripted_worker(running, session_id) as worker:

            async def run(*arguments: str) -> str:
                invoked = await asyncio.to_thread(
                    CliRunner().invoke, saccade, ["sessions", arguments[0], session_id, *arguments[1:], "--url", url]
                )
                assert invoked.exit_code == 0, invoked.output
                return invoked.stdout

            asking = asyncio.ensure_future(run("ask", "What is red?"))
            async with asyncio.timeout(20):
                while not (prompts := (await client.sessions.get(session_id)).prompts):
                    await asyncio.sleep(0.02)
            await worker.say(said(1, prompt_id=prompts[0]["prompt_id"]))
            assert await asking == "Text 1.\n"
            assert "waits for its answer" in await run("ask", "And now?", "--no-wait")
            await worker.say(said(2, finish_reason="length", dropped=3))
            lines = (await run("texts")).splitlines()
            assert [line.split() for line in lines] == [
                ["question", "What", "is", "red?"],
                ["0.0-1.0", "s", "Text", "1."],
                ["question", "And", "now?"],
                ["1.0-2.0", "s", "Text", "2.", "(length,", "3", "frames", "dropped)"],
            ]
            assert json.loads((await run("texts", "--json")).splitlines()[1])["data"]["chunk"] == 1


async def test_the_javascript_client_asks_and_reads(served: tuple[RunningGateway, str]):
    running, url = served
    async with AsyncClient(url) as client:
        session_id = (await client.sessions.open("described")).id
        async with run_scripted_worker(running, session_id) as worker:
            await worker.say(said(1))
            found = await use("words", url, session_id)
    assert found["asked"]["state"] == "waiting"
    assert found["refused"]["code"] == "invalid_parameter"
    assert [word["type"] for word in found["words"]] == ["session.text", "session.prompt_requested"]
    assert found["session"]["prompts"][0]["prompt_id"] == found["asked"]["prompt_id"]
