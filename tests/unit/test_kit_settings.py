"""What a log may show of the settings."""

from __future__ import annotations

import pytest

from services.kit.settings import NatsSettings


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("nats://127.0.0.1:4222", "nats://127.0.0.1:4222"),
        ("nats://anna:secret@bus.example:4222", "nats://bus.example:4222"),
        ("tls://token@bus.example", "tls://bus.example"),
        ("anna:secret@bus.example:4222", "bus.example:4222"),
        ("nats://a:secret@one:4222,nats://b:secret@two:4222", "nats://one:4222,nats://two:4222"),
    ],
)
def test_a_bus_is_logged_without_its_credentials(url: str, shown: str) -> None:
    assert NatsSettings(url=url).address == shown
