"""JSON request bodies: text that is Unicode, numbers that are numbers, whatever a client nests."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from pydantic import Field, ValidationError

from contracts.errors import ErrorCode, SaccadeError
from kit.http.request_body import RequestBody, check_text, parse_body


class Body(RequestBody):
    """A body with one field of each kind."""

    text: str = ""
    count: int = Field(default=0, ge=0)
    share: float = 0.0
    on: bool = False
    anything: Any = None


@pytest.mark.parametrize(
    ("value", "pointer"),
    [
        ("\ud800", "#"),
        ({"a": ["x", "y\udfff"]}, "#/a/1"),
        ({"a": {"\ud83d": 1}}, "#/a/\ud83d"),
        ({"a/b": {"c~d": "\ud83d.\ude00"}}, "#/a~1b/c~0d"),
    ],
)
def test_half_a_surrogate_pair_is_named_by_its_place(value: Any, pointer: str) -> None:
    with pytest.raises(SaccadeError) as found:
        check_text(value)
    assert found.value.code is ErrorCode.INVALID_PARAMETER
    assert [one["pointer"] for one in found.value.extra["errors"]] == [pointer]


def test_whole_characters_are_text() -> None:
    check_text({"\x00": ["\ufffe\uffff\ufdd0", json.loads('"\\ud83d\\ude00"'), "é", 1, None, True]})


def test_what_a_client_nests_costs_no_more_than_its_length() -> None:
    value: Any = ["x"] * 50_000
    for _ in range(50_000):
        value = [value]
    start = time.process_time()
    check_text(value)
    assert time.process_time() - start < 5


@pytest.mark.parametrize("fields", [{"count": True}, {"count": "5"}, {"count": 1.5}, {"share": True}, {"share": "5"}])
@pytest.mark.parametrize("as_json", [True, False])
def test_true_and_text_are_no_numbers(fields: dict[str, Any], as_json: bool) -> None:
    with pytest.raises(ValidationError):
        Body.model_validate_json(json.dumps(fields)) if as_json else Body.model_validate(fields)


def test_five_is_an_integer_with_and_without_a_point() -> None:
    body = Body.model_validate({"count": 5.0, "share": 5, "anything": {"a": [1.0, 1.5, 1e300]}})
    assert (body.count, body.share) == (5, 5.0)
    assert json.dumps(body.anything) == '{"a": [1, 1.5, 1e+300]}'


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ("{", "malformed_request"),
        (b"\xff", "malformed_request"),
        ('{"count": -1}', "invalid_parameter"),
        ('{"text": "\\ud800"}', "invalid_parameter"),
        ("[" * 100_000, "malformed_request"),
    ],
)
def test_a_body_that_a_route_reads_by_itself(sent: str | bytes, code: str) -> None:
    with pytest.raises(SaccadeError) as found:
        parse_body(Body, sent)
    assert found.value.code == code
