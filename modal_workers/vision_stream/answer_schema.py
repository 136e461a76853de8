"""JSON Schema of a structured answer: what is accepted before a model sees it."""

from __future__ import annotations

import json
from typing import Annotated, Any, Final

from pydantic import AfterValidator

from contracts.errors import ErrorCode, SaccadeError
from contracts.limits import ANSWER_SCHEMA_BYTES

#: Levels of objects and arrays in a schema.
_DEPTH: Final = 8
_TYPES: Final = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})
#: Keywords that every backend can enforce while it generates.
_KEYWORDS: Final = frozenset(
    {
        *("type", "properties", "required", "additionalProperties", "items", "minItems", "maxItems", "enum", "const"),
        *("minLength", "maxLength", "minimum", "maximum", "anyOf", "title", "description", "$schema"),
    }
)

_COUNTS: Final = frozenset({"minItems", "maxItems", "minLength", "maxLength"})


def check_answer_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema if a text can be constrained to it.

    Raises:
        SaccadeError: ANSWER_SCHEMA_INVALID, with the place and the reason.
    """
    try:
        encoded = json.dumps(schema, allow_nan=False)
    except (ValueError, RecursionError):
        raise SaccadeError(ErrorCode.ANSWER_SCHEMA_INVALID, "The schema is not JSON.") from None
    if len(encoded) > ANSWER_SCHEMA_BYTES:
        raise SaccadeError(
            ErrorCode.ANSWER_SCHEMA_INVALID, f"The schema has {len(encoded)} bytes; at most {ANSWER_SCHEMA_BYTES}."
        )
    if schema.get("type") != "object":
        raise SaccadeError(ErrorCode.ANSWER_SCHEMA_INVALID, "#/type: the answer must be an object.")
    _check(schema, "#", _DEPTH)
    return schema


def _check(schema: Any, at: str, depth: int) -> None:
    if not isinstance(schema, dict):
        raise _invalid(at, "is not an object")
    if depth == 0:
        raise _invalid(at, f"is nested more than {_DEPTH} levels deep")
    if unknown := sorted(set(schema) - _KEYWORDS):
        raise _invalid(at, f"{unknown[0]!r} is not supported; there are: {', '.join(sorted(_KEYWORDS))}")
    _check_type(schema, at)
    properties = schema.get("properties", {})
    if not isinstance(properties, dict):
        raise _invalid(f"{at}/properties", "is not an object")
    _check_satisfiable(schema, at)
    for name, property_schema in properties.items():
        _check(property_schema, f"{at}/properties/{name}", depth - 1)
    if "items" in schema:
        _check(schema["items"], f"{at}/items", depth - 1)
    for number, choice in enumerate(schema.get("anyOf", ())):
        _check(choice, f"{at}/anyOf/{number}", depth - 1)


def _check_type(schema: dict[str, Any], at: str) -> None:
    if not {"type", "enum", "const", "anyOf"} & set(schema):
        raise _invalid(at, "has neither type, enum, const nor anyOf")
    if "type" in schema and (not isinstance(schema["type"], str) or schema["type"] not in _TYPES):
        raise _invalid(f"{at}/type", f"must be one of {', '.join(sorted(_TYPES))}")
    for name in ("enum", "anyOf"):
        if name in schema and not (isinstance(schema[name], list) and schema[name]):
            raise _invalid(f"{at}/{name}", "must be a list with at least one value")
    if schema.get("type") == "array" and "items" not in schema:
        raise _invalid(at, "is an array without items")
    if not isinstance(schema.get("additionalProperties", False), bool):
        raise _invalid(f"{at}/additionalProperties", "must be true or false")


def _check_satisfiable(schema: dict[str, Any], at: str) -> None:
    """Raise for limits that no value satisfies."""
    for low, high in (("minItems", "maxItems"), ("minLength", "maxLength"), ("minimum", "maximum")):
        for name in (low, high):
            if name in schema and (isinstance(schema[name], bool) or not isinstance(schema[name], int | float)):
                raise _invalid(f"{at}/{name}", "must be a number")
            if name in schema and name in _COUNTS and not (isinstance(schema[name], int) and schema[name] >= 0):
                raise _invalid(f"{at}/{name}", "must be a whole number, not below 0")
        if low in schema and high in schema and schema[low] > schema[high]:
            raise _invalid(at, f"cannot be satisfied: {low} is above {high}")
    required, properties = schema.get("required", []), schema.get("properties", {})
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        raise _invalid(f"{at}/required", "must be a list of names")
    if missing := [name for name in required if name not in properties]:
        raise _invalid(at, f"cannot be satisfied: {missing[0]!r} is required and is not one of the properties")


def _invalid(at: str, why: str) -> SaccadeError:
    return SaccadeError(ErrorCode.ANSWER_SCHEMA_INVALID, f"{at}: {why}.")


def _validate(schema: dict[str, Any]) -> dict[str, Any]:
    try:
        return check_answer_schema(schema)
    except SaccadeError as error:
        raise ValueError(error.message) from None


#: Parameter that is the schema of an answer.
AnswerSchema = Annotated[dict[str, Any], AfterValidator(_validate)]
