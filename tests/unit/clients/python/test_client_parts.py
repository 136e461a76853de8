"""Pure parts of the Python client: retries, SSE blocks, events; and both clients have the same methods."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from saccade_client import AsyncClient, AsyncEvents, AsyncJob, Client, ClientError, Events, Gap, Job
from saccade_client.async_sessions import AsyncSessionsClient, AsyncTelemetryRecord
from saccade_client.async_webhooks import AsyncWebhooksClient
from saccade_client.errors import NotFoundError, UnauthorizedError, refusal
from saccade_client.events import Snapshot, matches_types, parse_event
from saccade_client.retries import Retries, retry_after_s
from saccade_client.sessions import SessionsClient, TelemetryRecord
from saccade_client.sse import SseBlock, SseParser
from saccade_client.transport import run_blocking
from saccade_client.views import WebhookView
from saccade_client.webhooks import WebhooksClient


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def pauses(retries: Retries, clock: Clock, error: Exception | None = None) -> Iterator[float]:
    """Yield the pauses of repeated failures until the retries stop."""
    while (pause_s := retries.pause_s(error)) is not None:
        yield pause_s
        clock.now_s += pause_s


def test_pauses_double_up_to_the_longest_and_end_with_the_patience() -> None:
    clock = Clock()
    found = list(pauses(Retries(patience_s=12, now_s=clock, random_fraction=lambda: 0.5), clock))
    assert found == [0.3, 0.6, 1.2, 2.0, 2.0, 2.0, 2.0]
    assert clock.now_s - 100 <= 12


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=200, max_size=200))
def test_pauses_are_spread_and_never_longer_than_half_as_much_again(dice: list[float]) -> None:
    clock = Clock()
    rolls = iter(dice)
    options = {"first_pause_s": 0.1, "longest_pause_s": 5.0, "now_s": clock}
    told = Retries(patience_s=math.inf, random_fraction=lambda: next(rolls), **options)
    for number in range(100):
        pause_s = told.pause_s()
        assert pause_s is not None
        middle_s = min(5.0, 0.1 * 2.0**number)
        assert 0.5 * middle_s <= pause_s <= 1.5 * middle_s


def test_a_success_gives_all_patience_back() -> None:
    clock = Clock()
    retries = Retries(patience_s=5, now_s=clock, random_fraction=lambda: 0.5)
    first = list(pauses(retries, clock))
    clock.now_s += 1000
    assert retries.pause_s() is None
    retries.succeeded()
    assert list(pauses(retries, clock)) == first


def test_the_time_before_the_first_failure_does_not_count() -> None:
    clock = Clock()
    retries = Retries(patience_s=12, now_s=clock, random_fraction=lambda: 0.5)
    clock.now_s += 50  # a request that waits, or sends a large part over a slow line
    assert list(pauses(retries, clock)) == [0.3, 0.6, 1.2, 2.0, 2.0, 2.0, 2.0]
    retries.succeeded()
    clock.now_s += 50  # a reader that works on what it got
    assert len(list(pauses(retries, clock))) == 7


def test_the_time_that_a_server_is_silent_counts() -> None:
    clock = Clock()
    retries = Retries(patience_s=12, now_s=clock)
    clock.now_s += 50
    assert retries.pause_s(httpx.ReadTimeout("silent")) is None


def test_what_never_was_there_is_not_waited_for() -> None:
    refused = httpx.ConnectError("refused")
    assert Retries(reached=False).pause_s(refused) is None
    assert Retries(reached=True).pause_s(refused) is not None
    assert Retries(reached=False).pause_s(httpx.ReadTimeout("slow")) is not None


def test_what_the_server_asks_for_is_kept() -> None:
    retries = Retries(patience_s=12, random_fraction=lambda: 0.5)
    assert retries.pause_s(asked_s=7) == 7
    assert retries.pause_s(asked_s=60) is None, "longer than there is patience for"


NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7),
        (" 120 ", 120),
        ("Fri, 02 Jan 2026 03:04:35 GMT", 30),
        ("Fri, 02 Jan 2026 03:04:00 GMT", 0),
        ("", 0),
        ("soon", 0),
        ("-5", 0),
        ("9" * 400, 999_999_999),
    ],
)
def test_retry_after(text: str, seconds: float) -> None:
    assert retry_after_s(httpx.Response(503, headers={"Retry-After": text}), NOW) == seconds


def test_an_answer_that_is_no_problem_json_is_an_error_all_the_same() -> None:
    page = refusal(httpx.Response(502, text="<html>Bad gateway</html>"))
    assert (page.code, page.status, page.retryable) == ("unexpected_answer", 502, True)
    assert refusal(httpx.Response(400, json=["no", "object"])).code == "unexpected_answer"
    told = {"code": "job_not_found", "detail": "There is none.", "hint": "List them.", "request_id": "req_1"}
    error = refusal(httpx.Response(404, json=told))
    assert isinstance(error, NotFoundError)
    assert (error.code, error.message, error.hint, error.request_id) == tuple(told.values())
    assert error.problem == told
    assert isinstance(refusal(httpx.Response(401, json={})), UnauthorizedError)


LINE_ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])


@given(st.lists(st.tuples(st.integers(0, 3), st.text("abc:", max_size=5)), max_size=5), LINE_ENDS, st.integers(1, 9))
def test_blocks_are_the_same_however_the_wire_cuts_them(
    parts: list[tuple[int, str]], end: bytes, piece_bytes: int
) -> None:
    wire = b""
    for comments, text in parts:
        wire += b":" + end
        wire += (b": hello" + end) * comments
        wire += b"id: e.%d" % comments + end + b"event: job.x" + end + b"data:" + text.encode() + end + end
    parser = SseParser()
    told = [
        block
        for start in range(0, len(wire) + 1, piece_bytes)
        for block in parser.push(wire[start : start + piece_bytes])
    ]
    assert told == [
        SseBlock("job.x", f"e.{comments}", [text.encode().removeprefix(b" ")], f"e.{comments}")
        for comments, text in parts
    ]


def test_a_block_that_is_cut_off_is_none_and_is_noticed() -> None:
    parser = SseParser()
    assert parser.push(b"retry: 2500\nid: e.1\nda") == []
    assert parser.unfinished
    assert parser.push(b"ta: {}\n") == []
    assert parser.unfinished
    (block,) = parser.push(b"\n")
    assert (parser.retry_ms, block.id, block.body) == (2500, "e.1", b"{}")
    assert not parser.unfinished
    assert parser.push(b":\n:\n") == []
    assert not parser.unfinished, "a comment is nothing that lacks its end"
    assert parser.push(b"retry: 1\n") == []
    assert not parser.unfinished, "nor is a reconnection time, which counts from its line on"


def test_events_of_the_stream_itself_are_typed() -> None:
    gap = parse_event(SseBlock("gap", data=[b'{"after":"e.1","first_available":"e.9"}']))
    assert isinstance(gap, Gap)
    assert (gap.after, gap.first_available, gap.cursor, gap.id) == ("e.1", "e.9", None, None)
    snapshot = parse_event(SseBlock("snapshot", data=[b'{"id":"job_1","state":"running"}']))
    assert isinstance(snapshot, Snapshot)
    assert (snapshot.subject, snapshot.state, snapshot.data["state"]) == ("job_1", "running", "running")
    envelope = {"specversion": "1.0", "id": "1", "subject": "job_1", "time": "2026-01-02T03:04:05Z", "data": {"a": 1}}
    event = parse_event(SseBlock("job.x", "e.2", data=[json.dumps(envelope).encode()]))
    assert (event.id, event.subject, event.data, event.cursor) == ("1", "job_1", {"a": 1}, "e.2")
    assert matches_types(frozenset(), event)
    assert matches_types(frozenset({"job.*"}), event)
    assert not matches_types(frozenset({"job.y"}), event)
    assert matches_types(frozenset({"job.y"}), gap), "that something is missing concerns everybody"
    for wrong in (b"[]", b"{", b""):
        with pytest.raises(ValueError, match=r"Expecting|object"):
            parse_event(SseBlock("job.x", "e.3", data=[wrong]))


def test_a_coroutine_that_awaits_something_is_not_for_the_blocking_face() -> None:
    class Never:
        def __await__(self) -> Iterator[None]:
            yield

    async def waits() -> None:
        await Never()

    with pytest.raises(RuntimeError, match="suspended"):
        run_blocking(waits())


def test_a_key_that_cannot_be_sent_is_refused_without_showing_it() -> None:
    with pytest.raises(ClientError) as refused:
        Client("http://127.0.0.1:1", "schlüssel\n")
    assert "schl" not in str(refused.value)


def test_a_secret_is_not_printed() -> None:
    endpoint = WebhookView(id="whk_1", url="https://x", created_at="", updated_at="", secret="whsec_abc")
    assert "whsec" not in repr(endpoint)


FACES = [
    (Client, AsyncClient),
    (Job, AsyncJob),
    (Events, AsyncEvents),
    (WebhooksClient, AsyncWebhooksClient),
    (SessionsClient, AsyncSessionsClient),
    (TelemetryRecord, AsyncTelemetryRecord),
]
#: What only the asynchronous face has.
ASYNCHRONOUS: dict[type[Any], tuple[str, ...]] = {SessionsClient: ("stream",)}


@pytest.mark.parametrize(("blocking", "asynchronous"), FACES, ids=[blocking.__name__ for blocking, _ in FACES])
def test_both_faces_are_the_same(blocking: type[Any], asynchronous: type[Any]) -> None:
    def members(face: type[Any]) -> dict[str, Any]:
        return {name: value for name, value in vars(face).items() if not name.startswith("_")}

    def told(value: Any) -> Any:
        value = value.fget if isinstance(value, property) else value
        parameters = [
            (one.name, one.kind, one.default, str(one.annotation).replace("Async", ""))
            for one in inspect.signature(value).parameters.values()
        ]
        returns = str(inspect.signature(value).return_annotation).replace("Async", "")
        return parameters, returns, inspect.getdoc(value)

    ours, theirs = members(blocking), members(asynchronous)
    # One socket for both ways is read while it is written to: that is for asyncio only.
    for name in ASYNCHRONOUS.get(blocking, ()):
        del theirs[name]
    assert ours
    assert list(ours) == list(theirs)
    functions = [name for name, value in ours.items() if callable(value) or isinstance(value, property)]
    assert {name: told(ours[name]) for name in functions} == {name: told(theirs[name]) for name in functions}


def test_a_moment_keeps_its_zone() -> None:
    from saccade_client.request_parts import format_moment

    assert format_moment(NOW) is not None
    assert datetime.fromisoformat(str(format_moment(NOW))) == NOW
    assert format_moment(NOW + timedelta(days=1)) != format_moment(NOW)
    assert (format_moment(60), format_moment("e.1"), format_moment(None)) == ("60", "e.1", None)
