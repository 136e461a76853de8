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
#: Label of what is not asked of a frame, or not certain.
UNKNOWN: Final = -1.0


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
