"""Filters of subjects, as nats-server matches them: ``*`` for one token, ``>`` for the rest."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Final

#: Tokens of the subject of an event, and the positions of its noun, id and verb.
_EVENT_TOKENS: Final = 6
_NOUN: Final = 3
_ID: Final = 4
_VERB: Final = 5


def matches(pattern: str, subject: str) -> bool:
    """Return whether a subject matches a filter."""
    if pattern == ">":
        return True
    parts = subject.split(".")
    wanted = pattern.split(".")
    for number, part in enumerate(wanted):
        if part == ">":
            return len(parts) > number
        if number >= len(parts) or part not in ("*", parts[number]):
            return False
    return len(parts) == len(wanted)


def matches_any(patterns: Sequence[str], subject: str) -> bool:
    """Return whether a subject matches one of several filters."""
    return any(matches(pattern, subject) for pattern in patterns)


def covering(patterns: Sequence[str]) -> str:
    """Return one filter that matches at least what the others match: a request takes one."""
    joined, *others = (pattern.split(".") for pattern in patterns)
    for other in others:
        paired = [own if own == its else "*" for own, its in zip(joined, other, strict=False)]
        # Where one of two filters matches several lengths, both match what begins alike up to there.
        ends = [number for number, pair in enumerate(zip(joined, other, strict=False)) if ">" in pair]
        if not ends and len(joined) != len(other):
            ends = [len(paired) - 1]
        joined = [*paired[: ends[0]], ">"] if ends else paired
    return ".".join(joined)


def covers(pattern: str, other: str) -> bool:
    """Return whether a filter matches everything that another one matches."""
    parts, others = pattern.split("."), other.split(".")
    for number, part in enumerate(parts):
        if part == ">":
            return len(others) > number
        if number >= len(others) or others[number] == ">" or part not in ("*", others[number]):
            return False
    return len(parts) == len(others)


def without_covered(patterns: Sequence[str]) -> list[str]:
    """Return the filters without those that another one of them covers: nats-server refuses filters that overlap."""
    kept: list[str] = []
    for pattern in dict.fromkeys(patterns):
        if any(covers(other, pattern) for other in kept):
            continue
        kept = [*(other for other in kept if not covers(pattern, other)), pattern]
    return kept


def overlap(pattern: str, other: str) -> bool:
    """Return whether a subject can match both filters."""
    parts, others = pattern.split("."), other.split(".")
    for own, its in zip(parts, others, strict=False):
        if ">" in (own, its):
            return True
        if "*" not in (own, its) and own != its:
            return False
    return len(parts) == len(others)


def type_in(pattern: str) -> str | None:
    """Return the one type of event that a filter matches; None if it matches several."""
    parts = pattern.split(".")
    if len(parts) != _EVENT_TOKENS or {parts[_NOUN], parts[_VERB]} & {"*", ">"}:
        return None
    return f"{parts[_NOUN]}.{parts[_VERB]}"


def narrowed(pattern: str, type_name: str) -> list[str]:
    """Return the filter of a type's events among those of a filter: one, or none if it cannot match any."""
    noun, _, verb = type_name.partition(".")
    parts = ["saccade", "evt", "*", noun, "*", verb]
    wanted = pattern.split(".")
    if wanted[-1] == ">":
        wanted = [*wanted[:-1], *["*"] * (len(parts) - len(wanted) + 1)]
    if len(wanted) != len(parts):
        return []
    joined: list[str] = []
    for own, other in zip(parts, wanted, strict=True):
        if "*" not in (own, other) and own != other:
            return []
        joined.append(other if own == "*" else own)
    return [".".join(joined)]


def subject_id_in(pattern: str) -> str | None:
    """Return the one id whose events a filter matches; None if it matches those of several."""
    parts = pattern.split(".")
    return parts[_ID] if len(parts) > _ID and parts[_ID] not in ("*", ">") and ">" not in parts[:_ID] else None


def needles_of(pattern: str) -> list[bytes]:
    """Return the byte strings that every matching event's line contains: the filter's parts between wildcards."""
    runs = [".".join(run) for is_literal, run in _literal_runs(pattern) if is_literal]
    return [json.dumps(run)[1:-1].encode() for run in runs]


class SubjectFilter:
    """Several filters as one. Filters that name an id, as of the jobs of a page, are looked up by it."""

    def __init__(self, patterns: Sequence[str]) -> None:
        """Prepare the filters."""
        self.patterns = tuple(patterns)
        by_id: dict[str, list[str]] = {}
        for pattern in patterns:
            by_id.setdefault(subject_id_in(pattern) or "", []).append(pattern)
        #: The filters of each id; None if one of the filters matches the events of several.
        self.by_id = None if "" in by_id else by_id

    def matches(self, subject: str) -> bool:
        """Return whether a subject matches one of the filters."""
        if self.by_id is None:
            return matches_any(self.patterns, subject)
        parts = subject.split(".", _ID + 1)
        return len(parts) > _ID and matches_any(self.by_id.get(parts[_ID], ()), subject)

    def line_test(self) -> Callable[[bytes], bool] | None:
        """Return a test that the archive's line of every matching event passes; None if every line may be of one."""
        followed = all(pattern.count(".") > _ID for pattern in self.patterns)
        if self.by_id is not None and followed and all(_is_plain(subject_id) for subject_id in self.by_id):
            ids = {subject_id.encode() for subject_id in self.by_id}
            return lambda line: _line_id(line) in ids
        needles = [needles_of(pattern) for pattern in self.patterns]
        if not all(needles):
            return None
        return lambda line: any(all(needle in line for needle in every) for every in needles)


def _is_plain(text: str) -> bool:
    """Return whether JSON writes a text as it is."""
    return text.isascii() and json.dumps(text) == f'"{text}"'


def _line_id(line: bytes) -> bytes:
    """Return the token of a line at which the id of its subject is; before the subject, a line has no dot."""
    parts = line.split(b".", _ID + 1)
    return parts[_ID] if len(parts) > _ID else b""


def _literal_runs(pattern: str) -> list[tuple[bool, list[str]]]:
    return [
        (is_literal, list(run))
        for is_literal, run in groupby(pattern.split("."), key=lambda part: part not in ("*", ">"))
    ]
