"""Headline figures of an analysis: the result of the job."""

from __future__ import annotations

import dataclasses
import math

from modal_workers.badminton.analytics.analysis import Analysis, PlayerFigures
from modal_workers.badminton.match import CameraSegmentResult, Match
from modal_workers.badminton.missing import RALLIES, hits_known
from modal_workers.badminton.spec import BadmintonResult, CourtResult, MissingPart, PlayerResult, VideoResult


def build_result(match: Match, analysis: Analysis) -> BadmintonResult:
    """Return the figures that ``job.succeeded`` carries."""
    rallies_known = all(each.part != RALLIES for each in match.missing)
    longest_s = max((figures.duration_s for figures in analysis.rallies), default=None)
    return BadmintonResult(
        video=VideoResult(**dataclasses.asdict(match.facts), analysed_frame_count=match.frame_count),
        mode=match.mode,
        pose_backend=match.pose_backend,
        shuttle_backend=match.shuttle_backend,
        skeletons=match.has_skeletons,
        court=_court(match),
        players=tuple(_player(figures) for figures in analysis.players),
        rally_count=len(match.rallies) if rallies_known else None,
        play_s=analysis.play_time.rally_s if rallies_known else None,
        longest_rally_s=longest_s if rallies_known else None,
        hit_count=sum(len(rally.hits) for rally in match.rallies) if hits_known(match) else None,
        left_out_s=sum(_duration_s(segment) for segment in match.segments if not segment.analysed),
        warnings=match.warnings,
        missing=tuple(MissingPart(part=each.part, reason=each.reason) for each in match.missing),
    )


def _duration_s(segment: CameraSegmentResult) -> float:
    return segment.end_s - segment.start_s


def _court(match: Match) -> CourtResult | None:
    analysed = [segment for segment in match.segments if segment.court is not None]
    if not analysed:
        return None
    court = max(analysed, key=_duration_s).court
    assert court is not None
    total_s = sum(_duration_s(segment) for segment in match.segments)
    return CourtResult(
        source=court.source,
        corners_px=tuple((float(x), float(y)) for x, y in court.corners_px),
        residual_px=_known(court.residual_px),
        residual_m=_known(court.residual_m),
        confidence=court.confidence,
        time_share=min(1.0, sum(_duration_s(segment) for segment in analysed) / total_s) if total_s > 0 else 1.0,
    )


def _player(figures: PlayerFigures) -> PlayerResult:
    motion = figures.motion
    return PlayerResult(
        player=figures.player,
        observed_share=motion.observed_share,
        identity_confidence=_known(figures.identity_confidence_min),
        distance_m=_known(motion.distance_m),
        distance_error_m=_known(motion.distance_error_m),
        mean_speed_m_s=_known(motion.mean_speed_m_s),
        top_speed_m_s=_known(motion.top_speed_m_s),
        top_speed_error_m_s=_known(motion.top_speed_error_m_s),
        outlier_count=figures.outlier_count,
    )


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
