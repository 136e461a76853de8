"""Predicates of each kind of scene."""

from __future__ import annotations

from typing import Final

SIDES: Final = ("left_of", "right_of", "in_front_of", "behind")
_ARM_PLACES: Final = (*SIDES, "at_left", "at_middle", "at_right", "held", "on_table", "empty")
ARM_MOTION: Final = (
    "carries_left", "carries_right", "lifts", "lowers", "pushes_left", "pushes_right", "rolls_left", "rolls_right",
    "moves_left", "moves_right", "moves_up", "moves_down", "still", "nothing_moves",
)  # fmt: skip
_ARM_EVENTS: Final = ("picks_up", "puts_down", "drops", "none_dropped")
_COURT_PLACES: Final = ("at_left", "at_middle", "at_right", "in_air", "on_floor", "left_of", "right_of")
_COURT_MOTION: Final = ("moves_left", "moves_right", "still", "flies_to")
_COURT_EVENTS: Final = ("hits", "lands")
_ROAD_PLACES: Final = (
    "near", "far", "left_lane", "right_lane", "our_lane", "curves_left", "curves_right", "straight",
)  # fmt: skip
_ROAD_MOTION: Final = ("closer", "away", "moves_left", "moves_right")
_ROAD_EVENTS: Final = ("brakes", "turns_red", "turns_yellow", "turns_green")
PREDICATES: Final = {
    "arm": {"place": _ARM_PLACES, "motion": ARM_MOTION, "event": _ARM_EVENTS},
    "court": {"place": _COURT_PLACES, "motion": _COURT_MOTION, "event": _COURT_EVENTS},
    "road": {"place": _ROAD_PLACES, "motion": _ROAD_MOTION, "event": _ROAD_EVENTS},
}
#: Said of nothing but what their texts name.
WITHOUT_THING: Final = {
    "empty", "nothing_moves", "none_dropped", "in_air", "on_floor", "lands", "curves_left", "curves_right", "straight",
    "turns_red", "turns_yellow", "turns_green",
}  # fmt: skip
OF_MOVING: Final = {"moves_left", "moves_right", "moves_up", "moves_down", "still"}
#: What is done to an object tells more than that something moves.
TELLING_MOTION: Final = ARM_MOTION[:8]
