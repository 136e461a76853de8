"""Subjects and rights of sandboxes: none of them is that of an event, or of another sandbox."""

from __future__ import annotations

import pytest

from contracts.ids import new_id
from contracts.sandbox import WRITER_SUBJECTS, copies_in, copies_of, copy_subject, delivery_subject, reader_grant
from contracts.streams import REPLAYS, STREAMS

EVENT = f"saccade.evt.acme.job.{new_id('job')}.failed"


def test_a_copy_has_the_events_subject_below_that_of_its_replay() -> None:
    subject = copy_subject("staging", "rpl_1", EVENT)
    assert subject == f"saccade.rpl.staging.rpl_1.{EVENT.removeprefix('saccade.evt.')}"
    assert subject.startswith(copies_of("staging", "rpl_1")[:-1])
    assert subject.startswith(copies_in("staging")[:-1])


@pytest.mark.parametrize("name", ["", "*", ">", "a.b", "Staging", "1st", "a" * 33, "a b", "saccade.evt"])
def test_a_name_that_is_none_has_no_subject_and_no_rights(name: str) -> None:
    for make in (copies_in, delivery_subject, reader_grant):
        with pytest.raises(ValueError, match="not a sandbox's name"):
            make(name)
    with pytest.raises(ValueError, match="not a sandbox's name"):
        copy_subject(name, "rpl_1", EVENT)


@pytest.mark.parametrize("subject", ["saccade.rpl.a.b.c", "live.saccade.evt.a", "saccade.ops.a.b.c.d", ">"])
def test_only_events_are_copied(subject: str) -> None:
    with pytest.raises(ValueError, match="not the subject of an event"):
        copy_subject("staging", "rpl_1", subject)


def test_a_reader_publishes_nothing_that_is_answered() -> None:
    grant = reader_grant("staging")
    assert grant.publish == ("$JS.FC.REPLAYS.sandbox-staging.>",)
    assert grant.subscribe == ("saccade.sandbox.staging",)
    assert not grant.allow_responses


def test_the_writer_and_the_stream_have_no_subject_of_another_stream() -> None:
    others = {subject for stream in STREAMS if stream is not REPLAYS for subject in stream.subjects}
    assert not others & {*REPLAYS.subjects, *WRITER_SUBJECTS}
    assert REPLAYS.republish is None
