"""A session whose worker runs on the Modal account of its caller: who pays, and where its token is."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from contracts.caller_account import CallerAccount, CallerAccountRequest, account_subject
from contracts.job import State
from contracts.session import job_id_of_session
from kit.auth.sealed_box import OneTimeKey
from services.gateway.sessions.service import SessionRequest
from tests.flow.test_modal_session import CHUNK, TENANT, Rented, Streaming, rent
from tests.harness.runtime.executor_environment import ExecutorServers, serve

pytestmark = pytest.mark.anyio

TOKEN = ("ak-of-the-caller", "as-of-the-caller-0123456789")
REQUEST = SessionRequest("watching", {"chunk_frames": CHUNK}, idle_timeout_s=60)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExecutorServers]:
    with serve(tmp_path_factory, ["tests.session_workers.watching.app"]) as servers:
        servers.loopback.tokens.add(TOKEN)
        yield servers


@pytest.fixture
async def rented(servers: ExecutorServers, tmp_path: Path) -> AsyncIterator[Rented]:
    async with rent(servers, tmp_path, servers.access()) as rented:
        yield rented
        servers.loopback.heal()


def account(token: tuple[str, str] = TOKEN, **names: str) -> CallerAccount:
    return CallerAccount(token_id=SecretStr(token[0]), token_secret=SecretStr(token[1]), **names)


async def opened(rented: Rented, by: CallerAccount) -> Streaming:
    sessions = rented.gateway.app.state.sessions
    return Streaming(rented, (await sessions.open_on_account(TENANT, REQUEST, by)).id)


async def test_the_worker_runs_on_the_callers_account_which_nothing_that_is_stored_or_logged_names(
    rented: Rented, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    before = len(rented.loopback.requests)
    session = await opened(rented, account())
    await session.until(lambda shown: shown["state"] == "ready")
    await session.frame()
    await session.worked_off()
    assert (await session.job()).usd_per_s == 0.0
    await rented.gateway.http.post(f"/v1/sessions/{session.id}/stop")
    shown = await session.until(lambda shown: shown["state"] == "stopped")
    assert shown["cost"]["actual_usd"] == 0.0
    assert (await session.job()).submitted.estimated_usd == 0.0
    launches = [one.token_id for one in rented.loopback.requests[before:] if one.rpc == "FunctionMap"]
    assert launches == [TOKEN[0]]

    stored = [one async for one in rented.harness.store.history(0, "saccade.evt.>")]
    assert any(b'"account":"caller"' in one.body for one in stored)
    assert not any(part.encode() in one.body for one in stored for part in TOKEN)
    assert not any(part in caplog.text for part in TOKEN)
    assert not any(part in repr(account()) for part in TOKEN)


async def test_other_sessions_stay_on_the_operators_account(rented: Rented) -> None:
    before = len(rented.loopback.requests)
    session = await rented.open()
    await session.until(lambda shown: shown["state"] == "ready")
    await rented.gateway.http.post(f"/v1/sessions/{session.id}/stop")
    await session.until(lambda shown: shown["state"] == "stopped")
    requests = rented.loopback.requests[before:]
    assert {one.token_id for one in requests if one.who == "client"} == {"ak-loopback"}


@pytest.mark.parametrize(
    ("by", "cause"),
    [
        (account(("ak-unknown", "as-unknown")), "Modal rejects the API token."),
        (account(app_name="another-app"), "The worker is not deployed on Modal."),
    ],
    ids=["wrong token", "wrong app"],
)
async def test_what_is_wrong_with_the_account_is_said_and_nothing_runs_on_ours(
    rented: Rented, by: CallerAccount, cause: str
) -> None:
    before = len(rented.loopback.requests)
    session = await opened(rented, by)
    shown = await session.until(lambda shown: shown["state"] == "failed")
    assert shown["error"]["message"].startswith(f"On the caller's account: {cause}")
    assert "as-unknown" not in str(shown)
    assert [one for one in rented.loopback.requests[before:] if one.rpc == "FunctionMap"] == []


async def test_a_session_whose_gateway_has_forgotten_the_account_fails_and_says_so(rented: Rented) -> None:
    session = await opened(rented, account())
    shown = await session.until(lambda shown: shown["state"] == "ready")
    await rented.gateway.app.state.sessions.release_account(session.id)
    job = await session.job()
    assert job.call_id
    # The dispatcher that launched it still has the account: the next attempt could be launched. Another one has not.
    await rented.dispatcher._callers.close()
    rented.loopback.kill(job.call_id, "internal_failure")
    shown = await session.until(lambda shown: shown["state"] == "failed", timeout_s=60)
    assert "not known any more" in shown["error"]["message"]


async def test_only_who_asked_can_read_the_answer(rented: Rented) -> None:
    session = await opened(rented, account())
    key, other = OneTimeKey(), OneTimeKey()
    request = CallerAccountRequest(public_key=key.public).model_dump_json().encode()
    answer = await rented.harness.client.request(account_subject(job_id_of_session(session.id)), request, timeout=5)
    assert not any(part.encode() in answer.data for part in TOKEN)
    with pytest.raises(ValueError, match="not sealed for this key"):
        other.open(answer.data)
    assert CallerAccount.model_validate_json(key.open(answer.data)) == account()
    await rented.gateway.http.post(f"/v1/sessions/{session.id}/stop")
    await session.until(lambda shown: shown["state"] in ("stopped", "failed"))


async def test_a_dispatcher_without_modal_launches_nothing_for_it(servers: ExecutorServers, tmp_path: Path) -> None:
    async with rent(servers, tmp_path, servers.access(), accounts=False) as rented:
        session = await opened(rented, account())
        shown = await session.until(lambda shown: shown["state"] == "failed")
        assert "do not run on Modal" in shown["error"]["message"]
        assert (await session.job()).state is State.FAILED
