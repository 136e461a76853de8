"""Operators' commands: each is asked and answered by its own models, and an answer is never taken for an error."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from contracts.commands import (
    ANSWER_PREFIXES,
    COMMANDS,
    Change,
    Command,
    CommandError,
    Drain,
    Recorded,
    RedriveDeadLetter,
    Status,
    command,
    read_answer,
)
from contracts.errors import ErrorCode
from contracts.ids import new_id

NAMES = [one.subject for one in COMMANDS]


@pytest.mark.parametrize("one", COMMANDS, ids=NAMES)
def test_a_change_needs_a_reason_and_answers_with_its_record(one: Command) -> None:
    fields = one.request.model_fields
    assert ("why" in fields) == ("record" in one.answer.model_fields) == ("request_id" in fields)
    assert issubclass(one.request, Change) == issubclass(one.answer, Recorded) or one.request is RedriveDeadLetter
    assert one.description.endswith(".")


@pytest.mark.parametrize("one", COMMANDS, ids=NAMES)
def test_no_answer_looks_like_an_error(one: Command) -> None:
    assert "code" not in one.answer.model_fields
    error = CommandError(code="not_found", message="No.", hint="Look.")
    read = read_answer(one, error.model_dump_json().encode())
    assert isinstance(read, CommandError)
    assert read.as_error().code is ErrorCode.NOT_FOUND


def test_subjects_are_one_each() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert all(name.startswith("saccade.cmd.dispatcher.") for name in NAMES)


@pytest.mark.parametrize("why", ["", "   ", "x" * 501])
def test_a_reason_is_text(why: str) -> None:
    with pytest.raises(ValidationError):
        Drain(why=why, request_id=new_id("req"))


def test_answers_of_newer_services_are_read_and_others_refused() -> None:
    status = command("dispatcher", "status")
    body = Status(drained=None, paused={}, running=1, waiting=2).model_dump_json()[:-1] + ',"more":1}'
    assert read_answer(status, body.encode()) == Status(drained=None, paused={}, running=1, waiting=2)
    for unreadable in (b"", b"[]", b'{"running":1}', b"\xff"):
        with pytest.raises(ValidationError):
            read_answer(status, unreadable)
    unknown = CommandError(code="of_the_future", message="a", hint="b").as_error()
    assert (unknown.code, unknown.message) == (ErrorCode.INTERNAL, "a")


def test_no_answer_goes_to_an_events_subject() -> None:
    assert not "saccade.evt.acme.job.x.failed".startswith(ANSWER_PREFIXES)
    assert "_INBOX_operator.x".startswith(ANSWER_PREFIXES)
