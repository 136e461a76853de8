"""Links candidates into the shuttle's track: the most probable sequence of flights over a window of frames.

A state of the dynamic programme is a candidate together with the velocity at which the path came to it. It goes on to a
later candidate where the flight predicts it (air slows a shuttle within a few frames), to a new flight after a hit, or
to a time without a shuttle. Every step adds the logarithm of how much more probable it is with a shuttle than with
clutter of the density measured at that place, so a lamp that flickers or a racing limb is worth little at its place.
Positions are those of candidates; frames between them stay empty.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.court.homography import CourtView
from modal_workers.badminton.players.persons import PersonLog
from modal_workers.badminton.shuttle.clutter import clutter_density, near_persons
from modal_workers.badminton.shuttle.shuttle_track import CandidateLog, ShuttleTrack
from modal_workers.badminton.shuttle.track_confidence import LEAST_CONFIDENCE, LinkedPoint, point_confidence

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
SegmentFrames = Sequence[tuple[int, int, CourtView | None]]

#: Lengths are those of a picture 720 pixels high, times those of a frame of 30 Hz.
REFERENCE_HEIGHT_PX: Final = 720.0
REFERENCE_RATE_HZ: Final = 30.0
#: Above this rate only every k-th frame is linked first; the frames between are filled from their own candidates.
FASTEST_LINKED_HZ: Final = 62.0
#: Longest time without a candidate within a flight; after a longer one a new flight begins.
LONGEST_MISS_S: Final = 0.14
WINDOW_FRAMES: Final = 900
MARGIN_FRAMES: Final = 90
KEPT_STATES: Final = 48

#: Spread of the prediction: noise of the positions, and a share of the speed.
_NOISE_PX: Final = 4.0
_ALONG_SHARE: Final = 0.14
_ACROSS_SHARE: Final = 0.06
#: Mean loss of speed by drag in one frame of 30 Hz, and share of a new velocity in the estimate.
_DRAG: Final = 0.08
_VELOCITY_GAIN: Final = 0.75
_FIRST_SPEED_PX: Final = 35.0
_FASTEST_PX: Final = 210.0
#: Log probabilities: a missed frame, a hit in this frame, a start out of nothing, a flight whose start was not seen.
_MISSED: Final = -2.3
_HIT: Final = -4.0
_START: Final = -5.0
_JUMP: Final = -12.0
#: A shuttle that was just seen is not somewhere else so soon.
_SOON_S: Final = 0.25
#: Log density of starts: anywhere in the picture, or in reach of a person.
_ANYWHERE: Final = -float(np.log(REFERENCE_HEIGHT_PX**2 * 16 / 9))
_IN_REACH: Final = _ANYWHERE + 2.5
_REACH_HEIGHTS: Final = 0.7
_CLOSE_HEIGHTS: Final = 0.05
#: Longest time between the last candidate before a hit and the first one after it.
_HIT_GAP_S: Final = 0.3
#: A flight seen in fewer frames is not told from clutter; most of two frames need a good score besides.
_FEWEST_IN_FLIGHT: Final = 2


@dataclass
class _States:
    """The states that end in one frame, best first."""

    score: Floats
    position: Floats
    velocity: Floats  # NaN where only one candidate of the flight is known
    candidate: Indices
    back_frame: Indices  # -1: the path begins here
    back_state: Indices
    starts_flight: NDArray[np.bool_]


def link_shuttle(
    log: CandidateLog,
    times_s: Floats,
    picture_size: tuple[int, int],
    segments: SegmentFrames,
    person_log: PersonLog | None = None,
    *,
    progress: Callable[[float], None] | None = None,
) -> ShuttleTrack:
    """Return the shuttle's track; ``picture_size`` is (width, height), ``segments`` the frames of one camera each.

    ``progress`` is called with the share done (0 to 1) between windows; what it raises stops the work.
    """
    count = len(times_s)
    position = np.full((count, 2), np.nan, np.float32)
    confidence = np.zeros(count, np.float32)
    for first, last, _court in segments:
        for window_first, kept_first, kept_last, window_last in _windows(first, last):
            if progress is not None:
                progress(kept_first / count)
            linker = _Linker(log, times_s, picture_size, person_log, (window_first, window_last))
            for point, sure in linker.shuttle():
                if kept_first <= point.frame <= kept_last:
                    position[point.frame] = log.position_px[point.row]
                    confidence[point.frame] = sure
    return ShuttleTrack(position, confidence)


def _windows(first: int, last: int) -> list[tuple[int, int, int, int]]:
    """Return (first frame, first frame kept, last frame kept, last frame) of overlapping windows."""
    return [
        (max(first, kept - MARGIN_FRAMES), kept, end, min(last, end + MARGIN_FRAMES))
        for kept in range(first, last + 1, WINDOW_FRAMES)
        for end in (min(last, kept + WINDOW_FRAMES - 1),)
    ]


class _Linker:
    """The dynamic programme over one window."""

    def __init__(
        self,
        log: CandidateLog,
        times_s: Floats,
        picture_size: tuple[int, int],
        person_log: PersonLog | None,
        frames: tuple[int, int],
    ) -> None:
        first, last = frames
        scale = picture_size[1] / REFERENCE_HEIGHT_PX
        self._first, self._log, self._person_log = first, log, person_log
        offset = int(log.frame_offsets[first])
        rows = slice(offset, int(log.frame_offsets[last + 1]))
        self._row_offset = offset
        self._position = log.position_px[rows].astype(float) / scale
        self._offsets = log.frame_offsets[first : last + 2] - offset
        self._time = (times_s[first : last + 1] - times_s[first]) * REFERENCE_RATE_HZ
        density = clutter_density(log, times_s, picture_size, frames, person_log=person_log) * scale**2
        score = np.clip(log.score[rows].astype(float), 0.02, 0.98)
        # The score counts half: it was calibrated on other pictures than these.
        self._evidence = 0.5 * np.log(score / (1 - score)).clip(-3, 3) - np.log(density)
        self._start_density = np.full(len(self._position), _ANYWHERE)
        if person_log is not None:
            frame_numbers = np.repeat(np.arange(first, last + 1), np.diff(log.frame_offsets[first : last + 2]))
            near = near_persons(log.position_px[rows].astype(float), frame_numbers, person_log, margin=_REACH_HEIGHTS)
            self._start_density[near] = _IN_REACH
        step = np.median(np.diff(self._time)) if last > first else 1.0
        self._stride = max(1, round(float(REFERENCE_RATE_HZ / FASTEST_LINKED_HZ / max(step, 1e-3))))
        self._frames = np.arange(0, last - first + 1, self._stride)
        self._states: list[_States | None] = []

    def shuttle(self) -> list[tuple[LinkedPoint, float]]:
        """Return the points of the path that are probably the shuttle, with their confidence."""
        points = self.path()
        if not points:
            return []
        rows = np.array([point.row for point in points]) - self._row_offset
        frames = np.array([point.frame for point in points])
        log, persons = self._log, self._person_log
        near = None
        if persons is not None:
            near = near_persons(log.position_px[rows + self._row_offset].astype(float), frames, persons, _CLOSE_HEIGHTS)
        score = log.score[rows + self._row_offset].astype(float)
        sure = point_confidence(points, self._position[rows], score, self._time[frames - self._first], near)
        return [(point, float(each)) for point, each in zip(points, sure, strict=True) if each >= LEAST_CONFIDENCE]

    def path(self) -> list[LinkedPoint]:
        """Return the most probable path, in order of time; empty if none is more probable than clutter."""
        best = (0.0, -1, -1)
        for index in range(len(self._frames)):
            states = self._advance(index, best)
            self._states.append(states)
            if states is not None and len(states.score):
                top = int(states.score.argmax())
                if states.score[top] > best[0]:
                    best = (float(states.score[top]), index, top)
        return self._filled(self._long_enough(self._trace(best)))

    def _advance(self, index: int, idle: tuple[float, int, int]) -> _States | None:
        """Return the states that end in a frame."""
        frame = int(self._frames[index])
        low, high = int(self._offsets[frame]), int(self._offsets[frame + 1])
        if low == high:
            return None
        position, evidence = self._position[low:high], self._evidence[low:high]
        new = [self._starts(frame, evidence, idle)]
        for back in range(index - 1, -1, -1):
            elapsed = float(self._time[frame] - self._time[self._frames[back]])
            if elapsed > _HIT_GAP_S * REFERENCE_RATE_HZ:
                break
            before = self._states[back]
            if before is None:
                continue
            missed = _MISSED * max(0.0, elapsed - 1) if elapsed > 1 else 0.0
            if elapsed <= LONGEST_MISS_S * REFERENCE_RATE_HZ + 0.5:
                new.append(_continued(before, back, position, evidence + missed, elapsed))
            new.append(_after_hit(before, back, position, evidence + missed, elapsed))
        return _best_states(new)

    def _starts(self, frame: int, evidence: Floats, idle: tuple[float, int, int]) -> _States:
        """Return the states of flights that begin in a frame without one that they follow."""
        rows = slice(int(self._offsets[frame]), int(self._offsets[frame + 1]))
        count = rows.stop - rows.start
        score, back_frame, back_state = idle
        soon = (
            back_frame >= 0 and self._time[frame] - self._time[self._frames[back_frame]] < _SOON_S * REFERENCE_RATE_HZ
        )
        begun = score + evidence + self._start_density[rows] + (_JUMP if soon else _START)
        return _States(
            begun,
            self._position[rows],
            np.full((count, 2), np.nan),
            np.arange(count),
            np.full(count, back_frame),
            np.full(count, back_state),
            np.ones(count, bool),
        )

    def _trace(self, best: tuple[float, int, int]) -> list[LinkedPoint]:
        """Return the points of the path that ends in a state."""
        _score, index, state = best
        points: list[tuple[int, int, bool, float]] = []
        while index >= 0:
            states = self._states[index]
            assert states is not None
            before, before_state = int(states.back_frame[state]), int(states.back_state[state])
            earlier = self._states[before] if before >= 0 else None
            gain = float(states.score[state]) - (float(earlier.score[before_state]) if earlier is not None else 0.0)
            frame = int(self._frames[index])
            row = int(self._offsets[frame]) + int(states.candidate[state])
            points.append((frame, row, bool(states.starts_flight[state]), gain))
            index, state = before, before_state
        points.reverse()
        flight = -1
        linked: list[LinkedPoint] = []
        for frame, row, starts, gain in points:
            flight += starts
            linked.append(LinkedPoint(frame + self._first, row + self._row_offset, flight, gain))
        return linked

    def _long_enough(self, points: list[LinkedPoint]) -> list[LinkedPoint]:
        """Return the points of flights seen often enough."""
        counts = np.bincount([point.flight for point in points]) if points else np.zeros(0, int)
        return [point for point in points if counts[point.flight] >= _FEWEST_IN_FLIGHT]

    def _filled(self, points: list[LinkedPoint]) -> list[LinkedPoint]:
        """Return the points with those of the frames between that were left out for speed, where one fits."""
        if self._stride == 1:
            return points
        filled: list[LinkedPoint] = []
        for before, after in itertools.pairwise(points):
            filled.append(before)
            if before.flight == after.flight:
                filled.extend(self._between(before, after))
        return [*filled, *points[-1:]]

    def _between(self, before: LinkedPoint, after: LinkedPoint) -> list[LinkedPoint]:
        found: list[LinkedPoint] = []
        start, end = (self._position[point.row - self._row_offset] for point in (before, after))
        times = self._time[[before.frame - self._first, after.frame - self._first]]
        for frame in range(before.frame + 1, after.frame):
            local = frame - self._first
            rows = np.arange(self._offsets[local], self._offsets[local + 1])
            if not len(rows):
                continue
            share = (self._time[local] - times[0]) / (times[1] - times[0])
            distance = np.hypot(*(self._position[rows] - (start + share * (end - start))).T)
            nearest = int(distance.argmin())
            if distance[nearest] <= _NOISE_PX + _ALONG_SHARE * float(np.hypot(*(end - start))):
                found.append(LinkedPoint(frame, int(rows[nearest]) + self._row_offset, before.flight, before.gain))
        return found


def _continued(before: _States, back: int, position: Floats, evidence: Floats, elapsed: float) -> _States:
    """Return the states of flights that go on to each candidate."""
    step = position[None] - before.position[:, None]
    measured = step / elapsed
    known = ~np.isnan(before.velocity[:, 0])
    velocity = np.where(known[:, None], before.velocity, 0.0)
    speed = np.hypot(velocity[:, 0], velocity[:, 1])
    direction = velocity / np.maximum(speed, 1e-9)[:, None]
    kept = max(0.3, 1 - _DRAG * elapsed)
    error = step - (velocity * (elapsed * (1 + kept) / 2))[:, None]
    along = (error * direction[:, None]).sum(2)
    across = error[..., 0] * -direction[:, None, 1] + error[..., 1] * direction[:, None, 0]
    spread_along = (_NOISE_PX + _ALONG_SHARE * speed * elapsed)[:, None]
    spread_across = (_NOISE_PX + _ACROSS_SHARE * speed * elapsed)[:, None]
    predicted = -0.5 * ((along / spread_along) ** 2 + (across / spread_across) ** 2)
    predicted = predicted - np.log(2 * np.pi * spread_along * spread_across)
    measured_speed = np.hypot(measured[..., 0], measured[..., 1])
    first = -np.log(np.pi * (_FIRST_SPEED_PX * elapsed) ** 2) - 2 * np.log1p((measured_speed / _FIRST_SPEED_PX) ** 2)
    gain = np.where(known[:, None], predicted, first)
    score = before.score[:, None] + gain + evidence[None]
    score = np.where(measured_speed <= _FASTEST_PX, score, -np.inf)
    # One state before each candidate and start is enough where they agree: the best few are kept.
    rows, columns = np.nonzero(score > score.max(initial=-np.inf) - 40)
    mixed = (1 - _VELOCITY_GAIN) * kept * velocity[rows] + _VELOCITY_GAIN * measured[rows, columns]
    new_velocity = np.where(known[rows][:, None], mixed, measured[rows, columns])
    return _States(
        score[rows, columns],
        position[columns],
        new_velocity,
        columns,
        np.full(len(rows), back),
        rows,
        np.zeros(len(rows), bool),
    )


def _after_hit(before: _States, back: int, position: Floats, evidence: Floats, elapsed: float) -> _States:
    """Return the states of flights that begin at a candidate after a hit near the end of the flight before."""
    flying = np.flatnonzero(~np.isnan(before.velocity[:, 0]))[:8]
    step = position[None] - before.position[flying][:, None]
    speed = np.hypot(step[..., 0], step[..., 1]) / elapsed
    gain = _HIT - np.log(np.pi * (_FIRST_SPEED_PX * elapsed) ** 2) - 2 * np.log1p((speed / _FIRST_SPEED_PX) ** 2)
    score = np.where(speed <= _FASTEST_PX, before.score[flying][:, None] + gain + evidence[None], -np.inf)
    best = score.argmax(0) if len(flying) else np.zeros(0, int)
    columns = np.arange(len(position)) if len(flying) else np.zeros(0, int)
    return _States(
        score[best, columns],
        position[columns],
        np.full((len(columns), 2), np.nan),
        columns,
        np.full(len(columns), back),
        flying[best] if len(flying) else best,
        np.ones(len(columns), bool),
    )


def _best_states(parts: list[_States]) -> _States:
    """Return the best states of several, best first."""
    score = np.concatenate([part.score for part in parts])
    order = np.argsort(-score, kind="stable")
    order = order[np.isfinite(score[order])][:KEPT_STATES]
    fields = {
        name: np.concatenate([getattr(part, name) for part in parts])[order]
        for name in ("position", "velocity", "candidate", "back_frame", "back_state", "starts_flight")
    }
    return _States(score[order], **fields)
