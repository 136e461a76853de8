"""The report: one HTML file with the laps and the frame at each crossing inside, which loads nothing.

Text that a user chose (the file's name) is escaped, and a content security policy forbids everything but its own style.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Final

from modal_workers.footage.report_page import content_security_policy
from modal_workers.footage.text_sprites import printable
from modal_workers.lap_detection.spec import WORKLOAD, CrossingResult, LapDetectionResult, LapResult

GOOD: Final = 0.6
FAIR: Final = 0.3


@dataclass(frozen=True)
class ShownCrossing:
    """A crossing with its picture as JPEG."""

    crossing: CrossingResult
    label: str
    encoded: bytes


def crossing_label(crossing: CrossingResult, laps: Sequence[LapResult]) -> str:
    """Return which laps begin and end at a crossing."""
    ends = next((lap.number for lap in laps if lap.end_s == crossing.time_s), None)
    starts = next((lap.number for lap in laps if lap.start_s == crossing.time_s), None)
    if starts is not None:
        return f"Lap {starts} starts" if ends is None else f"Lap {ends} ends, lap {starts} starts"
    return f"Lap {ends} ends" if ends is not None else "Passed, no lap"


def write_report(
    path: Path, result: LapDetectionResult, laps: Sequence[LapResult], shown: Sequence[ShownCrossing], map_png: bytes
) -> None:
    """Write report.html; ``map_png`` is the similarity map, empty without one."""
    style = _asset("report.css")
    title = WORKLOAD.headline(result)
    video = result.video
    page = Template(_asset("report.html")).substitute(
        policy=content_security_policy(style, ""),
        style=style,
        title=escape(printable(title)),
        headline=escape(printable(title)),
        video=escape(
            printable(f"{video.filename}, {video.duration_s:.1f} s, {video.mean_rate_hz:.1f} frames a second")
        ),
        warnings="".join(f'<p class="warn">{escape(printable(text))}</p>' for text in result.warnings),
        laps=_laps_html(result, laps),
        pictures=_pictures_html(shown, result),
        map=_map_html(map_png),
        line="you gave" if result.start_line_chosen == "given" else "was chosen because it is easy to recognise",
    )
    path.write_text(page, encoding="utf-8")


def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _grade(confidence: float) -> str:
    word = "good" if confidence >= GOOD else "fair" if confidence >= FAIR else "poor"
    return f'<span class="{word}">{confidence:.2f} {word}</span>'


def _laps_html(result: LapDetectionResult, laps: Sequence[LapResult]) -> str:
    if not laps:
        return ""
    rows = "".join(
        f'<tr{" class=fastest" if lap.number == result.fastest else ""}><th scope="row">{lap.number}</th>'
        f"<td>{lap.start_s:.2f}</td><td>{lap.end_s:.2f}</td><td>{lap.lap_s:.2f}</td><td>{lap.error_s:.2f}</td>"
        f"<td>{_grade(lap.confidence)}</td><td>{lap.matched:.0%}</td><td>{_remark(lap, result)}</td></tr>"
        for lap in laps
    )
    names = ("Lap", "Start, s", "End, s", "Lap time, s", "±", "Confidence", "Matched", "Remark")
    heads = "".join(f'<th scope="col">{name}</th>' for name in names)
    return (
        '<section><h2>Laps</h2><div class="sheet"><table><thead><tr>'
        f"{heads}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div></section>"
    )


def _remark(lap: LapResult, result: LapDetectionResult) -> str:
    said = ["fastest"] if lap.number == result.fastest else []
    said += ["slow"] if lap.slow else []
    said += [f"{lap.rest_s:.1f} s at rest"] if lap.rest_s >= 0.1 else []
    return ", ".join(said)


def _pictures_html(shown: Sequence[ShownCrossing], result: LapDetectionResult) -> str:
    if not shown:
        return ""
    items = "".join(
        f'<figure><img alt="{escape(each.label)} at {each.crossing.time_s:.2f} s" loading="lazy" '
        f'src="data:image/jpeg;base64,{base64.b64encode(each.encoded).decode()}"><figcaption>{escape(each.label)}'
        f"<small>{each.crossing.time_s:.2f} s ± {each.crossing.error_s:.2f} s"
        f"{', the reference' if each.crossing.time_s == result.start_line_s else ''}</small></figcaption></figure>"
        for each in shown
    )
    return (
        "<section><h2>The frame at each crossing</h2><p>All of these should show the same place from the same spot.</p>"
        f'<div class="pictures">{items}</div></section>'
    )


def _map_html(map_png: bytes) -> str:
    if not map_png:
        return ""
    return (
        "<section><h2>Where the video repeats itself</h2><p>Each point compares two moments, from the start at the top "
        "left; bright ones show the same place. A drive of several laps has bright lines beside the diagonal; the "
        'yellow line was followed.</p><figure class="map"><img alt="Similarity of all moments" '
        f'src="data:image/png;base64,{base64.b64encode(map_png).decode()}"></figure></section>'
    )
