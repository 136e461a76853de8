"""Fixtures for every suite: real servers, one event loop library. Tests import from tests.servers, never from here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import EmbeddedNats, EmbeddedS3, NatsServer, S3Server


@pytest.fixture
def anyio_backend() -> str:
    """Run async tests on asyncio, which nats-py needs."""
    return "asyncio"


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    """Start a nats-server of the test's own."""
    folder = tmp_path / "nats"
    folder.mkdir()
    with EmbeddedNats(folder) as server:
        yield server


@pytest.fixture
def s3_server(tmp_path: Path) -> Iterator[S3Server]:
    """Start an S3 server of the test's own."""
    folder = tmp_path / "s3"
    folder.mkdir()
    with EmbeddedS3(folder) as server:
        yield server
