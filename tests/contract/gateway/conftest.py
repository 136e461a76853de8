"""Fixtures for the suites of the gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from kit.settings import NatsSettings, S3Settings
from modal_workers.vision_stream.spec import WORKLOAD
from tests.harness.clients.vision_sessions import Served
from tests.harness.servers.chosen_bus import chosen_bus
from tests.harness.servers.embedded import EmbeddedS3
from tests.harness.servers.served_gateway import served_gateway


@pytest.fixture(scope="module")
def servers(
    tmp_path_factory: pytest.TempPathFactory, shared_s3: EmbeddedS3
) -> Iterator[tuple[NatsSettings, S3Settings]]:
    """Run a bus and a bucket, for all tests of a file."""
    with chosen_bus(tmp_path_factory.mktemp("nats")) as nats:
        yield nats.settings, shared_s3.with_new_bucket().settings


@pytest.fixture
def empty_servers(tmp_path: Path, shared_s3: EmbeddedS3) -> Iterator[tuple[NatsSettings, S3Settings]]:
    """Run a bus and a bucket that no other test uses: nothing is stored, and the audit log is empty."""
    (tmp_path / "nats").mkdir()
    with chosen_bus(tmp_path / "nats") as nats:
        yield nats.settings, shared_s3.with_new_bucket().settings


@pytest.fixture
async def served(servers: tuple[NatsSettings, S3Settings], tmp_path: Path) -> AsyncIterator[Served]:
    """Serve a gateway that takes sessions of the vision stream."""
    async with served_gateway(*servers, tmp_path, backends=frozenset(WORKLOAD.requires)) as found:
        yield found
