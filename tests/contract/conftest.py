"""Servers for the contract suites: each from the embedded binary, and from its image where an engine answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from kit.settings import NatsSettings, S3Settings
from tests.harness.network.breaking_proxy import BreakingProxy
from tests.harness.runtime.executor_environment import (
    SESSION_BUS_ACCESS,
    ExecutorHarness,
    open_credential_harness,
    open_local_harness,
)
from tests.harness.servers.chosen_bus import chosen_bus
from tests.harness.servers.cluster import EmbeddedCluster
from tests.harness.servers.containers import ContainerNats, ContainerS3
from tests.harness.servers.embedded import EmbeddedNats, EmbeddedS3, NatsServer, OperatorNats, S3Server
from tests.harness.servers.gateway import RunningGateway, running_gateway, video
from tests.harness.servers.proxied_bucket import proxied
from tests.harness.servers.running_services import RunningServices, running_services
from tests.harness.servers.session_sockets import Served, serving
from tests.harness.sessions.scripted_session_worker import streamed_catalog

#: Skipped by tests/conftest.py where no engine answers, before anything is started.
MAKERS = ["embedded", pytest.param("container", marks=pytest.mark.engine)]


@pytest.fixture(params=MAKERS, scope="module")
def any_nats_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """Start a nats-server, embedded or in a container, for a file; a test that kills it starts it again."""
    maker = {"embedded": EmbeddedNats, "container": ContainerNats}[request.param]
    with maker(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture(params=[*MAKERS, "cluster"], scope="module")
def any_bus(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """Start one nats-server, or a cluster of three, for a file; a test that kills it starts it again."""
    maker = {"embedded": EmbeddedNats, "container": ContainerNats, "cluster": EmbeddedCluster}[request.param]
    with maker(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture(params=MAKERS, scope="module")
def any_s3_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Start an S3 server, embedded or in a container, for all tests of a file; presigned URLs name the proxy."""
    maker = {"embedded": EmbeddedS3, "container": ContainerS3}[request.param]
    with maker(tmp_path_factory.mktemp("s3")) as server, proxied(server) as behind_proxy:
        yield behind_proxy


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServices]:
    """Run gateway and notifier on a real bus and bucket, for all tests of a file."""
    with running_services(tmp_path_factory.mktemp("services")) as running:
        yield running


@pytest.fixture
async def front(services: RunningServices) -> AsyncIterator[BreakingProxy]:
    """Run one origin in front of both services that injects the faults it is given."""
    async with BreakingProxy(services.port_of) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def inputs(services: RunningServices) -> dict[str, str]:
    """Upload what a lap comparison needs."""
    return {name: services.upload(video()) for name in ("reference", "other")}


@pytest.fixture(scope="module")
def session_servers(
    tmp_path_factory: pytest.TempPathFactory, shared_s3: EmbeddedS3
) -> Iterator[tuple[NatsSettings, S3Settings]]:
    """Run a bus and a bucket, for a file of tests that plays a session's worker itself."""
    with streamed_catalog(), chosen_bus(tmp_path_factory.mktemp("nats")) as nats:
        yield nats.settings, shared_s3.with_new_bucket().settings


@pytest.fixture
async def session_gateway(
    session_servers: tuple[NatsSettings, S3Settings], tmp_path: Path
) -> AsyncIterator[RunningGateway]:
    """Run a gateway on them."""
    async with running_gateway(*session_servers, tmp_path) as running:
        yield running


@pytest.fixture
async def served(session_servers: tuple[NatsSettings, S3Settings], tmp_path: Path) -> AsyncIterator[Served]:
    """Serve a gateway on them, for clients that speak over a session's socket."""
    async with serving(session_servers, tmp_path) as found:
        yield found


@pytest.fixture
async def worker_harness(worker_servers: tuple[NatsServer, S3Server], tmp_path: Path) -> AsyncIterator[ExecutorHarness]:
    """Run a local executor, for sessions' workers that are real."""
    async with open_local_harness(tmp_path / "data", *worker_servers) as harness:
        yield harness


@pytest.fixture(params=SESSION_BUS_ACCESS)
async def session_harness(
    request: pytest.FixtureRequest, operator_servers: tuple[OperatorNats, S3Server], tmp_path: Path
) -> AsyncIterator[ExecutorHarness]:
    """Run a local executor whose workers reach NATS either way."""
    opening = {"trusted": open_local_harness, "credentials": open_credential_harness}[request.param]
    async with opening(tmp_path / "data", *operator_servers) as harness:
        yield harness


@pytest.fixture(scope="module")
def operator_servers(
    tmp_path_factory: pytest.TempPathFactory, shared_s3: EmbeddedS3
) -> Iterator[tuple[OperatorNats, S3Server]]:
    """Run a bus with accounts' keys and a bucket for it."""
    with OperatorNats(tmp_path_factory.mktemp("nats")) as nats:
        yield nats, shared_s3.with_new_bucket()


@pytest.fixture(scope="module")
def worker_servers(
    tmp_path_factory: pytest.TempPathFactory, shared_s3: EmbeddedS3
) -> Iterator[tuple[NatsServer, S3Server]]:
    """Run a bus and a bucket for it."""
    with chosen_bus(tmp_path_factory.mktemp("nats")) as nats:
        yield nats, shared_s3.with_new_bucket()
