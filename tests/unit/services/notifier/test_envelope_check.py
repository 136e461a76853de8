"""Envelope check: the fast path and the contract accept the same events."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.events.base import decode_at, encode
from contracts.events.job import JobQueued
from services.notifier.envelope_check import _matches, check_envelope

#: Said and not drawn: it names tests, which every process of a run must call the same.
JOB = "job_0198c0de-7a11-7b2e-8c3d-5f60718293a4"
MESSAGE = encode(
    JobQueued(position=1), tenant="acme", subject_id=JOB, source="/test", time=datetime(2026, 1, 31, 12, tzinfo=UTC)
)
FIELDS: dict[str, Any] = json.loads(MESSAGE.body)
PARTS = MESSAGE.subject.split(".")


def by_contract(subject: str, body: bytes) -> bool:
    try:
        decode_at(subject, body)
    except ValueError:
        return False
    return True


def same(body: bytes, subject: str = MESSAGE.subject) -> bool:
    """Check that both agree, and return their result."""
    wanted = by_contract(subject, body)
    if wanted:
        assert check_envelope(subject, body) == tuple(subject.split(".")[2:])
    else:
        with pytest.raises(ValueError, match=r"."):
            check_envelope(subject, body)
    return wanted


def test_our_own_events_pass_the_fast_path() -> None:
    assert _matches(MESSAGE.body, PARTS)
    traced = encode(JobQueued(position=1), tenant="acme", subject_id=JOB, source="/test", traceparent="00-ab-cd-01")
    assert _matches(traced.body, PARTS)


@pytest.mark.parametrize(
    ("name", "value"), [("tenant", "other"), ("subject", JOB[:-1] + "5"), ("type", "job.succeeded"), ("type", "job")]
)
def test_an_event_of_another_subject_is_refused(name: str, value: str) -> None:
    assert not same(json.dumps(FIELDS | {name: value}).encode())
    twice = MESSAGE.body[:-1] + b',"%b":"%b"}' % (name.encode(), value.encode())
    assert not same(twice), "of two equal keys the last one counts, for every reader"


@pytest.mark.parametrize(
    "subject",
    [
        MESSAGE.subject.replace(".evt.", ".cmd."),
        MESSAGE.subject.replace("saccade.", "other."),
        MESSAGE.subject + ".more",
        MESSAGE.subject.replace("acme", "other"),
    ],
)
def test_a_wrong_subject_is_refused(subject: str) -> None:
    assert not same(MESSAGE.body, subject)


@pytest.mark.parametrize(
    "value",
    [
        *(b"1e999", b"-0", b"01", b"1.", b"1" * 3000, b"1" * 5000, b"NaN", b"-Infinity", b"tru", b"{}}"),
        *(b'"\x01"', b'"\x7f\xc2\x80"', b'"\xed\xa0\x80"', b'"\xff"', b'"\\ud800"', b'"\\x"', b'"\\u00e9"', b'"a'),
        *(b"[" * 90 + b"]" * 90, b"[" * 150 + b"]" * 150, b"[" * 5000 + b"]" * 5000),
        *(b"\t\r\n 1", b"", b"{1:2}", b"[1,]", b'{"tenant":"other"}', b"'a'"),
    ],
)  # fmt: skip
def test_both_checks_agree_on_data(value: bytes) -> None:
    same(MESSAGE.body.replace(b'"position":1', b'"position":' + value))


@pytest.mark.parametrize(
    "time",
    [
        *("2026-02-30T00:00:00Z", "0001-01-01T00:00:00Z", "0000-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"),
        *("2026-01-01T24:00:00Z", "2026-01-01T23:59:60Z", "2026-01-01T00:00:00.1Z", "2026-01-01T00:00:00.1234567Z"),
        *("2026-01-01T00:00:00", "2026-01-01T00:00:00+01:00", "2026-01-01", "", 1767225600, None, []),
        *("٢٠٢٦-01-01T00:00:00Z",),
    ],
)  # fmt: skip
def test_both_checks_agree_on_times(time: object) -> None:
    same(json.dumps(FIELDS | {"time": time}, ensure_ascii=False).encode())


# A machine that runs other tests meanwhile draws slowly; that says nothing of what is drawn.
@given(st.data())
def test_both_checks_agree_on_random_envelopes(data: st.DataObject) -> None:
    fields = dict(FIELDS)
    for name in data.draw(st.lists(st.sampled_from(sorted(FIELDS)), max_size=2)):
        fields.pop(name, None)
    anything = st.none() | st.booleans() | st.integers() | st.text() | st.just({}) | st.just(["job.queued"])
    fields |= data.draw(
        st.dictionaries(st.sampled_from([*sorted(FIELDS), "traceparent", "more"]), anything, max_size=2)
    )
    body = json.dumps(fields, ensure_ascii=data.draw(st.booleans())).encode("utf-8", "surrogatepass")
    cut = data.draw(st.none() | st.integers(0, len(body)))
    same(body if cut is None else body[:cut])


def test_bytes_in_other_encodings_are_refused() -> None:
    assert not same(MESSAGE.body.decode().encode("utf-16"))
    assert not same(b"\xef\xbb\xbf" + MESSAGE.body)
    assert not same(MESSAGE.body + MESSAGE.body)
