"""What only a real Modal account can tell, asked when MODAL_TOKEN_ID is set: docs/modal.md says how and what it costs.

It makes an app of its own and stops it at the end. Each test pins one thing that tests/modal_loopback assumes.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from secrets import token_hex
from typing import Any

import modal
import nkeys
import pytest
from pydantic import SecretStr

from contracts.ids import new_id
from kit.auth.bus_token import BusTokenIssuer
from kit.bucket import open_bucket
from kit.settings import S3Settings
from services.dispatcher.executors.executor import CallState, CallStatus
from services.dispatcher.executors.modal_executor import ModalExecutor, open_modal_executor
from services.dispatcher.executors.modal_rates import RATE_KEYS
from services.dispatcher.executors.run_access import RunAccess
from services.dispatcher.settings import ModalSettings
from tests.system.modal_probe import SEEN

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not os.environ.get("MODAL_TOKEN_ID"), reason="no Modal account: set MODAL_TOKEN_ID"),  # noqa: TID251
]
#: Images are built the first time.
_BUILD_S = 900.0
_WAIT_S = 120.0


def modal_command(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "modal", *words], check=False, capture_output=True, text=True, timeout=_BUILD_S
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def app() -> Iterator[str]:
    """Deploy the probe under a name of its own."""
    name = f"saccade-probe-{token_hex(4)}"
    modal_command("deploy", str(Path(__file__).with_name("modal_probe.py")), "--name", name)
    yield name
    modal_command("app", "stop", name, "--yes")


@pytest.fixture
async def executor(tmp_path: Path) -> AsyncIterator[ModalExecutor]:
    """Open our executor; nothing here goes to its bucket or its bus."""
    seed = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_ACCOUNT).decode()
    access = RunAccess(BusTokenIssuer(SecretStr(seed)), "ingest", "https://vision.example.com")
    settings = ModalSettings(worker_bus_url="https://vision.example.com", worker_seed_file=tmp_path / "none", poll_s=0)
    unused = S3Settings(endpoint_url="https://s3.example.com", access_key_id="a", secret_access_key=SecretStr("b"))
    async with open_bucket(unused) as bucket, open_modal_executor(settings, bucket, access) as opened:
        yield opened


def function(executor: ModalExecutor, app: str, name: str) -> modal.Function[Any, Any, Any]:
    return modal.Function.from_name(app, name, client=executor.client)


async def spawned(executor: ModalExecutor, app: str, name: str, *arguments: Any) -> str:
    call = await function(executor, app, name).spawn.aio(*arguments)
    return str(call.object_id)


async def ended(executor: ModalExecutor, call_id: str) -> CallStatus:
    until = time.monotonic() + _WAIT_S
    while (status := await executor.poll(call_id, urgent=True)).state is CallState.RUNNING:
        assert time.monotonic() < until, "the call did not end"
        await asyncio.sleep(1.0)
    return status


async def seen(executor: ModalExecutor, key: str) -> Any:
    """Wait for what a function of the probe leaves."""
    left = modal.Dict.from_name(SEEN, create_if_missing=True, client=executor.client)
    until = time.monotonic() + _WAIT_S
    while (value := await left.get.aio(key)) is None:
        assert time.monotonic() < until, f"{key} was never left"
        await asyncio.sleep(1.0)
    return value


async def test_the_pinned_client_is_taken(executor: ModalExecutor) -> None:
    await executor.client.hello.aio()


async def test_a_result_of_plain_values_comes_back(executor: ModalExecutor, app: str) -> None:
    status = await ended(executor, await spawned(executor, app, "answer"))
    assert (status.exit_code, status.failure) == (0, None), status.detail


@pytest.mark.parametrize(("name", "failure"), [("hang", "timed_out"), ("crash", "lost"), ("refuse", "broken")])
async def test_an_end_that_is_none_in_order_has_its_class(
    executor: ModalExecutor, app: str, name: str, failure: str
) -> None:
    status = await ended(executor, await spawned(executor, app, name))
    assert status.failure == failure, status.detail


async def test_a_call_that_nobody_knows_is_lost(executor: ModalExecutor) -> None:
    status = await executor.poll("fc-01K0000000000000000000000", urgent=True)
    assert (status.state, status.failure) == (CallState.ENDED, "lost"), status.detail


async def test_a_cancelled_call_hears_of_it_and_ends_in_time(executor: ModalExecutor, app: str) -> None:
    key = token_hex(8)
    call_id = await spawned(executor, app, "wait", key, 200.0)
    await seen(executor, f"{key}.container")
    await executor.cancel(call_id)
    status = await executor.poll(call_id, urgent=True)
    assert (status.state, status.failure) == (CallState.ENDED, "lost"), status.detail
    assert await seen(executor, f"{key}.ended_by") == "InputCancellation"


async def test_a_container_that_is_taken_away_hears_of_it_and_its_input_runs_again(
    executor: ModalExecutor, app: str
) -> None:
    key = token_hex(8)
    call_id = await spawned(executor, app, "wait", key, 200.0)
    container = await seen(executor, f"{key}.container")
    await asyncio.to_thread(modal_command, "container", "stop", container, "--yes")
    status = await ended(executor, call_id)
    assert (status.exit_code, status.failure) == (0, None), status.detail
    assert await seen(executor, f"{key}.ended_by") == "KeyboardInterrupt"
    assert await seen(executor, f"{key}.began") == 2


async def test_what_a_worker_leaves_on_the_cache_s_volume_is_there_for_the_next_and_can_be_removed(
    executor: ModalExecutor, app: str
) -> None:
    """Functions are restricted: nothing says that such a container's volume is committed at its end."""
    job_id = new_id("job")

    async def is_shelved() -> Any:
        return await (await function(executor, app, "is_shelved").spawn.aio(job_id)).get.aio(timeout=_WAIT_S)

    status = await ended(executor, await spawned(executor, app, "shelve", job_id))
    assert status.exit_code == 0, status.detail
    until = time.monotonic() + _WAIT_S
    while not await is_shelved():
        assert time.monotonic() < until, "it was never committed: every stage fetches everything from the bucket"
    await executor.clear_cache(job_id)
    assert not await is_shelved()
    await executor.clear_cache(job_id)


async def test_an_option_names_the_one_gpu_of_several(executor: ModalExecutor, app: str) -> None:
    on_t4 = function(executor, app, "gpu").with_options(gpu="T4")
    call = await on_t4.spawn.aio()
    assert "T4" in await call.get.aio(timeout=_WAIT_S)


async def test_billing_names_devices_as_we_think(executor: ModalExecutor) -> None:
    told = await executor.rates()
    if not told:
        pytest.skip("this token may not read the workspace's prices")
    assert set(told) == set(RATE_KEYS)
