"""Identities of tracklets over the whole video: by motion where it is unbroken, else by shirt and side of the net.

The best of all ways to hand tracklets to players is found by dynamic programming over the tracklets in the order in
which they begin. A state is the last tracklet of each player. The same sums, taken over all ways instead of the best,
give the probability that a tracklet is a player's: the confidence of identities.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.court.dimensions import COURT_LENGTH_M, COURT_WIDTH_M
from modal_workers.badminton.players.tracklet_facts import TrackletFacts

Shirts = NDArray[np.float32]
State = tuple[int, ...]

NOBODY: Final = -1
#: States that are kept, and how much less likely than the best one they may be (logarithm).
_STATES: Final = 40
_LESS_LIKELY: Final = 16.0
#: One tracklet's shirt cannot say more than this: light and pose vary together over a tracklet.
_SHIRT_LIMIT: Final = 8.0
_SHIRT_FULL_COUNT: Final = 12
#: Distances of tracklets' mean shirts from their player's (Hellinger), one standard deviation: at the start, at least.
_SHIRT_SPREAD: Final = 0.12
_LEAST_SHIRT_SPREAD: Final = 0.04
_COURT_DENSITY: Final = 1.0 / (COURT_WIDTH_M * COURT_LENGTH_M)
#: A tracklet that is known to continue another one, taken for the continuation of a third one.
_STRANGER_COST: Final = 8.0
#: Partners on different halves, or opponents on the same one.
_WRONG_HALF_COST: Final = 2.5
#: A player crosses to the other half rarely; after a long time unseen, ends may have been changed.
_CROSSING: Final = 0.003
_CROSSING_TIME_S: Final = 240.0
_MOST_CROSSING: Final = 0.4
#: Two tracklets of one player at once: only where the tracklet that defines a player leaves no other way.
_OVERLAP_COST: Final = 60.0
_ROUNDS: Final = 3


@dataclass(frozen=True, eq=False)
class Identities:
    """Player (or NOBODY) of each tracklet, the probability of that, and the players' mean shirts [players, k]."""

    player: NDArray[np.int64]
    confidence: NDArray[np.float64]
    shirts: Shirts
    shirt_spread: float


@dataclass(frozen=True)
class _Step:
    """Transitions made by one tracklet: (state before, state after, player or NOBODY, log likelihood)."""

    edges: list[tuple[int, int, int, float]]
    after: list[State]


def identify(facts: Sequence[TrackletFacts], anchors: Sequence[int]) -> Identities:
    """Hand tracklets to players. ``anchors``: for each player a tracklet that defines who it is, or NOBODY."""
    dimensions = len(facts[0].shirt) if facts else 1
    shirts = np.zeros((len(anchors), dimensions), np.float32)
    for player, anchor in enumerate(anchors):
        if anchor != NOBODY:
            shirts[player] = facts[anchor].shirt
    spread = _SHIRT_SPREAD
    found = Identities(np.full(len(facts), NOBODY), np.zeros(len(facts)), shirts, spread)
    for _ in range(_ROUNDS):
        found = _Lattice(facts, anchors, shirts, spread).solve()
        shirts, spread = _learned(facts, found, shirts)
    return Identities(found.player, found.confidence, shirts, spread)


def _learned(facts: Sequence[TrackletFacts], found: Identities, before: Shirts) -> tuple[Shirts, float]:
    """Return the mean shirt of each player's tracklets, and their spread around it."""
    shirts = before.copy()
    squares, weights = 0.0, 0.0
    for player in range(len(before)):
        mine = [index for index in np.flatnonzero(found.player == player).tolist() if facts[index].shirt_count > 0]
        if not mine:
            continue
        # A minute of one tracklet says no more about the shirt than some seconds do.
        weight = np.array([min(facts[index].shirt_count, 150) * found.confidence[index] for index in mine])
        seen = np.stack([facts[index].shirt for index in mine])
        mean = (weight[:, None] * seen).sum(axis=0)
        shirts[player] = mean / max(float(np.linalg.norm(mean)), 1e-9)
        squares += float((weight * np.maximum(1 - seen @ shirts[player], 0)).sum())
        weights += float(weight.sum())
    spread = math.sqrt(squares / weights) if weights > 0 else _SHIRT_SPREAD
    return shirts, max(spread, _LEAST_SHIRT_SPREAD)


class _Lattice:
    """All likely ways to hand tracklets to players."""

    def __init__(self, facts: Sequence[TrackletFacts], anchors: Sequence[int], shirts: Shirts, spread: float) -> None:
        self._facts = facts
        self._players = len(anchors)
        self._anchor_of = {anchor: player for player, anchor in enumerate(anchors) if anchor != NOBODY}
        self._shirt_scores = _shirt_scores(facts, shirts, spread)
        self._links: dict[tuple[int, int], float] = {}

    def solve(self) -> Identities:
        """Return the best way and its probabilities."""
        steps: list[_Step] = []
        states: list[State] = [(NOBODY,) * self._players]
        best = [0.0]
        total = [0.0]
        for index in range(len(self._facts)):
            step, best, total = self._advance(index, states, best, total)
            steps.append(step)
            states = step.after
        return Identities(*self._trace(steps, best, total), np.zeros((0, 0), np.float32), 0.0)

    def _advance(
        self, index: int, states: list[State], best: list[float], total: list[float]
    ) -> tuple[_Step, list[float], list[float]]:
        number_of: dict[State, int] = {}
        edges: list[tuple[int, int, int, float]] = []
        new_best: list[float] = []
        new_total: list[float] = []
        for before, state in enumerate(states):
            for player, score in self._choices(index, state):
                after = state if player == NOBODY else (*state[:player], index, *state[player + 1 :])
                number = number_of.setdefault(after, len(number_of))
                if number == len(new_best):
                    new_best.append(-math.inf)
                    new_total.append(-math.inf)
                edges.append((before, number, player, score))
                new_best[number] = max(new_best[number], best[before] + score)
                new_total[number] = _log_add(new_total[number], total[before] + score)
        order = sorted(range(len(new_best)), key=lambda number: -new_best[number])[:_STATES]
        least = new_best[order[0]] - _LESS_LIKELY
        kept = [number for number in order if new_best[number] >= least]
        place = {number: position for position, number in enumerate(kept)}
        names = list(number_of)
        step = _Step(
            [(before, place[after], player, score) for before, after, player, score in edges if after in place],
            [names[number] for number in kept],
        )
        return step, [new_best[number] for number in kept], [new_total[number] for number in kept]

    def _choices(self, index: int, state: State) -> list[tuple[int, float]]:
        fixed = self._anchor_of.get(index)
        here = self._facts[index]
        if fixed is not None:
            last = state[fixed]
            overlaps = last != NOBODY and self._facts[last].last.frame >= here.first.frame
            return [(fixed, here.worth - (_OVERLAP_COST if overlaps else -self._link(last, index)))]
        choices = [(NOBODY, 0.0)]
        if here.worth < -10:
            return choices
        for player in range(self._players):
            last = state[player]
            if last == NOBODY or self._facts[last].last.frame < here.first.frame:
                score = here.worth + self._link(last, index) + self._shirt_scores[index][player]
                choices.append((player, score + self._halves(state, player, index)))
        return choices

    def _link(self, before: int, after: int) -> float:
        """Return the log likelihood that a player's tracklet is followed by another one, beside that of any other."""
        if before == NOBODY:
            return 0.0
        key = (before, after)
        if key not in self._links:
            self._links[key] = _link(before, self._facts[before], self._facts[after])
        return self._links[key]

    def _halves(self, state: State, player: int, index: int) -> float:
        """Return what the others' halves say: partners share one, opponents do not."""
        here = self._facts[index].first
        if here.half == 0:
            return 0.0
        score = 0.0
        for other, last in enumerate(state):
            if other == player or last == NOBODY:
                continue
            theirs = self._facts[last].last
            # Where the other one is still followed, its half at the end is taken for the half now.
            if here.time_s - theirs.time_s > 2.0 or theirs.half == 0:
                continue
            partners = other * 2 // self._players == player * 2 // self._players
            if partners != (theirs.half == here.half):
                score -= _WRONG_HALF_COST
        return score

    def _trace(
        self, steps: list[_Step], best: list[float], total: list[float]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Follow the best way back, and sum the ways through each choice."""
        player_of = np.full(len(steps), NOBODY)
        confidence = np.zeros(len(steps))
        forward = self._forward(steps)
        after_best = max(range(len(best)), key=best.__getitem__) if best else 0
        whole = _log_sum(total) if total else 0.0
        after_total = [0.0] * len(best)
        scores = self._best_scores(steps)
        for index in range(len(steps) - 1, -1, -1):
            edges = steps[index].edges
            before_total = [-math.inf] * len(forward[index])
            shares: dict[int, float] = {}
            winner, winning = edges[0], -math.inf
            for edge in edges:
                before, after, player, score = edge
                through = forward[index][before] + score + after_total[after]
                shares[player] = _log_add(shares.get(player, -math.inf), through)
                before_total[before] = _log_add(before_total[before], score + after_total[after])
                if after == after_best and scores[index][before] + score > winning:
                    winner, winning = edge, scores[index][before] + score
            player_of[index] = winner[2]
            confidence[index] = min(math.exp(min(shares[winner[2]] - whole, 0.0)), 1.0)
            after_best, after_total = winner[0], before_total
        return player_of, confidence

    @staticmethod
    def _forward(steps: list[_Step]) -> list[list[float]]:
        """Return for each step the logarithm of the summed likelihood of each state before it."""
        totals = [[0.0]]
        for step in steps:
            after = [-math.inf] * len(step.after)
            for before, number, _, score in step.edges:
                after[number] = _log_add(after[number], totals[-1][before] + score)
            totals.append(after)
        return totals

    @staticmethod
    def _best_scores(steps: list[_Step]) -> list[list[float]]:
        scores = [[0.0]]
        for step in steps:
            after = [-math.inf] * len(step.after)
            for before, number, _, score in step.edges:
                after[number] = max(after[number], scores[-1][before] + score)
            scores.append(after)
        return scores


def _shirt_scores(facts: Sequence[TrackletFacts], shirts: Shirts, spread: float) -> list[list[float]]:
    """Return the log likelihood of each tracklet's shirt for each player, beside that of the most similar one."""
    if not facts:
        return []
    seen = np.stack([tracklet.shirt for tracklet in facts])
    distance = np.maximum(1 - seen @ shirts.T, 0)
    known = shirts.any(axis=1)
    distance[:, ~known] = spread**2
    weight = np.array([min(tracklet.shirt_count / _SHIRT_FULL_COUNT, 1.0) for tracklet in facts])
    scores = -weight[:, None] * distance / (2 * spread**2)
    best = scores.max(axis=1, keepdims=True)
    scores = np.maximum(scores - best, -_SHIRT_LIMIT) + np.maximum(best, -_SHIRT_LIMIT)
    return [[float(score) for score in line] for line in scores]


def _link(number: int, before: TrackletFacts, after: TrackletFacts) -> float:
    for parent, cost in after.parents:
        if parent == number:
            return 4.0 - cost
    left, right = before.last, after.first
    gap_s = right.time_s - left.time_s
    stranger = _STRANGER_COST if after.parents else 0.0
    changed = left.half * right.half < 0
    crossing = min(_CROSSING + gap_s / _CROSSING_TIME_S, _MOST_CROSSING)
    side = math.log(crossing if changed else 1.0 - crossing)
    if before.segment != after.segment:
        return side - stranger
    density = 1.0
    for axis in (0, 1):
        reach = 0.5 * (1 - math.exp(-gap_s / 0.5))
        off = right.place_m[axis] - left.place_m[axis] - reach * left.velocity_m_s[axis]
        variance = left.variance_m2[axis] + right.variance_m2[axis] + 0.02 + (2.5 * gap_s) ** 2 / (1 + gap_s**2)
        density *= math.exp(-0.5 * off * off / variance) / math.sqrt(2 * math.pi * variance)
    # After some seconds a player may be anywhere.
    elsewhere = 0.001 + 0.999 * (1 - math.exp(-((gap_s / 4.0) ** 2)))
    motion = math.log((1 - elsewhere) * density + elsewhere * _COURT_DENSITY) - math.log(_COURT_DENSITY)
    # Within a second the motion says more about the half than the halves do.
    return motion + (side if gap_s > 1.0 else 0.0) - stranger


def _log_add(first: float, second: float) -> float:
    if first < second:
        first, second = second, first
    return first if second == -math.inf else first + math.log1p(math.exp(second - first))


def _log_sum(values: Sequence[float]) -> float:
    total = -math.inf
    for value in values:
        total = _log_add(total, value)
    return total
