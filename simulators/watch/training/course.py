"""Labels of what has happened up to each frame: supervision of the model's middle, beside that of its words."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from simulators.watch.grammar import statement
from simulators.watch.names import Kind
from simulators.watch.statements import CLEAR, Statement, Thing, score
from simulators.watch.truth import ClipTruth

_OBJECT: Final = Thing("object")
_GRIPPER: Final = Thing("gripper")
_PLAYERS: Final = (Thing("near player"), Thing("far player"))
_CAR: Final = Thing("car")
_LEFT_RIGHT: Final = ("moves_left", "moves_right")
_COURSE: Final[tuple[tuple[Kind, Statement], ...]] = (
    *(
        ("arm", statement(predicate, _OBJECT))
        for predicate in (
            "drops", "picks_up", "puts_down", "held", "carries_left", "carries_right", "lifts", "lowers", "pushes_left",
            "pushes_right", "rolls_left", "rolls_right",
        )
    ),
    *(("arm", statement(predicate, _GRIPPER)) for predicate in (*_LEFT_RIGHT, "moves_up", "moves_down", "still")),
    *(
        ("court", statement(predicate, player))
        for player in _PLAYERS
        for predicate in (*_LEFT_RIGHT, "still", "flies_to", "hits", "at_left", "at_right")
    ),
    *(("court", statement(predicate)) for predicate in ("lands", "on_floor")),
    *(
        ("road", statement(predicate, _CAR))
        for predicate in (
            "closer", "away", "brakes", "near", "far", "left_lane", "right_lane", "our_lane", *_LEFT_RIGHT,
        )
    ),
    *(
        ("road", statement(predicate))
        for predicate in ("turns_red", "turns_yellow", "turns_green", "curves_left", "curves_right", "straight")
    ),
)  # fmt: skip
COURSE_LABELS: Final = len(_COURSE)
#: What is told of each thing of its own, at its place in each picture.
_THING_COURSE: Final = (
    "drops", "picks_up", "puts_down", "held", "carries_left", "carries_right", "lifts", "lowers", "pushes_left",
    "pushes_right", "rolls_left", "rolls_right", "moves_left", "moves_right", "moves_up", "moves_down", "still",
    "closer", "away", "brakes", "at_left", "at_middle", "at_right", "near", "far",
)  # fmt: skip
_EVERY_THING: Final = ("moves_left", "moves_right", "still", "at_left", "at_middle", "at_right")
_OF_KIND: Final[dict[Kind, tuple[str, ...]]] = {
    "arm": (*_THING_COURSE[:12], "moves_up", "moves_down"),
    "court": (),
    "road": ("closer", "away", "brakes", "near", "far"),
}
THING_LABELS: Final = len(_THING_COURSE)
#: Numbers told of each thing: where it is (across, depth, height), and how that differs from the first frame and from
#: the frame before.
THING_NUMBERS: Final = 9
#: Label of what is not asked of a frame, or not certain.
UNKNOWN: Final = -1.0
#: Entities of one frame at most.
MAX_ENTITIES: Final = 8


def course_of(truth: ClipTruth) -> NDArray[np.float32]:
    """Return for each frame of a chunk [frames, labels] what is true of the frames up to it."""
    labels = np.full((len(truth.frames), COURSE_LABELS), UNKNOWN, np.float32)
    for column, (kind, said) in enumerate(_COURSE):
        if kind != truth.kind:
            continue
        for row in range(len(truth.frames)):
            value = score(said, truth.of(range(row + 1)))
            if abs(value) >= CLEAR:
                labels[row, column] = value > 0
    return labels


def thing_course_of(truth: ClipTruth) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return what is true of each thing up to each frame, and its numbers.

    Labels [frames, entities, labels] as those of ``course_of``; numbers [frames, entities, numbers].
    """
    count = len(truth.frames)
    labels = np.full((count, MAX_ENTITIES, THING_LABELS), UNKNOWN, np.float32)
    numbers = np.zeros((count, MAX_ENTITIES, THING_NUMBERS), np.float32)
    seen = [
        np.array([(entity.x, entity.depth, entity.height) for entity in frame.entities], np.float32)
        for frame in truth.frames
    ]
    for row, places in enumerate(seen):
        before = seen[max(row - 1, 0)]
        numbers[row, : len(places)] = np.concatenate((places, places - seen[0], places - before), -1)
        shown = truth.of(range(row + 1))
        for number, entity in enumerate(truth.frames[row].entities):
            own = {"gripper": ("moves_up", "moves_down"), "light": (), "shuttle": ()}.get(
                entity.noun, _OF_KIND[truth.kind]
            )
            for predicate in (*own, *_EVERY_THING):
                value = score(statement(predicate, Thing(entity.noun, entity.colour)), shown)
                if abs(value) >= CLEAR:
                    labels[row, number, _THING_COURSE.index(predicate)] = value > 0
    return labels, numbers
