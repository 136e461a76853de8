"""Sentences of a model that watches: what is said of a truth is true of it, and false of others."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from simulators.watch.dialogue import Dialogue
from simulators.watch.grammar import PREDICATES, NotUnderstoodError, statement, statements_of, texts_of
from simulators.watch.scene import scene
from simulators.watch.statements import STATEMENT_KINDS, Statement, Thing, is_true, score
from simulators.watch.truth import ClipTruth, Entity, MomentTruth, WatchEvent

WHOLE = (0.0, 0.0, 1.0, 1.0)
GRIPPER = Entity("gripper", "", 0.5, 0.3, 0.5, 0.3, WHOLE)


def thing(noun: str, colour: str, x: float, height: float = 0.0, depth: float = 0.5) -> Entity:
    return Entity(noun, colour, x, 0.6, depth, height, WHOLE)


def truth_of(
    *frames: tuple[Entity, ...], held: tuple[int | None, ...] = (), events: tuple[WatchEvent, ...] = ()
) -> ClipTruth:
    grips = held or (None,) * len(frames)
    return ClipTruth(
        "arm",
        tuple(
            MomentTruth(i * 0.25, (*f, GRIPPER), grip) for i, (f, grip) in enumerate(zip(frames, grips, strict=True))
        ),
        events,
    )


def holds(text: str, truth: ClipTruth) -> bool:
    return all(is_true(said, truth) for said in statements_of(text))


def test_every_text_of_every_predicate_is_read_as_that_predicate() -> None:
    one, other = Thing("cube", "red"), Thing("ball", "blue")
    for predicate in PREDICATES:
        for text in texts_of(statement(predicate, one, other)):
            assert predicate in {said.predicate for said in statements_of(text)}, text


def test_a_noun_and_its_colour_are_statements_of_their_own() -> None:
    said = statements_of("The gripper drops the red cube, and the blue ball is left of the red cube.")
    assert Counter(each.kind for each in said) == {"object": 2, "colour": 2, "event": 1, "place": 1}
    assert Statement("place", "left_of", Thing("ball", "blue"), Thing("cube", "red")) in said


@pytest.mark.parametrize("text", ["", "The dragon sings.", "The red cube is left of.", "yes"])
def test_what_is_in_no_form_of_the_grammar_is_not_understood(text: str) -> None:
    with pytest.raises(NotUnderstoodError):
        statements_of(text)


def test_places_are_those_of_the_last_frame() -> None:
    cube, ball = thing("cube", "red", 0.2), thing("ball", "blue", 0.7)
    truth = truth_of((cube, ball))
    assert holds("The red cube is left of the blue ball.", truth)
    assert not holds("The blue ball is left of the red cube.", truth)
    assert not holds("The green cube is left of the blue ball.", truth)
    assert not holds("The red cube is left of the yellow ring.", truth)
    assert holds("The cube is on the left.", truth)
    assert holds("Nothing is left of the red cube.", truth)
    assert not holds("Nothing is right of the red cube.", truth)
    assert holds("There are a red cube and a blue ball.", truth)
    assert not holds("There are a red cube and a red ball.", truth)
    moved = truth_of((cube, ball), (thing("cube", "red", 0.9), ball))
    assert holds("The red cube is right of the blue ball, and the red cube moves to the right.", moved)


def test_dropped_is_not_put_down_and_not_another_object() -> None:
    high, half, low = (thing("cube", "red", 0.5, height) for height in (0.3, 0.15, 0.0))
    ring = thing("ring", "blue", 0.2)
    dropped = WatchEvent("dropped", 0, 0.1, 0.6)
    fallen = truth_of((high, ring), (half, ring), (low, ring), held=(0, None, None), events=(dropped,))
    lowered = truth_of(
        (high, ring), (half, ring), (low, ring), held=(0, 0, None), events=(WatchEvent("put_down", 0, 0.1, 0.4),)
    )
    for text in ("the gripper drops the red cube", "the red cube falls", "something fell", "an object was dropped"):
        assert holds(text, fallen), text
        assert not holds(text, lowered), text
    assert not holds("the gripper drops the blue ring", fallen)
    assert holds("the gripper puts down the red cube", lowered)
    assert not holds("the gripper puts down the red cube", fallen)
    assert holds("nothing falls", lowered)
    assert not holds("nothing falls", fallen)


def test_what_a_dialogue_says_of_a_scene_is_true_of_it() -> None:
    kinds: Counter[str] = Counter()
    for seed in range(150):
        truth = scene(seed).truth()
        dialogue = Dialogue(truth, np.random.default_rng(seed))
        for turn in (dialogue.narration(), dialogue.enumeration(), *(dialogue.question() for _ in range(3))):
            for said in statements_of(turn.answer):
                kinds[said.kind] += 1
                assert is_true(said, truth), (seed, turn)
        for _ in range(4):
            text, wanted = dialogue.condition()
            assert wanted == (score(statements_of(text)[-1], truth) > 0), (seed, text)
    assert set(kinds) == set(STATEMENT_KINDS)


def test_what_is_said_of_one_scene_is_mostly_false_of_another() -> None:
    true = []
    for seed in range(100):
        said = Dialogue(scene(seed, "arm").truth(), np.random.default_rng(seed)).narration().answer
        true += [
            is_true(each, scene(seed + 5000, "arm").truth()) for each in statements_of(said) if each.kind != "object"
        ]
    assert 0.02 < np.mean(true) < 0.35


def test_conditions_are_true_as_often_as_false() -> None:
    """Otherwise a model could learn to answer without a look at the picture."""
    of: dict[str, list[bool]] = {}
    for seed in range(400):
        dialogue = Dialogue(scene(seed).truth(), np.random.default_rng(seed))
        for _ in range(3):
            text, wanted = dialogue.condition()
            of.setdefault(statements_of(text)[-1].kind, []).append(wanted)
            of.setdefault("drops" if "drop" in text or "fall" in text or "fell" in text else "other", []).append(wanted)
    assert {kind: 0.3 < np.mean(answers) < 0.7 for kind, answers in of.items()} == dict.fromkeys(of, True)
