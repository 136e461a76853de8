"""``report.pdf``: A4 landscape pages to print: facts and rallies, the court with trails, heat maps, tables."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from modal_workers.badminton.analytics import heat_map
from modal_workers.badminton.analytics.analysis import Analysis
from modal_workers.badminton.analytics.motion import KMH_PER_M_S
from modal_workers.badminton.court.dimensions import COURT_LENGTH_M, COURT_WIDTH_M, NET_Y_M, line_segments_m
from modal_workers.badminton.match import Match
from modal_workers.badminton.report.page_sections import headline
from modal_workers.badminton.wording import WINNER_TEXT, clock, figure, percent, player_label, player_name, winner_name
from modal_workers.footage.text_sprites import with_known_glyphs

INK: Final = "#14181f"
MUTED: Final = "#5b6475"
RULE: Final = "#dde1e9"
PLAY: Final = "#0b8a46"
#: Darker than in the videos: paper is white.
PLAYERS: Final = ("#0b6bcb", "#c2500a", "#4a7a0c", "#7c3aed")
A4_LANDSCAPE_IN: Final = (11.69, 8.27)
RALLIES_PER_PAGE: Final = 24
#: Points of a trail on the page: more are not seen, and make the file large.
TRAIL_POINTS: Final = 4000
_LEFT, _RIGHT = 0.055, 0.945
_HEAT = LinearSegmentedColormap.from_list("heat", ["#ffffff", "#d6ece4", "#7cc2a8", "#f2c14e", "#f2733a", "#a8201a"])


def write_pdf(match: Match, analysis: Analysis, path: Path, *, still: Path | None = None) -> None:
    """Write report.pdf; ``still`` is a picture of the match."""
    with PdfPages(
        path, metadata={"Title": f"Badminton: {with_known_glyphs(match.facts.filename)}", "Creator": "saccade"}
    ) as pages:
        pages.savefig(_summary_page(match, analysis, still))
        if analysis.players:
            pages.savefig(_court_page(match, analysis))
            pages.savefig(_players_page(match, analysis))
        for first in range(0, len(analysis.rallies), RALLIES_PER_PAGE):
            pages.savefig(_rally_page(match, analysis, first))


def _page(match: Match, title: str) -> Figure:
    page = Figure(figsize=A4_LANDSCAPE_IN, facecolor="white")
    page.text(_LEFT, 0.925, title, fontsize=19, fontweight="bold", color=INK, parse_math=False)
    name = with_known_glyphs(match.facts.filename)
    short = name if len(name) <= 80 else f"{name[:60]}…{name[-18:]}"
    page.text(_LEFT, 0.045, short, fontsize=8, color=MUTED, parse_math=False)
    page.text(_RIGHT, 0.045, "saccade badminton", fontsize=8, color=MUTED, ha="right")
    return page


def _summary_page(match: Match, analysis: Analysis, still: Path | None) -> Figure:
    page = _page(match, "Badminton match")
    page.text(_LEFT, 0.88, headline(match, analysis), fontsize=12, color=MUTED, parse_math=False)
    facts = match.facts
    courts = [part.court for part in match.segments if part.court is not None]
    court = "not found"
    if courts:
        residual = f"residual {100 * courts[0].residual_m:.1f} cm, " if np.isfinite(courts[0].residual_m) else ""
        court = f"{residual}confidence {courts[0].confidence:.2f}"
    entries = [
        ("Video", f"{facts.width_px} × {facts.height_px}, {facts.mean_rate_hz:.5g} Hz, {clock(facts.duration_s)}"),
        ("Court", court),
        ("Players", f"{match.player_count or 'not found'}; backend {match.pose_backend or 'none'}"),
        ("Shuttle", match.shuttle_backend or "not tracked"),
        ("Rallies", _rallies_text(match, analysis)),
    ]
    for row, (name, text) in enumerate(entries):
        y = 0.80 - 0.042 * row
        page.text(_LEFT, y, name, fontsize=10, color=MUTED)
        page.text(_LEFT + 0.09, y, with_known_glyphs(text), fontsize=10, color=INK, parse_math=False)
    if still is not None:
        _still(page, still)
    _figures_table(page, analysis, 0.48)
    _timeline(page, match, 0.21)
    gaps = [f"{missing.part}: {missing.reason}" for missing in match.missing]
    gaps += [
        f"{clock(part.start_s)} to {clock(part.end_s)}: {part.reason or part.kind}"
        for part in match.segments
        if not part.analysed
    ]
    shown = gaps[:3] + ([f"and {len(gaps) - 3} more, see report.html"] if gaps[3:] else [])
    for row, gap in enumerate(shown):
        text = with_known_glyphs(gap if len(gap) <= 150 else f"{gap[:149].rstrip()}…")
        page.text(_LEFT, 0.14 - 0.022 * row, text, fontsize=8.5, color="#a86500", parse_math=False)
    return page


def _rallies_text(match: Match, analysis: Analysis) -> str:
    time = analysis.play_time
    if not match.rallies:
        return "not found"
    return f"{len(match.rallies)}; {clock(time.rally_s)} in play, longest {figure(time.longest_rally_s)} s"


def _still(page: Figure, still: Path) -> None:
    with Image.open(still, formats=("JPEG",)) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    axes: Any = page.add_axes((0.53, 0.53, _RIGHT - 0.53, 0.32), anchor="NE")
    axes.imshow(pixels, interpolation="lanczos")
    axes.set_axis_off()


def _figures_table(page: Figure, analysis: Analysis, top: float) -> None:
    if not analysis.players:
        return
    names = ("", "Distance", "Top speed", "Mean in rallies", "Hits", "Half used", "Seen in", "Rejected", "One person")
    rows = []
    for figures in analysis.players:
        motion, play = figures.motion, figures.in_rallies
        distance = f"{figure(motion.distance_m, 0)} ± {figure(motion.distance_error_m, 0)} m"
        fastest = f"{figure(motion.top_speed_m_s)} ± {figure(motion.top_speed_error_m_s)} m/s"
        cells = (
            player_name(figures.player),
            distance,
            f"{fastest} ({figure(motion.top_speed_m_s * KMH_PER_M_S, 0)} km/h)",
            f"{figure(play.mean_speed_m_s)} m/s" if play is not None else "–",
            "–" if figures.hit_count is None else str(figures.hit_count),
            percent(figures.footwork.covered_share),
            percent(figures.motion.observed_share),
            str(figures.outlier_count),
            figure(figures.identity_confidence_min, 2),
        )
        rows.append(cells)
    colours = [PLAYERS[figures.player % len(PLAYERS)] for figures in analysis.players]
    _table(page, names, rows, top, (0.12, 0.14, 0.21, 0.13, 0.06, 0.09, 0.08, 0.08, 0.09), colours=colours)


def _table(
    page: Figure,
    names: Sequence[str],
    rows: Sequence[Sequence[str]],
    top: float,
    widths: Sequence[float],
    *,
    colours: Sequence[str] = (),
    step: float = 0.042,
) -> None:
    total = sum(widths)
    places = [_LEFT + (_RIGHT - _LEFT) * sum(widths[:column]) / total for column in range(len(widths))]
    for place, name in zip(places, names, strict=True):
        page.text(place, top, name, fontsize=8.5, color=MUTED)
    for row, cells in enumerate(rows):
        y = top - step * (row + 1)
        rule = Rectangle((_LEFT, y + 0.68 * step), _RIGHT - _LEFT, 0.0012, transform=page.transFigure, color=RULE, lw=0)
        page.patches.append(rule)
        for column, (place, text) in enumerate(zip(places, cells, strict=True)):
            colour = colours[row] if colours and column == 0 else INK
            weight = "bold" if column == 0 else "normal"
            page.text(place, y, text, fontsize=9.5, color=colour, fontweight=weight, parse_math=False)


def _timeline(page: Figure, match: Match, bottom: float) -> None:
    axes: Any = page.add_axes((_LEFT, bottom, _RIGHT - _LEFT, 0.045))
    minutes = 1 / 60 if match.facts.duration_s >= 120 else 1.0
    end = max(1e-3, float(match.times_s[-1])) * minutes
    axes.set_xlim(0, end)
    axes.set_ylim(0, 1)
    axes.axvspan(0, end, color="#eceff4", lw=0)
    for part in match.segments:
        if not part.analysed:
            axes.axvspan(
                part.start_s * minutes,
                part.end_s * minutes,
                facecolor="#eceff4",
                hatch="////",
                edgecolor="#9aa3b2",
                lw=0,
            )
    for rally in match.rallies:
        axes.axvspan(rally.start_s * minutes, rally.end_s * minutes, color=PLAY, lw=0)
    _quiet(axes)
    axes.set_yticks([])
    axes.set_title(f"Rallies, {'min' if minutes < 1 else 's'}", loc="left", fontsize=9, color=MUTED, pad=4)


def _court_page(match: Match, analysis: Analysis) -> Figure:
    page = _page(match, "Paths and heat maps")
    tracks = match.tracks
    assert tracks is not None
    count = tracks.player_count + 1
    width = (_RIGHT - _LEFT) / count
    paths = page.add_axes((_LEFT, 0.1, width * 0.94, 0.72))
    _court(paths, "All paths")
    for player in range(tracks.player_count):
        every = max(1, match.frame_count // TRAIL_POINTS)
        places = tracks.position_m[player, ::every]
        paths.plot(places[:, 0], places[:, 1], color=PLAYERS[player % 4], lw=0.6, alpha=0.6, label=player_label(player))
    paths.legend(loc="lower center", bbox_to_anchor=(0.5, -0.07), ncol=4, fontsize=8, frameon=False, handlelength=1.2)
    extent = (
        -heat_map.MARGIN_M,
        heat_map.COLUMNS * heat_map.CELL_M - heat_map.MARGIN_M,
        heat_map.ROWS * heat_map.CELL_M - heat_map.MARGIN_M,
        -heat_map.MARGIN_M,
    )
    for number, figures in enumerate(analysis.players, 1):
        axes = page.add_axes((_LEFT + width * number, 0.1, width * 0.94, 0.72))
        image = np.sqrt(figures.heat_map_s)
        axes.imshow(image, extent=extent, cmap=_HEAT, interpolation="bilinear", aspect="equal", zorder=1)
        _court(axes, player_name(figures.player))
    return page


def _court(axes: Any, title: str) -> None:
    for (ax, ay), (bx, by) in line_segments_m():
        axes.plot([ax, bx], [ay, by], color="#6b7688", lw=0.8, zorder=3, solid_capstyle="butt")
    axes.plot([-0.3, COURT_WIDTH_M + 0.3], [NET_Y_M, NET_Y_M], color=INK, lw=1.8, zorder=3)
    axes.set_xlim(-heat_map.MARGIN_M, COURT_WIDTH_M + heat_map.MARGIN_M)
    axes.set_ylim(COURT_LENGTH_M + heat_map.MARGIN_M, -heat_map.MARGIN_M)
    axes.set_aspect("equal")
    axes.set_axis_off()
    axes.set_title(title, fontsize=10, color=INK, pad=4)


def _players_page(match: Match, analysis: Analysis) -> Figure:
    page = _page(match, "Zones and speed")
    count = len(analysis.players)
    width = (_RIGHT - _LEFT) / count
    for number, figures in enumerate(analysis.players):
        axes: Any = page.add_axes((_LEFT + width * number + 0.03, 0.5, min(width * 0.8, 0.26), 0.32))
        share = figures.zones.share()
        colour = PLAYERS[figures.player % 4]
        cmap = LinearSegmentedColormap.from_list("zone", ["#f3f5f8", colour])
        most = float(np.nan_to_num(share).max())
        axes.imshow(np.nan_to_num(share), cmap=cmap, vmin=0, vmax=max(0.01, 1.5 * most), aspect=1.1)
        for row in range(3):
            for column in range(3):
                axes.text(column, row, percent(share[row, column]), ha="center", va="center", fontsize=11, color=INK)
        axes.set_xticks(range(3), ["left", "centre", "right"])
        axes.set_yticks(range(3), ["front", "mid", "back"])
        axes.plot([-0.5, 2.5], [-0.5, -0.5], color=INK, lw=3, clip_on=False)
        _quiet(axes)
        note = f"{player_name(figures.player)}: {figure(figures.zones.mean_from_net_m)} m from the net"
        axes.set_title(note, fontsize=10, color=colour, pad=8, loc="left")
    _speed_curves(page, match, analysis)
    return page


def _speed_curves(page: Figure, match: Match, analysis: Analysis) -> None:
    axes: Any = page.add_axes((_LEFT + 0.02, 0.12, _RIGHT - _LEFT - 0.02, 0.27))
    duration_s = float(match.times_s[-1])
    unit = 60.0 if duration_s >= 120 else 1.0
    # Of a long match, the highest speed in each of a thousand parts: a curve of all frames is one black bar.
    edges = np.linspace(0, match.frame_count, min(1000, match.frame_count) + 1).astype(int)
    for rally in match.rallies:
        axes.axvspan(rally.start_s / unit, rally.end_s / unit, color=PLAY, alpha=0.08, lw=0)
    for player, speeds in enumerate(analysis.speed_m_s):
        highest = np.array([_highest(speeds[a:b]) for a, b in pairwise(edges)])
        axes.plot(match.times_s[edges[:-1]] / unit, highest, color=PLAYERS[player % 4], lw=1.0)
    axes.set_xlim(0, duration_s / unit)
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", color="#e6e9ef", lw=0.8)
    axes.set_title(
        f"Speed, m/s, over time in {'min' if unit > 1 else 's'}; rallies shaded",
        loc="left",
        fontsize=9,
        color=MUTED,
        pad=4,
    )
    _quiet(axes)


def _highest(speeds: np.ndarray[Any, Any]) -> float:
    known = speeds[np.isfinite(speeds)]
    return float(known.max()) if len(known) else float("nan")


def _rally_page(match: Match, analysis: Analysis, first: int) -> Figure:
    page = _page(match, "Rallies")
    names = ["Rally", "Start", "Duration", "Hits", *(f"{player_label(p)}, m" for p in range(match.player_count))]
    rows = []
    for figures in analysis.rallies[first : first + RALLIES_PER_PAGE]:
        rally = figures.rally
        text = WINNER_TEXT[rally.winner_evidence]
        won = f"not known: {text}"
        if rally.winner is not None:
            won = f"{winner_name(rally.winner, match.player_count)}: {text}"
        distances = [figure(motion.distance_m) for motion in figures.players]
        start = [str(rally.number), clock(rally.start_s), f"{figures.duration_s:.1f} s", str(len(rally.hits) or "–")]
        rows.append([*start, *distances, won, f"{rally.confidence:.2f}"])
    widths = [0.07, 0.09, 0.1, 0.07, *[0.09] * match.player_count, 0.4, 0.1]
    _table(page, [*names, "Won by", "Confidence"], rows, 0.86, widths, step=0.032)
    return page


def _quiet(axes: Any) -> None:
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0, labelsize=8, labelcolor=MUTED)
    axes.set_axisbelow(True)
