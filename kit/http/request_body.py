r"""Base class of JSON request bodies: text must be Unicode, and a number is neither true nor "5".

Python's parser reads half of a surrogate pair (``"\ud800"``) as text, which UTF-8 cannot encode: it would fail only
where the text is stored. And pydantic would read ``true`` as 1 and ``"5"`` as 5, which JSON Schema does not.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from contracts.errors import ErrorCode, SaccadeError
from contracts.invalid_values import invalid_values, pointer

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
#: Larger floats are not exact integers.
_EXACT: Final = 1 << 53
_HINT: Final = 'Send whole characters: one above U+FFFF is two escapes in JSON, as in "\\ud83d\\ude00".'

Model = TypeVar("Model", bound=BaseModel)


class RequestBody(BaseModel):
    """Base class of a JSON request body; unknown fields are rejected."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _as_json_schema_reads_it(cls, value: Any) -> Any:
        for found in _walk(value):
            found.check_text()
            found.replace_by_integer()
        return value


def check_text(value: object) -> None:
    """Reject half a surrogate pair anywhere in a parsed JSON value, names of fields included.

    Raises:
        SaccadeError: INVALID_PARAMETER, with a pointer to the text.
    """
    for found in _walk(value):
        found.check_text()


@dataclass(frozen=True, slots=True)
class _Found:
    """One value in a parsed JSON value, with its key in its container."""

    value: Any
    parent: _Found | None = None
    key: object = None

    def place(self) -> list[object]:
        """Return the keys from the whole value to this one."""
        keys: list[object] = []
        found: _Found | None = self
        while found is not None and found.parent is not None:
            keys.append(found.key)
            found = found.parent
        return keys[::-1]

    def check_text(self) -> None:
        """Reject half a surrogate pair in the value and its key."""
        for text in (self.value, self.key):
            if isinstance(text, str) and _SURROGATE.search(text):
                raise _not_unicode(self.place())

    def replace_by_integer(self) -> None:
        """Replace ``5.0`` by ``5`` in the container: JSON Schema counts both as one integer."""
        number = self.value
        if isinstance(number, float) and number.is_integer() and abs(number) < _EXACT and self.parent is not None:
            self.parent.value[self.key] = int(number)


def _walk(value: object) -> Iterator[_Found]:
    # Not recursive, and without a path for each value: a client chooses the depth.
    pending = [_Found(value)]
    while pending:
        found = pending.pop()
        yield found
        if isinstance(found.value, dict):
            pending += [_Found(inner, found, name) for name, inner in found.value.items()]
        elif isinstance(found.value, list):
            pending += [_Found(inner, found, index) for index, inner in enumerate(found.value)]


def parse_body(
    model: type[Model], body: bytes | str, code: ErrorCode = ErrorCode.INVALID_PARAMETER, **more: Any
) -> Model:
    """Parse a body that a route reads by itself; ``more`` goes to ``invalid_values``.

    Raises:
        SaccadeError: MALFORMED_REQUEST, if it is not JSON; INVALID_PARAMETER, for text that is not Unicode; ``code``.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False)
        if all(fault["type"] != "json_invalid" for fault in errors):
            raise invalid_values(errors, code, **more) from None
    with contextlib.suppress(ValueError, RecursionError):
        # Pydantic's parser also rejects half a surrogate pair.
        check_text(json.loads(body))
    raise SaccadeError(ErrorCode.MALFORMED_REQUEST, "The body is not valid JSON.")


def _not_unicode(place: Sequence[object]) -> SaccadeError:
    message = "the text is not Unicode: it holds half of a surrogate pair"
    where = pointer(place)
    return SaccadeError(
        ErrorCode.INVALID_PARAMETER,
        f"{where[1:].lstrip('/') or 'body'}: {message}.",
        hint=_HINT,
        errors=[{"detail": message, "pointer": where}],
    )
