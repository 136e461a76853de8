"""Frames of the overlay: two panels, clocks, delta bar, curve; the static parts are drawn once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from modal_workers.footage.text_sprites import TextSprites, font, shortened, with_known_glyphs
from modal_workers.footage.yuv_image import Colour, ColourMatrix, Pixels, Sprite, YuvImage
from modal_workers.lap_compare import wording
from modal_workers.lap_compare.comparison import Comparison, Opportunity
from modal_workers.lap_compare.headline import format_signed
from modal_workers.lap_compare.rendering import palette
from modal_workers.lap_compare.rendering.delta_strip import delta_range_s, draw_delta_strip
from modal_workers.lap_compare.rendering.panel import panel_size

MIN_HALF_WIDTH_PX = 320  # at a panel height of 360 px: the figures below need this width
PLATE_OPACITY = 200  # opacity of the plate under text on video, of 255


@dataclass(frozen=True)
class FrameFigures:
    """The figures that one frame shows."""

    lap_s: float
    delta_s: float
    error_s: float
    confidence: float
    relative_speed: float


class Dashboard:
    """Renderer of the frames of one overlay."""

    def __init__(self, comparison: Comparison, height_px: int, matrix: ColourMatrix) -> None:
        """Lay out panels of ``height_px`` and draw all static parts."""
        clip_a, clip_b = comparison.clip_a, comparison.clip_b
        tallest = max(clip_a.height_px, clip_b.height_px, 240)
        height = 2 * (min(height_px, tallest) // 2)
        self._comparison, self._matrix = comparison, matrix
        self._scale = scale = height / 360
        self.size_a = panel_size(clip_a.width_px, clip_a.height_px, height)
        self.size_b = panel_size(clip_b.width_px, clip_b.height_px, height)
        half = max(self.size_a[0], self.size_b[0], _even(MIN_HALF_WIDTH_PX * scale))
        self._gap, self._panel_height = _even(4 * scale), height
        self._strip_top = height + _even(66 * scale)
        strip_height = _even(62 * scale)
        self._half = half
        self.size = (2 * half + self._gap, self._strip_top + strip_height + _even(6 * scale))
        self._text = TextSprites(matrix)
        self._range_s = delta_range_s(comparison)
        self._strip = draw_delta_strip(comparison, (self.size[0], strip_height), scale, matrix)
        self._bar_width = _even(0.34 * self.size[0])
        self._bar_top = height + _even(42 * scale)
        self._banners = [(o, self._banner(o)) for o in comparison.opportunities]
        self._marker = self._disc(5 * scale, palette.WHITE)
        self._grade_dots = {name: self._disc(6 * scale, colour) for name, colour in palette.GRADES.items()}
        self._clock_size = round(19 * scale)
        self._clock_plate = self._plate_sprite(
            self._text.width("00:00.00", self._clock_size) + _even(14 * scale), _even(29 * scale)
        )
        self._labels = [
            self._label("A", clip_a.filename, palette.DRIVER_A),
            self._label("B", clip_b.filename, palette.DRIVER_B),
        ]
        self._static = self._draw_static()
        self._picture = self._static.copy()

    def draw(self, figures: FrameFigures, panel_a: YuvImage, panel_b: YuvImage) -> Pixels:
        """Compose one frame [height * 3 / 2, width]; the next call overwrites it."""
        picture = self._picture
        np.copyto(picture.pixels, self._static.pixels)
        clocks = (figures.lap_s, figures.lap_s + figures.delta_s)
        for side, (panel, clock_s) in enumerate(zip((panel_a, panel_b), clocks, strict=True)):
            left = side * (self._half + self._gap)
            x, y = left + (self._half - panel.width) // 4 * 2, (self._panel_height - panel.height) // 4 * 2
            picture.paste(panel, x, y)
            inset = _even(10 * self._scale)
            picture.blend(self._labels[side], left + inset, inset)
            self._draw_clock(picture, left + self._half - inset, inset, clock_s)
        self._draw_banner(picture, figures)
        self._draw_figures(picture, figures)
        self._draw_bar(picture, figures)
        self._draw_strip(picture, figures)
        return picture.pixels

    def _draw_static(self) -> YuvImage:
        width, height = self.size
        picture = YuvImage.filled(width, height, palette.BACKGROUND, self._matrix)
        accent = max(2, _even(2 * self._scale))
        picture.fill((0, self._panel_height, self._half, accent), palette.DRIVER_A, self._matrix)
        picture.fill((self._half + self._gap, self._panel_height, self._half, accent), palette.DRIVER_B, self._matrix)
        left, top = (width - self._bar_width) // 2, self._bar_top
        picture.fill(
            (left, top, self._bar_width, _even(10 * self._scale)),
            palette.mix(palette.BACKGROUND, palette.LINE, 0.7),
            self._matrix,
        )
        size = round(10 * self._scale)
        for text, colour, right in (
            (f"ahead −{self._range_s:g} s", palette.AHEAD, left - _even(8 * self._scale)),
            (f"+{self._range_s:g} s behind", palette.BEHIND, 0),
        ):
            x = (
                right - self._text.width(text, size, bold=False)
                if right
                else left + self._bar_width + _even(8 * self._scale)
            )
            picture.blend(self._text.text(text, size, colour, bold=False), x, top - _even(2 * self._scale))
        return picture

    def _draw_clock(self, picture: YuvImage, right: int, top: int, seconds: float) -> None:
        text = wording.format_lap_time(seconds)
        left = right - self._clock_plate.width
        picture.blend(self._clock_plate, left, top)
        x = right - self._text.width(text, self._clock_size) - _even(7 * self._scale)
        picture.blend(self._text.text(text, self._clock_size, palette.WHITE), x, top + _even(3 * self._scale))

    def _draw_banner(self, picture: YuvImage, figures: FrameFigures) -> None:
        for opportunity, banner in self._banners:
            start_s = wording.lap_time_s(self._comparison, opportunity.start_a_s)
            end_s = wording.lap_time_s(self._comparison, opportunity.end_a_s)
            if start_s <= figures.lap_s <= end_s:
                left = 0 if opportunity.loser == "a" else self._half + self._gap
                x = left + (self._half - banner.width) // 2
                picture.blend(banner, x, self._panel_height - banner.height - _even(10 * self._scale))
                return

    def _draw_figures(self, picture: YuvImage, figures: FrameFigures) -> None:
        scale, top = self._scale, self._panel_height + _even(8 * self._scale)
        colour = palette.delta_colour(figures.delta_s, figures.error_s)
        text, size = f"B {format_signed(figures.delta_s)} s", round(24 * scale)
        picture.blend(
            self._text.text(text, size, colour),
            (self.size[0] - self._text.width(text, size)) // 2,
            top,
        )
        grade = wording.grade(figures.confidence)
        dot, left = self._grade_dots[grade], _even(14 * scale)
        large, small = round(13 * scale), round(11 * scale)
        picture.blend(dot, left, top + _even(4 * scale))
        left += dot.width + _even(8 * scale)
        picture.blend(self._text.text(f"Match {grade}", large, palette.WHITE), left, top + _even(2 * scale))
        error = f"±{figures.error_s:.2f} s"
        picture.blend(self._text.text(error, small, palette.MUTED, bold=False), left, top + _even(20 * scale))
        for text, size, colour, y in (
            (f"{figures.relative_speed:.0%}", large, palette.WHITE, 2),
            ("speed of B / A", small, palette.MUTED, 20),
        ):
            bold = size == large
            x = self.size[0] - _even(14 * scale) - self._text.width(text, size, bold=bold)
            picture.blend(self._text.text(text, size, colour, bold=bold), x, top + _even(y * scale))

    def _draw_bar(self, picture: YuvImage, figures: FrameFigures) -> None:
        middle, height = self.size[0] // 4 * 2, _even(10 * self._scale)
        length = _even(min(1.0, abs(figures.delta_s) / self._range_s) * self._bar_width / 2)
        left = middle if figures.delta_s > 0 else middle - length
        colour = palette.BEHIND if figures.delta_s > 0 else palette.AHEAD
        if abs(figures.delta_s) <= figures.error_s:
            colour = palette.MUTED
        picture.fill((left, self._bar_top, length, height), colour, self._matrix)
        tick = _even(3 * self._scale)
        picture.fill((middle - 2, self._bar_top - tick, 2, height + 2 * tick), palette.WHITE, self._matrix)

    def _draw_strip(self, picture: YuvImage, figures: FrameFigures) -> None:
        strip, top = self._strip, self._strip_top
        x = strip.x(figures.lap_s) // 2 * 2
        picture.paste(strip.bright, 0, top, 0, x)
        picture.paste(strip.dim, 0, top, x, strip.dim.width)
        picture.fill((x, top, 2, strip.dim.height), palette.WHITE, self._matrix)
        y = top + strip.y(figures.delta_s)
        picture.blend(self._marker, x + 1 - self._marker.width // 2, y - self._marker.height // 2)

    def _label(self, letter: str, filename: str, colour: Colour) -> Sprite:
        """Draw a driver's letter on its colour beside the file's name."""
        height = 2 * round(14.5 * self._scale)
        face = font(round(13 * self._scale))
        room = self._half - self._clock_plate.width - height - 44 * self._scale
        name = shortened(with_known_glyphs(filename), room, face)
        width = _even(height + face.getlength(name) + 18 * self._scale)
        image = self._plate(width, height)
        draw = ImageDraw.Draw(image)
        draw.rounded_rectangle((0, 0, height - 1, height - 1), 5 * self._scale, fill=colour)
        draw.text(
            (height / 2, height / 2),
            letter,
            fill=palette.BACKGROUND,
            anchor="mm",
            font=font(round(16 * self._scale), bold=True),
        )
        draw.text((height + 8 * self._scale, height / 2), name, fill=palette.WHITE, anchor="lm", font=face)
        return Sprite.of_image(image, self._matrix)

    def _banner(self, opportunity: Opportunity) -> Sprite:
        text = f"{opportunity.rank}   loses {opportunity.lost_s:.2f} s here"
        face = font(round(13 * self._scale), bold=True)
        height = 2 * round(14 * self._scale)
        image = self._plate(_even(face.getlength(text) + 24 * self._scale), height)
        ImageDraw.Draw(image).text((image.width / 2, height / 2), text, fill=palette.BEHIND, anchor="mm", font=face)
        return Sprite.of_image(image, self._matrix)

    def _plate(self, width: int, height: int) -> Image.Image:
        image = Image.new("RGBA", (width, height), (*palette.BACKGROUND, 0))
        ImageDraw.Draw(image).rounded_rectangle(
            (0, 0, width - 1, height - 1), 5 * self._scale, fill=(*palette.BACKGROUND, PLATE_OPACITY)
        )
        return image

    def _plate_sprite(self, width: int, height: int) -> Sprite:
        return Sprite.of_image(self._plate(width, height), self._matrix)

    def _disc(self, radius: float, colour: Colour) -> Sprite:
        side, finer = _even(2 * radius + 2), 4
        image = Image.new("RGBA", (side * finer, side * finer), (*colour, 0))
        middle = side * finer / 2
        box = (middle - radius * finer, middle - radius * finer, middle + radius * finer, middle + radius * finer)
        ImageDraw.Draw(image).ellipse(box, fill=(*colour, 255))
        return Sprite.of_image(image.resize((side, side), Image.Resampling.BOX), self._matrix)


def _even(length: float) -> int:
    return 2 * round(length / 2)
