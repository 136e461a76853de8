"""SVG drawings of what was photographed: ring of the spin page, and frames of each ring; the rest is hatched."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from modal_workers.nerf.photo_arcs import Arc, open_arcs
from modal_workers.nerf.report.frame_views import FrameRow

#: Pattern that fills what no photo shows; each page uses it by this id.
HATCH: Final = (
    '<defs><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<path class="hatching" d="M0 0v6"/></pattern></defs>'
)
_RADIUS: Final = 36.0


def compass(arcs: tuple[Arc, ...] | None, frames: Sequence[FrameRow]) -> str:
    """Return a ring, seen from above, with the photographed arcs and a hand; empty where every side was photographed.

    Azimuth 0 is to the right, and 90 degrees up.
    """
    if arcs is None or (not open_arcs(arcs) and all(frame.seen is not False for frame in frames)):
        return ""
    gaps = open_arcs(arcs)
    parts = [HATCH, f'<circle class="ground" r="{_RADIUS + 9:.0f}"/>']
    if not gaps:
        parts.append(f'<circle class="photographed" r="{_RADIUS:.0f}"/>')
    parts += [f'<path class="photographed" d="{_arc(arc)}"/>' for arc in arcs if gaps]
    parts += [f'<path class="not-photographed" d="{_arc(gap)}"/>' for gap in gaps]
    parts.append('<g id="hand"><path class="hand" d="M6 0H31"/></g>')
    words = "Photographed sides from above; what no photo shows is hatched"
    svg = f'<svg viewBox="-46 -46 92 92" role="img" aria-label="{words}">{"".join(parts)}</svg>'
    return f'<div class="compass">{svg}</div>'


def ring_coverage(frames: Sequence[FrameRow], rings: int) -> str:
    """Return a row per ring, the highest first, with a bar per frame as high as the share of it that photos show."""
    left, top, width, row = 46, 8, 460, 34
    columns = len(frames) // rings
    bar = width / columns
    parts = [HATCH]
    for ring in range(rings):
        base = top + row * (rings - ring)
        shown = frames[ring * columns : (ring + 1) * columns]
        elevation_deg = shown[0].elevation_deg
        parts.append(f'<text class="tick" x="{left - 6}" y="{base - 8}" text-anchor="end">{elevation_deg:.0f}°</text>')
        for column, frame in enumerate(shown):
            x = left + column * bar
            if frame.seen is False:
                parts.append(f'<rect class="unseen-cell" x="{x:.2f}" y="{base - 28}" width="{bar:.2f}" height="28"/>')
            share = frame.seen_share if frame.seen_share is not None else float(frame.seen is True)
            high = 28 * share
            parts.append(
                f'<rect class="seen-cell" x="{x:.2f}" y="{base - high:.1f}" width="{bar:.2f}" height="{high:.1f}"/>'
            )
        parts.append(f'<path class="grid" d="M{left} {base}h{width}"/>')
    bottom = top + row * rings + 15
    for column in sorted({0, columns // 2, columns - 1}):
        x, angle = left + (column + 0.5) * bar, frames[column].azimuth_deg
        parts.append(f'<text class="tick" x="{x:.1f}" y="{bottom}" text-anchor="middle">{angle:.0f}°</text>')
    words = "Share of each frame that photos show from nearby, by ring and azimuth"
    return f'<svg viewBox="0 0 520 {bottom + 6}" role="img" aria-label="{words}">{"".join(parts)}</svg>'


def _arc(arc: Arc) -> str:
    """Return an SVG path along the ring."""
    first, length = arc
    (x, y), (far_x, far_y) = (_place(angle) for angle in (first, first + length))
    return f"M{x:.2f} {y:.2f}A{_RADIUS:.0f} {_RADIUS:.0f} 0 {int(length > 180)} 0 {far_x:.2f} {far_y:.2f}"


def _place(angle_deg: float) -> tuple[float, float]:
    angle = math.radians(angle_deg)
    return _RADIUS * math.cos(angle), -_RADIUS * math.sin(angle)
