"""Errors of validation as one SaccadeError, each with a pointer to its value. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from contracts.errors import ErrorCode, SaccadeError

ROUTE_HINT: Final = "See /docs for what this route takes."


def pointer(parts: Iterable[object]) -> str:
    """Return a JSON pointer as a URI fragment: ``#/params/laps/0``."""
    return "#" + "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def invalid_values(
    errors: Sequence[Mapping[str, Any]],
    code: ErrorCode = ErrorCode.INVALID_PARAMETER,
    at: Sequence[str] = (),
    *,
    given: object = None,
    hint: str = ROUTE_HINT,
) -> SaccadeError:
    """Return pydantic's errors as one SaccadeError, each with a pointer; ``at`` is the model's place in the body.

    ``given`` is the validated value: without it pointers contain branches of unions, which clients do not know.
    """
    fields: list[dict[str, Any]] = []
    mistyped: list[dict[str, Any]] = []
    for error in errors:
        loc = error["loc"] if given is None else _place(error["loc"], given, missing=error["type"] == "missing")
        found = {"detail": sentence(error), "pointer": pointer((*at, *loc))}
        (mistyped if error["type"].endswith("_type") else fields).append(found)
    # Of a union's branches, the one with the right type is more helpful than those with a wrong one.
    pointers = [field["pointer"] for field in fields]
    fields += [field for field in mistyped if not any(place.startswith(field["pointer"]) for place in pointers)]
    if all(error["type"] == "extra_forbidden" for error in errors):
        code = ErrorCode.UNKNOWN_PARAMETER
    first = fields[0]
    message = f"{first['pointer'][1:].lstrip('/') or 'body'}: {first['detail']}."
    return SaccadeError(code, message, hint=hint, errors=fields)


def _place(loc: Sequence[object], given: object, *, missing: bool) -> list[object]:
    """Return an error's location in the value that was sent, without the branches of unions."""
    kept: list[object] = []
    for part in loc:
        if isinstance(given, Mapping) and part in given:
            given = given[part]
        elif isinstance(given, Sequence) and not isinstance(given, str) and isinstance(part, int):
            given = given[part] if part < len(given) else None
        elif not (missing and part is loc[-1]):
            continue
        kept.append(part)
    return kept


def sentence(error: Mapping[str, Any]) -> str:
    """Return what is wrong with a value, by pydantic's error."""
    if error["type"] == "extra_forbidden":
        return "there is no such field"
    return str(error["msg"]).removeprefix("Value error, ")
