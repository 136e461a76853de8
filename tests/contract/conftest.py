"""Servers for the contract suites: each from the embedded binary, and from its image where an engine answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.breaking_proxy import BreakingProxy
from tests.containers import ContainerNats, ContainerS3
from tests.gateway import video
from tests.running_services import Services, running_services
from tests.servers import EmbeddedNats, EmbeddedS3, NatsServer, S3Server

#: Skipped by tests/conftest.py where no engine answers, before anything is started.
MAKERS = ["embedded", pytest.param("container", marks=pytest.mark.engine)]


@pytest.fixture(params=MAKERS, scope="module")
def any_nats_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """Start a nats-server, made either way, for all tests of a file; whoever kills it starts it again."""
    maker = {"embedded": EmbeddedNats, "container": ContainerNats}[request.param]
    with maker(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture(params=MAKERS, scope="module")
def any_s3_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Start an S3 server, made either way, for all tests of a file."""
    maker = {"embedded": EmbeddedS3, "container": ContainerS3}[request.param]
    with maker(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Run gateway and notifier on a real bus and bucket, for all tests of a file."""
    with running_services(tmp_path_factory.mktemp("services")) as running:
        yield running


@pytest.fixture
async def front(services: Services) -> AsyncIterator[BreakingProxy]:
    """Give one origin in front of both services, which breaks what it is told to."""
    async with BreakingProxy(services.port_of) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def inputs(services: Services) -> dict[str, str]:
    """Upload what a lap comparison needs."""
    return {name: services.upload(video()) for name in ("reference", "other")}
