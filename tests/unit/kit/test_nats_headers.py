"""Headers of messages are parsed as nats-py parses them."""

from __future__ import annotations

import pytest
from nats.aio.client import Client

from kit.bus.connection import _Client

BLOCKS = (
    b"",
    b"\r\n",
    b"Nats-Msg-Id: evt_1\r\nContent-Type: application/cloudevents+json\r\nNats-Sequence: 17\r\n\r\n",
    b"Nats-Time-Stamp: 2026-11-23T10:00:00.123456789Z\r\nA:b:c\r\n",
    b"Name:\tvalue \r\n  Padded  :  more  \r\nWithout colon\r\n: without name\r\nEmpty:\r\n",
    b"Two words: left out\r\nTab\tword: left out\r\nSame: 1\r\nSame: 2\r\n",
    "Näme: left out\r\nName: wört\r\n".encode(),
    b"Broken: \xff\xfe\r\n",
)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_headers_are_those_that_nats_py_finds(number: int):
    expected = Client._parse_header_lines(BLOCKS[number])
    for _ in range(2):  # the second time the names are known
        found = _Client._parse_header_lines(BLOCKS[number])
        assert (found, list(found)) == (expected, list(expected))
