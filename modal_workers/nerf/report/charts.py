"""SVG charts of the report: camera positions from above and unrolled, and the quality curve."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from modal_workers.nerf.training.spec import CurvePoint

Floats = NDArray[np.float64]


def ring_from_above(cameras: Floats, radius: float) -> str:
    """Return the camera positions [N, 3] around the object of ``radius`` from above; higher ones are blue."""
    extent = max(1e-6, float(np.abs(cameras[:, :2]).max())) * 1.12 if len(cameras) else 1.0
    scale = 150 / extent
    median_height = float(np.median(cameras[:, 2])) if len(cameras) else 0.0
    parts = [f'<circle class="thing" cx="160" cy="160" r="{max(3.0, radius * scale):.1f}"/>']
    parts += [f'<circle class="grid" cx="160" cy="160" r="{ring * 150 / 1.12:.1f}"/>' for ring in (0.5, 1.0)]
    for x, y, z in cameras:
        across, down = 160 + x * scale, 160 - y * scale
        distance = math.hypot(x, y) or 1.0
        inner = (across - 16 * x / distance, down + 16 * y / distance)
        parts.append(f'<line class="look" x1="{across:.1f}" y1="{down:.1f}" x2="{inner[0]:.1f}" y2="{inner[1]:.1f}"/>')
        high = " high" if z > median_height else ""
        parts.append(f'<circle class="dot{high}" cx="{across:.1f}" cy="{down:.1f}" r="3.6"/>')
    return _svg(320, 320, "Camera positions around the object, from above", parts)


def ring_unrolled(cameras: Floats, elevations_deg: Sequence[float]) -> str:
    """Return azimuth against elevation of the cameras, and the rings that were rendered."""
    left, top, width, height = 36, 14, 470, 240
    parts = []

    def place(azimuth_deg: float, elevation_deg: float) -> tuple[float, float]:
        return left + width * azimuth_deg / 360, top + height * (90 - elevation_deg) / 120

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


def _svg(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{title}">{"".join(parts)}</svg>'
