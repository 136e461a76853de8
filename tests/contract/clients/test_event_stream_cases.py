"""The event stream parsers of both clients and of Chromium, by one table of cases from the specification.

``event_stream_cases.json`` is written from the HTML Living Standard, 9.2.5 ("Parsing an event stream") and 9.2.6
("Interpreting an event stream"). A character of a chunk is one byte. A case says which events a stream dispatches
(type, data, last event id), and its last event id and reconnection time at its end (null: not set).
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from saccade_client.errors import ClientError
from saccade_client.sse import MAX_EVENT_BYTES, MAX_RETRY_MS, SseParser

from tests.harness.clients.chromium import chromium, find_browser, pages
from tests.harness.clients.javascript_client import use
from tests.harness.clients.node import find_node
from tests.harness.clients.scripted_streams import ScriptedStreams

pytestmark = pytest.mark.anyio

#: Streams up to this length are cut at all pairs of positions, longer ones at each position.
PAIRS_BYTES = 40
#: Chromium's own reconnection time.
BROWSER_RETRY_S = 3.0


@dataclass(frozen=True)
class Case:
    """One stream, and what the specification makes of it."""

    name: str
    #: Where the specification says so.
    rule: str
    chunks: list[str]
    events: list[list[str]]
    cursor: str
    reconnection_ms: int | None
    #: How Chromium differs from the specification, where it does.
    browser: str = ""

    @property
    def received(self) -> list[bytes]:
        """The chunks as bytes."""
        return [chunk.encode("latin-1") for chunk in self.chunks]

    @property
    def outcome(self) -> list[Any]:
        """What a client makes of it, which bounds the reconnection time."""
        retry_ms = None if self.reconnection_ms is None else min(self.reconnection_ms, MAX_RETRY_MS)
        return [self.events, self.cursor, retry_ms]


CASES = [Case(**case) for case in json.loads(Path(__file__).with_name("event_stream_cases.json").read_text())]
assert len({case.name for case in CASES}) == len(CASES)


def cuttings(case: Case) -> Iterator[list[bytes]]:
    """Cut a stream as it is given, into single bytes, at each position, and a short one at each pair of positions."""
    whole = b"".join(case.received)
    yield case.received
    yield [whole[at : at + 1] for at in range(len(whole))]
    yield from ([whole[:at], whole[at:]] for at in range(len(whole) + 1))
    if len(whole) <= PAIRS_BYTES:
        for first, second in itertools.combinations(range(len(whole)), 2):
            yield [whole[:first], whole[first:second], whole[second:]]


def outcome(pieces: Iterable[bytes]) -> list[Any]:
    """Return what the Python clients' parser makes of a stream."""
    parser = SseParser()
    events = [[block.event, block.text, block.last_event_id] for piece in pieces for block in parser.push(piece)]
    return [events, parser.last_event_id, parser.retry_ms]


def test_the_python_parser_follows_the_specification_however_a_stream_is_cut() -> None:
    for case in CASES:
        for pieces in cuttings(case):
            assert outcome(pieces) == case.outcome, (case.name, case.rule, pieces)


async def test_the_javascript_parser_follows_the_specification_however_a_stream_is_cut() -> None:
    find_node()
    streams = {case.name: [case.chunks, len("".join(case.chunks)) <= PAIRS_BYTES] for case in CASES}
    found = await use("parsed", streams)
    for case in CASES:
        assert found[case.name] == [case.outcome], (case.name, case.rule)


_FOLLOW = """
(async ({ url, types, late }) => {
    const events = [];
    const source = new EventSource(url);
    const note = ({ type, data, lastEventId }) => events.push([type, data, lastEventId]);
    for (const type of types) source.addEventListener(type, note);
    await new Promise((resolve) => {
        source.onerror = () => {
            if (source.readyState === EventSource.CLOSED || late) resolve();
        };
    });
    source.close();
    return events;
})
"""


async def test_the_cases_are_right_by_chromium(tmp_path: Path) -> None:
    """Serve each case to an EventSource; the next request shows its last event id and its reconnection time."""
    find_browser()
    cases = {f"/{number}": case for number, case in enumerate(CASES) if not case.browser}
    # The first pause of a busy browser may be long; the shortest of a few is that of the reconnection time.
    bodies = {path: [case.received, *[[b":\n"]] * (3 if _quick(case) else 0)] for path, case in cases.items()}
    types = sorted({kind for case in CASES for kind, _, _ in case.events} | {"x", "message"})
    async with (
        ScriptedStreams(bodies) as streams,
        pages({}) as origin,
        chromium(tmp_path / "profile") as browser,
    ):
        tab = await browser.open(origin)

        async def follow(path: str, case: Case) -> list[list[str]]:
            given = json.dumps({"url": streams.url + path, "types": types, "late": _late(case)})
            told: list[list[str]] = await tab.evaluate(f"({_FOLLOW.strip()})({given})")
            return told

        told = await asyncio.gather(*(follow(path, case) for path, case in cases.items()))
    for (path, case), events in zip(cases.items(), told, strict=True):
        script = streams.scripts[path]
        assert events == case.events, (case.name, case.rule)
        if _late(case):
            continue
        assert script.over, case.name
        assert (script.asked[1].last_event_id or b"").decode() == case.cursor.strip(" "), (case.name, case.rule)
        shortest_s = min(asked.pause_s for asked in script.asked[1:] if asked.pause_s is not None)
        assert (shortest_s < BROWSER_RETRY_S - 0.5) == _quick(case), (case.name, case.rule, shortest_s)


def _quick(case: Case) -> bool:
    """Return whether a browser reconnects sooner than by default."""
    return case.reconnection_ms is not None and case.reconnection_ms < 1000


def _late(case: Case) -> bool:
    """Return whether a browser reconnects so late that no test waits for it."""
    return case.reconnection_ms is not None and case.reconnection_ms > MAX_RETRY_MS


def test_the_python_parser_takes_any_cut_of_many_events(seed: int) -> None:
    """All cases but unfinished ones and byte order marks, one after the other, in reads of any size."""
    dice = random.Random(seed)
    whole = [case for case in CASES if "".join(case.chunks).endswith(("\n\n", "\r\r", "\r\n\r\n"))]
    whole = [case for case in whole if not case.chunks[0].startswith("\xef")]
    wire = b"".join(b"".join(case.received) for case in whole * 5)
    expected = outcome([wire])
    assert len(expected[0]) > 200
    for _ in range(20):
        cuts = sorted(dice.choices(range(len(wire)), k=dice.choice([3, 50, 500])))
        assert outcome(wire[begin:end] for begin, end in itertools.pairwise([0, *cuts, len(wire)])) == expected


def _parse_s(pieces: list[bytes]) -> float:
    """Return the CPU seconds of parsing, the least of three runs."""

    def once() -> float:
        parser = SseParser()
        begin_s = time.process_time()
        for piece in pieces:
            parser.push(piece)
        return time.process_time() - begin_s

    return min(once() for _ in range(3))


def test_a_long_line_costs_python_what_short_lines_do() -> None:
    """Twenty times would do: what is searched and copied again with each read costs thousands of times as much."""
    reads = 1024
    long_s = _parse_s([b"data: ", *[b"a" * 1024] * reads, b"\n\n"])
    short_s = _parse_s([*[b"a" * 1023 + b"\n"] * reads, b"\n\n"])
    assert long_s < 20 * short_s + 0.01


async def test_a_long_line_costs_javascript_what_short_lines_do() -> None:
    find_node()
    found = await use("parseTimes", 2 * 2**20)
    assert found["long"] < 20 * found["short"] + 10, found


@pytest.mark.parametrize("piece", [b"a" * 2**20, b": " + b"a" * 2**20, b"data: " + b"a" * 2**20 + b"\n"])
def test_an_event_that_never_ends_is_an_error(piece: bytes) -> None:
    parser = SseParser()
    for _ in range(MAX_EVENT_BYTES // len(piece)):
        parser.push(piece)
    with pytest.raises(ClientError) as refusal:
        parser.push(piece)
    assert refusal.value.code == "event_too_large"
    assert refusal.value.hint
    assert not refusal.value.retryable
