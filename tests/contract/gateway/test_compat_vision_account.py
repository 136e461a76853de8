"""Modal account in the headers of a client of the replaced vision system: used where the operator allows it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nats.errors import NoRespondersError
from websockets.exceptions import InvalidStatus

from contracts.caller_account import CallerAccount, CallerAccountRequest, account_subject
from contracts.session import job_id_of_session
from kit.auth.sealed_box import OneTimeKey
from kit.settings import NatsSettings, S3Settings
from modal_workers.vision_stream.spec import WORKLOAD
from services.gateway.compat.vision import stream_session
from tests.harness.clients.vision_replay import connected, exchange, stream_url
from tests.harness.clients.vision_sessions import Served, newest_session, sessions_of
from tests.harness.servers.served_gateway import served_gateway
from tests.harness.sessions.scripted_session_worker import jpeg

pytestmark = pytest.mark.anyio

Servers = tuple[NatsSettings, S3Settings]
HEADERS = {"x_modal_token_id": "ak-caller", "x_modal_token_secret": " as-caller-secret "}


@pytest.fixture
async def allowing(servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    monkeypatch.setenv("VISION_CALLER_MODAL_ACCOUNTS", "true")
    async with served_gateway(*servers, tmp_path, backends=frozenset(WORKLOAD.requires)) as (running, address):
        yield running, address


async def asked(served: Served, session_id: str) -> CallerAccount:
    key = OneTimeKey()
    request = CallerAccountRequest(public_key=key.public).model_dump_json().encode()
    subject = account_subject(job_id_of_session(session_id))
    answer = await served[0].store.client.request(subject, request, timeout=5)
    return CallerAccount.model_validate_json(key.open(answer.data))


async def test_the_dispatcher_is_told_the_account_while_the_connection_lasts(
    allowing: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_session, "_ACCOUNT_S", 0.0)
    before = len(await sessions_of(allowing[0]))
    names = {"x_modal_app_name": "foresight-gemma3-vlm", "x_modal_class_name": "Gemma3VLMSession"}
    async with connected(stream_url(allowing[1]), **HEADERS, **names) as socket:
        await exchange(socket, jpeg())
        session_id = await newest_session(allowing[0], before)
        account = await asked(allowing, session_id)
        assert (account.token_id.get_secret_value(), account.token_secret.get_secret_value()) == (
            "ak-caller",
            "as-caller-secret",
        )
        assert (account.app_name, account.function_name) == ("foresight-gemma3-vlm", "Gemma3VLMSession")
    stored = [one async for one in allowing[0].store.history(0, "saccade.>")]
    assert any(b'"account":"caller"' in one.body for one in stored)
    assert not any(b"ak-caller" in one.body or b"as-caller" in one.body or b"foresight" in one.body for one in stored)
    for _ in range(100):
        try:
            await asked(allowing, session_id)
        except NoRespondersError:
            return
        await asyncio.sleep(0.05)
    pytest.fail("the account is still known")


async def test_without_a_token_the_worker_runs_where_all_others_do(allowing: Served) -> None:
    before = len(await sessions_of(allowing[0]))
    async with connected(stream_url(allowing[1]), x_modal_token_id=" ", x_modal_app_name="app") as socket:
        await exchange(socket, jpeg())
        with pytest.raises(NoRespondersError):
            await asked(allowing, await newest_session(allowing[0], before))


@pytest.mark.parametrize(
    ("headers", "named"),
    [
        ({"x_modal_token_id": "ak-half"}, "x-modal-token-secret"),
        ({"x_modal_token_secret": "as-half"}, "x-modal-token-id"),
        (HEADERS | {"x_modal_app_name": "../app"}, "x-modal-app-name"),
        (HEADERS | {"x_modal_class_name": "a b"}, "x-modal-class-name"),
    ],
    ids=["no secret", "no id", "app", "class"],
)
async def test_an_unusable_account_is_refused_before_the_connection_opens(
    allowing: Served, headers: dict[str, str], named: str
) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with connected(stream_url(allowing[1]), **headers):
            pass
    answer = refused.value.response
    assert answer.status_code == 422
    body = (answer.body or b"").decode()
    assert named in body
    assert not any(value in body for value in headers.values())


async def test_where_it_is_not_allowed_the_account_is_ignored(servers: Servers, tmp_path: Path) -> None:
    async with served_gateway(*servers, tmp_path, backends=frozenset(WORKLOAD.requires)) as served:
        before = len(await sessions_of(served[0]))
        async with connected(stream_url(served[1]), **HEADERS) as socket:
            await exchange(socket, jpeg())
            session_id = await newest_session(served[0], before)
            with pytest.raises(NoRespondersError):
                await asked(served, session_id)
        stored = [one async for one in served[0].store.history(0, f"saccade.evt.*.session.{session_id}.opened")]
        assert not any(b'"account":"caller"' in one.body for one in stored)
