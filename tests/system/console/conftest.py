"""One embedded system for all tests of the console."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.system.embedded import up


@pytest.fixture(scope="package")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the address of a system with the workloads of the tests (tests/workers) and all of its services."""
    with up(
        tmp_path_factory.mktemp("console") / "data", WORKER_CATALOG="tests.workers,tests.session_workers"
    ) as system:
        yield str(system.ready()["url"])
