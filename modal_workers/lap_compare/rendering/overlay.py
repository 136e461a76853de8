"""Renders both clips side by side, locked by place: A plays at its own rate, B shows the frame of the same place.

One pass over both clips makes the overlay, its smaller copy for the report and the opportunity clips together:
decoding is most of the work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from modal_workers.lap_compare.comparison import Comparison, Floats, Opportunity
from modal_workers.lap_compare.rendering.dashboard import Dashboard, FrameFigures
from modal_workers.lap_compare.rendering.h264_writer import DownscalingWriter, EncodingPlan, H264Writer, plan_encoding
from modal_workers.lap_compare.rendering.panel import FramePrefetcher, colour_matrix_of, panel_frames

MAX_RATE_HZ = 30
MIN_RATE_HZ = 5
CLIP_MARGIN_S = 1.0
#: Of an overlay: half of what laps filmed at 1080p took.
MIN_BITS_PER_PIXEL = 0.04

Progress = Callable[[float, str], None]
FrameMask = NDArray[np.bool_]  # [N], which frames of a timeline


@dataclass(frozen=True)
class Timeline:
    """When the overlay shows what. Arrays are [N], one entry an output frame."""

    rate_hz: Fraction
    time_a_s: Floats
    time_b_s: Floats


def output_timeline(comparison: Comparison) -> Timeline:
    """Lay out the output frames over the common stretch at A's rate, at most 30 frames a second."""
    clip, alignment = comparison.clip_a, comparison.alignment
    rate = MAX_RATE_HZ if clip.variable_rate else min(MAX_RATE_HZ, max(MIN_RATE_HZ, clip.mean_rate_hz))
    rate_hz = Fraction(rate).limit_denominator(1001)
    start_s, end_s = float(alignment.time_a_s[0]), float(alignment.time_a_s[-1])
    count = int((end_s - start_s) * float(rate_hz) + 1e-6) + 1  # a last frame is not lost to rounding
    time_a_s = start_s + np.arange(count) / float(rate_hz)
    # forward only: the decoder of B never goes back, and a step back would be noise of the alignment
    time_b_s = np.maximum.accumulate(np.interp(time_a_s, alignment.time_a_s, alignment.time_b_s))
    return Timeline(rate_hz, time_a_s, np.asarray(time_b_s, np.float64))


def render_overlay(
    path_a: Path,
    path_b: Path,
    comparison: Comparison,
    out_path: Path,
    *,
    height_px: int = 360,
    progress: Progress | None = None,
    clips: Mapping[int, Path] | None = None,
    smaller: tuple[Path, int] | None = None,
) -> None:
    """Write the side-by-side MP4, and in the same pass one MP4 for each opportunity.

    ``clips`` maps an opportunity's rank to the file for it: its stretch and a second on either side. ``smaller`` names
    a file and a number of bytes: an overlay that will hardly be so small is also written to that file, so that it is.
    ``height_px`` is the height of one panel. ``progress`` is called for every frame with the share done (0..1);
    whatever it raises stops the work and leaves no file behind.

    Raises:
        SaccadeError: a clip does not decode any more.
        av.error.FFmpegError: the encoder fails, for example because the disk is full.
        ValueError: ``clips`` names a rank that is not there.
    """
    plan = output_timeline(comparison)
    shown = _clip_frames(comparison, plan, clips or {})
    shown[out_path] = np.ones(len(plan.time_a_s), np.bool_)
    _render((path_a, path_b), comparison, plan, shown, height_px=height_px, progress=progress, smaller=smaller)


def _render(
    paths: tuple[Path, Path],
    comparison: Comparison,
    plan: Timeline,
    shown: Mapping[Path, FrameMask],
    *,
    height_px: int,
    progress: Progress | None,
    smaller: tuple[Path, int] | None = None,
) -> None:
    """Write the movies of ``shown``: for each file, which frames of the plan it has."""
    wanted = np.flatnonzero(np.any(list(shown.values()), axis=0))
    matrix = colour_matrix_of(paths[0], comparison.clip_a.filename)
    dashboard = Dashboard(comparison, height_px, matrix)
    with ExitStack() as stack:
        panels = [
            stack.enter_context(
                closing(FramePrefetcher(panel_frames(path, clip.filename, times_s[wanted], size, matrix)))
            )
            for path, clip, times_s, size in (
                (paths[0], comparison.clip_a, plan.time_a_s, dashboard.size_a),
                (paths[1], comparison.clip_b, plan.time_b_s, dashboard.size_b),
            )
        ]
        movies = {
            path: stack.enter_context(H264Writer(path, dashboard.size, plan.rate_hz, matrix=matrix)) for path in shown
        }
        fitted = _fitted(dashboard.size, plan, smaller[1]) if smaller else None
        small = stack.enter_context(DownscalingWriter(smaller[0], fitted, matrix)) if smaller and fitted else None
        moments = _moments(comparison, plan, wanted)
        for done, (index, moment, shot_a, shot_b) in enumerate(zip(wanted, moments, *panels, strict=True), start=1):
            frame = av.VideoFrame.from_ndarray(dashboard.draw(moment, shot_a.picture, shot_b.picture), format="yuv420p")
            if small is not None:
                small.write_frame(frame)
            for path, movie in movies.items():
                if shown[path][index]:
                    movie.write_frame(frame)
            if progress is not None:
                progress(done / len(wanted), f"frame {done} of {len(wanted)}")


def _fitted(size: tuple[int, int], plan: Timeline, limit_bytes: int) -> EncodingPlan | None:
    """Plan the smaller copy of an overlay; None when none is needed or none can be small enough."""
    frames = len(plan.time_a_s)
    if frames * size[0] * size[1] * MIN_BITS_PER_PIXEL < 8 * limit_bytes:
        return None
    try:
        return plan_encoding(size, plan.rate_hz, frames / float(plan.rate_hz), limit_bytes)
    except ValueError:
        return None


def _clip_frames(comparison: Comparison, plan: Timeline, clips: Mapping[int, Path]) -> dict[Path, FrameMask]:
    by_rank = {opportunity.rank: opportunity for opportunity in comparison.opportunities}
    if unknown := set(clips) - set(by_rank):
        raise ValueError(f"There is no opportunity of rank {sorted(unknown)}.")
    return {path: _stretch(plan.time_a_s, by_rank[rank]) for rank, path in clips.items()}


def _stretch(time_a_s: Floats, opportunity: Opportunity) -> FrameMask:
    start_s, end_s = opportunity.start_a_s - CLIP_MARGIN_S, opportunity.end_a_s + CLIP_MARGIN_S
    return np.asarray((time_a_s >= start_s) & (time_a_s <= end_s), np.bool_)


def _moments(comparison: Comparison, plan: Timeline, wanted: NDArray[np.intp]) -> list[FrameFigures]:
    alignment = comparison.alignment
    at_s = plan.time_a_s[wanted]

    def sampled(values: Floats) -> list[float]:
        return [float(value) for value in np.interp(at_s, alignment.time_a_s, values)]

    columns = (
        [float(value) for value in at_s - alignment.time_a_s[0]],
        sampled(comparison.delta_s),
        sampled(alignment.error_s),
        sampled(alignment.confidence),
        sampled(comparison.relative_speed),
    )
    return [FrameFigures(*row) for row in zip(*columns, strict=True)]
