"""The report: one HTML file with the figures, the curves and the videos inside, which loads nothing.

Text that a user chose (file names, sectors) is escaped everywhere, and a content security policy with the hashes of the
page's own script and style forbids everything else.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any, Final

import numpy as np

from modal_workers.footage.h264_writer import shrink_video
from modal_workers.footage.report_page import content_security_policy, script_json
from modal_workers.footage.text_sprites import printable
from modal_workers.lap_compare import wording
from modal_workers.lap_compare.comparison import Comparison, Floats, Opportunity, Sector
from modal_workers.lap_compare.headline import format_signed
from modal_workers.lap_compare.lap_delta import GOOD_CONFIDENCE
from modal_workers.lap_compare.rendering.overlay import output_timeline
from modal_workers.lap_compare.report.method_section import method_html

OVERLAY_LIMIT_BYTES: Final = 24 << 20
CLIP_LIMIT_BYTES: Final = 4 << 20
#: Most samples of a curve in the page; delta.csv has them all.
MAX_CURVE_SAMPLES: Final = 1500


def write_report(
    comparison: Comparison,
    out_path: Path,
    *,
    overlay: Path | None,
    clips: Mapping[int, Path],
    scratch: Path,
    smaller: Path | None = None,
    figure: Path | None = None,
    check: Callable[[], None] | None = None,
) -> None:
    """Write report.html.

    ``overlay`` and ``clips`` (by rank) are embedded, re-encoded if they exceed 24 MiB and 4 MiB; if the file
    ``smaller`` exists, it replaces an overlay that is too large. ``figure``, the PNG of the curve, is for readers
    without scripts. Re-encoded files lie in ``scratch`` temporarily; ``check`` is called for each of their frames, and
    what it raises stops the work.

    Raises:
        av.error.FFmpegError: a video cannot be read.
    """
    if overlay is not None and smaller is not None and smaller.exists():
        overlay = overlay if overlay.stat().st_size <= OVERLAY_LIMIT_BYTES else smaller
    embedded = _embedded(overlay, clips, scratch, check)
    style, script = _asset("report.css"), _asset("report.js")
    page = Template(_asset("report.html")).substitute(
        policy=content_security_policy(style, script),
        style=style,
        script=script,
        data=script_json(_curves(comparison)),
        videos="\n".join(embedded.values()),
        overlay=_overlay_html("overlay" in embedded),
        noscript=_noscript_html(figure),
        opportunities=_opportunities_html(comparison, embedded),
        sectors=_sectors_html(comparison),
        flow=_flow_html(comparison),
        method=method_html(comparison),
        **_heading(comparison),
    )
    out_path.write_text(page, encoding="utf-8")


def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _curves(comparison: Comparison) -> dict[str, Any]:
    alignment = comparison.alignment
    lap_s = alignment.time_a_s - alignment.time_a_s[0]
    at_s = lap_s if len(lap_s) <= MAX_CURVE_SAMPLES else np.linspace(0, float(lap_s[-1]), MAX_CURVE_SAMPLES)

    def sampled(values: Floats | None, fallback: float = 0.0) -> list[float] | None:
        if values is None:
            return None
        filled = np.where(np.isfinite(values), values, fallback)
        return [round(float(value), 4) for value in np.interp(at_s, lap_s, filled)]

    return {
        "lap": [round(float(value), 4) for value in at_s],
        "delta": sampled(comparison.delta_s),
        "error": sampled(alignment.error_s),
        "speed": sampled(comparison.relative_speed, 1.0),
        "confidence": sampled(alignment.confidence),
        "flow_a": sampled(comparison.flow_a) if comparison.flow_b is not None else None,
        "flow_b": sampled(comparison.flow_b) if comparison.flow_a is not None else None,
        "rate": round(float(output_timeline(comparison).rate_hz), 5),
        "good": GOOD_CONFIDENCE,
        "fair": wording.FAIR_CONFIDENCE,
        "sectors": [
            {
                "name": printable(sector.name),
                "start": round(wording.lap_time_s(comparison, sector.start_a_s), 4),
                "end": round(wording.lap_time_s(comparison, sector.end_a_s), 4),
            }
            for sector in comparison.sectors
        ],
        "opportunities": [
            {
                "rank": opportunity.rank,
                "loser": opportunity.loser,
                "start": round(wording.lap_time_s(comparison, opportunity.start_a_s), 4),
                "end": round(wording.lap_time_s(comparison, opportunity.end_a_s), 4),
                "lost": round(opportunity.lost_s, 4),
            }
            for opportunity in comparison.opportunities
        ],
    }


def _embedded(
    overlay: Path | None, clips: Mapping[int, Path], scratch: Path, check: Callable[[], None] | None
) -> dict[str, str]:
    """Return the data blocks of the videos that fit, by the id of the element that plays them."""
    wanted = {f"clip-{rank}": (path, CLIP_LIMIT_BYTES) for rank, path in clips.items()}
    if overlay is not None:
        wanted["overlay"] = (overlay, OVERLAY_LIMIT_BYTES)
    blocks = {}
    for name, (path, limit_bytes) in wanted.items():
        smaller = scratch / f"{name}-smaller.mp4"
        try:
            text = base64.b64encode(shrink_video(path, smaller, limit_bytes, check=check).read_bytes()).decode()
        except ValueError:
            continue  # too long to embed at any quality: the page names the file instead
        finally:
            smaller.unlink(missing_ok=True)
        blocks[name] = f'<script type="application/base64" data-video="{name}">{text}</script>'
    return blocks


def _heading(comparison: Comparison) -> dict[str, str]:
    delta_s, error_s = wording.total_delta_s(comparison), wording.total_error_s(comparison)
    names = [escape(printable(clip.filename)) for clip in (comparison.clip_a, comparison.clip_b)]
    warnings = "".join(f"<li>{escape(printable(text))}</li>" for text in comparison.warnings)
    return {
        "title": f"Lap comparison: {names[0]} and {names[1]}",
        "name_a": names[0],
        "name_b": names[1],
        "headline": escape(wording.headline(comparison)),
        "clock_a": wording.format_lap_time(comparison.total_a_s),
        "clock_b": wording.format_lap_time(comparison.total_b_s),
        "delta": format_signed(delta_s),
        "error": f"{error_s:.2f}",
        "direction": _direction(delta_s, error_s),
        "grade": wording.grade(comparison.confidence),
        "confidence": f"{comparison.confidence:.2f}",
        "explained": escape(wording.confidence_sentence(comparison)),
        "advice": _advice_html(comparison),
        "warnings": f'<div class="warn" role="note"><ul>{warnings}</ul></div>' if warnings else "",
    }


def _advice_html(comparison: Comparison) -> str:
    if not comparison.advice:
        return ""
    entries = "".join(
        f'<li data-advice="{advice.code}">{escape(printable(advice.text))}</li>' for advice in comparison.advice
    )
    return (
        '<section id="advice"><h2>What would make it more certain</h2>'
        f'<div class="sheet plain"><ul>{entries}</ul></div></section>'
    )


def _direction(delta_s: float, error_s: float) -> str:
    if abs(delta_s) <= error_s:
        return "level"
    return "behind" if delta_s > 0 else "ahead"


def _overlay_html(embedded: bool) -> str:
    if not embedded:
        return "<p>The overlay is too large for this page. Open the file overlay.mp4 from the same job.</p>"
    label = "Both laps side by side, synchronised by place: A left, B right"
    return f'<video id="overlay" playsinline muted preload="auto" aria-label="{label}"></video>'


def _noscript_html(figure: Path | None) -> str:
    note = "The curves and videos of this page need JavaScript."
    if figure is None:
        return f"<noscript><p>{note}</p></noscript>"
    png = base64.b64encode(figure.read_bytes()).decode()
    return f'<noscript><p>{note}</p><img alt="Delta curve" src="data:image/png;base64,{png}"></noscript>'


def _opportunities_html(comparison: Comparison, embedded: Mapping[str, str]) -> str:
    if not comparison.opportunities:
        return '<p class="sheet plain">No stretch in which more time is lost than the error.</p>'
    cards = [_card_html(comparison, opportunity, embedded) for opportunity in comparison.opportunities]
    return f'<div class="cards">{"".join(cards)}</div>'


def _card_html(comparison: Comparison, opportunity: Opportunity, embedded: Mapping[str, str]) -> str:
    name, loser = f"clip-{opportunity.rank}", opportunity.loser
    sentence = escape(wording.opportunity_sentence(comparison, opportunity).partition(": ")[2])
    start_s = wording.lap_time_s(comparison, opportunity.start_a_s)
    grade = wording.grade(opportunity.confidence)
    video = (
        f'<button type="button" class="clip" aria-label="Play or pause the clip: {sentence}">'
        f'<video id="{name}" playsinline muted loop preload="auto"></video></button>'
        if name in embedded
        else ""
    )
    return (
        f'<article class="card">{video}<div><h3><b class="who {loser}">{loser.upper()}</b>'
        f"{opportunity.lost_s:.2f}&thinsp;s <small>±&thinsp;{opportunity.error_s:.2f}</small></h3>"
        f'<p class="said">{sentence}</p>'
        f'<p><i class="light {grade}"></i>Confidence {grade}, {opportunity.confidence:.2f}</p>'
        f'<button type="button" class="jump" data-seek="{start_s:.3f}">Show on the curve</button></div></article>'
    )


def _sectors_html(comparison: Comparison) -> str:
    # a full bar is at least 0.1 s, so that noise is not drawn large
    largest = max(0.1, *(abs(sector.delta_s) for sector in comparison.sectors))
    rows = "".join(_sector_html(comparison, sector, largest) for sector in comparison.sectors)
    delta_s, error_s = wording.total_delta_s(comparison), wording.total_error_s(comparison)
    return (
        '<div class="sheet"><table><thead><tr><th scope="col">Sector</th><th scope="col">A, s</th>'
        '<th scope="col">B, s</th><th scope="col">B to A, s</th><th scope="col">±, s</th>'
        '<th class="swing"><span aria-hidden="true"></span></th><th scope="col">Match</th></tr></thead>'
        f'<tbody>{rows}</tbody><tfoot><tr><th scope="row">Total</th><td>{comparison.total_a_s:.2f}</td>'
        f"<td>{comparison.total_b_s:.2f}</td>"
        f'<td class="{_direction(delta_s, error_s)}">{format_signed(delta_s)}</td>'
        f'<td>{error_s:.2f}</td><td class="swing"></td>'
        f"<td>{_light_html(comparison.confidence)}</td></tr></tfoot></table></div>"
    )


def _sector_html(comparison: Comparison, sector: Sector, largest_s: float) -> str:
    start_s = wording.lap_time_s(comparison, sector.start_a_s)
    direction = _direction(sector.delta_s, sector.error_s)
    length = 56 * abs(sector.delta_s) / largest_s
    left = 60 if sector.delta_s > 0 else 60 - length
    side = "behind" if sector.delta_s > 0 else "ahead"
    bar = (
        '<svg width="120" height="14" aria-hidden="true"><line x1="60" x2="60" y1="0" y2="14"/>'
        f'<rect class="{side}" x="{left:.1f}" y="3" width="{length:.1f}" height="8" rx="2"/></svg>'
    )
    return (
        f'<tr data-seek="{start_s:.3f}"><th scope="row"><button type="button" data-seek="{start_s:.3f}">'
        f"{escape(printable(sector.name))}</button></th><td>{sector.time_a_s:.2f}</td><td>{sector.time_b_s:.2f}</td>"
        f'<td class="{direction}">{format_signed(sector.delta_s)}</td><td>{sector.error_s:.2f}</td>'
        f'<td class="swing">{bar}</td><td>{_light_html(sector.confidence)}</td></tr>'
    )


def _light_html(confidence: float) -> str:
    grade = wording.grade(confidence)
    return f'<i class="light {grade}"></i><span class="word">{grade}</span>'


def _flow_html(comparison: Comparison) -> str:
    if comparison.flow_a is None or comparison.flow_b is None:
        return ""
    return (
        '<section><h2>Motion in the picture <span class="tag">uncalibrated</span></h2><div class="sheet plain">'
        '<p class="key"><span><i class="a"></i>A</span><span><i class="b"></i>B</span></p>'
        '<div class="chart" id="chart-flow"></div>'
        '<p class="hint">Median optical flow in picture widths per second. It depends on '
        "the scenery, the lens and the mount as much as on the car: compare the shapes of the curves, but do not read "
        "a speed from them.</p></div></section>"
    )
