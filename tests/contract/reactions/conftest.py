"""A bus for all tests of a file."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.harness.servers.chosen_bus import chosen_bus
from tests.harness.servers.embedded import NatsServer
from tests.harness.streams.reaction_stage import Stage, open_stage


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """Start a nats-server; a test that kills it starts it again."""
    with chosen_bus(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture
async def stage(server: NatsServer) -> AsyncIterator[Stage]:
    """Open a stage on it, with empty streams."""
    async with open_stage(server) as stage:
        yield stage
