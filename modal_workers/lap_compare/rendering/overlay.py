"""The overlay: both clips side by side, synchronised by place. A plays at its own rate, B shows the same place.

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

from modal_workers.footage.h264_writer import DownscalingWriter, EncodingPlan, H264Writer, plan_encoding
from modal_workers.footage.video_reader import VideoSource
from modal_workers.lap_compare.comparison import Comparison, Floats, Opportunity
from modal_workers.lap_compare.rendering.dashboard import Dashboard, FrameFigures
from modal_workers.lap_compare.rendering.panel import FramePrefetcher, colour_matrix_of, panel_frames

MAX_RATE_HZ = 30
MIN_RATE_HZ = 5
CLIP_MARGIN_S = 1.0
#: Of an overlay: half of what 1080p laps took.
MIN_BITS_PER_PIXEL = 0.04

Progress = Callable[[float, str], None]
FrameMask = NDArray[np.bool_]  # [N], of the frames of a timeline


@dataclass(frozen=True)
class Timeline:
    """Times of the output frames on both clips. Arrays are [N], one entry per frame."""

    rate_hz: Fraction
    time_a_s: Floats
    time_b_s: Floats


def output_timeline(comparison: Comparison) -> Timeline:
    """Lay out the output frames over the common stretch at A's rate, at most 30 frames per second."""
    clip, alignment = comparison.clip_a, comparison.alignment
    rate = MAX_RATE_HZ if clip.variable_rate else min(MAX_RATE_HZ, max(MIN_RATE_HZ, clip.mean_rate_hz))
    rate_hz = Fraction(rate).limit_denominator(1001)
    start_s, end_s = float(alignment.time_a_s[0]), float(alignment.time_a_s[-1])
    count = int((end_s - start_s) * float(rate_hz) + 1e-6) + 1  # so that rounding does not lose the last frame
    time_a_s = start_s + np.arange(count) / float(rate_hz)
    # forward only: a step back would be alignment noise, and the decoder of B never seeks back
    time_b_s = np.maximum.accumulate(np.interp(time_a_s, alignment.time_a_s, alignment.time_b_s))
    return Timeline(rate_hz, time_a_s, np.asarray(time_b_s, np.float64))


def render_overlay(
    path_a: VideoSource,
    path_b: VideoSource,
    comparison: Comparison,
    out_path: Path,
    *,
    height_px: int = 360,
    progress: Progress | None = None,
    clips: Mapping[int, Path] | None = None,
    smaller: tuple[Path, int] | None = None,
) -> None:
    """Write the side-by-side MP4, and in the same pass one MP4 for each opportunity.

    ``clips`` maps an opportunity's rank to its file: the stretch and a second on either side. ``smaller`` is a path and
    a limit in bytes: if the overlay will probably exceed the limit, a smaller copy is written to that path.
    ``height_px`` is the height of one panel. ``progress`` is called for every frame with the share done (0..1);
    what it raises stops the work and leaves no file behind.

    Raises:
        SaccadeError: a clip no longer decodes.
        av.error.FFmpegError: the encoder fails, for example because the disk is full.
        ValueError: ``clips`` contains an unknown rank.
    """
    timeline = output_timeline(comparison)
    masks = _clip_masks(comparison, timeline, clips or {})
    matrix = colour_matrix_of(path_a, comparison.clip_a.filename)
    dashboard = Dashboard(comparison, height_px, matrix)
    with ExitStack() as stack:
        panels = [
            stack.enter_context(closing(FramePrefetcher(panel_frames(path, clip.filename, times_s, size, matrix))))
            for path, clip, times_s, size in (
                (path_a, comparison.clip_a, timeline.time_a_s, dashboard.size_a),
                (path_b, comparison.clip_b, timeline.time_b_s, dashboard.size_b),
            )
        ]
        writers = {
            path: stack.enter_context(H264Writer(path, dashboard.size, timeline.rate_hz, matrix=matrix))
            for path in (out_path, *masks)
        }
        plan = _smaller_plan(dashboard.size, timeline, smaller[1]) if smaller else None
        small = stack.enter_context(DownscalingWriter(smaller[0], plan, matrix)) if smaller and plan else None
        count = len(timeline.time_a_s)
        for index, (figures, frame_a, frame_b) in enumerate(zip(_figures(comparison, timeline), *panels, strict=True)):
            frame = av.VideoFrame.from_ndarray(dashboard.draw(figures, frame_a.image, frame_b.image), format="yuv420p")
            if small is not None:
                small.write_frame(frame)
            for path, writer in writers.items():
                if path not in masks or masks[path][index]:
                    writer.write_frame(frame)
            if progress is not None:
                progress((index + 1) / count, f"frame {index + 1} of {count}")


def _smaller_plan(size: tuple[int, int], timeline: Timeline, limit_bytes: int) -> EncodingPlan | None:
    """Plan the smaller copy of an overlay; None if none is needed or none can be small enough."""
    frames = len(timeline.time_a_s)
    if frames * size[0] * size[1] * MIN_BITS_PER_PIXEL < 8 * limit_bytes:
        return None
    try:
        return plan_encoding(size, timeline.rate_hz, frames / float(timeline.rate_hz), limit_bytes)
    except ValueError:
        return None


def _clip_masks(comparison: Comparison, timeline: Timeline, clips: Mapping[int, Path]) -> dict[Path, FrameMask]:
    by_rank = {opportunity.rank: opportunity for opportunity in comparison.opportunities}
    if unknown := set(clips) - set(by_rank):
        raise ValueError(f"There is no opportunity of rank {sorted(unknown)}.")
    return {path: _stretch(timeline.time_a_s, by_rank[rank]) for rank, path in clips.items()}


def _stretch(time_a_s: Floats, opportunity: Opportunity) -> FrameMask:
    start_s, end_s = opportunity.start_a_s - CLIP_MARGIN_S, opportunity.end_a_s + CLIP_MARGIN_S
    return np.asarray((time_a_s >= start_s) & (time_a_s <= end_s), np.bool_)


def _figures(comparison: Comparison, timeline: Timeline) -> list[FrameFigures]:
    alignment = comparison.alignment
    at_s = timeline.time_a_s

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
