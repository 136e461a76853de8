"""Every frame gets one acknowledgement in any order of events; a recording returns exactly the unfinished work."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import ErrorCode
from contracts.events.session import FrameTotals, SessionFrameAcked
from contracts.telemetry import FrameAck
from modal_workers.runtime.sessions.frame import SessionFrame, read_frame
from modal_workers.runtime.sessions.frame_queue import FrameQueue
from modal_workers.runtime.sessions.resume_position import RecordedSession


def frame(seq: int, sequence: int = 0, **more: object) -> SessionFrame:
    return replace(SessionFrame("camera", seq, 1.0, 1.0, 1.0, b"image", sequence), **more)


def test_the_totals_say_why_frames_were_refused_over_a_restart() -> None:
    queue = FrameQueue(lambda: 2.0, capacity=1)
    for seq in (7, 7, 3, 8):
        queue.put(frame(seq))
    taken = queue.take(0.0, lambda _: True)
    assert taken is not None
    queue.reject(taken, "joints_invalid", "The frames came without positions of these joints: shoulder_pan.")
    queue.put(frame(9, refusal_reason="frame_too_large"))
    (acked,) = (ack for ack in queue.take_acks()[0] if ack.seq == 8)
    assert acked.detail == "The frames came without positions of these joints: shoulder_pan."
    again = FrameQueue(lambda: 3.0, totals=FrameTotals.model_validate_json(queue.totals.model_dump_json()))
    assert again.totals == queue.totals
    assert again.totals.reasons == {
        "repeated": 1,
        "late": 1,
        "superseded": 1,
        "joints_invalid": 1,
        "frame_too_large": 1,
    }
    assert again.totals.last_rejection is not None
    assert (again.totals.last_rejection.seq, again.totals.last_rejection.reason) == (9, "frame_too_large")


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 12)),
        st.tuples(st.just("refused"), st.integers(0, 12)),
        st.tuples(st.just("take"), st.booleans()),
        st.tuples(st.just("drop"), st.none()),
    ),
    max_size=60,
)


@given(ACTIONS)
def test_every_frame_gets_one_acknowledgement_and_the_totals_add_up(actions: list[tuple[str, object]]) -> None:
    queue = FrameQueue(lambda: 2.0, capacity=3)
    sent, acks = 0, []
    for action, value in actions:
        if action == "take":
            taken = queue.take(0.0, lambda _: True)
            if taken is not None:
                queue.accept(taken) if value else queue.reject(taken, ErrorCode.FRAME_UNREADABLE)
        elif action == "drop":
            queue.drop_waiting("reset")
        else:
            sent += 1
            queue.put(frame(int(str(value)), sent, refusal_reason="frame_too_large" if action == "refused" else None))
        new_acks, totals = queue.take_acks()
        acks += new_acks
        assert totals.sent == sent == totals.accepted + totals.dropped + totals.rejected + totals.waiting
        assert len(acks) == sent - totals.waiting
        assert totals.waiting <= 3
    counts = Counter(ack.status for ack in acks)
    assert (counts["accepted"], counts["dropped"], counts["rejected"]) == (
        queue.totals.accepted,
        queue.totals.dropped,
        queue.totals.rejected,
    )
    seqs = Counter(ack.seq for ack in acks if ack.reason != "repeated")
    assert set(seqs.values()) <= {1}, "a second acknowledgement of a number is that of a repeat"


CHUNK_ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 40), st.sampled_from(["left", "right"])),
        st.tuples(st.just("flood"), st.integers(0, 30), st.sampled_from(["left", "right"])),
        st.tuples(st.just("chunk"), st.integers(1, 5), st.just("")),
        st.tuples(st.just("drop"), st.just(0), st.just("")),
    ),
    max_size=40,
)


@given(CHUNK_ACTIONS, st.data())
def test_every_frame_of_chunks_gets_one_acknowledgement_and_the_totals_add_up(
    actions: list[tuple[str, int, str]], data: st.DataObject
) -> None:
    queue = FrameQueue(lambda: 2.0, capacity=3, capacity_bytes=100)
    sent: Counter[tuple[str, int]] = Counter()
    verdicts: Counter[tuple[str, int]] = Counter()
    newest = {"left": -1, "right": -1}
    queue.take_chunk(4, 0.0, 0.0)
    for action, value, source in actions:
        if action == "chunk":
            frames = queue.take_chunk(value, 0.0, 0.0)
            assert len(frames) <= value
            assert len({one.source for one in frames}) <= 1
            assert [one.seq for one in frames] == sorted(one.seq for one in frames)
            if frames:
                assert frames[-1].seq == newest[frames[-1].source], "the newest frame is always shown"
            for one in frames:
                queue.accept(one) if data.draw(st.booleans()) else queue.reject(one, ErrorCode.FRAME_UNREADABLE)
        elif action == "drop":
            queue.drop_waiting("reset")
        else:
            seqs = [value] if action == "put" else range(newest[source] + 1, newest[source] + 1 + value)
            for seq in seqs:
                sent[source, seq] += 1
                newest[source] = max(newest[source], seq)
                number = sent.total()
                queue.put(replace(frame(seq, number), source=source, captured_at_s=float(number), image=b"x" * 11))
        acks, totals = queue.take_acks()
        verdicts.update((ack.source, ack.seq) for ack in acks)
        assert totals.sent == sent.total() == totals.accepted + totals.dropped + totals.rejected + totals.waiting
        assert totals.waiting <= 9, "capacity in bytes"
        assert verdicts <= sent
    queue.drop_waiting("session_ended")
    verdicts.update((ack.source, ack.seq) for ack in queue.take_acks()[0])
    assert verdicts == sent, "each frame has one verdict"


def test_a_chunk_begins_when_it_is_full_or_when_its_time_is_over() -> None:
    queue = FrameQueue(lambda: 2.0)
    assert queue.take_chunk(3, 0.0, 0.02) == []
    queue.put(frame(0))
    assert queue.take_chunk(3, 60.0, 0.02) == [], "more of them may come"
    began_s = time.monotonic()
    assert [one.seq for one in queue.take_chunk(3, 0.1, 5.0)] == [0]
    assert time.monotonic() - began_s < 2.0
    for seq in (1, 2, 3):
        queue.put(frame(seq))
    assert [one.seq for one in queue.take_chunk(3, 60.0, 5.0)] == [1, 2, 3], "it is full"


def test_two_cameras_take_turns() -> None:
    queue = FrameQueue(lambda: 2.0)
    for seq in range(4):
        queue.put(replace(frame(seq), source="left"))
        queue.put(replace(frame(seq), source="right"))
    chunks = [queue.take_chunk(2, 0.0, 0.0) for _ in range(3)]
    assert [[(one.source, one.seq) for one in chunk] for chunk in chunks] == [
        [("left", 0), ("left", 3)],
        [("right", 0), ("right", 3)],
        [],
    ]


def test_the_frames_of_a_chunk_that_an_earlier_run_began_are_one_chunk_again_and_counted_once() -> None:
    queue = FrameQueue(lambda: 2.0, totals=FrameTotals(sent=9, accepted=7, dropped=2))
    for seq in (4, 6):
        recorded = FrameAck(source="camera", seq=seq, status="accepted", age_s=0.1, queue_depth=0)
        queue.put(frame(seq, recorded_ack=recorded, is_counted=True))
    queue.put(frame(8))
    again = queue.take_chunk(6, 60.0, 0.0)
    assert [one.seq for one in again] == [4, 6]
    for one in (*again, *queue.take_chunk(6, 0.0, 0.0)):
        queue.accept(one)
    acks, totals = queue.take_acks()
    assert [ack.seq for ack in acks] == [8]
    assert (totals.sent, totals.accepted, totals.waiting) == (10, 8, 0)


def test_chunks_of_two_cameras_that_an_earlier_run_began_stay_apart() -> None:
    queue = FrameQueue(time.time)
    for source, seq in (("left", 1), ("left", 2), ("right", 7), ("left", 3)):
        ack = FrameAck(source=source, seq=seq, status="accepted", age_s=0.0, queue_depth=0)
        queue.put(replace(frame(seq), source=source, recorded_ack=ack, is_counted=True))
    chunks = [[one.key for one in queue.take_chunk(6, 1.0, 0.0)] for _ in range(3)]
    assert chunks == [[("left", 1), ("left", 2)], [("right", 7)], [("left", 3)]]


@pytest.mark.parametrize("seq", [-1, 1 << 53, 10**30])
def test_a_number_out_of_range_is_not_readable(seq: int) -> None:
    """A holder of the session's credentials may send anything; no index of frames has room for these."""
    with pytest.raises(ValueError, match="number"):
        read_frame({"Frame-Seq": str(seq)}, b"", sequence=1, arrived_at_s=1e9)


def test_the_newest_ready_frame_is_taken_first() -> None:
    queue = FrameQueue(lambda: 2.0)
    for seq in range(5):
        queue.put(frame(seq))
    taken = queue.take(0.0, lambda frame: frame.seq <= 2)
    assert taken is not None
    assert taken.seq == 2
    assert [(ack.seq, ack.reason) for ack in queue.take_acks()[0]] == [(0, "superseded"), (1, "superseded")]
    assert queue.totals.waiting == 3


def test_a_frame_counted_by_an_earlier_run_is_repeated_but_not_counted_again() -> None:
    queue = FrameQueue(lambda: 2.0, totals=FrameTotals(sent=9, accepted=7, dropped=2))
    recorded = FrameAck(source="camera", seq=4, status="accepted", age_s=0.1, queue_depth=0, steps=3)
    queue.put(frame(4, recorded_ack=recorded, is_counted=True))
    queue.put(frame(5))
    first, second = (queue.take(0.0, lambda _: True) for _ in range(2))
    assert first is not None
    assert second is not None
    assert (first.seq, second.seq) == (4, 5)
    queue.accept(first)
    queue.accept(second)
    acks, totals = queue.take_acks()
    assert [ack.seq for ack in acks] == [5]
    assert (totals.sent, totals.accepted, totals.dropped, totals.waiting) == (10, 8, 2, 0)


@given(st.data())
def test_a_recording_returns_accepted_frames_in_order_and_unacknowledged_frames(data: st.DataObject) -> None:
    """Record frames, some with repeated numbers, and acknowledgements in any order, up to a kill."""
    seqs = data.draw(st.lists(st.integers(0, 8), max_size=20))
    first = {seq: index for index, seq in reversed(list(enumerate(seqs)))}
    repeats = Counter(seqs) - Counter(first.keys())
    statuses = [
        (seq, data.draw(st.sampled_from(["accepted", "dropped"]))) for seq in data.draw(st.permutations(list(first)))
    ]
    statuses += [(seq, "repeated") for seq in repeats.elements()]
    statuses = statuses[: data.draw(st.integers(0, len(statuses)))]
    done = frozenset(data.draw(st.sets(st.sampled_from(sorted(first)))) if first else set())
    recording = RecordedSession(tuple(("camera", seq) for seq in done))
    for index, seq in enumerate(seqs):
        if not (seq in done and first[seq] == index):  # the telemetry of a finished frame may be read once more
            recording.add_frame(frame(seq, index + 1))
    for number, (seq, status) in enumerate(statuses):
        reason = "repeated" if status == "repeated" else "superseded" if status == "dropped" else None
        ack = FrameAck(
            source="camera",
            seq=seq,
            status="dropped" if status == "repeated" else status,
            reason=reason,
            age_s=0.0,
            queue_depth=0,
        )
        recording.add_acks(SessionFrameAcked(run_id="r", acks=[ack], totals=FrameTotals()), 100 + number)
    acknowledged = {seq for seq, status in statuses if status != "repeated"}
    again = [step.seq for step in recording.steps if step is not None]
    assert again == [seq for seq, status in statuses if status == "accepted" and seq not in done]
    remaining = Counter(frame.seq for frame in recording.unacknowledged)
    reported = Counter(seq for seq, status in statuses if status == "repeated")
    assert remaining == Counter(set(first) - acknowledged - done) + (repeats - reported)


def test_the_frames_of_hours_without_a_worker_do_not_fill_its_memory() -> None:
    recording = RecordedSession()
    for seq in range(3000):
        recording.add_frame(frame(seq, seq + 1))
    kept = [one.seq for one in recording.unacknowledged if one.image]
    assert len(recording.unacknowledged) == 3000, "each of them gets its verdict"
    assert kept == list(range(3000 - 1024, 3000))


def test_a_frame_that_is_not_ready_is_no_reason_to_return_early() -> None:
    queue = FrameQueue(lambda: 2.0)
    queue.put(frame(1))
    began_s = time.monotonic()
    assert queue.take(0.2, lambda _: False) is None
    assert time.monotonic() - began_s >= 0.19, "a loop around it would use a whole core"


def test_a_frame_without_a_number_is_invalid() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        read_frame({"Frame-Captured-At": "1.0"}, b"image", sequence=1, arrived_at_s=1.0)
