"""Trace contexts are read strictly, and events get that of what is being done."""

from __future__ import annotations

import pytest

from contracts.events.base import decode, encode
from contracts.events.job import JobQueued
from contracts.trace_context import (
    CURRENT,
    TraceContext,
    context_of_run,
    context_within,
    new_span_id,
    new_trace,
    parse_traceparent,
    run_span_id,
)

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TEXT = f"00-{TRACE}-{SPAN}-01"


def test_a_context_is_what_was_sent():
    assert parse_traceparent(TEXT) == TraceContext(TRACE, SPAN, 1)
    assert str(parse_traceparent(TEXT)) == TEXT
    # A later version may have more fields, of which we know nothing, and other flags.
    assert parse_traceparent(f"01-{TRACE}-{SPAN}-ff-more") == TraceContext(TRACE, SPAN, 1)


@pytest.mark.parametrize(
    "text",
    [
        None, "", "00", TEXT.upper(), TEXT + "-more", TEXT + " ", "ff" + TEXT[2:], TEXT[:-1], TEXT + "\n",
        f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01", f"01-{TRACE}-{SPAN}-01-{'x' * 300}",
    ],
)  # fmt: skip
def test_what_is_none_starts_a_trace(text: str | None):
    assert parse_traceparent(text) is None
    assert context_of_run(text, "run_1") is None


def test_new_ids_are_valid_and_differ():
    contexts = {new_trace() for _ in range(100)}
    assert len(contexts) == 100
    assert all(parse_traceparent(str(context)) == context for context in contexts)
    assert len({new_span_id() for _ in range(100)}) == 100


def test_a_run_has_a_span_that_everybody_can_name():
    assert context_of_run(TEXT, "run_1") == f"00-{TRACE}-{run_span_id('run_1')}-01"
    assert run_span_id("run_1") != run_span_id("run_2")
    assert context_of_run(None, "run_1") is None


def test_the_context_of_another_trace_is_not_that_of_a_job():
    own, other = f"00-{TRACE}-{'1' * 16}-00", f"00-{'2' * 32}-{'1' * 16}-00"
    for current, expected in ((own, own), (other, TEXT), (None, TEXT)):
        token = CURRENT.set(current)
        try:
            assert context_within(TEXT) == expected
            assert context_within(None) is None
        finally:
            CURRENT.reset(token)


def test_an_event_gets_what_it_is_given_else_the_request_s():
    def sent(traceparent: str | None = None) -> str | None:
        message = encode(
            JobQueued(position=1), tenant="acme", subject_id="job_1", source="/test", traceparent=traceparent
        )
        return decode(message.body).traceparent

    assert sent() is None
    token = CURRENT.set(TEXT)
    try:
        assert sent() == TEXT
        assert sent(f"00-{'2' * 32}-{SPAN}-00") == f"00-{'2' * 32}-{SPAN}-00"
    finally:
        CURRENT.reset(token)
