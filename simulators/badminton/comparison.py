"""Figures of an analysed match beside the truth of the simulator; it reads ``results.json`` as any client does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.court.dimensions import CORNERS_M
from modal_workers.badminton.court.homography import project
from simulators.badminton.match_truth import MatchTruth, TrueHit

Floats = NDArray[np.float64]

#: Distance in time within which a found hit, and a limit of a rally, is the true one.
HIT_TOLERANCE_S: Final = 0.15
LIMIT_TOLERANCE_S: Final = 0.3
#: Time over which positions are averaged before distance and speed of the truth are taken: a step of the feet is none
#: of the body.
_TRUE_SMOOTHING_S: Final = 0.3
#: A person is followed wrongly for this long before it counts as a switch of identities.
_SWITCH_S: Final = 0.5
#: From the net, and from the left side line: thirds of a half.
_ZONE_LENGTH_M: Final = 6.70 / 3
_ZONE_WIDTH_M: Final = 6.10 / 3


@dataclass(frozen=True, eq=False)
class PlayerComparison:
    """One player; metres, seconds. ``position_error_m`` [n]: of the frames in which the position is known."""

    player: int
    position_error_m: Floats
    known_share: float
    distance_m: float
    true_distance_m: float
    top_speed_m_s: float
    true_top_speed_m_s: float
    #: Share of the frames in the right zone, and of the time in zones that is reported for the right one.
    zone_agreement: float
    zone_time_agreement: float
    #: Share of the frames that are farther from an edge between zones than their own error, and of these in the right.
    sure_zone_share: float
    sure_zone_agreement: float
    switch_count: int


@dataclass(frozen=True, eq=False)
class MatchComparison:
    """One match."""

    corner_error_px: Floats  # [segments, 4]; empty where no court was found
    players: tuple[PlayerComparison, ...]
    shuttle_precision: float
    shuttle_recall: float
    hit_precision: float
    hit_recall: float
    hitter_share: float  # of the right hits: the right player is named
    rally_count: int
    true_rally_count: int
    limit_errors_s: Floats  # [limits]: of start and end of the true rallies; NaN where no rally was found
    winners_right: int
    winners_named: int

    @property
    def hit_f1(self) -> float:
        """Harmonic mean of precision and recall."""
        total = self.hit_precision + self.hit_recall
        return 2 * self.hit_precision * self.hit_recall / total if total > 0 else 0.0


def compare_with_truth(results: Mapping[str, Any], truth: MatchTruth) -> MatchComparison:
    """Return how far a result is from the truth."""
    tracks = results["tracks"]
    frames = np.array(tracks["source_frame"])
    players = [
        (
            entry["player_id"],
            _array(track["x_m"]),
            _array(track["y_m"]),
            {**entry, "error_m": _array(track["error_m"])},
        )
        for entry, track in zip(results["players"], tracks["players"], strict=True)
    ]
    positions = np.stack([np.stack([x, y], axis=1) for _, x, y, _ in players]) if players else np.zeros((0, 0, 2))
    order = _assignment(positions, truth.positions_m[:, frames])
    numbers = {players[mine][0]: person for mine, person in enumerate(order)}
    shuttle = tracks.get("shuttle")
    place = np.stack([_array(shuttle["x_px"]), _array(shuttle["y_px"])], axis=1) if shuttle else None
    shuttle_precision, shuttle_recall = _shuttle(place, truth, frames)
    matched, hit_precision, hit_recall = _hits(results["hits"], truth)
    named = [
        (numbers.get(found["player_id"]), true.player) for found, true in matched if found["player_id"] is not None
    ]
    limits, winners = _rallies(results["rallies"], truth, numbers)
    return MatchComparison(
        corner_error_px=_corners(results["segments"], truth, frames),
        players=tuple(
            _player(players[mine], positions[mine], person, truth, frames) for mine, person in enumerate(order)
        ),
        shuttle_precision=shuttle_precision,
        shuttle_recall=shuttle_recall,
        hit_precision=hit_precision,
        hit_recall=hit_recall,
        hitter_share=float(np.mean([found == true for found, true in named])) if named else float("nan"),
        rally_count=len(results["rallies"]),
        true_rally_count=sum(rally.complete for rally in truth.rallies),
        limit_errors_s=limits,
        winners_right=sum(right for right in winners),
        winners_named=len(winners),
    )


def _array(values: Sequence[float | None]) -> Floats:
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _assignment(positions: Floats, true_positions: Floats) -> tuple[int, ...]:
    """Return the true person of each found player that fits best over the whole match."""
    if not len(positions):
        return ()
    distance = np.array(
        [[_median(np.linalg.norm(mine - true, axis=1)) for true in true_positions] for mine in positions]
    )
    return min(
        permutations(range(len(true_positions)), len(positions)),
        key=lambda order: sum(distance[mine, person] for mine, person in enumerate(order)),
    )


def _median(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else 1e3


def _corners(segments: Sequence[Mapping[str, Any]], truth: MatchTruth, frames: NDArray[np.int64]) -> Floats:
    errors = []
    for segment in segments:
        if segment["court"] is None:
            continue
        true = truth.image_from_court[frames[(segment["first_frame"] + segment["last_frame"]) // 2]]
        found = np.array(segment["court"]["image_from_court"], np.float64)
        if np.isfinite(true).all():
            difference = project(found, CORNERS_M) - project(true, CORNERS_M)
            errors.append(np.linalg.norm(difference, axis=1))
    return np.array(errors).reshape(-1, 4)


def _player(
    player: tuple[int, Floats, Floats, Mapping[str, Any]],
    place: Floats,
    person: int,
    truth: MatchTruth,
    frames: NDArray[np.int64],
) -> PlayerComparison:
    number, _, _, entry = player
    motion = entry["motion"]
    true = truth.positions_m[person, frames]
    error = np.linalg.norm(place - true, axis=1)
    known = np.isfinite(error)
    smooth = _smoothed(truth.hips_m[person], truth.time_s)[frames]
    sure = known & (_edge_distance(place) > entry["error_m"])
    both = known[1:] & known[:-1]
    steps = np.linalg.norm(np.diff(smooth, axis=0), axis=1)
    speeds = steps / np.maximum(np.diff(truth.time_s[frames]), 1e-6)
    return PlayerComparison(
        player=number,
        position_error_m=error[known],
        known_share=float(known.mean()),
        distance_m=_number(motion["distance_m"]),
        true_distance_m=float(steps[both].sum()),
        top_speed_m_s=_number(motion["top_speed_m_s"]),
        true_top_speed_m_s=float(speeds[both].max(initial=0.0)),
        zone_agreement=_zone_agreement(place[known], true[known]),
        zone_time_agreement=_zone_time_agreement(entry["zones"]["share"], true[known]),
        sure_zone_share=float(sure.sum() / max(1, known.sum())),
        sure_zone_agreement=_zone_agreement(place[sure], true[sure]),
        switch_count=_switches(place, person, truth, frames),
    )


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _smoothed(places: Floats, times_s: Floats) -> Floats:
    width = max(1, round(_TRUE_SMOOTHING_S / float(np.median(np.diff(times_s)))) | 1)
    padded = np.pad(places, ((width // 2, width // 2), (0, 0)), mode="edge")
    kernel = np.ones(width) / width
    return np.stack([np.convolve(padded[:, axis], kernel, mode="valid") for axis in range(2)], axis=1)


def _zone_agreement(places: Floats, true: Floats) -> float:
    if not len(places):
        return float("nan")
    return float((_zones(places) == _zones(true)).all(axis=1).mean())


def _zone_time_agreement(share: Sequence[Sequence[float | None]], true: Floats) -> float:
    """Return what the reported shares [front to back][left to right] have in common with those of the true places."""
    if not len(true):
        return float("nan")
    depth, across, near = _zones(true).T
    # Who is on the far half faces the camera: his left is its right.
    counts = np.bincount(depth * 3 + np.where(near == 1, across, 2 - across), minlength=9)
    return float(np.minimum(np.array(share, np.float64).ravel(), counts / counts.sum()).sum())


def _edge_distance(places: Floats) -> Floats:
    along = [np.abs(np.abs(places[:, 1] - 6.70) - edge * _ZONE_LENGTH_M) for edge in (1, 2)]
    return np.asarray(np.min([*along, *(np.abs(places[:, 0] - edge * _ZONE_WIDTH_M) for edge in (1, 2))], axis=0))


def _zones(places: Floats) -> NDArray[np.int64]:
    from_net = np.clip(np.abs(places[:, 1] - 6.70) // _ZONE_LENGTH_M, 0, 2)
    across = np.clip(places[:, 0] // _ZONE_WIDTH_M, 0, 2)
    return np.stack([from_net, across, places[:, 1] > 6.70], axis=1).astype(np.int64)


def _switches(place: Floats, person: int, truth: MatchTruth, frames: NDArray[np.int64]) -> int:
    """Return how often a player is followed as another person, or the other way round, for longer than a moment."""
    distance = np.linalg.norm(truth.positions_m[:, frames] - place, axis=2)
    known = np.isfinite(distance).all(axis=0)
    nearest = np.argmin(np.where(np.isfinite(distance), distance, np.inf), axis=0)
    # Partners stand close to each other at times; only a clear difference says that it is the other one.
    wrong = known & (nearest != person) & (distance[person] > distance.min(axis=0) + 0.7)
    count, since_s, counted = 0, None, False
    for index in range(len(frames)):
        if not wrong[index]:
            if known[index]:
                since_s, counted = None, False
            continue
        time_s = float(truth.time_s[frames[index]])
        since_s = time_s if since_s is None else since_s
        if not counted and time_s - since_s > _SWITCH_S:
            count, counted = count + 1, True
    return count


def _shuttle(place: Floats | None, truth: MatchTruth, frames: NDArray[np.int64]) -> tuple[float, float]:
    """Return precision and recall of the shuttle's places, within 1 % of the picture's width."""
    if place is None:
        return float("nan"), float("nan")
    limit_px = 0.01 * truth.options.width_px
    flying = truth.shuttle_visible[frames] & (truth.shuttle_state[frames] == 1)
    found = np.isfinite(place[:, 0])
    right = found & (np.linalg.norm(place - truth.shuttle_px[frames], axis=1) <= limit_px)
    return float(right.sum() / max(1, found.sum())), float((right & flying).sum() / max(1, flying.sum()))


def _hits(
    found: Sequence[Mapping[str, Any]], truth: MatchTruth
) -> tuple[list[tuple[Mapping[str, Any], TrueHit]], float, float]:
    """Return pairs of found and true hits, each used once, and precision and recall; passes in pauses count as hits."""
    true = sorted([*truth.hits, *truth.passes], key=lambda hit: hit.time_s)
    shown = [hit for hit in true if truth.segment_at(hit.time_s).kind == "play"]
    in_rally = [hit for hit in shown if hit in truth.hits]
    pairs = sorted(
        (abs(hit_found["time_s"] - hit.time_s), index, number)
        for index, hit_found in enumerate(found)
        for number, hit in enumerate(shown)
        if abs(hit_found["time_s"] - hit.time_s) <= HIT_TOLERANCE_S
    )
    used_found: set[int] = set()
    used_true: set[int] = set()
    matched = []
    for _, index, number in pairs:
        if index not in used_found and number not in used_true:
            used_found.add(index)
            used_true.add(number)
            if shown[number] in in_rally:
                matched.append((found[index], shown[number]))
    wrong = len(found) - len(used_found)
    precision = len(matched) / max(1, len(matched) + wrong)
    return matched, precision, len(matched) / max(1, len(in_rally))


def _rallies(
    found: Sequence[Mapping[str, Any]], truth: MatchTruth, numbers: Mapping[int, int]
) -> tuple[Floats, list[bool]]:
    """Return the errors of the limits of each true rally, and whether each named winner is right."""
    errors: list[float] = []
    winners: list[bool] = []
    team_size = max(1, len(truth.positions_m) // 2)
    for rally in (rally for rally in truth.rallies if rally.complete):
        overlaps = [min(other["end_s"], rally.end_s) - max(other["start_s"], rally.start_s) for other in found]
        best = int(np.argmax(overlaps)) if overlaps and max(overlaps) > 0 else None
        if best is None:
            errors += [np.nan, np.nan]
            continue
        one = found[best]
        errors += [one["start_s"] - rally.start_s, one["end_s"] - rally.end_s]
        if one["winner"] is not None:
            person = numbers.get(one["winner"])
            winners.append(person is not None and person // team_size == rally.winner_team)
    return np.array(errors), winners
