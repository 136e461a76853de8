"""A demo uses the system that runs on its data folder, unless that one ends with another demo."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.demo.demo_server import demo_server
from cli.embedded.data_folder import DataFolder, running_url
from cli.failure import Failure


def test_a_running_system_is_used_and_that_of_another_demo_is_not(tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert running_url(data) is None
    folder = DataFolder(data)
    try:
        folder.announce("http://127.0.0.1:8080")
        with demo_server(None, data) as (server, started):
            assert (server, started) == ("http://127.0.0.1:8080", False)
        with demo_server("http://127.0.0.1:9", data) as (server, started):
            assert (server, started) == ("http://127.0.0.1:9", False)
        folder.announce("http://127.0.0.1:8080", attached=True)
        with pytest.raises(Failure) as refused, demo_server(None, data):
            pass
        assert refused.value.code == "already_running"
        assert "make demo ARGS=" in refused.value.hint
    finally:
        folder.release()
    assert running_url(data) is None, "what a system that has ended announced is not believed"
