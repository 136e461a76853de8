"""A simulated match as a pose network would report it: noise that lasts, misses, mix-ups, false detections."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.court.homography import CourtView
from modal_workers.badminton.players.persons import PersonLog
from simulators.badminton.match_truth import MatchTruth
from tests.harness.vision.badminton_persons import SHIRT_BINS, STANDING_M

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Detector:
    """How well persons are detected; lengths are shares of a person's height in the picture."""

    keypoint_error: float = 0.015
    box_error: float = 0.02
    #: Share of an error that stays from frame to frame.
    persistence: float = 0.8
    missed: float = 0.03
    #: Of those who are mostly hidden: not reported, or reported with the skeleton of who hides them.
    hidden_missed: float = 0.85
    mixed_up: float = 0.3
    #: False detections per frame.
    false_rate: float = 0.02
    skeletons: bool = True
    shirt_sharpness: float = 50.0


def detections(
    random: np.random.Generator, truth: MatchTruth, shirts: Floats, detector: Detector | None = None
) -> tuple[PersonLog, NDArray[np.int64]]:
    """Return what a detector finds in the frames of the play, and whom each row shows (-1: a false detection).

    ``shirts`` [players, SHIRT_BINS] are the players' colours; bystanders get colours of their own.
    """
    detector = detector or Detector()
    boxes = np.concatenate([truth.boxes_px, truth.bystander_boxes_px])
    keypoints = np.concatenate([truth.keypoints_px, _seated(truth.bystander_boxes_px)])
    persons, frames, _ = boxes.shape
    height = (boxes[..., 3] - boxes[..., 1])[..., None]
    boxes = boxes + detector.box_error * height * _lasting(random, boxes.shape, detector.persistence)
    keypoints = keypoints + detector.keypoint_error * height[..., None] * _lasting(
        random, keypoints.shape, detector.persistence
    )
    confidence = np.clip(random.normal(0.85, 0.08, (persons, frames, 17)), 0, 1)
    confidence[: len(truth.boxes_px)][~truth.keypoints_visible] = 0.1
    seen = np.isfinite(boxes).all(axis=2) & (random.random((persons, frames)) >= detector.missed)
    for hidden, nearer in _hidden(boxes):
        frame = np.flatnonzero(hidden)
        seen[nearer[0], frame] &= random.random(len(frame)) >= detector.hidden_missed
        mixed = frame[random.random(len(frame)) < detector.mixed_up]
        keypoints[nearer[0], mixed, 9:] = keypoints[nearer[1], mixed, 9:]
    frame, person = np.nonzero(seen.T)
    points = np.concatenate([keypoints, confidence[..., None]], axis=3)[person, frame]
    if not detector.skeletons:
        points[:] = np.nan
    colours = np.concatenate([shirts, random.dirichlet(np.full(SHIRT_BINS, 0.12), persons - len(shirts) + 1)])
    boxes = boxes[person, frame]
    false = np.flatnonzero(random.random(frames) < detector.false_rate)
    corner = random.uniform(0, 0.9, (len(false), 2)) * (truth.options.width_px, truth.options.height_px)
    boxes = np.concatenate([boxes, np.concatenate([corner, corner + np.array([60, 150])], axis=1)])
    points = np.concatenate([points, np.full((len(false), 17, 3), np.nan)])
    frame, person = np.concatenate([frame, false]), np.concatenate([person, np.full(len(false), -1)])
    order = np.argsort(frame, kind="stable")
    appearance = random.standard_gamma(colours[person[order]] * detector.shirt_sharpness + 0.02)
    log = PersonLog(
        frame_offsets=np.searchsorted(frame[order], np.arange(frames + 1)).astype(np.int64),
        boxes_px=boxes[order].astype(np.float32),
        confidence=random.uniform(0.4, 0.95, len(frame)).astype(np.float32),
        keypoints_px=points[order].astype(np.float32),
        appearance=(appearance / appearance.sum(axis=1, keepdims=True)).astype(np.float32),
    )
    return log, person[order]


def court_segments(truth: MatchTruth) -> list[tuple[int, int, CourtView]]:
    """Return the stretches in which the play's camera films, with the true court."""
    shown = np.isfinite(truth.image_from_court).all(axis=(1, 2)).astype(int)
    starts = np.flatnonzero(np.diff(shown, prepend=0) == 1)
    ends = np.flatnonzero(np.diff(shown, append=0) == -1)
    return [
        (int(first), int(last), CourtView(truth.image_from_court[first], 0.01, 0.5, 1.0, "lines", 1.0, 1.0))
        for first, last in zip(starts, ends, strict=True)
    ]


def _lasting(random: np.random.Generator, shape: tuple[int, ...], persistence: float) -> Floats:
    """Return noise of variance 1 along the second axis, each frame's a share of the one before's."""
    noise = random.normal(size=shape)
    fresh = np.sqrt(1 - persistence**2)
    for frame in range(1, shape[1]):
        noise[:, frame] = persistence * noise[:, frame - 1] + fresh * noise[:, frame]
    return noise


def _seated(boxes: Floats) -> Floats:
    """Return keypoints [persons, N, 17, 2] of somebody upright inside each box."""
    size = boxes[..., 2:] - boxes[..., :2]
    share = np.stack([0.5 + STANDING_M[:, 0], 1 - STANDING_M[:, 1] / 1.75], axis=1)
    return boxes[..., None, :2] + share * size[..., None, :]


def _hidden(boxes: Floats) -> list[tuple[NDArray[np.bool_], tuple[int, int]]]:
    """Return for each pair in which frames the first is mostly behind the second."""
    found = []
    area = (boxes[..., 2:] - boxes[..., :2]).prod(axis=2)
    for far in range(len(boxes)):
        for near in range(len(boxes)):
            low = np.maximum(boxes[far, :, :2], boxes[near, :, :2])
            high = np.minimum(boxes[far, :, 2:], boxes[near, :, 2:])
            common = np.maximum(np.nan_to_num(high - low), 0).prod(axis=1)
            behind = (common > 0.6 * area[far]) & (boxes[near, :, 3] > boxes[far, :, 3])
            if far != near and behind.any():
                found.append((behind, (far, near)))
    return found
