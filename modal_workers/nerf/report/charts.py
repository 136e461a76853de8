"""SVG charts of the report: camera positions from above and unrolled, and the quality curve."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from modal_workers.nerf.photo_arcs import Arc
from modal_workers.nerf.report.coverage_charts import HATCH
from modal_workers.nerf.training.spec import CurvePoint

Floats = NDArray[np.float64]


def ring_from_above(cameras: Floats, radius: float, gaps: Sequence[Arc] = ()) -> str:
    """Return the camera positions [N, 3] around the object of ``radius`` from above; higher ones are blue.

    ``gaps`` are arcs without photos; they are hatched.
    """
    extent = max(1e-6, float(np.abs(cameras[:, :2]).max())) * 1.12 if len(cameras) else 1.0
    scale = 150 / extent
    median_height = float(np.median(cameras[:, 2])) if len(cameras) else 0.0
    parts = [f'<circle class="thing" cx="160" cy="160" r="{max(3.0, radius * scale):.1f}"/>']
    parts += [f'<circle class="grid" cx="160" cy="160" r="{ring * 150 / 1.12:.1f}"/>' for ring in (0.5, 1.0)]
    parts += [HATCH] * bool(gaps)
    parts += [f'<path class="open" d="{_sector(gap, 150 / 1.12)}"/>' for gap in gaps]
    for x, y, z in cameras:
        across, down = 160 + x * scale, 160 - y * scale
        distance = math.hypot(x, y) or 1.0
        inner = (across - 16 * x / distance, down + 16 * y / distance)
        parts.append(f'<line class="look" x1="{across:.1f}" y1="{down:.1f}" x2="{inner[0]:.1f}" y2="{inner[1]:.1f}"/>')
        high = " high" if z > median_height else ""
        parts.append(f'<circle class="dot{high}" cx="{across:.1f}" cy="{down:.1f}" r="3.6"/>')
    return _svg(320, 320, "Camera positions around the object, from above", parts)


def ring_unrolled(cameras: Floats, elevations_deg: Sequence[float], gaps: Sequence[Arc] = ()) -> str:
    """Return azimuth against elevation of the cameras, the rings that were rendered, and arcs without photos."""
    left, top, width, height = 36, 14, 470, 240
    parts = []

    def place(azimuth_deg: float, elevation_deg: float) -> tuple[float, float]:
        return left + width * azimuth_deg / 360, top + height * (90 - elevation_deg) / 120

    parts += [HATCH] * bool(gaps)
    for first, length in gaps:
        for start, end in ((first, min(360.0, first + length)), (0.0, first + length - 360.0)):
            across = width * max(0.0, end - start) / 360
            parts.append(
                f'<rect class="open" x="{place(start, 0)[0]:.1f}" y="{top}" width="{across:.1f}" height="{height}"/>'
            )
    for elevation in (-30.0, 0.0, 30.0, 60.0, 90.0):
        level = place(0, elevation)[1]
        parts.append(f'<path class="grid" d="M{left} {level:.1f}h{width}"/>')
        parts.append(f'<text class="tick" x="{left - 6}" y="{level + 4:.1f}" text-anchor="end">{elevation:.0f}°</text>')
    for mark in (0, 90, 180, 270, 360):
        column = place(mark, 0)[0]
        parts.append(f'<text class="tick" x="{column:.1f}" y="{top + height + 16}" text-anchor="middle">{mark}°</text>')
    for ring_deg in elevations_deg:
        level = place(0, ring_deg)[1]
        parts.append(f'<path class="orbit" d="M{left} {level:.1f}h{width}"/>')
    for east, north, up in cameras:
        azimuth = math.degrees(math.atan2(north, east)) % 360
        across, down = place(azimuth, math.degrees(math.atan2(up, math.hypot(east, north))))
        parts.append(f'<circle class="dot" cx="{across:.1f}" cy="{down:.1f}" r="3.6"/>')
    return _svg(520, 280, "Camera positions of the photos, and the rings of the frames", parts)


def quality_curve(points: Sequence[CurvePoint]) -> str:
    """Return the PSNR of held-out photos during training; empty with fewer than two points."""
    if len(points) < 2:
        return ""
    iterations = [point.iteration for point in points]
    values = [point.psnr_db for point in points]
    low, high = math.floor(min(values)), math.ceil(max(values) + 0.01)
    left, top, width, height = 44, 12, 460, 200

    def place(iteration: float, value: float) -> tuple[float, float]:
        return left + width * iteration / max(1, *iterations), top + height * (high - value) / max(1, high - low)

    parts = []
    for value in {low, high, round((low + high) / 2)}:
        y = place(0, value)[1]
        parts.append(f'<path class="grid" d="M{left} {y:.1f}h{width}"/>')
        parts.append(f'<text class="tick" x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{value} dB</text>')
    last = f"{max(iterations):,} iterations"
    parts.append(f'<text class="tick" x="{left + width}" y="{top + height + 16}" text-anchor="end">{last}</text>')
    line = " ".join(
        f"{'M' if not index else 'L'}{x:.1f} {y:.1f}"
        for index, (x, y) in enumerate(place(i, v) for i, v in zip(iterations, values, strict=True))
    )
    parts.append(f'<path class="curve" d="{line}"/>')
    return _svg(520, 236, "PSNR of held-out photos during training", parts)


def _sector(arc: Arc, radius: float) -> str:
    """Return the path of a sector around the middle of the view from above."""
    first, length = arc
    ends = [math.radians(angle) for angle in (first, first + length)]
    (x, y), (far_x, far_y) = ((160 + radius * math.cos(end), 160 - radius * math.sin(end)) for end in ends)
    large = int(length > 180)
    return f"M160 160L{x:.1f} {y:.1f}A{radius:.1f} {radius:.1f} 0 {large} 0 {far_x:.1f} {far_y:.1f}Z"


def _svg(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{title}">{"".join(parts)}</svg>'
