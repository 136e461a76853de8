"""A server that accepts requests and never answers: every request has a timeout, and nothing is concluded from it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import nkeys
import pytest
from modal.client import _Client
from pydantic import SecretStr

from contracts.assignment import Assignment
from contracts.errors import SaccadeError
from contracts.ids import new_id
from kit.auth.bus_token import BusTokenIssuer
from kit.bucket import open_bucket
from kit.settings import S3Settings
from services.dispatcher.executors import modal_executor
from services.dispatcher.executors.executor import Throttled
from services.dispatcher.executors.modal_executor import ModalExecutor, open_modal_executor
from services.dispatcher.executors.run_access import RunAccess
from services.dispatcher.settings import ModalSettings
from tests.harness.servers.embedded import HOST
from tests.workers.scripted.spec import WORKLOAD

pytestmark = pytest.mark.anyio


@pytest.fixture
async def executor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[ModalExecutor]:
    connections: set[asyncio.StreamWriter] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(writer)
        while await reader.read(65536):
            pass

    server = await asyncio.start_server(accept, HOST, 0)
    monkeypatch.setenv("MODAL_SERVER_URL", f"http://{HOST}:{server.sockets[0].getsockname()[1]}")
    monkeypatch.setenv("MODAL_TOKEN_ID", "ak-test")
    monkeypatch.setenv("MODAL_TOKEN_SECRET", "as-test")
    monkeypatch.setattr(_Client, "_client_from_env", None)
    monkeypatch.setattr(modal_executor, "_REQUEST_TIMEOUT_S", 0.3)
    monkeypatch.setattr(modal_executor, "_CANCEL_S", 0.1)
    seed = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_ACCOUNT).decode()
    access = RunAccess(BusTokenIssuer(SecretStr(seed)), "ingest", "https://vision.example.com")
    settings = ModalSettings(worker_bus_url="https://vision.example.com", worker_seed_file=tmp_path / "none")
    unused = S3Settings(endpoint_url="http://127.0.0.1:9", access_key_id="a", secret_access_key=SecretStr("b"))
    async with open_bucket(unused) as bucket, open_modal_executor(settings, bucket, access) as opened:
        yield opened
    for writer in connections:
        writer.close()
    server.close()


@pytest.mark.parametrize(
    "request_status",
    [
        lambda executor: executor.poll("fc-01K0000000000000000000"),
        lambda executor: executor.cancel("fc-01K0000000000000000000"),
    ],
)
async def test_the_status_of_a_call_is_unknown(
    executor: ModalExecutor, request_status: Callable[[ModalExecutor], Awaitable[object]]
) -> None:
    async with asyncio.timeout(20):
        with pytest.raises(SaccadeError, match="Modal does not answer"):
            await request_status(executor)


async def test_a_launch_is_throttled(executor: ModalExecutor) -> None:
    assignment = Assignment(
        job_id=new_id("job"),
        tenant="test",
        workload="scripted",
        attempt=1,
        run_id=new_id("run"),
        device="cpu",
        usd_per_s=0.001,
        params={},
        inputs={},
    )
    async with asyncio.timeout(20):
        with pytest.raises(Throttled):
            await executor.launch(assignment, WORKLOAD.compute)


async def test_backlog_and_prices_are_optional(executor: ModalExecutor) -> None:
    async with asyncio.timeout(20):
        assert await executor.backlog("scripted", "cpu") is None
        assert await executor.rates() == {}
