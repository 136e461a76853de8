"""Servers for the contract suites: each from the embedded binary, and from its image where an engine answers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.containers import ContainerNats, ContainerS3
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
