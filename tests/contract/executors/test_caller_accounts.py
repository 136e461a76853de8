"""Accounts of callers: one that is slow to open, or fails to close, concerns no other caller and not the dispatcher."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from pydantic import SecretStr

from contracts.caller_account import CallerAccount, CallerAccountRequest, account_subject
from contracts.ids import new_id
from kit.auth.sealed_box import seal
from kit.bucket import open_bucket
from kit.bus.connection import connect
from kit.bus.event_store import EventStore
from kit.tasks import end
from services.dispatcher.executors import caller_accounts
from services.dispatcher.executors.caller_accounts import CallerExecutors
from services.dispatcher.executors.executor import Executor
from tests.harness.dispatch.scripted_executor import ScriptedExecutor
from tests.harness.servers.embedded import NatsServer, S3Server

pytestmark = pytest.mark.anyio


@pytest.fixture
async def client(nats_server: NatsServer) -> AsyncIterator[Client]:
    opened = await connect(nats_server.settings, "test")
    yield opened
    await opened.close()


@pytest.fixture
async def executor(client: Client, s3_server: S3Server) -> AsyncIterator[Executor]:
    async with open_bucket(s3_server.settings) as bucket:
        yield ScriptedExecutor(EventStore(client), bucket)


async def held(client: Client, name: str) -> str:
    """Answer for the account of a new job, as the gateway that holds it does; return the job's id."""
    account = CallerAccount(token_id=SecretStr(name), token_secret=SecretStr("secret"))

    async def answer(message: Msg) -> None:
        asked = CallerAccountRequest.model_validate_json(message.data)
        await message.respond(seal(asked.public_key, account.plain()))

    job_id = new_id("job")
    await client.subscribe(account_subject(job_id), cb=answer)
    return job_id


async def test_an_account_that_is_slow_to_open_delays_no_other(client: Client, executor: Executor) -> None:
    began, go_on = asyncio.Event(), asyncio.Event()
    opened: list[str] = []

    @asynccontextmanager
    async def opens(account: CallerAccount) -> AsyncIterator[Executor]:
        opened.append(account.token_id.get_secret_value())
        if opened[-1] == "slow":
            began.set()
            await go_on.wait()
        yield executor

    accounts = CallerExecutors(client, executor, opens)
    slow, quick = await held(client, "slow"), await held(client, "quick")
    waiting = [asyncio.ensure_future(accounts.find(slow)) for _ in range(2)]
    await asyncio.wait_for(began.wait(), 10)
    async with asyncio.timeout(10):
        assert await accounts.find(quick) is not None
    assert not any(task.done() for task in waiting)
    go_on.set()
    first, second = await asyncio.gather(*waiting)
    assert first is second is not None
    assert opened == ["slow", "quick"], "each is opened once"
    await accounts.close()


async def test_an_account_that_cannot_be_closed_ends_neither_the_dispatcher_nor_the_closing_of_others(
    client: Client, executor: Executor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(caller_accounts, "_UNUSED_S", 0.1)
    caplog.set_level(logging.ERROR)
    closed: list[str] = []

    @asynccontextmanager
    async def opens(account: CallerAccount) -> AsyncIterator[Executor]:
        yield executor
        closed.append(account.token_id.get_secret_value())
        raise ConnectionResetError("the connection is gone")

    accounts = CallerExecutors(client, executor, opens)
    first, second = await held(client, "first"), await held(client, "second")
    await accounts.find(first)
    running = asyncio.ensure_future(accounts.run())
    async with asyncio.timeout(10):
        while closed != ["first"] and not running.done():
            await asyncio.sleep(0.01)
        await accounts.find(second)
        while closed != ["first", "second"] and not running.done():
            await asyncio.sleep(0.01)
    assert not running.done()
    await end(running)
    assert first in caplog.text
    assert second in caplog.text
    await accounts.find(first)
    await accounts.close()
    assert closed == ["first", "second", "first"]
