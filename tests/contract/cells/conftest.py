"""Fixtures for the suites of cells."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kit.settings import NatsSettings, S3Settings
from tests.harness.servers.chosen_bus import chosen_bus
from tests.harness.servers.embedded import EmbeddedS3


@pytest.fixture
def servers(tmp_path: Path, shared_s3: EmbeddedS3) -> Iterator[tuple[NatsSettings, S3Settings]]:
    """Run a bus and a bucket."""
    (tmp_path / "nats").mkdir()
    with chosen_bus(tmp_path / "nats") as nats:
        yield nats.settings, shared_s3.with_new_bucket().settings
