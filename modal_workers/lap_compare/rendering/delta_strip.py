"""The delta curve at the bottom of the overlay, drawn once: dim for what is to come, bright for what was played."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from modal_workers.footage.text_sprites import font, shortened, with_known_glyphs
from modal_workers.footage.yuv_image import Colour, ColourMatrix, YuvImage
from modal_workers.lap_compare import wording
from modal_workers.lap_compare.comparison import Comparison, Floats
from modal_workers.lap_compare.rendering import palette

SUPERSAMPLING = 3  # drawn larger by this factor, then averaged


def delta_range_s(comparison: Comparison) -> float:
    """Return the half-range of delta that bars and curves show: the next round number above the largest."""
    largest = float(np.max(np.abs(comparison.delta_s))) * 1.08
    for step in (0.1, 0.2, 0.5, 1, 2, 3, 5, 10, 20, 30, 60, 120):
        if largest <= step:
            return float(step)
    return largest


@dataclass(frozen=True)
class DeltaStrip:
    """The curve in two brightnesses, and the position of a moment on it."""

    dim: YuvImage
    bright: YuvImage
    left: int  # of the curve, px
    right: int
    _zero_y: float
    _per_second_px: float
    _duration_s: float

    def x(self, lap_s: float) -> int:
        """Return the column of a lap time."""
        return round(self.left + (self.right - self.left) * min(1.0, max(0.0, lap_s / self._duration_s)))

    def y(self, delta_s: float) -> int:
        """Return the row of a delta, from the strip's top."""
        return round(self._zero_y - delta_s * self._per_second_px)


def draw_delta_strip(comparison: Comparison, size: tuple[int, int], scale: float, matrix: ColourMatrix) -> DeltaStrip:
    """Draw the strip at ``size`` (even); ``scale`` is 1 for a panel of 360 px."""
    drawing = _Drawing(comparison, size, scale)
    image = drawing.draw()
    dim = Image.blend(image, Image.new("RGB", size, palette.BACKGROUND), 0.45)
    return DeltaStrip(
        dim=YuvImage.of_image(dim, matrix),
        bright=YuvImage.of_image(image, matrix),
        left=drawing.margin,
        right=size[0] - drawing.margin,
        _zero_y=drawing.zero_y,
        _per_second_px=drawing.per_second_px,
        _duration_s=drawing.duration_s,
    )


class _Drawing:
    def __init__(self, comparison: Comparison, size: tuple[int, int], scale: float) -> None:
        (width, height), margin, head = size, round(14 * scale), round(15 * scale)
        self._comparison, self._scale = comparison, scale
        self._width, self._height, self.margin, self._head = width, height, margin, head
        self.duration_s = max(1e-6, comparison.total_a_s)
        delta_s, error_s = comparison.delta_s, comparison.alignment.error_s
        low = min(0.0, float(np.min(delta_s - error_s)))
        high = max(0.0, float(np.max(delta_s + error_s)))
        span = max(0.1, high - low)
        self.per_second_px = (height - head - 4 * scale) / span
        middle = (high + low) / 2
        self.zero_y = head + (height - head) / 2 + middle * self.per_second_px

    def draw(self) -> Image.Image:
        size = (self._width * SUPERSAMPLING, self._height * SUPERSAMPLING)
        image = Image.new("RGB", size, palette.BACKGROUND)
        self._opportunities(image)
        self._curve(image)
        image = image.resize((self._width, self._height), Image.Resampling.BOX)
        self._sectors(image)
        return image

    def _x(self, lap_s: float) -> float:
        return (self.margin + (self._width - 2 * self.margin) * lap_s / self.duration_s) * SUPERSAMPLING

    def _columns(self, values: Floats) -> Floats:
        """Sample an array at every fine column of the curve."""
        lap_s = self._comparison.alignment.time_a_s - self._comparison.alignment.time_a_s[0]
        at_s = np.linspace(0, self.duration_s, (self._width - 2 * self.margin) * SUPERSAMPLING)
        return np.asarray(np.interp(at_s, lap_s, values), np.float64)

    def _curve(self, image: Image.Image) -> None:
        pixels = np.array(image, np.float64)
        delta_s = self._columns(self._comparison.delta_s)
        error_s = self._columns(self._comparison.alignment.error_s)
        confidence = self._columns(self._comparison.alignment.confidence)
        rows = np.arange(pixels.shape[0])[:, None]
        here = pixels[:, self.margin * SUPERSAMPLING : self.margin * SUPERSAMPLING + len(delta_s)]

        def row(seconds: Floats) -> Floats:
            return np.asarray((self.zero_y - seconds * self.per_second_px) * SUPERSAMPLING)

        zero, curve = self.zero_y * SUPERSAMPLING, row(delta_s)
        filled = (rows >= np.minimum(zero, curve)) & (rows < np.maximum(zero, curve))
        _tint(here, filled & (delta_s > 0), palette.BEHIND, 0.34)
        _tint(here, filled & (delta_s <= 0), palette.AHEAD, 0.34)
        _tint(here, (rows >= row(delta_s + error_s)) & (rows <= row(delta_s - error_s)), palette.WHITE, 0.22)
        _tint(here, np.broadcast_to(np.abs(rows - zero) < 0.5 * SUPERSAMPLING, filled.shape), palette.MUTED, 0.6)
        # constant thickness at any slope
        thickness = 0.9 * self._scale * SUPERSAMPLING * np.hypot(1.0, np.gradient(curve))
        line = np.abs(rows - curve) <= thickness
        certain = confidence >= wording.FAIR_CONFIDENCE
        _tint(here, line & certain, palette.WHITE, 1.0)
        _tint(here, line & ~certain, palette.MUTED, 0.6)
        image.paste(Image.fromarray(np.rint(pixels).astype(np.uint8)))

    def _opportunities(self, image: Image.Image) -> None:
        draw = ImageDraw.Draw(image)
        for opportunity in self._comparison.opportunities:
            left = self._x(wording.lap_time_s(self._comparison, opportunity.start_a_s))
            right = self._x(wording.lap_time_s(self._comparison, opportunity.end_a_s))
            colour = palette.DRIVER_A if opportunity.loser == "a" else palette.DRIVER_B
            top = self._head * SUPERSAMPLING
            draw.rectangle((left, top, right, image.height), fill=palette.mix(palette.BACKGROUND, colour, 0.16))
            draw.rectangle((left, top, right, top + 2 * self._scale * SUPERSAMPLING), fill=colour)

    def _sectors(self, image: Image.Image) -> None:
        draw = ImageDraw.Draw(image)
        face = font(round(10 * self._scale))
        for sector in self._comparison.sectors:
            left = self._x(wording.lap_time_s(self._comparison, sector.start_a_s)) / SUPERSAMPLING
            right = self._x(wording.lap_time_s(self._comparison, sector.end_a_s)) / SUPERSAMPLING
            draw.line((left, 0, left, self._height), fill=palette.LINE)
            name = shortened(with_known_glyphs(sector.name), right - left - 6 * self._scale, face)
            draw.text((left + 4 * self._scale, self._scale), name, fill=palette.MUTED, font=face)


def _tint(pixels: NDArray[np.float64], where: NDArray[np.bool_], colour: Colour, share: float) -> None:
    pixels[where] += share * (np.array(colour) - pixels[where])
