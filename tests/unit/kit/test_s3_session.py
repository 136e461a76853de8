"""The session of botocore that the bucket's clients of a thread share."""

from __future__ import annotations

import gc
import threading
from typing import Any

import pytest
from aiobotocore.client import AioBaseClient

from kit.bucket import open_bucket
from kit.s3_client import s3_session
from kit.settings import S3Settings

pytestmark = pytest.mark.anyio


def settings_of(name: str) -> S3Settings:
    return S3Settings(
        endpoint_url=f"http://{name}.example",
        bucket=f"bucket-of-{name}",
        access_key_id=f"key-of-{name}",
        secret_access_key=f"secret-of-{name}",
    )


async def test_each_client_of_a_session_has_its_own_address_and_keys() -> None:
    async with open_bucket(settings_of("one")) as one, open_bucket(settings_of("another")) as another:
        for name, bucket in (("one", one), ("another", another)):
            url = await bucket.presign_get("a")
            assert url.startswith(f"http://{name}.example/bucket-of-{name}/a?")
            assert f"key-of-{name}" in url


async def test_a_closed_client_is_not_kept_by_the_session() -> None:
    async def open_and_close(times: int) -> int:
        for _ in range(times):
            async with open_bucket(settings_of("one")):
                pass
        gc.collect()
        return sum(isinstance(thing, AioBaseClient) for thing in gc.get_objects())

    before = await open_and_close(1)
    assert await open_and_close(5) == before


def test_threads_have_sessions_of_their_own() -> None:
    found: list[Any] = [s3_session(), s3_session()]
    thread = threading.Thread(target=lambda: found.append(s3_session()))
    thread.start()
    thread.join(timeout=30)
    first, again, other = found
    assert again is first
    assert other is not first
