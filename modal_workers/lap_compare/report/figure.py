"""The delta curve and the relative speed as one PNG on a white background, for a message or a slide."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import blended_transform_factory

from modal_workers.footage.text_sprites import with_known_glyphs
from modal_workers.lap_compare import wording
from modal_workers.lap_compare.comparison import Comparison, Floats
from modal_workers.lap_compare.headline import format_signed

INK: Final = "#14181f"
MUTED: Final = "#667085"
GRID: Final = "#e6e9ef"
AHEAD: Final = "#12a150"
BEHIND: Final = "#e0364c"
DRIVER: Final = {"a": "#0b6bcb", "b": "#8a3ffc"}
MAX_NAME_LENGTH = 46


def draw_delta_figure(comparison: Comparison, out_path: Path) -> None:
    """Write the figure as a PNG of 1600 x 1000 pixels.

    The x axis is lap time. The line is B's delta to A with its 95 % band, red where B is behind, green where ahead,
    grey where it is smaller than its error; stretches of poor confidence are hatched; bars over the curve mark the
    opportunities, in the losing driver's colour.
    """
    figure = Figure(figsize=(10, 6.25), dpi=160, facecolor="white")
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1.15])
    figure.subplots_adjust(left=0.075, right=0.975, top=0.83, bottom=0.085, hspace=0.1)
    lap_s = comparison.alignment.time_a_s - comparison.alignment.time_a_s[0]
    _heading(figure, comparison)
    _delta(upper, comparison, lap_s)
    _speed(lower, comparison, lap_s)
    for axes in (upper, lower):
        _style_axes(axes)
        _hatch_poor(axes, comparison, lap_s)
        for sector in comparison.sectors[1:]:
            axes.axvline(wording.lap_time_s(comparison, sector.start_a_s), color="#c4cad6", lw=0.9, zorder=1)
    _sector_names(upper, comparison)
    _opportunities(upper, comparison)
    lower.set_xlabel("lap time of A, s, from the first place both clips show", color=MUTED, fontsize=9)
    upper.set_xlim(0, float(lap_s[-1]))
    figure.savefig(out_path, format="png")


def _heading(figure: Figure, comparison: Comparison) -> None:
    figure.text(0.075, 0.945, wording.headline(comparison), fontsize=15, fontweight="bold", color=INK)
    names = [_name(clip.filename) for clip in (comparison.clip_a, comparison.clip_b)]
    grade = f"confidence {wording.grade(comparison.confidence)} ({comparison.confidence:.2f})"
    text = f"A  {names[0]}      B  {names[1]}      {grade}"
    figure.text(0.075, 0.905, text, fontsize=9.5, color=MUTED, parse_math=False)


def _name(filename: str) -> str:
    text = with_known_glyphs(filename)
    return text if len(text) <= MAX_NAME_LENGTH else f"{text[: MAX_NAME_LENGTH - 12]}…{text[-11:]}"


def _delta(axes: Any, comparison: Comparison, lap_s: Floats) -> None:
    delta_s, error_s = comparison.delta_s, comparison.alignment.error_s
    axes.axhline(0, color=INK, lw=0.8, zorder=2)
    axes.fill_between(lap_s, 0, delta_s, where=delta_s > error_s, color=BEHIND, alpha=0.13, lw=0)
    axes.fill_between(lap_s, 0, delta_s, where=delta_s < -error_s, color=AHEAD, alpha=0.15, lw=0)
    axes.fill_between(lap_s, delta_s - error_s, delta_s + error_s, color=INK, alpha=0.16, lw=0, zorder=2)
    axes.plot(lap_s, delta_s, color=MUTED, lw=2.2, zorder=4)
    for sign, colour in ((1, BEHIND), (-1, AHEAD)):
        axes.plot(lap_s, np.where(sign * delta_s > error_s, delta_s, np.nan), color=colour, lw=2.2, zorder=4)
    low, high = min(0.0, float(np.min(delta_s - error_s))), max(0.0, float(np.max(delta_s + error_s)))
    pad = max(0.02, 0.09 * (high - low))
    axes.set_ylim(low - pad, high + 2.2 * pad)
    axes.set_ylabel("delta of B to A, s", color=MUTED, fontsize=9)
    last = float(delta_s[-1])
    colour = MUTED if abs(last) <= error_s[-1] else BEHIND if last > 0 else AHEAD
    axes.plot([lap_s[-1]], [last], "o", color=colour, ms=6, zorder=5, clip_on=False)
    sides = ((0.985, "top", "B behind ▲", BEHIND), (0.015, "bottom", "B ahead ▼", AHEAD))
    for y, align, text, colour in sides:
        axes.text(
            0.008, y - 0.055 * (align == "top"), text, transform=axes.transAxes, va=align, fontsize=8.5, color=colour
        )


def _speed(axes: Any, comparison: Comparison, lap_s: Floats) -> None:
    percent = comparison.relative_speed * 100
    axes.axhline(100, color=INK, lw=0.8, zorder=2)
    axes.fill_between(lap_s, 100, percent, where=percent >= 100, color=AHEAD, alpha=0.15, lw=0, interpolate=True)
    axes.fill_between(lap_s, 100, percent, where=percent <= 100, color=BEHIND, alpha=0.13, lw=0, interpolate=True)
    axes.plot(lap_s, percent, color=INK, lw=1.3, zorder=4)
    axes.set_ylabel("speed of B, % of A", color=MUTED, fontsize=9)
    reach = max(5.0, 1.15 * float(np.nanpercentile(np.abs(percent - 100), 99.5)))
    axes.set_ylim(100 - reach, 100 + reach)


def _style_axes(axes: Any) -> None:
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0, labelsize=8.5, labelcolor=MUTED)
    axes.grid(axis="y", color=GRID, lw=0.8, zorder=0)
    axes.set_axisbelow(True)


def _hatch_poor(axes: Any, comparison: Comparison, lap_s: Floats) -> None:
    """Hatch the stretches of poor confidence."""
    poor = comparison.alignment.confidence < wording.FAIR_CONFIDENCE
    edges = np.flatnonzero(np.diff(np.concatenate(([False], poor, [False])).astype(np.int8)))
    for start, end in edges.reshape(-1, 2):
        axes.axvspan(
            float(lap_s[start]),
            float(lap_s[end - 1]),
            facecolor="#9aa3b2",
            alpha=0.16,
            hatch="////",
            edgecolor="#5b6475",
            lw=0,
            zorder=3,
        )


def _longest_fitting(share: float, *texts: str) -> str:
    """Return the first text that fits in a share of the plot's width; else a last one of one character, or nothing."""
    characters = share * 1440 / 11  # the axes are 1440 px wide, a character about 11 px
    return next((text for text in texts if len(text) <= characters), texts[-1] if len(texts[-1]) < 2 else "")


def _sector_names(axes: Any, comparison: Comparison) -> None:
    place = blended_transform_factory(axes.transData, axes.transAxes)
    for sector in comparison.sectors:
        middle = wording.lap_time_s(comparison, (sector.start_a_s + sector.end_a_s) / 2)
        share = (sector.end_a_s - sector.start_a_s) / max(1e-6, comparison.total_a_s)
        delta = f"{format_signed(sector.delta_s)} s"
        text = _longest_fitting(share, f"{_name(sector.name)}  {delta}", delta)
        axes.text(
            middle, 1.055, text, transform=place, ha="center", va="bottom", fontsize=8.5, color=MUTED, parse_math=False
        )


def _opportunities(axes: Any, comparison: Comparison) -> None:
    place = blended_transform_factory(axes.transData, axes.transAxes)
    for opportunity in comparison.opportunities:
        start_s = wording.lap_time_s(comparison, opportunity.start_a_s)
        end_s = wording.lap_time_s(comparison, opportunity.end_a_s)
        colour = DRIVER[opportunity.loser]
        axes.axvspan(start_s, end_s, color=colour, alpha=0.06, lw=0, zorder=0)
        axes.plot(
            [start_s, end_s], [1.02, 1.02], transform=place, color=colour, lw=4, solid_capstyle="butt", clip_on=False
        )
        lost = f"{opportunity.rank}  {opportunity.loser.upper()} loses {opportunity.lost_s:.2f} s"
        text = _longest_fitting((end_s - start_s) / max(1e-6, comparison.total_a_s), lost, f"{opportunity.rank}")
        axes.text(
            (start_s + end_s) / 2,
            0.985,
            text,
            transform=place,
            ha="center",
            va="top",
            fontsize=8.5,
            color=colour,
            fontweight="bold",
        )
