"""Statements about a clip: what they are, and how true each is by the clip's truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from simulators.watch.names import SHAPES
from simulators.watch.truth import ClipTruth, Entity, MomentTruth

StatementKind = Literal["object", "colour", "place", "motion", "event"]
STATEMENT_KINDS: Final[tuple[StatementKind, ...]] = ("object", "colour", "place", "motion", "event")

#: Scores beyond these are certain; between them a statement may be taken either way, and none is made of it.
CLEAR: Final = 1.0
_NEVER: Final = -2.0
_ALWAYS: Final = 2.0


@dataclass(frozen=True)
class Thing:
    """A noun and a colour; without a colour for every thing of that noun. "object" is anything on the table."""

    noun: str
    colour: str = ""

    @property
    def name(self) -> str:
        """The noun with its colour."""
        return f"{self.colour} {self.noun}".strip()

    def matches(self, entity: Entity) -> bool:
        """Return whether it may stand for the entity."""
        noun = entity.noun in SHAPES if self.noun == "object" else entity.noun == self.noun
        return noun and self.colour in {"", entity.colour}


@dataclass(frozen=True)
class Statement:
    """One thing said of a clip: ``predicate`` is a key of the table of scores."""

    kind: StatementKind
    predicate: str
    one: Thing
    other: Thing | None = None


def score(statement: Statement, truth: ClipTruth) -> float:
    """Return how true a statement is: positive if true, and beyond 1 or -1 beyond doubt."""
    if statement.predicate in _NEGATIVES:
        return -score(Statement(statement.kind, _NEGATIVES[statement.predicate], statement.one, statement.other), truth)
    rate = _SCORES[statement.predicate]
    ones = [i for i, entity in enumerate(truth.last.entities) if statement.one.matches(entity)]
    if statement.other is None:
        return max((rate(truth, i, i) for i in ones), default=_NEVER)
    others = [i for i, entity in enumerate(truth.last.entities) if statement.other.matches(entity)]
    return max((rate(truth, i, j) for i in ones for j in others if i != j), default=_NEVER)


def is_true(statement: Statement, truth: ClipTruth) -> bool:
    """Return whether a statement holds."""
    return score(statement, truth) > 0


def things(truth: ClipTruth) -> Iterator[Thing]:
    """Yield what there is in the last frame."""
    for entity in truth.last.entities:
        yield Thing(entity.noun, entity.colour)


def _clip(value: float) -> float:
    return max(_NEVER, min(_ALWAYS, value))


def _exists(_truth: ClipTruth, _one: int, _other: int) -> float:
    return _ALWAYS


# Places: in the last frame.


def _beside(sign: float) -> Callable[[ClipTruth, int, int], float]:
    def rate(truth: ClipTruth, one: int, other: int) -> float:
        entities = truth.last.entities
        return _clip(sign * (entities[one].x - entities[other].x) / 0.09)

    return rate


def _nearer(sign: float) -> Callable[[ClipTruth, int, int], float]:
    def rate(truth: ClipTruth, one: int, other: int) -> float:
        a, b = truth.last.entities[one], truth.last.entities[other]
        if max(a.height, b.height) > 0.03:
            return 0.0 if abs(a.depth - b.depth) < 0.3 else _clip(sign * (a.depth - b.depth) / 0.3) * 0.4
        return _clip(sign * (a.depth - b.depth) / 0.25)

    return rate


def _at(side: str) -> Callable[[ClipTruth, int, int], float]:
    def rate(truth: ClipTruth, one: int, _other: int) -> float:
        x = truth.last.entities[one].x
        return _clip(
            {"left": (0.40 - x) / 0.06, "right": (x - 0.60) / 0.06, "middle": (0.10 - abs(x - 0.5)) / 0.05}[side]
        )

    return rate


def _grip(frame: MomentTruth, index: int) -> float:
    held = frame.held == index
    return (0.5 if held else -0.5) if frame.gripping else (_ALWAYS if held else _NEVER)


def _held(truth: ClipTruth, one: int, _other: int) -> float:
    return _grip(truth.last, one)


def _holding(truth: ClipTruth, _one: int, _other: int) -> float:
    last = truth.last
    return (0.5 if last.gripping else _ALWAYS) * (1 if last.held is not None else -1)


def _on_table(truth: ClipTruth, one: int, other: int) -> float:
    entity = truth.last.entities[one]
    if entity.height < 0.005:
        return 0.4 if _held(truth, one, other) > 0 else _ALWAYS
    return _clip((0.03 - entity.height) / 0.03)


def _value(getter: Callable[[Entity], float], middle: float, margin: float) -> Callable[[ClipTruth, int, int], float]:
    def rate(truth: ClipTruth, one: int, _other: int) -> float:
        return _clip((getter(truth.last.entities[one]) - middle) / margin)

    return rate


def _within(
    getter: Callable[[Entity], float], value: float, half: float, margin: float
) -> Callable[[ClipTruth, int, int], float]:
    def rate(truth: ClipTruth, one: int, _other: int) -> float:
        return _clip((half - abs(getter(truth.last.entities[one]) - value)) / margin)

    return rate


# Motion: from the first frame to the last.


def _change(truth: ClipTruth, one: int, getter: Callable[[Entity], float]) -> float:
    return getter(truth.last.entities[one]) - getter(truth.frames[0].entities[one])


def _moves(
    getter: Callable[[Entity], float], sign: float, least: float = 0.05
) -> Callable[[ClipTruth, int, int], float]:
    def rate(truth: ClipTruth, one: int, _other: int) -> float:
        if len(truth.frames) < 2:
            return 0.0
        return _clip((sign * _change(truth, one, getter) - least) / least)

    return rate


def _still(truth: ClipTruth, one: int, _other: int) -> float:
    if len(truth.frames) < 2:
        return 0.0
    entities = [frame.entities[one] for frame in truth.frames]
    travel = max(
        max(e.x for e in entities) - min(e.x for e in entities),
        max(e.y for e in entities) - min(e.y for e in entities),
        0.3 * (max(e.depth for e in entities) - min(e.depth for e in entities)),
    )
    return _clip((0.03 - travel) / 0.02)


def _nothing_moves(truth: ClipTruth, _one: int, _other: int) -> float:
    return min(_still(truth, i, i) for i in range(len(truth.last.entities)))


def _held_throughout(truth: ClipTruth, one: int) -> float:
    return min(_grip(frame, one) for frame in truth.frames)


def _carried(getter: Callable[[Entity], float], sign: float) -> Callable[[ClipTruth, int, int], float]:
    moves = _moves(getter, sign)

    def rate(truth: ClipTruth, one: int, other: int) -> float:
        return min(_held_throughout(truth, one), moves(truth, one, other))

    return rate


def _pushed(sign: float) -> Callable[[ClipTruth, int, int], float]:
    moves = _moves(lambda entity: entity.x, sign)

    def rate(truth: ClipTruth, one: int, other: int) -> float:
        return min(_overlaps(truth, "pushed", one), moves(truth, one, other))

    return rate


def _rolled(sign: float) -> Callable[[ClipTruth, int, int], float]:
    moves = _moves(lambda entity: entity.x, sign)

    def rate(truth: ClipTruth, one: int, other: int) -> float:
        return min(_overlaps(truth, "rolled", one), moves(truth, one, other))

    return rate


def _overlaps(truth: ClipTruth, name: str, entity: int) -> float:
    """Return whether an event took place at the time of the clip."""
    start_s, end_s = truth.frames[0].time_s, truth.last.time_s
    for event in truth.events:
        if event.name == name and event.entity == entity and event.start_s < end_s and event.end_s > start_s:
            return _ALWAYS
    return _NEVER


def _flies_to(truth: ClipTruth, one: int, _other: int) -> float:
    """Rate that the shuttle flies towards the player ``one``."""
    if len(truth.frames) < 2:
        return 0.0
    sign = 1.0 if truth.last.entities[one].noun == "near player" else -1.0
    change = sign * _change(truth, _SHUTTLE, lambda entity: entity.depth)
    if truth.last.entities[_SHUTTLE].state < 1:
        return min(0.0, _clip(change - 1))
    start_s, end_s = truth.frames[0].time_s, truth.last.time_s
    turned = any(event.name == "hit" and start_s < event.start_s < end_s for event in truth.events)
    return _clip((change - 0.1) / 0.1) * (0.4 if turned else 1.0)


# Events: between the first frame and the last, as far as the frames show it.


def _picked_up(truth: ClipTruth, one: int, _other: int) -> float:
    if len(truth.frames) < 2:
        return 0.0
    if _overlaps(truth, "picked_up", one) < 0:
        return _NEVER
    first, last = truth.frames[0], truth.last
    if first.entities[one].height > 0.03 or last.held != one:
        return -0.5
    return _clip((last.entities[one].height - 0.03) / 0.04)


def _put_down(truth: ClipTruth, one: int, _other: int) -> float:
    if len(truth.frames) < 2:
        return 0.0
    if _overlaps(truth, "put_down", one) < 0:
        return _NEVER
    first, last = truth.frames[0], truth.last
    if last.held == one:
        return -0.5 if last.entities[one].height < 0.06 else -1.0
    if last.gripping:
        return 0.5
    return _clip(0.3 + first.entities[one].height / 0.05)


def _dropped(truth: ClipTruth, one: int, _other: int) -> float:
    if _overlaps(truth, "dropped", one) < 0:
        return _NEVER
    heights = [frame.entities[one].height for frame in truth.frames]
    fall = max((a - b for i, a in enumerate(heights) for b in heights[i + 1 :]), default=0.0)
    released = truth.last.held != one
    return _clip((fall - 0.05) / 0.05) if released else -0.5


def _hit(truth: ClipTruth, one: int, _other: int) -> float:
    """Rate a hit: it counts where frames before and after it show the shuttle come and go."""
    best = _NEVER
    start_s, end_s = truth.frames[0].time_s, truth.last.time_s
    for event in truth.events:
        if event.name != "hit" or event.entity != one:
            continue
        inside = min(event.start_s - start_s, end_s - event.start_s)
        best = max(best, _clip(inside / 0.12) if inside > 0 else _clip(-0.5 + inside / 0.3))
    return best


def _landed(truth: ClipTruth, _one: int, _other: int) -> float:
    states = [frame.entities[_SHUTTLE].state for frame in truth.frames]
    if len(states) < 2:
        return 0.0
    if states[0] and not states[-1]:
        fall = truth.frames[0].entities[_SHUTTLE].height - truth.last.entities[_SHUTTLE].height
        return _clip(fall / 0.2)
    return _NEVER if states[0] == states[-1] else 0.0


def _braked(truth: ClipTruth, one: int, _other: int) -> float:
    states = [frame.entities[one].state for frame in truth.frames]
    return _ALWAYS if states[-1] else _NEVER


def _turned(colour: str) -> Callable[[ClipTruth, int, int], float]:
    def rate(truth: ClipTruth, one: int, _other: int) -> float:
        if len(truth.frames) < 2:
            return 0.0
        first, last = truth.frames[0].entities[one].colour, truth.last.entities[one].colour
        return _ALWAYS if first != last == colour else _NEVER

    return rate


_SHUTTLE: Final = 2

Rate = Callable[[ClipTruth, int, int], float]
_SCORES: Final[dict[str, Rate]] = {
    "exists": _exists,
    "left_of": _beside(-1),
    "right_of": _beside(1),
    "in_front_of": _nearer(1),
    "behind": _nearer(-1),
    "at_left": _at("left"),
    "at_middle": _at("middle"),
    "at_right": _at("right"),
    "on_table": _on_table,
    "held": _held,
    "holding": _holding,
    "moves_left": _moves(lambda e: e.x, -1),
    "moves_right": _moves(lambda e: e.x, 1),
    "moves_up": _moves(lambda e: e.height, 1),
    "moves_down": _moves(lambda e: e.height, -1),
    "still": _still,
    "nothing_moves": _nothing_moves,
    "carries_left": _carried(lambda e: e.x, -1),
    "carries_right": _carried(lambda e: e.x, 1),
    "lifts": _carried(lambda e: e.height, 1),
    "lowers": _carried(lambda e: e.height, -1),
    "pushes_left": _pushed(-1),
    "pushes_right": _pushed(1),
    "rolls_left": _rolled(-1),
    "rolls_right": _rolled(1),
    "picks_up": _picked_up,
    "puts_down": _put_down,
    "drops": _dropped,
    "flies_to": _flies_to,
    "in_air": _value(lambda e: e.state, 0.5, 0.5),
    "on_floor": _value(lambda e: -e.state, -0.5, 0.5),
    "hits": _hit,
    "lands": _landed,
    "near": _value(lambda e: e.depth, 0.38, 0.06),
    "far": _value(lambda e: -e.depth, -0.38, 0.06),
    "left_lane": _value(lambda e: -e.lane, 0.5, 0.3),
    "right_lane": _value(lambda e: e.lane, 0.5, 0.3),
    "our_lane": _within(lambda e: e.lane, 0.0, 0.5, 0.3),
    "curves_left": _value(lambda e: -e.state, 0.4, 0.3),
    "curves_right": _value(lambda e: e.state, 0.4, 0.3),
    "straight": _within(lambda e: e.state, 0.0, 0.4, 0.3),
    "closer": _moves(lambda e: e.depth, 1, 0.04),
    "away": _moves(lambda e: e.depth, -1, 0.04),
    "brakes": _braked,
    "turns_red": _turned("red"),
    "turns_yellow": _turned("yellow"),
    "turns_green": _turned("green"),
}  # fmt: skip
#: Predicates that say that another is not so, of anything it may be said of.
_NEGATIVES: Final = {
    "absent": "exists",
    "empty": "holding",
    "none_left_of": "left_of",
    "none_right_of": "right_of",
    "none_in_front_of": "in_front_of",
    "none_behind": "behind",
    "none_dropped": "drops",
}
