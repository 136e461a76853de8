"""The videos of both laps, or the parts of them that the parameters name."""

from __future__ import annotations

from modal_workers.footage.video_reader import VideoSource, VideoSpan
from modal_workers.lap_compare.spec import LapCompareParams, segments_of
from modal_workers.runtime.context import Context


def lap_sources(params: LapCompareParams, context: Context) -> tuple[tuple[VideoSource, VideoSource], tuple[str, str]]:
    """Return where reference and other are decoded from, and their names, which tell two laps of one video apart."""
    segments = segments_of(params)

    def source(name: str) -> tuple[VideoSource, str]:
        path, filename = context.input(name), context.input_name(name)
        if (segment := segments.get(name)) is None:
            return path, filename
        end = "the end" if segment.stop_s is None else f"{round(segment.stop_s, 2):g} s"
        return VideoSpan(
            path, segment.start_s, segment.stop_s
        ), f"{filename} ({round(segment.start_s, 2):g} s to {end})"

    first, second = source("reference"), source("other")
    return (first[0], second[0]), (first[1], second[1])
