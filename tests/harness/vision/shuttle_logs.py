"""Shuttle candidates, player tracks and courts made from a simulated match's truth, without rendering it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.court.homography import CourtView
from modal_workers.badminton.players.persons import PersonLog
from modal_workers.badminton.players.player_tracks import PlayerTracks
from modal_workers.badminton.shuttle.shuttle_track import CandidateLog
from simulators.badminton.match_truth import MatchTruth

IN_FLIGHT = 1


@dataclass(frozen=True)
class DetectorQuality:
    """How well a simulated detector sees the shuttle."""

    recall: float = 0.95
    noise_px: float = 1.5
    #: Candidates in a frame that are anywhere, at one of six fixed places, at a limb of a player.
    anywhere: float = 0.05
    fixed: float = 0.0
    limbs: float = 0.0
    #: Whether it also sees a shuttle on the floor or in a hand.
    sees_resting: bool = False


LEARNED = DetectorQuality()
CLASSICAL = DetectorQuality(recall=0.88, noise_px=1.5, anywhere=1.0, fixed=0.8, limbs=1.2)


def picture_size(truth: MatchTruth) -> tuple[int, int]:
    """Return (width, height)."""
    return truth.options.width_px, truth.options.height_px


def candidate_log(truth: MatchTruth, quality: DetectorQuality = LEARNED, seed: int = 0) -> CandidateLog:
    """Return what a detector of a quality finds."""
    random = np.random.default_rng([seed, truth.options.seed])
    size = np.array(picture_size(truth), float)
    fixed = random.uniform((0, 0), size, (6, 2))
    states = (IN_FLIGHT, 2, 3) if quality.sees_resting else (IN_FLIGHT,)
    positions: list[NDArray[np.float64]] = []
    scores: list[NDArray[np.float64]] = []
    for frame in range(len(truth.time_s)):
        found = [random.uniform((0, 0), size, (random.poisson(quality.anywhere), 2))]
        found.append(fixed[random.random(6) < quality.fixed / 6] + random.normal(0, 0.7, 2))
        limbs = truth.keypoints_px[:, frame, [9, 10, 15, 16]].reshape(-1, 2)
        limbs = limbs[np.isfinite(limbs).all(1)]
        limbs = limbs[random.random(len(limbs)) < quality.limbs / 8]
        found.append(limbs + random.normal(0, 3, limbs.shape))
        clutter = np.concatenate(found)
        score = random.uniform(0.2, 0.9, len(clutter))
        if truth.shuttle_visible[frame] and truth.shuttle_state[frame] in states and random.random() < quality.recall:
            seen = truth.shuttle_px[frame] + random.normal(0, quality.noise_px, 2)
            clutter, score = np.vstack([clutter, seen]), np.append(score, random.uniform(0.5, 1.0))
        positions.append(clutter)
        scores.append(score)
    offsets = np.concatenate([[0], np.cumsum([len(score) for score in scores])])
    return CandidateLog(
        offsets.astype(np.int64),
        np.concatenate(positions).astype(np.float32),
        np.concatenate(scores).astype(np.float32),
    )


def player_tracks(truth: MatchTruth, noise_m: float = 0.08, noise_px: float = 3.0, seed: int = 0) -> PlayerTracks:
    """Return tracks with boxes and no skeletons, as the backend ``motion`` leads to."""
    random = np.random.default_rng([seed, 1, truth.options.seed])
    count, frames = truth.positions_m.shape[:2]
    position = truth.positions_m + random.normal(0, noise_m, (count, 1, 2))
    seen = np.isfinite(truth.boxes_px).all(2)
    side = np.where(position[..., 1] > 6.7, 1, -1)
    return PlayerTracks(
        position_m=np.where(seen[..., None], position, np.nan).astype(np.float32),
        position_error_m=np.where(seen, noise_m, np.nan).astype(np.float32),
        velocity_m_s=np.gradient(position, truth.time_s, axis=1).astype(np.float32),
        observed=seen,
        boxes_px=(truth.boxes_px + random.normal(0, noise_px, truth.boxes_px.shape)).astype(np.float32),
        keypoints_px=np.full((count, frames, 17, 3), np.nan, np.float32),
        confidence=np.where(seen, 0.9, 0.0).astype(np.float32),
        identity_confidence=np.ones((count, frames), np.float32),
        side=np.where(seen, side, 0).astype(np.int8),
        outlier_count=np.zeros(count, np.int64),
    )


def person_log(truth: MatchTruth) -> PersonLog:
    """Return the players' boxes as a detector without skeletons finds them, without bystanders."""
    seen = np.isfinite(truth.boxes_px).all(2)
    counts = seen.sum(0)
    boxes = truth.boxes_px.transpose(1, 0, 2)[seen.T]
    return PersonLog(
        frame_offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        boxes_px=boxes.astype(np.float32),
        confidence=np.full(len(boxes), 0.9, np.float32),
        keypoints_px=np.full((len(boxes), 17, 3), np.nan, np.float32),
        appearance=np.zeros((len(boxes), 1), np.float32),
    )


def court_view(truth: MatchTruth) -> CourtView:
    """Return the court as the camera sees it at the beginning."""
    return CourtView(truth.image_from_court[0], 0.01, 1.0, 0.95, "lines", 1.0, 1.0)


def whole(truth: MatchTruth) -> list[tuple[int, int, CourtView | None]]:
    """Return the video as one segment."""
    return [(0, len(truth.time_s) - 1, court_view(truth))]
