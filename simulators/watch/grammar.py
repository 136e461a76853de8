"""Sentences of statements, and statements of sentences: one table is read in both directions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from simulators.watch.names import COLOURS, LIGHT_COLOURS, SHAPES
from simulators.watch.statements import Statement, StatementKind, Thing

_GRIPPER: Final = Thing("gripper")
_OBJECT: Final = Thing("object")
_SHUTTLE: Final = Thing("shuttle")
_ROAD: Final = Thing("road")
_LIGHT: Final = Thing("light")
NOUNS: Final = (*SHAPES, "object", "gripper", "near player", "far player", "shuttle", "car", "light", "road")


@dataclass(frozen=True)
class _Form:
    """Texts of one predicate: ``{o}`` and ``{p}`` stand for things. Without ``{o}`` it is said of ``subject``.

    ``subject`` is what the clause names beside ``{o}``: it must be there as well.
    """

    predicate: str
    kind: StatementKind
    texts: tuple[str, ...]
    subject: Thing | None = None


_FORMS: Final = (
    _Form("left_of", "place", ("{o} is left of {p}", "{o} is to the left of {p}")),
    _Form("right_of", "place", ("{o} is right of {p}", "{o} is to the right of {p}")),
    _Form("in_front_of", "place", ("{o} is in front of {p}",)),
    _Form("behind", "place", ("{o} is behind {p}",)),
    _Form("at_left", "place", ("{o} is on the left",)),
    _Form("at_middle", "place", ("{o} is in the middle",)),
    _Form("at_right", "place", ("{o} is on the right",)),
    _Form("on_table", "place", ("{o} is on the table", "{o} lies on the table")),
    _Form("held", "place", ("the gripper holds {o}", "{o} is in the gripper", "the gripper is holding {o}"), _GRIPPER),
    _Form("empty", "place", ("the gripper holds nothing", "the gripper is empty"), _GRIPPER),
    _Form("none_left_of", "place", ("nothing is left of {p}",)),
    _Form("none_right_of", "place", ("nothing is right of {p}",)),
    _Form("none_in_front_of", "place", ("nothing is in front of {p}",)),
    _Form("none_behind", "place", ("nothing is behind {p}",)),
    _Form("moves_left", "motion", ("{o} moves to the left", "{o} moves left")),
    _Form("moves_right", "motion", ("{o} moves to the right", "{o} moves right")),
    _Form("moves_up", "motion", ("{o} moves up", "{o} rises")),
    _Form("moves_down", "motion", ("{o} moves down",)),
    _Form("still", "motion", ("{o} stands still", "{o} does not move")),
    _Form("nothing_moves", "motion", ("nothing moves",)),
    _Form("carries_left", "motion", ("the gripper carries {o} to the left",), _GRIPPER),
    _Form("carries_right", "motion", ("the gripper carries {o} to the right",), _GRIPPER),
    _Form("lifts", "motion", ("the gripper lifts {o}",), _GRIPPER),
    _Form("lowers", "motion", ("the gripper lowers {o}",), _GRIPPER),
    _Form("pushes_left", "motion", ("the gripper pushes {o} to the left",), _GRIPPER),
    _Form("pushes_right", "motion", ("the gripper pushes {o} to the right",), _GRIPPER),
    _Form("rolls_left", "motion", ("{o} rolls to the left",)),
    _Form("rolls_right", "motion", ("{o} rolls to the right",)),
    _Form("picks_up", "event", ("the gripper picks up {o}", "the gripper picked up {o}", "{o} is picked up"), _GRIPPER),
    _Form("puts_down", "event", ("the gripper puts down {o}", "the gripper put down {o}", "{o} is put down"), _GRIPPER),
    _Form(
        "drops",
        "event",
        (
            "the gripper drops {o}", "the gripper dropped {o}", "{o} falls", "{o} is dropped", "{o} was dropped",
            "{o} fell",
        ),
        _GRIPPER,
    ),
    _Form("none_dropped", "event", ("nothing falls", "nothing is dropped", "nothing was dropped")),
    _Form("flies_to", "motion", ("the shuttle flies to {o}", "the shuttle flies towards {o}"), _SHUTTLE),
    _Form("in_air", "place", ("the shuttle is in the air",)),
    _Form("on_floor", "place", ("the shuttle lies on the floor", "the shuttle is on the floor")),
    _Form("hits", "event", ("{o} hits the shuttle", "{o} hit the shuttle"), _SHUTTLE),
    _Form("lands", "event", ("the shuttle lands on the floor", "the shuttle landed on the floor", "the shuttle lands")),
    _Form("near", "place", ("{o} is near", "{o} is close")),
    _Form("far", "place", ("{o} is far away", "{o} is far")),
    _Form("left_lane", "place", ("{o} is in the left lane",)),
    _Form("right_lane", "place", ("{o} is in the right lane",)),
    _Form("our_lane", "place", ("{o} is in our lane",)),
    _Form("curves_left", "place", ("the road curves to the left",)),
    _Form("curves_right", "place", ("the road curves to the right",)),
    _Form("straight", "place", ("the road is straight",)),
    _Form("closer", "motion", ("{o} comes closer",)),
    _Form("away", "motion", ("{o} moves away",)),
    _Form("brakes", "event", ("{o} brakes", "{o} is braking")),
    _Form("turns_red", "event", ("the light turns red", "the light turned red")),
    _Form("turns_yellow", "event", ("the light turns yellow", "the light turned yellow")),
    _Form("turns_green", "event", ("the light turns green", "the light turned green")),
)  # fmt: skip
#: What a predicate without {o} is said of.
_SUBJECTS: Final = {
    "empty": _GRIPPER, "none_left_of": _OBJECT, "none_right_of": _OBJECT, "none_in_front_of": _OBJECT,
    "none_behind": _OBJECT, "nothing_moves": _GRIPPER, "none_dropped": _OBJECT, "in_air": _SHUTTLE,
    "on_floor": _SHUTTLE,
    "lands": _SHUTTLE, "curves_left": _ROAD, "curves_right": _ROAD, "straight": _ROAD, "turns_red": _LIGHT,
    "turns_yellow": _LIGHT, "turns_green": _LIGHT,
}  # fmt: skip
_BY_PREDICATE: Final = {form.predicate: form for form in _FORMS}

_COLOUR: Final = "|".join(COLOURS)
_NOUN: Final = "|".join(sorted(NOUNS, key=len, reverse=True))
_NAME: Final = rf"(?:(?:the|a|an|another) (?:(?:{_COLOUR}) )?(?:{_NOUN})|something)"
_NAME_PARTS: Final = re.compile(rf"(?:the|a|an|another) (?:({_COLOUR}) )?({_NOUN})")
_PATTERNS: Final = tuple(
    (form, re.compile(re.escape(text).replace(r"\{o\}", f"(?P<o>{_NAME})").replace(r"\{p\}", f"(?P<p>{_NAME})")))
    for form in _FORMS
    for text in form.texts
)
_WEARS: Final = re.compile(rf"the (near player|far player) wears ({_COLOUR})")
_IS_COLOUR: Final = re.compile(rf"the ({_NOUN}) is ({_COLOUR})")
_THERE_IS: Final = re.compile(rf"there (?:is|are) ({_NAME}(?:(?:, | and |, and ){_NAME})*)")
_NONE: Final = re.compile(rf"(?:there is no|no) ((?:(?:{_COLOUR}) )?(?:{_NOUN}))(?: is visible)?")


class NotUnderstoodError(ValueError):
    """A clause is in no form of the grammar."""


def kind_of(predicate: str) -> StatementKind:
    """Return the kind of a predicate of the table."""
    return _BY_PREDICATE[predicate].kind


def statement(predicate: str, one: Thing | None = None, other: Thing | None = None) -> Statement:
    """Return a statement of a predicate of the table; without ``one`` it is said of what its texts name."""
    return Statement(kind_of(predicate), predicate, one or _SUBJECTS[predicate], other)


def texts_of(said: Statement) -> tuple[str, ...]:
    """Return the clauses that make a statement, the plainest first; small letters, no full stop."""
    one, other = said.one, said.other
    if said.predicate == "exists":
        return (_existence(one),)
    if said.predicate == "absent":
        return (f"there is no {one.name}",)
    form = _BY_PREDICATE[said.predicate]
    return tuple(text.format(o=definite(one), p=definite(other) if other else "") for text in form.texts)


def definite(thing: Thing) -> str:
    """Return a thing with its article."""
    return f"the {thing.name}"


def indefinite(thing: Thing) -> str:
    """Return a thing with "a" or "an"."""
    return f"{'an' if thing.name[0] in 'aeiou' else 'a'} {thing.name}"


def sentence(clauses: Sequence[str]) -> str:
    """Join clauses to a sentence."""
    text = ", and ".join(clauses)
    return f"{text[0].upper()}{text[1:]}."


def list_sentence(things: Sequence[Thing]) -> str:
    """Return a sentence that lists things."""
    names = [indefinite(thing) for thing in things]
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    return f"There {'is' if len(names) == 1 else 'are'} {listed}."


def statements_of(text: str) -> tuple[Statement, ...]:
    """Return every statement that a text makes; raises NotUnderstoodError for what is in no form of the grammar.

    A noun says that there is such a thing (object), its colour that there is one of that colour (colour).
    """
    found: list[Statement] = []
    for part in re.split(r"[.;\n]+", text.strip().lower()):
        if not part.strip():
            continue
        for clause in _clauses(part.strip()):
            found += _clause_statements(clause)
    if not found:
        raise NotUnderstoodError(f"Nothing is said in {text!r}.")
    return tuple(dict.fromkeys(found))


def _clauses(part: str) -> list[str]:
    return [part] if _THERE_IS.fullmatch(part) else part.split(", and ")


def _existence(thing: Thing) -> str:
    if thing.colour and thing.noun in {"near player", "far player"}:
        return f"the {thing.noun} wears {thing.colour}"
    if thing.colour and thing.noun == "light":
        return f"the light is {thing.colour}"
    return f"there is {indefinite(thing)}"


def _clause_statements(clause: str) -> list[Statement]:
    if match := _THERE_IS.fullmatch(clause):
        return [each for name in re.findall(_NAME, match[1]) for each in _named(_thing(name))]
    for pattern in (_WEARS, _IS_COLOUR):
        if match := pattern.fullmatch(clause):
            return _named(Thing(match[1], match[2]))
    for form, compiled in _PATTERNS:
        if match := compiled.fullmatch(clause):
            names = {key: _thing(name) for key, name in match.groupdict().items()}
            one, other = names.get("o"), names.get("p")
            mentioned = [each for thing in (one, other, form.subject) if thing for each in _named(thing)]
            return [*mentioned, statement(form.predicate, one, other)]
    if match := _NONE.fullmatch(clause):
        colour, _, noun = match[1].rpartition(" ") if match[1].split()[0] in COLOURS else ("", "", match[1])
        return [Statement("object", "absent", Thing(noun, colour))]
    raise NotUnderstoodError(f"No form of the grammar: {clause!r}.")


def _thing(name: str) -> Thing:
    match = _NAME_PARTS.fullmatch(name)
    return Thing(match[2], match[1] or "") if match else _OBJECT


def _named(thing: Thing) -> list[Statement]:
    if thing in {_GRIPPER, _OBJECT, _ROAD}:  # always there: to name them says nothing
        return []
    said = [Statement("object", "exists", Thing(thing.noun))]
    return [*said, Statement("colour", "exists", thing)] if thing.colour else said


PREDICATES: Final = tuple(form.predicate for form in _FORMS)
LIGHTS: Final = LIGHT_COLOURS
