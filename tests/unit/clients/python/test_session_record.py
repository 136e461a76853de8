"""Parser of a session's recorded telemetry."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from saccade_client import Client, ClientError, UnreachableError
from saccade_client.session_record import _nanoseconds, _RecordParser

from tests.harness.servers.embedded import HOST, free_port


def part(head: dict[str, Any], body: bytes = b"") -> bytes:
    text = json.dumps(head | ({"bytes": len(body)} if body else {})).encode()
    return len(text).to_bytes(4, "big") + text + body


def test_parts_come_whole_however_they_are_cut(seed: int) -> None:
    print(f"seed {seed}")
    dice = random.Random(seed)
    bodies = [dice.randbytes(dice.choice([0, 1, 5, 70_000])) for _ in range(20)]
    whole = b"".join(part({"sequence": number}, body) for number, body in enumerate(bodies))
    parts = _RecordParser()
    found = []
    place = 0
    while place < len(whole):
        length = dice.choice([1, 2, 3, 4, 5, 100, 65_536])
        found += parts.push(whole[place : place + length])
        place += length
    assert [(head["sequence"], body) for head, body in found] == list(enumerate(bodies))


@pytest.mark.parametrize(
    "sent",
    [
        b"<html>not here",
        (5).to_bytes(4, "big") + b"[1,2]",
        (5).to_bytes(4, "big") + b"12345",
        part({"bytes": 1 << 40}),
        part({"bytes": -1}),
        part({"bytes": "many"}),
    ],
)
def test_what_is_no_record_is_said_to_be_none(sent: bytes) -> None:
    with pytest.raises(ClientError) as refused:
        _RecordParser().push(sent)
    assert refused.value.code == "unexpected_answer"


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1970-01-01T00:00:01Z", 1_000_000_000),
        ("1970-01-01T00:00:01.5Z", 1_500_000_000),
        ("2026-11-21T13:37:22.908820123Z", 1_795_268_242_908_820_123),
    ],
)
def test_times_to_the_nanosecond(text: str, nanoseconds: int) -> None:
    assert _nanoseconds(text) == nanoseconds


def test_a_server_that_is_not_there_is_said_at_once() -> None:
    with Client(f"http://{HOST}:{free_port()}") as client, pytest.raises(UnreachableError):
        next(client.sessions.record("ses_1"))
