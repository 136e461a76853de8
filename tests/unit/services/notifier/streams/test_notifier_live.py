"""Live events are taken out of what a connection reads, and everything else reaches nats-py as it was sent."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.protocol.parser import Parser

from services.notifier.live import Feed

pytestmark = pytest.mark.anyio

JOB = "saccade.evt.acme.job.job_1.queued"


@dataclass
class ByNats:
    """What nats-py's parser calls: keeps what comes to it."""

    got: list[tuple[str, bytes, bytes]] = field(default_factory=list)
    pings: int = 0

    async def _process_msg(self, _: int, subject: bytes, __: bytes, data: bytes, headers: bytes | None) -> None:
        self.got.append((subject.decode(), headers or b"", data))

    async def _process_ping(self) -> None:
        self.pings += 1


def message(sequence: int, body: bytes = b"{}", *, subject: str = JOB, forged: bytes = b"") -> bytes:
    """Write a live copy as nats-server does: its headers after those of whoever published."""
    headers = b"NATS/1.0\r\nNats-Msg-Id: evt_1\r\n%bNats-Stream: EVENTS\r\nNats-Subject: %b\r\n" % (
        forged,
        subject.encode(),
    )
    headers += b"Nats-Sequence: %d\r\nNats-Last-Sequence: 1\r\n\r\n" % sequence
    line = b"HMSG live.%b 7 %d %d\r\n" % (subject.encode(), len(headers), len(headers) + len(body))
    return line + headers + body + b"\r\n"


@dataclass
class Reading:
    """A connection's reader with a feed before it, and nats-py's parser behind it."""

    refused: frozenset[int] = frozenset()
    taken: list[tuple[int, str, bytes]] = field(default_factory=list)
    nats: ByNats = field(default_factory=ByNats)

    def __post_init__(self) -> None:
        self.reader = asyncio.StreamReader()
        self.parser = Parser(self.nats)
        self.feed = Feed(self.reader, self.parser, self._take)

    def _take(self, sequence: int, subject: str, body: bytes) -> bool:
        if sequence in self.refused:
            return False
        self.taken.append((sequence, subject, body))
        return True

    async def read(self, *parts: bytes, late: bool = False) -> None:
        """Take what comes; nats-py reads after each part, or only after the last."""
        for part in parts:
            self.feed.data(part)
            if not late:
                await self.parse()
        await self.parse()

    async def parse(self) -> None:
        if waiting := len(self.reader._buffer):  # type: ignore[attr-defined]
            await self.parser.parse(await self.reader.read(waiting))


async def test_the_next_events_are_taken_and_nats_py_hears_nothing_of_them() -> None:
    reading = Reading()
    await reading.read(message(1, b'{"a":1}') + message(2, b"\r\n\r\nHMSG live." + JOB.encode()))
    assert reading.taken == [(1, JOB, b'{"a":1}'), (2, JOB, b"\r\n\r\nHMSG live." + JOB.encode())]
    assert reading.nats.got == []


async def test_a_publisher_cannot_say_which_sequence_its_event_has() -> None:
    reading = Reading()
    await reading.read(message(5, forged=b"Nats-Sequence: 6\r\nnats-sequence: 7\r\n"))
    assert [sequence for sequence, _, _ in reading.taken] == [5]


async def test_an_event_that_is_refused_and_all_read_with_it_go_by_nats_py() -> None:
    reading = Reading(refused=frozenset({2}))
    await reading.read(message(1) + message(2) + message(3), message(4))
    assert [sequence for sequence, _, _ in reading.taken] == [1, 4]
    assert [headers.count(b"Nats-Sequence: ") for _, headers, _ in reading.nats.got] == [1, 1]


@pytest.mark.parametrize(
    "other",
    [
        message(1, subject="saccade.prog.acme.job.job_1.progressed"),
        b"HMSG live.%b 7 12 14\r\nNATS/1.0\r\n\r\n{}\r\n" % JOB.encode(),  # no sequence: the server did not send it
        b"HMSG live.%b 7 answer 12 14\r\nNATS/1.0\r\n\r\n{}\r\n" % JOB.encode(),
        b"MSG live.%b 7 2\r\n{}\r\n" % JOB.encode(),
    ],
)
async def test_what_is_no_live_event_is_nats_pys(other: bytes) -> None:
    reading = Reading()
    await reading.read(message(1) + b"PING\r\n" + other, message(2))
    assert [sequence for sequence, _, _ in reading.taken] == [1, 2]
    assert len(reading.nats.got) == reading.nats.pings == 1


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40).map(lambda body: message(1, body)),
            st.just(b"PING\r\n"),
            st.just(b"MSG _INBOX.a 3 5\r\nHMSG \r\n"),
            st.just(b"MSG _INBOX.a 3 %d\r\n" % len(message(9)) + message(9) + b"\r\n"),
        ),
        max_size=8,
    ),
    st.booleans(),
    st.lists(st.integers(1, 200), min_size=1),
    st.booleans(),
)
def test_nothing_is_lost_doubled_or_made_up_however_the_wire_cuts_it(
    parts: list[bytes], refused: bool, cuts: list[int], late: bool
) -> None:
    wire, pieces, at = b"".join(parts), [], 0
    while at < len(wire):
        size = cuts[len(pieces) % len(cuts)]
        pieces.append(wire[at : at + size])
        at += size

    async def both() -> tuple[Reading, ByNats]:
        reading = Reading(frozenset({1}) if refused else frozenset())
        await reading.read(*pieces, late=late)
        alone = ByNats()
        await Parser(alone).parse(wire)
        return reading, alone

    reading, alone = asyncio.run(both())
    assert reading.nats.pings == alone.pings
    by_nats = [data for _, _, data in reading.nats.got]
    others = [data for subject, _, data in alone.got if not subject.startswith("live.")]
    live = [data for subject, _, data in alone.got if subject.startswith("live.")]
    assert sorted(by_nats + [body for _, _, body in reading.taken]) == sorted(others + live)
    assert [data for data in by_nats if data in others] == others
    if refused:
        assert reading.taken == []
        assert by_nats == [data for _, _, data in alone.got]
