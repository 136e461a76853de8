"""Answers by a JSON Schema: valid or none, and schemas that cannot be met are refused."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import pytest

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.session import SessionText
from modal_workers.vision_stream.answer_schema import check_answer_schema
from modal_workers.vision_stream.models.answers import structured_answer
from modal_workers.vision_stream.models.gemma.network import Gemma
from modal_workers.vision_stream.models.transformers_model import TransformersModel
from tests.harness.watching.chunks import chunk, never, said_to_nobody, watched
from tests.harness.watching.recomputation import RecordedGemma


def record(**properties: Any) -> dict[str, Any]:
    """Return the schema of an object with these properties, all required."""
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


SCENE = record(
    object={"enum": ["cube", "ball", "nothing"]},
    held={"type": "boolean"},
    count={"type": "integer", "minimum": 0, "maximum": 12},
    words={"type": "array", "items": {"type": "string", "minLength": 1, "maxLength": 6}, "maxItems": 2},
    where={"anyOf": [{"type": "null"}, record(x={"type": "integer", "minimum": 0, "maximum": 99})]},
)
#: Every keyword that is accepted at the gateway, in schemas that have a value.
ACCEPTED = [
    SCENE,
    record(a={"const": 'ö\n"x"'}, b={"type": "null"}, c={"type": "number"}),
    {"type": "object", "properties": {"a": {"type": "string"}}, "title": "T", "description": "D"},
    {"type": "object", "properties": {"a": {"type": "boolean"}}, "additionalProperties": True, "required": ["a"]},
    record(
        a={"type": "array", "items": {"type": "integer", "minimum": -3, "maximum": 3}, "minItems": 1, "maxItems": 3}
    ),
]


#: Those whose values have a longest one, which is shorter than the answer may be.
BOUNDED = [SCENE, ACCEPTED[-1]]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("schema", ACCEPTED, ids=["scene", "const", "unbounded", "additional", "array"])
def test_an_answer_is_valid_or_there_is_none(
    model: TransformersModel, schema: dict[str, Any], temperature: float
) -> None:
    check_answer_schema(schema)
    session = model.open_session("cache")
    complete = 0
    for number in range(2):
        answer = watched(session, number, answer_schema=schema, max_new_tokens=80, temperature=temperature, seed=number)
        if answer.finish_reason == "complete":
            complete += 1
            assert answer.answer == json.loads(answer.text)
            jsonschema_rs.validate(schema, answer.answer)
        else:
            assert answer.finish_reason == "length"
            assert answer.answer is None
    if schema in BOUNDED:
        assert complete == 2, "there is nothing without end that it could have written"


def test_one_that_was_cut_off_has_no_answer(model: TransformersModel) -> None:
    answer = watched(model.open_session("cache"), 1, answer_schema=SCENE, max_new_tokens=4)
    assert (answer.finish_reason, answer.answer, answer.tokens) == ("length", None, 4)
    assert answer.text.startswith("{")


def test_a_cancelled_one_has_no_answer(model: TransformersModel) -> None:
    parts: list[str] = []
    answer = model.open_session("cache").watch(
        chunk(1, answer_schema=SCENE, max_new_tokens=90), parts.append, lambda: len(parts) >= 2
    )
    assert (answer.finish_reason, answer.answer) == ("cancelled", None)


def test_an_answer_by_schema_leaves_the_conversation_usable(model: TransformersModel) -> None:
    session = model.open_session("cache")
    structured = watched(session, 1, answer_schema=SCENE, max_new_tokens=90)
    free = watched(session, 2, max_new_tokens=6)
    assert free.cached_tokens == structured.prompt_tokens + structured.tokens - 1
    assert free.answer is None


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        (record(a={"type": "integer", "minimum": 1.2, "maximum": 1.8}), "unsatisfiable"),
        (record(a={"type": "string", "enum": [1, 2]}), "unsatisfiable"),
        (record(a={"not": {"type": "string"}}), "not"),
        (record(a={"type": "array", "items": {"type": "string"}, "uniqueItems": True}), "uniqueItems"),
    ],
)
def test_a_schema_that_cannot_be_met_is_refused_before_anything_is_computed(
    model: TransformersModel, schema: dict[str, Any], reason: str
) -> None:
    session = model.open_session("cache")
    with pytest.raises(SaccadeError) as error:
        session.watch(chunk(1, answer_schema=schema), said_to_nobody, never)
    assert error.value.code is ErrorCode.ANSWER_SCHEMA_INVALID
    assert reason in error.value.message
    assert watched(session, 2).cached_tokens == 0, "nothing was read"


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "object", "properties": 5, "required": ["a"]}, "#/properties: is not an object"),
        ({"type": "object", "properties": None, "required": ["a"]}, "#/properties: is not an object"),
        (record(a={"type": "string", "maxLength": 1.5}), "#/properties/a/maxLength: must be a whole number"),
        (record(a={"type": "string", "minLength": -1}), "#/properties/a/minLength: must be a whole number"),
    ],
)
def test_a_schema_that_is_none_is_refused_with_its_place(schema: dict[str, Any], reason: str) -> None:
    with pytest.raises(SaccadeError, match=reason) as error:
        check_answer_schema(schema)
    assert error.value.code is ErrorCode.ANSWER_SCHEMA_INVALID


def test_half_a_surrogate_pair_in_an_answer_can_be_stored() -> None:
    """A model may write one as an escape: it is valid JSON, and no UTF-8."""
    asked = chunk(1, answer_schema=record(a={"type": "string"}))
    answer = structured_answer(asked, '{"a": "ö \\ud83d\\ude00 \\ud800"}', "complete")
    assert answer == {"a": "ö \N{GRINNING FACE} ?"}
    assert SessionText(run_id="run", chunk=1, text="", answer=answer).model_dump_json()


def test_the_schema_is_told_to_the_model(gemma: Gemma) -> None:
    recorded = RecordedGemma(gemma)
    session = TransformersModel("random", recorded).open_session("cache")
    watched(session, 1, answer_schema=record(a={"type": "boolean"}), max_new_tokens=20)
    prompt = gemma.words.tokenizer.decode(recorded.reading.tokens)
    assert 'What?\nAnswer as JSON by this schema: {"type":"object","properties":{"a":{"type":"boolean"}}' in prompt
