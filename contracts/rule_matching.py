"""Uploads that a rule applies to, their groups' values and order, and the inputs that they fill. Pure.

The dispatcher submits jobs by these functions, and the gateway's dry run shows what they would submit.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Final, TypeVar

from contracts.events.rule import MAXIMUM_GROUP, METADATA_FIELD, RuleGroup, RuleMatch
from contracts.events.upload import UploadCompleted, UploadCreated
from contracts.workload import Input, Workload

T = TypeVar("T")

#: Longest time that a group waits for further uploads; below ``needs`` or ``minimum`` no job is made of it then.
OPEN_GROUP_S: Final = 7 * 86_400.0

_NUMBER: Final = re.compile(r"(\d+)")

#: Key by which uploads of a group are ordered.
OrderKey = tuple[list[tuple[int, int, str]], datetime]


def matches(match: RuleMatch, created: UploadCreated, completed: UploadCompleted) -> bool:
    """Return whether an upload fulfils every part of a rule's condition."""
    size = completed.size_bytes
    return (
        match.media in (None, completed.media.media)
        and (match.filename is None or _fits(created.filename, match.filename))
        and (match.minimum_bytes is None or size >= match.minimum_bytes)
        and (match.maximum_bytes is None or size <= match.maximum_bytes)
        and all(
            name in created.metadata and _fits(created.metadata[name], pattern)
            for name, pattern in match.metadata.items()
        )
    )


def group_value(group: RuleGroup, created: UploadCreated) -> str | None:
    """Return the value by which an upload is grouped, empty for a rule that makes one group of all its uploads.

    None: the upload lacks the metadata, so that it belongs to no group.
    """
    if group.by is None:
        return ""
    return created.metadata.get(group.by.removeprefix(METADATA_FIELD))


def order_key(group: RuleGroup, created: UploadCreated, completed_at: datetime) -> OrderKey:
    """Return the key that orders the uploads of a group; of uploads with equal keys, the one completed first is first.

    Numbers in a text compare as numbers: ``lap_9.mp4`` is before ``lap_10.mp4``.
    """
    if group.order == "completed_at":
        text = ""
    elif group.order == "filename":
        text = created.filename
    else:
        text = created.metadata.get(group.order.removeprefix(METADATA_FIELD), "")
    parts = [part for part in _NUMBER.split(text) if part]
    # Numbers are before text.
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part.casefold()) for part in parts], completed_at


def filled_inputs(names: Sequence[str], workload: Workload) -> list[Input]:
    """Return the inputs that a rule's uploads fill: those it names, else the required ones, else the first.

    Raises:
        KeyError: the workload has no input with this name.
    """
    declared = {declaration.name: declaration for declaration in workload.inputs}
    if names:
        return [declared[name] for name in names]
    return [declaration for declaration in workload.inputs if declaration.minimum > 0] or list(workload.inputs[:1])


def capacity(inputs: Sequence[Input]) -> int:
    """Return the largest number of uploads that fill these inputs; a quiet group with as many is complete."""
    return min(MAXIMUM_GROUP, len(inputs) - 1 + inputs[-1].maximum)


def assign(uploads: Sequence[T], inputs: Sequence[Input]) -> dict[str, list[T]]:
    """Assign uploads to inputs, in order: one to each, and all the rest to the last input."""
    last = len(inputs) - 1
    assigned = {
        declared.name: list(uploads[index:] if index == last else uploads[index : index + 1])
        for index, declared in enumerate(inputs)
    }
    return {name: given for name, given in assigned.items() if given}


def _fits(text: str, pattern: str) -> bool:
    """Return whether a shell pattern fits a whole text, without regard to case, and alike on every system."""
    return fnmatchcase(text.casefold(), pattern.casefold())
