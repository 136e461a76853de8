"""``report.html``: one file with the figures, the tracks and the video inside, which loads nothing.

Text that others chose (file names, reasons) is escaped everywhere, and a content security policy with the hashes of
the page's own script and style forbids everything else.
"""

from __future__ import annotations

import base64
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from modal_workers.badminton.analytics.analysis import Analysis
from modal_workers.badminton.match import Match
from modal_workers.badminton.rendering.videos import RenderedVideos
from modal_workers.badminton.report import page_sections as sections
from modal_workers.badminton.report.page_data import page_data
from modal_workers.badminton.wording import clock
from modal_workers.footage.report_page import content_security_policy, script_json
from modal_workers.footage.text_sprites import printable


def write_page(match: Match, analysis: Analysis, rendered: RenderedVideos, out_path: Path) -> None:
    """Write report.html."""
    style, script = _asset("report.css") + _zone_shades(), _asset("report.js")
    facts = match.facts
    name = escape(printable(facts.filename))
    rate = f"{facts.mean_rate_hz:.5g} Hz{', variable' if facts.variable_rate else ''}"
    page = Template(_asset("report.html")).substitute(
        policy=content_security_policy(style, script),
        style=style,
        script=script,
        title=f"Badminton: {name}",
        source=f"{name} · {facts.width_px} × {facts.height_px}, {rate}, {clock(facts.duration_s)}",
        headline=escape(sections.headline(match, analysis)),
        tiles=sections.tiles_html(match, analysis),
        missing=sections.missing_html(match),
        video=_video_html(rendered),
        speed=sections.speed_html(match),
        players=sections.players_html(match, analysis),
        rallies=sections.rallies_html(match, analysis),
        gaps=sections.gaps_html(match),
        method=sections.method_html(match),
        data=script_json(page_data(match, analysis, rendered.plain_size)),
        blocks=_block(rendered.plain),
    )
    out_path.write_text(page, encoding="utf-8")


def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _zone_shades() -> str:
    """Return the shades of the zones' cells: the policy forbids style attributes."""
    return "".join(f'.zones td[data-share="{share}"]{{--share:{share}}}\n' for share in range(81))


def _video_html(rendered: RenderedVideos) -> str:
    if rendered.plain is None:
        return (
            "<p>The video is too long for this page: processed.mp4 of the same job shows it. The court plays here.</p>"
        )
    return '<video id="video" playsinline muted preload="auto" aria-label="The match"></video>'


def _block(video: Path | None) -> str:
    if video is None:
        return ""
    return f'<script type="application/base64" data-video>{base64.b64encode(video.read_bytes()).decode()}</script>'
