"""Small comparisons with known ground truth, and clips whose grey level encodes the place, for rendering tests."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from modal_workers.footage.video_reader import VideoFacts
from modal_workers.lap_compare.comparison import Alignment, Comparison, Floats, Opportunity, Sector

DARK, BRIGHT = 40, 210


def clip(
    filename: str = "lap.mp4", *, size: tuple[int, int] = (96, 64), rate_hz: float = 25.0, duration_s: float = 6.0
):
    return VideoFacts(
        filename=filename,
        width_px=size[0],
        height_px=size[1],
        rotation_deg=0,
        frame_count=round(rate_hz * duration_s),
        duration_s=duration_s,
        mean_rate_hz=rate_hz,
        variable_rate=False,
    )


def comparison(
    time_a_s: Floats,
    time_b_s: Floats,
    *,
    clips: tuple[VideoFacts, VideoFacts] = (clip("a.mp4"), clip("b.mp4")),
    stretches: Sequence[tuple[float, float]] = (),
    sector_names: Sequence[str] = ("Sector 1", "Sector 2"),
    warnings: tuple[str, ...] = (),
    flow: tuple[Floats, Floats] | None = None,
) -> Comparison:
    """Return a comparison with a known alignment; ``stretches`` are the opportunities, by their times on A."""
    alignment = Alignment(
        time_a_s=time_a_s,
        time_b_s=time_b_s,
        error_s=np.full(len(time_a_s), 0.03),
        confidence=np.linspace(0.9, 0.1, len(time_a_s)),
        path_cost=0.3,
        overlap=0.95,
        mount_corrected=True,
        piecewise_s=0.02,
    )

    def b_of(time_s: float) -> float:
        return float(np.interp(time_s, time_a_s, time_b_s))

    edges = np.linspace(time_a_s[0], time_a_s[-1], len(sector_names) + 1)
    sectors = tuple(
        Sector(name, start, end, end - start, b_of(end) - b_of(start), b_of(end) - b_of(start) - end + start, 0.04, 0.8)
        for name, start, end in zip(sector_names, edges[:-1].tolist(), edges[1:].tolist(), strict=True)
    )
    opportunities = []
    for rank, (start, end) in enumerate(stretches, start=1):
        change = b_of(end) - b_of(start) - (end - start)
        loser = "b" if change > 0 else "a"
        opportunities.append(Opportunity(rank, loser, start, end, b_of(start), b_of(end), abs(change), 0.04, 0.8))
    delta_s = time_b_s - time_b_s[0] - (time_a_s - time_a_s[0])
    return Comparison(
        clip_a=clips[0],
        clip_b=clips[1],
        alignment=alignment,
        delta_s=delta_s,
        relative_speed=1 / np.gradient(time_b_s, time_a_s),
        total_a_s=float(np.ptp(time_a_s)),
        total_b_s=float(np.ptp(time_b_s)),
        sectors=sectors,
        opportunities=tuple(opportunities),
        confidence=0.6,
        warnings=warnings,
        flow_a=flow[0] if flow else None,
        flow_b=flow[1] if flow else None,
    )


def write_place_clip(
    path: Path, times_s: Floats, places: Floats, *, size: tuple[int, int] = (96, 64), ramps: int = 1
) -> None:
    """Write a clip with a frame at each of ``times_s``, grey from ``DARK`` at place 0 to ``BRIGHT`` at place 1.

    With several ``ramps`` the grey restarts that often along the lap: finer places, known up to a ramp.
    """
    levels = DARK + (BRIGHT - DARK) * (places * ramps % 1.0 if ramps > 1 else places)
    write_grey_clip(path, times_s, [np.full((size[1], size[0]), level) for level in levels])


def write_grey_clip(path: Path, times_s: Floats, pictures: Sequence[np.ndarray]) -> None:
    """Write grey frames, [height, width] in 0..255, at given times (rounded to milliseconds), almost losslessly."""
    height, width = pictures[0].shape
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuv420p" if width % 2 == height % 2 == 0 else "yuv444p"
        stream.options = {"crf": "4", "preset": "ultrafast"}
        stream.codec_context.time_base = Fraction(1, 1000)
        for time_s, picture in zip(times_s, pictures, strict=True):
            frame = av.VideoFrame.from_ndarray(np.rint(picture).astype(np.uint8), format="gray").reformat(
                format=stream.pix_fmt
            )
            frame.pts, frame.time_base = round(float(time_s) * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
