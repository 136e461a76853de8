"""Difference of two JSON objects, field by field. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from services.gateway.time_machine.schemas import ChangedField

#: Fields that say what an answer is about, not what was.
_NOT_COMPARED: Final = frozenset({"as_of", "cursor", "links"})


def changed_fields(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> list[ChangedField]:
    """Return the fields that differ, in the order of ``after``; without ``before`` all that have a value."""
    found: list[ChangedField] = []
    _compare_members("", _compared(before or {}), _compared(after), found)
    return found


def _compared(value: Mapping[str, Any]) -> dict[str, Any]:
    return {name: member for name, member in value.items() if name not in _NOT_COMPARED}


def _compare_members(pointer: str, before: dict[str, Any], after: dict[str, Any], found: list[ChangedField]) -> None:
    for name in dict.fromkeys((*after, *before)):
        where = f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}"
        _compare(where, before.get(name), after.get(name), found)


def _compare(pointer: str, before: Any, after: Any, found: list[ChangedField]) -> None:
    if before == after:
        return
    first, second = _members(before), _members(after)
    if first is None or second is None:
        found.append(ChangedField(pointer=pointer, before=before, after=after))
    else:
        _compare_members(pointer, first, second, found)


def _members(value: Any) -> dict[str, Any] | None:
    """Return the members of an object or a list; None of any other value, and of an empty one."""
    if isinstance(value, Mapping):
        return dict(value) or None
    if isinstance(value, list):
        return {str(index): member for index, member in enumerate(value)} or None
    return None
