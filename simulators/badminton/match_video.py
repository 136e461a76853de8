"""Rendering of a match to an MP4 with true timestamps, and its ground truth."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from simulators.badminton.frame_times import TICKS_HZ
from simulators.badminton.match_options import MatchOptions
from simulators.badminton.match_renderer import MatchRenderer
from simulators.badminton.match_truth import MatchTruth
from simulators.badminton.truth_from_world import make_match
from simulators.laps.lap_video import write_rotation


def match_truth(options: MatchOptions) -> MatchTruth:
    """Return the ground truth without rendering; the same as ``render_match`` returns."""
    return make_match(options).truth


def render_match(path: Path, options: MatchOptions, *, progress: Callable[[float], None] | None = None) -> MatchTruth:
    """Render a match to ``path`` (H.264, yuv420p) and return its ground truth.

    The truth is also written beside the video (``MatchTruth.save``): arrays as .npz, lists as .json.
    """
    renderer = MatchRenderer(make_match(options))
    truth = renderer.match.truth
    turned = options.rotation_deg // 90
    time_base = Fraction(1, TICKS_HZ)
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(options.rate_hz).limit_denominator(1001))
        size = (options.width_px, options.height_px)
        stream.width, stream.height = size if turned % 2 == 0 else size[::-1]
        stream.pix_fmt = "yuv420p" if options.width_px % 2 == options.height_px % 2 == 0 else "yuv444p"
        stream.codec_context.time_base = time_base
        stream.codec_context.thread_count = 1
        stream.options = {"preset": "superfast", "crf": str(options.quality_crf), "g": "60"}
        for index, time_s in enumerate(truth.time_s):
            picture = renderer.draw(index)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.rot90(picture, turned)), format="bgr24")
            frame.pts = round(float(time_s) * TICKS_HZ)
            frame.time_base = time_base
            container.mux(stream.encode(frame))
            if progress is not None:
                progress((index + 1) / len(truth.time_s))
        container.mux(stream.encode(None))
    if turned:
        write_rotation(path, options.rotation_deg)
    truth.save(path)
    return truth
