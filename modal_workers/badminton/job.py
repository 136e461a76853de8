"""The badminton analysis, from the video to the report: the stages in order."""

from __future__ import annotations

from pathlib import Path

import cv2

from modal_workers.badminton.detection.frame_times import AnalysedFrames, FrameTimes
from modal_workers.badminton.spec import BadmintonParams, BadmintonResult, MissingPart, VideoResult
from modal_workers.footage.video_reader import VideoFacts, VideoReader
from modal_workers.runtime.context import Context


def run(params: BadmintonParams, context: Context) -> BadmintonResult:
    """Analyse a match.

    Raises:
        SaccadeError: INPUT_UNREADABLE, MEDIA_NO_VIDEO, MEDIA_TOO_LARGE, CLIP_TOO_SHORT.
    """
    cv2.setNumThreads(1)
    path, name = context.input("video"), context.input_name("video")
    with context.stage("court"):
        facts, times, warnings = _read(path, name, context)
    reason = "This version of the worker reads the video only."
    parts = ("court", "players", "shuttle", "rallies")
    return BadmintonResult(
        video=VideoResult(
            filename=facts.filename,
            width_px=facts.width_px,
            height_px=facts.height_px,
            rotation_deg=facts.rotation_deg,
            frame_count=facts.frame_count,
            analysed_frame_count=len(times),
            duration_s=facts.duration_s,
            mean_rate_hz=facts.mean_rate_hz,
            variable_rate=facts.variable_rate,
        ),
        mode=params.mode,
        pose_backend="",
        shuttle_backend="",
        skeletons=False,
        court=None,
        players=(),
        rally_count=None,
        play_s=None,
        longest_rally_s=None,
        hit_count=None,
        left_out_s=0.0,
        warnings=warnings,
        missing=tuple(MissingPart(part=part, reason=reason) for part in parts),
    )


def _read(path: Path, name: str, context: Context) -> tuple[VideoFacts, FrameTimes, tuple[str, ...]]:
    selection = AnalysedFrames()
    reader = VideoReader(path, name)
    for time_s, _ in reader.decoded():
        context.check()
        selection.admit(time_s)
    reader.reject_short()
    return reader.facts, selection.times, tuple(reader.warnings)
