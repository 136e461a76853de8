"""True sentences about a clip, questions with their answers, and conditions to check."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, TypeVar

import numpy as np

from modal_workers.vision_stream.models import prompts
from simulators.watch.grammar import (
    definite,
    indefinite,
    list_sentence,
    sentence,
    statement,
    texts_of,
)
from simulators.watch.names import COLOURS, SHAPES
from simulators.watch.predicates import OF_MOVING, PREDICATES, SIDES, TELLING_MOTION, WITHOUT_THING
from simulators.watch.statements import CLEAR, Statement, Thing, score, things
from simulators.watch.truth import ClipTruth

_Choice = TypeVar("_Choice")

INSTRUCTION: Final = "Describe what happens in these frames in one sentence."
_INSTRUCTIONS: Final = (
    INSTRUCTION,
    "Describe what happens.",
    "Describe what you see in one sentence.",
    "Say what happens in these frames.",
    "What happens?",
    "What happens in these frames?",
    "Tell me what happens in one short sentence.",
)
_LISTS: Final = ("What is on the table?", "Which objects are there?", "What do you see?", "What objects do you see?")

_SIDE_QUESTIONS: Final = {
    "left_of": ("What is left of {p}?", "What is to the left of {p}?"),
    "right_of": ("What is right of {p}?", "What is to the right of {p}?"),
    "in_front_of": ("What is in front of {p}?",),
    "behind": ("What is behind {p}?",),
}


@dataclass(frozen=True)
class Turn:
    """Question about the frames, and its answer."""

    prompt: str
    answer: str


class Dialogue:
    """Everything that can be said for certain of one clip."""

    def __init__(self, truth: ClipTruth, random: np.random.Generator) -> None:
        self._truth, self._random = truth, random
        self._things = [thing for thing in things(truth) if thing.noun in SHAPES or truth.kind != "arm"]

    @cached_property
    def facts(self) -> dict[str, list[Statement]]:
        """The statements that are certainly true, by predicate."""
        found: dict[str, list[Statement]] = {}
        for said in self._candidates(self._things):
            if score(said, self._truth) >= CLEAR:
                found.setdefault(said.predicate, []).append(said)
        return found

    def narration(self) -> Turn:
        """Return a description: what happens comes first, then mostly where something is.

        A fifth of them begin with the most telling of what happens, the others with anything that does. A model that is
        trained on both says the telling where it is sure of it, and something plainer where it is not.
        """
        random, prompt = self._random, self._pick(_INSTRUCTIONS) if self._random.uniform() < 0.5 else INSTRUCTION
        clauses = []
        first = self._happening(any_of_them=random.uniform() < 0.8)
        if first:
            clauses.append(texts_of(first)[0])
        if not clauses or random.uniform() < 0.8:
            place = self._place(first)
            if place:
                clauses.append(texts_of(place)[0])
        return Turn(prompt, sentence(clauses)) if clauses else Turn(prompt, self._list())

    def enumeration(self) -> Turn:
        """Return a question for everything that is there."""
        return Turn(self._pick(_LISTS), self._list())

    def question(self) -> Turn:
        """Return any question."""
        asked: dict[str, tuple[Callable[[], Turn | None], ...]] = {
            "arm": (
                self._ask_side, self._ask_side, self._ask_where, self._ask_colour, self._ask_list, self._ask_held,
                self._ask_gripper, self._ask_fallen, self._ask_moving,
            ),
            "court": (self._ask_where, self._ask_colour, self._ask_moving, self._ask_shuttle, self._ask_hit),
            "road": (
                self._ask_where, self._ask_colour, self._ask_colour, self._ask_moving, self._ask_curve, self._ask_list,
            ),
        }  # fmt: skip
        for _ in range(4):
            turn = self._pick(asked[self._truth.kind])()
            if turn:
                return turn
        return self.enumeration()

    def check(self, predicates: Sequence[str] = ()) -> Turn:
        """Return the check of a condition, as often of a false as of a true one."""
        condition, holds = self.condition(predicates)
        return Turn(prompts.condition_text(condition), "yes" if holds else "no")

    def condition(self, predicates: Sequence[str] = ()) -> tuple[str, bool]:
        """Return a condition and whether it holds; ``predicates`` are what it may say, any if empty."""
        random = self._random
        for _ in range(20):
            wanted = bool(random.uniform() < 0.5)
            predicate = str(self._pick(predicates)) if predicates else self._pick_predicate(wanted=wanted)
            said = self._true_of(predicate) if wanted else self._false_of(predicate)
            if said:
                texts = texts_of(said)
                text = str(self._pick(texts)) if random.uniform() < 0.6 else texts[0]
                return self._loosened(text, said), wanted
        return self._existence_condition()

    # Parts.

    def _pick(self, choices: Sequence[_Choice]) -> _Choice:
        return choices[int(self._random.integers(len(choices)))]

    def _candidates(self, named: Sequence[Thing]) -> Iterator[Statement]:
        for predicates in PREDICATES[self._truth.kind].values():
            for predicate in predicates:
                yield from self._of_predicate(predicate, named)

    def _of_predicate(self, predicate: str, named: Sequence[Thing]) -> Iterator[Statement]:
        if predicate == "exists":
            return
        if predicate in WITHOUT_THING:
            yield statement(predicate)
            return
        subjects = [*named, Thing("gripper")] if self._truth.kind == "arm" and predicate in OF_MOVING else list(named)
        subjects = [thing for thing in subjects if _sensible(predicate, thing)]
        for subject in subjects:
            if predicate in SIDES:
                yield from (statement(predicate, subject, other) for other in subjects if other != subject)
            else:
                yield statement(predicate, _short(subject))

    def _true_of(self, predicate: str) -> Statement | None:
        if predicate == "exists":
            coloured = [thing for thing in self._things if thing.colour]
            return Statement("colour", "exists", coloured[self._random.integers(len(coloured))]) if coloured else None
        found = self.facts.get(predicate)
        return self._pick(found) if found else None

    def _false_of(self, predicate: str) -> Statement | None:
        named = list(self._things)
        if self._random.uniform() < (0.9 if predicate == "exists" else 0.2):
            named = [self._other_thing()]
            if predicate in SIDES and self._things:
                named.append(self._pick(self._things))
        if predicate == "exists":
            said = Statement("colour", "exists", named[0]) if named else None
            return said if said and score(said, self._truth) <= -CLEAR else None
        found = [said for said in self._of_predicate(predicate, named) if score(said, self._truth) <= -CLEAR]
        return self._pick(found) if found else None

    def _other_thing(self) -> Thing:
        """Return a thing that is not there, mostly like one that is."""
        colour = str(self._pick(tuple(COLOURS)))
        if self._truth.kind == "arm":
            near: Thing = self._pick(self._things)
            if self._random.uniform() < 0.4:
                return Thing(near.noun, colour)
            noun = str(self._pick(SHAPES))
            return Thing(noun, near.colour if self._random.uniform() < 0.6 else colour)
        if self._truth.kind == "court":
            return Thing(str(self._pick(("near player", "far player"))), colour)
        if self._random.uniform() < 0.4:
            return Thing("light", str(self._pick(("red", "yellow", "green"))))
        return Thing("car", colour)

    def _pick_predicate(self, *, wanted: bool) -> str:
        """Choose so that for every predicate "yes" and "no" are about as frequent over many clips."""
        table = PREDICATES[self._truth.kind]
        share = float(self._random.uniform())
        if share < 0.25:
            return "exists"
        group = "place" if share < 0.5 else "motion" if share < 0.72 else "event"
        predicates = [predicate for predicate in table[group] if predicate != "none_dropped"]
        if wanted:
            predicates = [predicate for predicate in predicates if predicate in self.facts]
            telling = [predicate for predicate in predicates if predicate in TELLING_MOTION]
            if telling and self._random.uniform() < 0.6:
                predicates = telling
            return str(self._pick(predicates)) if predicates else "exists"
        if group == "motion" and self._truth.kind == "arm" and self._random.uniform() < 0.5:
            predicates = [predicate for predicate in predicates if predicate not in TELLING_MOTION]
        if group == "event":  # rarer than other facts: most clips show none
            if self._random.uniform() < 0.5:
                return "exists"
            return (
                "drops" if self._truth.kind == "arm" and self._random.uniform() < 0.5 else str(self._pick(predicates))
            )
        return str(self._pick(predicates))

    def _loosened(self, text: str, said: Statement) -> str:
        """Sometimes say "the object" or "something", where that is as true: of what happens and of what is held."""
        loose = {"drops", "picks_up", "puts_down", "held"}
        if said.predicate not in loose or self._random.uniform() < 0.6:
            return text
        wide = Statement(said.kind, said.predicate, Thing("object"))
        value, same = score(said, self._truth), score(wide, self._truth)
        if abs(same) < CLEAR or (value > 0) != (same > 0):
            return text
        name = str(self._pick(("the object", "an object", "something")))
        return text.replace(definite(said.one), name)

    def _existence_condition(self) -> tuple[str, bool]:
        said = self._true_of("exists") if self._random.uniform() < 0.5 else self._false_of("exists")
        if said is None:
            said = Statement("colour", "exists", self._other_thing())
        return texts_of(said)[0], score(said, self._truth) > 0

    def _happening(self, *, any_of_them: bool = False) -> Statement | None:
        """Return the most telling of what happens, or any of it."""
        found = self._happenings()
        if not found:
            return None
        # What is held tells of no change: it is said where there is nothing else.
        changes = [group for group in found if group[0].kind != "place"]
        return self._pick(self._pick(changes) if any_of_them and changes else found[0])

    def _happenings(self) -> list[list[Statement]]:
        """Return what happens, the most telling first; what is alike is together."""
        facts, kind = self.facts, self._truth.kind
        order = {
            "arm": (
                ("drops",), ("picks_up",), ("puts_down",), ("carries_left", "carries_right"), ("lifts", "lowers"),
                ("pushes_left", "pushes_right"), ("rolls_left", "rolls_right"), ("moves_left", "moves_right"),
                ("moves_up", "moves_down"), ("held",), ("nothing_moves",), ("still",),
            ),
            "court": (
                ("lands",), ("hits",), ("flies_to",), ("moves_left", "moves_right"), ("still",), ("on_floor", "in_air"),
            ),
            "road": (
                ("turns_red", "turns_yellow", "turns_green"), ("brakes",), ("closer", "away"),
                ("moves_left", "moves_right"),
            ),
        }[kind]  # fmt: skip
        groups = []
        for predicates in order:
            found = [said for predicate in predicates for said in facts.get(predicate, ())]
            if predicates == ("still",):
                found = [said for said in found if said.one.noun in {"gripper", "near player", "far player"}]
            if found:
                groups.append(found)
        return groups

    def _place(self, but: Statement | None) -> Statement | None:
        """Return where something is, rather of what does not move."""
        plain = [
            said
            for predicate in PREDICATES[self._truth.kind]["place"]
            if predicate not in {"held", "on_table", "empty", "in_air"}
            for said in self.facts.get(predicate, ())
        ]
        if self._truth.kind == "road":
            lights = [Statement("colour", "exists", thing) for thing in self._things if thing.noun == "light"]
            plain += lights
        if but:
            plain = [said for said in plain if said != but]
        return self._pick(plain) if plain else None

    def _list(self) -> str:
        """Return a sentence that names everything: objects from left to right, the shirts of players."""
        if self._truth.kind == "court":
            players = [thing for thing in self._things if thing.colour]
            return sentence([texts_of(Statement("colour", "exists", player))[0] for player in players])
        named = [thing for thing in self._things if thing.noun in SHAPES or thing.noun == "car"]
        if not named:
            return sentence(["there is no car"])
        entities = self._truth.last.entities
        return list_sentence(sorted(named, key=lambda thing: next(e.x for e in entities if thing.matches(e))))

    def _ask_side(self) -> Turn | None:
        predicate = str(self._pick(SIDES))
        other = self._pick(self._things) if self._things else None
        if other is None:
            return None
        question = str(self._pick(_SIDE_QUESTIONS[predicate])).format(p=definite(other))
        found = [said for said in self.facts.get(predicate, ()) if said.other == other]
        if found:
            return Turn(question, sentence([texts_of(self._pick(found))[0]]))
        none = statement(f"none_{predicate}", None, other)
        return Turn(question, sentence([texts_of(none)[0]])) if score(none, self._truth) >= CLEAR else None

    def _ask_where(self) -> Turn | None:
        one: Thing = self._pick(self._things)
        one = _short(one)
        question = f"Where is {definite(one)}?"
        facts = self.facts
        held = [said for said in facts.get("held", ()) if said.one == one]
        if held:
            return Turn(question, sentence([texts_of(held[0])[1]]))
        places = [
            said for predicate in PREDICATES[self._truth.kind]["place"] if predicate != "on_table"
            for said in facts.get(predicate, ()) if said.one == one
        ]  # fmt: skip
        return Turn(question, sentence([texts_of(self._pick(places))[0]])) if places else None

    def _ask_colour(self) -> Turn | None:
        coloured = [thing for thing in self._things if thing.colour]
        if not coloured:
            return None
        thing: Thing = self._pick(coloured)
        if sum(other.noun == thing.noun for other in self._things) > 1:
            return None
        if thing.noun in {"near player", "far player"}:
            return Turn(f"What does the {thing.noun} wear?", f"The {thing.noun} wears {thing.colour}.")
        return Turn(f"What colour is the {thing.noun}?", f"The {thing.noun} is {thing.colour}.")

    def _ask_list(self) -> Turn | None:
        if self._truth.kind == "road":
            return Turn("Is there a car ahead?", self._list())
        return self.enumeration()

    def _ask_held(self) -> Turn | None:
        return self._told(
            str(self._pick(("What does the gripper hold?", "What is in the gripper?"))), ("held", "empty")
        )

    def _ask_gripper(self) -> Turn | None:
        said = self._happening()
        if said is None or (said.one.noun != "gripper" and "gripper" not in texts_of(said)[0]):
            return None
        return Turn("What does the gripper do?", sentence([texts_of(said)[0]]))

    def _ask_fallen(self) -> Turn | None:
        question = str(
            self._pick(("What fell?", "What was dropped?", "Does something fall?", "What did the gripper drop?"))
        )
        return self._told(question, ("drops", "none_dropped"))

    def _ask_moving(self) -> Turn | None:
        said = self._happening()
        if said is None or said.kind == "place" or len(self._truth.frames) < 2:
            return None
        return Turn("What moves?", sentence([texts_of(said)[0]])) if said.kind == "motion" else None

    def _ask_shuttle(self) -> Turn | None:
        return self._told(
            str(self._pick(("Where is the shuttle?", "What does the shuttle do?"))),
            ("lands", "flies_to", "on_floor", "in_air"),
        )

    def _ask_hit(self) -> Turn | None:
        return self._told("Who hits the shuttle?", ("hits",))

    def _ask_curve(self) -> Turn | None:
        return self._told("Where does the road go?", ("curves_left", "curves_right", "straight"))

    def _told(self, question: str, predicates: Sequence[str]) -> Turn | None:
        for predicate in predicates:
            found = self.facts.get(predicate)
            if found:
                return Turn(question, sentence([texts_of(self._pick(found))[0]]))
        return None


def _short(thing: Thing) -> Thing:
    """Return the name that is used with verbs: a player and the light go without a colour."""
    return Thing(thing.noun) if thing.noun in {"near player", "far player", "light"} else thing


def _sensible(predicate: str, thing: Thing) -> bool:
    noun = thing.noun
    if noun == "road":
        return False
    if noun == "shuttle":
        return predicate in {"left_of", "right_of"}
    if noun == "light":
        return False
    if noun in {"near player", "far player"}:
        return predicate not in {"left_of", "right_of"} or not thing.colour
    return True


PHRASES: Final = (
    *_INSTRUCTIONS, *_LISTS, prompts.condition_text("{condition}"), "What does the gripper hold?",
    "What is in the gripper?", "What does the gripper do?",
    "What fell?", "What was dropped?", "Does something fall?", "What did the gripper drop?", "What moves?",
    "Where is the shuttle?", "What does the shuttle do?", "Who hits the shuttle?", "Where does the road go?",
    "Is there a car ahead?", "What colour is the light?", "What does the near player wear?",
    *(text for texts in _SIDE_QUESTIONS.values() for text in texts), indefinite(Thing("orange cube")),
)  # fmt: skip
