"""Segments of the archive: every byte comes back, equal events give equal bytes, and what was changed is named."""

from __future__ import annotations

import json
import tracemalloc

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from kit.history.event_lines import HistoryEvent, encode_line, parse_timestamp
from kit.history.manifest import SegmentInvalid
from kit.history.segments import SegmentBuilder, SegmentFile, encode_segment, read_index, tail_needed
from tests.harness.history.segment_chain import verify_chain

JOB = "job_0198c0de-0000-7000-8000-{:012x}"


def event(sequence: int, body: bytes = b'{"a":1}', tenant: str = "acme", verb: str = "queued") -> HistoryEvent:
    subject = f"saccade.evt.{tenant}.job.{JOB.format(sequence // 7)}.{verb}"
    return HistoryEvent(sequence, subject, f"2026-11-23T06:52:00.{sequence:09d}Z", f"evt_{sequence}", body)


def segment(count: int = 2500, **given_fields: object):
    fields = {"stream": "EVENTS", "epoch": "e1", "first": 1, "last": count} | given_fields
    return encode_segment([event(n) for n in range(1, count + 1)], **fields)


BODIES = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [
            b'{"a": 1}',
            b'{"x":1e-7,"y":"\xc3\xa4"}',
            b'{"a":\n1}',
            b'{"a":1}\r',
            b'{"a":"\\u0000,\\"event\\":{}"}',
            b'{"event":{"event":1}}',
            b'{"a":NaN}',
            b'1},{"seq":2',
            b"{}",
            b"",
        ]
    ),
    st.dictionaries(st.text(max_size=5), st.text(max_size=5) | st.floats(allow_nan=False)).map(
        lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
    ),
)


@given(st.lists(st.tuples(BODIES, st.text(max_size=20)), max_size=8))
def test_every_event_comes_back_as_its_own_bytes(drawn: list[tuple[bytes, str]]) -> None:
    events = [
        HistoryEvent(3 * n + 1, f"saccade.evt.acme.job.{n}.queued", f"2026-11-23T06:52:00.{n:09d}Z", id_, body)
        for n, (body, id_) in enumerate(drawn)
    ]
    made = encode_segment(events, stream="EVENTS", epoch="e1", first=1, last=100)
    assert list(SegmentFile(made.data).events()) == events
    SegmentFile(made.data).verify()
    lines = zstandard.ZstdDecompressor().stream_reader(made.data, read_across_frames=True).read().splitlines()
    assert len([json.loads(line) for line in b"\n".join(lines).split(b"\n")]) == len(events) + 1


def test_a_line_is_json_that_holds_the_event_as_an_object() -> None:
    line = encode_line(event(7, b'{"id": "x"}'))
    assert json.loads(line) == {
        "seq": 7,
        "subject": event(7).subject,
        "time": "2026-11-23T06:52:00.000000007Z",
        "id": "evt_7",
        "event": {"id": "x"},
    }
    assert b'"event":{"id": "x"}}\n' in line


def test_equal_events_give_equal_bytes_however_they_are_added() -> None:
    whole = segment()
    events = [event(n) for n in range(1, 2501)]
    builder = SegmentBuilder("EVENTS", "e1", 1, "")
    for start in range(0, 2500, 333):
        builder.add(events[start : start + 333])
    assert builder.finish(2500).data == whole.data


def test_the_manifest_tells_what_is_in_it() -> None:
    events = [event(n, tenant="acme" if n % 3 else "beta", verb="queued" if n % 2 else "started") for n in range(5, 50)]
    manifest = encode_segment(events, stream="EVENTS", epoch="e1", first=2, last=60, previous="abc").manifest
    assert (manifest.first, manifest.last, manifest.events, manifest.previous) == (2, 60, 45, "abc")
    assert manifest.types == {"job.queued": 23, "job.started": 22}
    assert manifest.tenants == {"acme": 30, "beta": 15}
    assert (manifest.first_time, manifest.last_time) == (events[0].timestamp, events[-1].timestamp)


def test_a_frame_tells_which_ids_are_not_in_it() -> None:
    manifest = segment(5000).manifest
    for n in range(1, 5001):
        [holding] = [frame for frame in manifest.frames if frame.first <= n <= frame.last]
        assert holding.may_hold(event(n).subject_id)
    others = [JOB.format(n) for n in range(10_000, 11_000)]
    wrong = sum(frame.may_hold(other) for frame in manifest.frames for other in others)
    assert wrong / (len(others) * len(manifest.frames)) < 0.03


def test_one_frame_is_read_from_the_end_of_the_file_and_its_own_bytes() -> None:
    data = segment().data
    index = read_index(data[-tail_needed(data[-2000:], len(data)) :], len(data))
    offset, length = index.places[1]
    assert [e.sequence for e in index.read_frame(1, data[offset : offset + length])] == list(range(1001, 2001))
    with pytest.raises(SegmentInvalid, match="frame 1 of 3"):
        index.read_frame(0, data[offset : offset + length])


def test_events_of_a_range_are_read() -> None:
    found = [e.sequence for e in SegmentFile(segment().data).events(after=999, until=1001)]
    assert found == [1000, 1001]


def test_a_file_that_was_cut_off_anywhere_is_refused() -> None:
    data = segment(1500).data
    for length in [0, 10, *range(20, len(data), 997), *range(len(data) - 60, len(data))]:
        with pytest.raises(SegmentInvalid):
            SegmentFile(data[:length]).verify()
    with pytest.raises(SegmentInvalid):
        SegmentFile(data + b"x").verify()


def test_a_changed_byte_anywhere_is_found_and_the_frame_is_named() -> None:
    data = segment(2500).data
    index = read_index(data, len(data))
    for number, (offset, length) in enumerate(index.places):
        changed = bytearray(data)
        changed[offset + length // 2] ^= 1
        with pytest.raises(SegmentInvalid, match=f"frame {number + 1} of 3"):
            SegmentFile(bytes(changed)).verify()
    for place in range(sum(index.places[-1]), len(data), 101):
        changed = bytearray(data)
        changed[place] ^= 1
        with pytest.raises(SegmentInvalid):
            SegmentFile(bytes(changed)).verify()


def test_a_frame_that_was_replaced_by_a_valid_one_is_found() -> None:
    data = segment().data
    other = encode_segment(
        [event(n, b'{"a":2}') for n in range(1, 2501)], stream="EVENTS", epoch="e1", first=1, last=2500
    ).data
    index, others = read_index(data, len(data)), read_index(other, len(other))
    (offset, length), (theirs, their_length) = index.places[0], others.places[0]
    assert length == their_length, "the two differ in one digit only"
    with pytest.raises(SegmentInvalid, match=r"frame 1 of 3 \(events 1 to 1000\) was changed"):
        SegmentFile(other[theirs : theirs + length] + data[offset + length :]).verify()


def test_a_chain_names_the_segment_that_is_missing_or_was_changed() -> None:
    chain = []
    for first in (1, 101, 201, 301):
        events = [event(n) for n in range(first, first + 100)]
        previous = chain[-1].sha256 if chain else ""
        chain.append(
            encode_segment(
                events, stream="EVENTS", epoch="e1", first=first, last=first + 99, previous=previous
            ).manifest
        )
    assert verify_chain(chain) == []
    assert verify_chain([chain[0], *chain[2:]]) == ["events 101 to 200 are missing: their segment was removed"]
    changed = encode_segment(
        [event(n, b"{}") for n in range(101, 201)], stream="EVENTS", epoch="e1", first=101, last=200,
        previous=chain[0].sha256,
    ).manifest  # fmt: skip
    [fault] = verify_chain([chain[0], changed, *chain[2:]])
    assert fault.startswith("the segment of 201 to 300 does not carry the hash of the one before it (101 to 200)")
    assert verify_chain([chain[0], chain[1], chain[1]]) == ["the segment of 101 to 200 repeats events before it"]


def test_a_time_with_nanoseconds_is_read() -> None:
    assert parse_timestamp("2026-11-23T06:52:00.123456789Z").microsecond == 123456
    assert parse_timestamp("2026-11-23T06:52:00.1Z").microsecond == 100000
    assert parse_timestamp("2026-11-23T06:52:00Z").microsecond == 0


def test_a_segment_that_is_being_built_takes_the_memory_of_its_compressed_frames() -> None:
    """Not that of the events before compression: a segment is open for 64 MiB of them."""
    body = json.dumps({"a": "x" * 800}).encode()
    builder = SegmentBuilder("EVENTS", "e1", 1)
    builder.add(event(number, body) for number in range(1, 1001))
    tracemalloc.start()
    try:
        before_bytes, _ = tracemalloc.get_traced_memory()
        builder.add(event(number, body) for number in range(1001, 6001))
        kept_bytes = tracemalloc.get_traced_memory()[0] - before_bytes
    finally:
        tracemalloc.stop()
    added_bytes = builder.raw_bytes * 5 / 6
    assert added_bytes > 4_500_000
    assert kept_bytes < added_bytes / 10
