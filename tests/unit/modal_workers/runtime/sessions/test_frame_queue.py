"""Every frame gets one verdict, whatever order things come in; what a record gives back is what was not done."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import ErrorCode
from contracts.events.session import FrameTotals, SessionFrameAcked
from contracts.telemetry import FrameAck
from modal_workers.runtime.sessions.frame import Frame
from modal_workers.runtime.sessions.frame_queue import Inbox
from modal_workers.runtime.sessions.resume_position import Record


def frame(seq: int, sequence: int = 0, **more: object) -> Frame:
    return replace(Frame("camera", seq, 1.0, 1.0, 1.0, b"picture", sequence), **more)


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 12)),
        st.tuples(st.just("refused"), st.integers(0, 12)),
        st.tuples(st.just("take"), st.booleans()),
        st.tuples(st.just("drop"), st.none()),
    ),
    max_size=60,
)


@settings(deadline=None)
@given(ACTIONS)
def test_each_frame_has_one_verdict_and_all_add_up(actions: list[tuple[str, object]]) -> None:
    inbox = Inbox(lambda: 2.0, room=3)
    sent, acks = 0, []
    for action, value in actions:
        if action == "take":
            taken = inbox.take(0.0, lambda _: True)
            if taken is not None:
                inbox.accept(taken) if value else inbox.reject(taken, ErrorCode.FRAME_UNREADABLE)
        elif action == "drop":
            inbox.drop_waiting("reset")
        else:
            sent += 1
            inbox.put(frame(int(str(value)), sent, refused="frame_too_large" if action == "refused" else None))
        said, totals = inbox.verdicts()
        acks += said
        assert totals.sent == sent == totals.accepted + totals.dropped + totals.rejected + totals.waiting
        assert len(acks) == sent - totals.waiting
        assert totals.waiting <= 3
    counts = Counter(ack.status for ack in acks)
    assert (counts["accepted"], counts["dropped"], counts["rejected"]) == (
        inbox.totals.accepted,
        inbox.totals.dropped,
        inbox.totals.rejected,
    )
    seqs = Counter(ack.seq for ack in acks if ack.reason != "repeated")
    assert set(seqs.values()) <= {1}, "only a repeat of a number is judged beside the frame that has it"


def test_of_those_that_are_ready_the_newest_goes_first() -> None:
    inbox = Inbox(lambda: 2.0)
    for seq in range(5):
        inbox.put(frame(seq))
    taken = inbox.take(0.0, lambda one: one.seq <= 2)
    assert taken is not None
    assert taken.seq == 2
    assert [(ack.seq, ack.reason) for ack in inbox.verdicts()[0]] == [(0, "superseded"), (1, "superseded")]
    assert inbox.totals.waiting == 3


def test_what_an_earlier_run_has_counted_is_done_again_and_not_counted_again() -> None:
    inbox = Inbox(lambda: 2.0, totals=FrameTotals(sent=9, accepted=7, dropped=2))
    told = FrameAck(source="camera", seq=4, status="accepted", age_s=0.1, queue_depth=0, steps=3)
    inbox.put(frame(4, recorded=told, counted=True))
    inbox.put(frame(5))
    first, second = (inbox.take(0.0, lambda _: True) for _ in range(2))
    assert first is not None
    assert second is not None
    assert (first.seq, second.seq) == (4, 5)
    inbox.accept(first)
    inbox.accept(second)
    acks, totals = inbox.verdicts()
    assert [ack.seq for ack in acks] == [5]
    assert (totals.sent, totals.accepted, totals.dropped, totals.waiting) == (10, 8, 2, 0)


@settings(deadline=None)
@given(st.data())
def test_a_record_gives_back_what_was_accepted_in_its_order_and_what_nobody_judged(data: st.DataObject) -> None:
    """Frames come, some under numbers that are taken; verdicts come later, in any order, up to a kill."""
    seqs = data.draw(st.lists(st.integers(0, 8), max_size=20))
    first = {seq: place for place, seq in reversed(list(enumerate(seqs)))}
    repeats = Counter(seqs) - Counter(first.keys())
    verdicts = [
        (seq, data.draw(st.sampled_from(["accepted", "dropped"]))) for seq in data.draw(st.permutations(list(first)))
    ]
    verdicts += [(seq, "repeated") for seq in repeats.elements()]
    verdicts = verdicts[: data.draw(st.integers(0, len(verdicts)))]
    done = frozenset(data.draw(st.sets(st.sampled_from(sorted(first)))) if first else set())
    record = Record(tuple(("camera", seq) for seq in done))
    for place, seq in enumerate(seqs):
        if not (seq in done and first[seq] == place):  # the telemetry of what is done may be read again, once
            record.frame(frame(seq, place + 1))
    for number, (seq, status) in enumerate(verdicts):
        reason = "repeated" if status == "repeated" else "superseded" if status == "dropped" else None
        ack = FrameAck(
            source="camera",
            seq=seq,
            status="dropped" if status == "repeated" else status,
            reason=reason,
            age_s=0.0,
            queue_depth=0,
        )
        record.acked(SessionFrameAcked(run_id="r", acks=[ack], totals=FrameTotals()), 100 + number)
    judged = {seq for seq, status in verdicts if status != "repeated"}
    again = [step.seq for step in record.steps if step is not None]
    assert again == [seq for seq, status in verdicts if status == "accepted" and seq not in done]
    left = Counter(one.seq for one in record.unjudged)
    told = Counter(seq for seq, status in verdicts if status == "repeated")
    assert left == Counter(set(first) - judged - done) + (repeats - told)
