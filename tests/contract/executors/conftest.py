"""Fixtures for the suites of executors and of what is deployed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.dispatch.modal_command import Command
from tests.modal_loopback import running


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    """Run ``saccade modal`` against a stand-in of the test's own."""
    home = tmp_path / "home"
    home.mkdir()
    with running(tmp_path) as loopback:
        yield Command(loopback, home)
        assert loopback.unimplemented == set()
