"""An envelope parses its data once, and only its own."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from contracts.events.base import decode, encode
from contracts.events.job import JobStageCompleted

MESSAGE = encode(
    JobStageCompleted(attempt=1, run_id="run_1", stage="align", duration_s=2.5),
    tenant="local", subject_id="job_1", source="/test",
)  # fmt: skip


def test_data_is_parsed_once():
    envelope = decode(MESSAGE.body)
    parsed = envelope.parsed()
    assert isinstance(parsed, JobStageCompleted)
    assert envelope.parsed() is parsed


def test_a_copy_with_other_data_has_its_own():
    envelope = decode(MESSAGE.body)
    envelope.parsed()
    copy = envelope.model_copy(update={"data": {**envelope.data, "stage": "train"}})
    assert copy.parsed() == JobStageCompleted(attempt=1, run_id="run_1", stage="train", duration_s=2.5)
    with pytest.raises(ValidationError):
        envelope.model_copy(update={"data": {}}).parsed()


def test_parsing_changes_neither_the_envelope_nor_its_text():
    parsed, unparsed = decode(MESSAGE.body), decode(MESSAGE.body)
    parsed.parsed()
    assert parsed == unparsed
    assert parsed.model_dump() == unparsed.model_dump()
    assert parsed.model_dump_json(exclude_none=True).encode() == MESSAGE.body
    assert repr(parsed) == repr(unparsed)
