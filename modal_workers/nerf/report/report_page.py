"""Writes report.html: verdict, cameras, quality, frames, time and cost; one file that loads nothing.

What a user named (file names) is escaped wherever it is put in.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from html import escape
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from modal_workers.nerf.capture.spec import Reason
from modal_workers.nerf.report.charts import quality_curve, ring_from_above, ring_unrolled
from modal_workers.nerf.report.held_out_comparison import HeldOutComparison
from modal_workers.nerf.report.html_page import data_url, write_page
from modal_workers.nerf.report.stage_reports import StageReports
from modal_workers.nerf.result import NerfResult, StageFigures
from modal_workers.nerf.training.spec import TrainingReport

_WORDS: Final = {"good": "good", "usable": "usable", "refused": "refused"}
_TITLES: Final = {
    "capture": "Judge the photos",
    "poses": "Find the cameras",
    "training": "Train the model",
    "rendering": "Render the frames",
    "exhibit": "Make what is looked at",
}


@dataclass(frozen=True)
class ReportImages:
    """What the report shows, as far as there is any, and of which job it is."""

    job_id: str
    made_at: datetime
    hero: NDArray[np.uint8] | None = None
    contact_sheet: Path | None = None
    comparisons: Sequence[HeldOutComparison] = field(default_factory=tuple)


def write_report(path: Path, story: StageReports, result: NerfResult, pictures: ReportImages) -> None:
    """Write the page; of a capture that went no further, its verdict alone."""
    sections = [_hero(pictures), _verdict(story, result)]
    if story.poses is not None:
        sections += [_cameras(story), _model(story, pictures)]
    if result.frames is not None:
        sections += [_frames(story, result, pictures)]
    sections += [_expense(result), _keeping(result, pictures)]
    write_page(
        path,
        "report",
        title=headline(story, result),
        style="report",
        headline=escape(headline(story, result)),
        tiles="".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in _tiles(result)),
        sections="\n".join(section for section in sections if section),
    )


def headline(story: StageReports, result: NerfResult) -> str:
    """Say in a line what came out."""
    if result.frames is not None:
        return f"{result.photos_sent} photos, {result.frames.frames:,} transparent frames"
    if story.capture.verdict.accept == "refused":
        return f"{result.photos_sent} photos: not yet a model"
    return f"{result.photos_sent} photos: they will do"


def _tiles(result: NerfResult) -> list[tuple[str, str]]:
    light = f'<i class="light {result.verdict}"></i>'
    tiles = [("Photos", f"{light}{_WORDS[result.verdict]} <small>{result.score:.0%}</small>")]
    if result.poses is not None:
        placed = f"{result.poses.photos_registered} <small>of {result.poses.photos_given}</small>"
        tiles.append(("Photos placed", placed))
    if result.model is not None and result.model.psnr_db is not None:
        tiles.append(("Unseen photos", f"{result.model.psnr_db:.1f} <small>dB PSNR</small>"))
    if result.frames is not None:
        tiles.append(("Frames verified", f"{result.frames.verified:,} <small>of {result.frames.frames:,}</small>"))
    tiles.append(("Time of work", _duration(result.actual_s)))
    tiles.append(("Cost", _usd(result.actual_usd)) if result.poses is not None else ("Spared", _usd(result.spared_usd)))
    return tiles


def _hero(pictures: ReportImages) -> str:
    if pictures.hero is None:
        return ""
    return (
        f'<section class="hero card"><img class="checker" src="{_picture(pictures.hero)}" alt="The object">'
        '<div><p><a href="spin.html">spin.html</a>: turn it by hand, around and over.</p>'
        '<p><a href="splat.html">splat.html</a>: the model itself, from everywhere.</p>'
        '<p><a href="turntable.mp4">turntable.mp4</a> and <a href="turntable.webp">turntable.webp</a>: one turn, the '
        "latter transparent.</p><p>frames/batch_NN.zip: every frame at its full size, PNG with straight alpha.</p>"
        "</div></section>"
    )


def _verdict(story: StageReports, result: NerfResult) -> str:
    capture = story.capture
    lines = [f"{capture.photos} of {capture.sent} files are photos that can be read; {capture.sharp} are sharp."]
    if capture.orbit is not None:
        lines.append(f"They go {capture.orbit.coverage_deg:.0f}° around the object.")
    if len(capture.pieces) > 1:
        lines.append(f"They fall into {len(capture.pieces)} pieces that nothing ties to each other.")
    if result.spared_usd > 0:
        lines.append(f"No later stage was run: {_usd(result.spared_usd)} were not spent.")
    reasons = "".join(_reason(reason) for reason in capture.verdict.reasons)
    skipped = "".join(f"<li>{escape(one.name)}: {escape(one.reason)}</li>" for one in capture.skipped[:20])
    more = f"<p>Not used:</p><ul>{skipped}</ul>" if skipped else ""
    nothing = "" if capture.verdict.reasons else "<p>Nothing was found against them.</p>"
    return (
        f'<section id="verdict"><h2>The photos: {_WORDS[result.verdict]}</h2>'
        f'<p class="lead">{" ".join(lines)}</p>{reasons}{nothing}{more}</section>'
    )


def _reason(reason: Reason) -> str:
    named = ", ".join(map(escape, reason.photos[:12])) + (" …" if len(reason.photos) > 12 else "")
    photos = f'<p class="photos">{named}</p>' if named else ""
    fix = f"<p>{escape(reason.fix)}</p>" if reason.fix else ""
    return f'<div class="reason {reason.severity}"><p><b>{escape(reason.message)}</b></p>{fix}{photos}</div>'


def _cameras(story: StageReports) -> str:
    poses, shape = story.poses, story.shape
    assert poses is not None
    above = ring_from_above(story.cameras, shape.radius if shape else 0.2)
    unrolled = ring_unrolled(story.cameras, shape.elevations_deg if shape else ())
    missing = ", ".join(map(escape, poses.not_registered[:12]))
    left_out = f" Left out: {missing}." if missing else ""
    warned = "".join(f'<div class="reason"><p>{escape(one)}</p></div>' for one in poses.warnings)
    return (
        f"<section><h2>Where they were taken from</h2>{warned}"
        f'<div class="cards"><div class="card"><h3>From above</h3>{above}<p>{poses.photos_registered} of '
        f"{poses.photos_given} photos placed, {poses.reprojection_error_px:.2f} px mean reprojection error over "
        f'{poses.points:,} points; blue cameras are higher.{left_out}</p></div><div class="card">'
        f"<h3>Around and up</h3>{unrolled}<p>Dots are photos, from {poses.elevation_min_deg:.0f}° to "
        f"{poses.elevation_max_deg:.0f}° up; dashed lines the rings of the frames.</p></div></div></section>"
    )


def _model(story: StageReports, pictures: ReportImages) -> str:
    training = story.training
    if training is None:
        return ""
    score = "There were too few photos to hold any out."
    if training.psnr_db is not None:
        ssim = "" if training.ssim is None else f", SSIM {training.ssim:.3f}"
        score = f"On {training.held_out} photos that it never saw: PSNR {training.psnr_db:.1f} dB{ssim}."
    curve = quality_curve(training.curve)
    drawn = f'<div class="card"><h3>PSNR in training</h3>{curve}</div>' if curve else ""
    figures = "".join(
        _figure(words, picture, pair.name)
        for pair in pictures.comparisons
        for words, picture in (("Photo", pair.photo), ("Model", pair.model), ("Difference × 3", pair.difference))
    )
    shown = (
        f'<div class="card"><h3>Unseen photos and the model</h3><div class="pairs">{figures}</div></div>'
        if figures
        else ""
    )
    stopped = ", stopped early as it got no better" if training.stopped_early else ""
    cut = "by the masks that were sent" if training.masks == "given" else "by masks that were found in training"
    return (
        f'<section id="model"><h2>The model</h2>{_doubt(training)}<p class="lead">{_what(training)}, '
        f"{training.iterations:,} iterations{stopped}, on {escape(training.device)}, photos at "
        f"{training.training_size_px} px. The object was told from the rest {cut}. {score}{_outline(training)}</p>"
        f'<div class="cards">{drawn}{shown}</div></section>'
    )


def _outline(training: TrainingReport) -> str:
    """Say how far the outline is backed by the photos; nothing where masks were sent."""
    if training.masks == "given":
        return ""
    if training.outline_agreement is None:
        return " Whether the outline is right was not judged: too little of a table is seen beside the object."
    return (
        f" {training.outline_agreement:.0%} of alpha's outline in them is where the photo stops showing the table, "
        "within 2 px of 320; where the object stands and where no table is behind it, nothing is judged."
    )


def _doubt(training: TrainingReport) -> str:
    if training.outline_agreement is None or not training.outline_doubtful:
        return ""
    return (
        '<div class="reason warning"><p><b>The outline is doubtful: '
        f"{1 - training.outline_agreement:.0%} of it is not where the photos stop showing the table.</b></p>"
        "<p>Look at the frames. Send masks, or set crop_radius so that the whole object is inside of it.</p></div>"
    )


def _what(training: TrainingReport) -> str:
    backend = escape(training.backend)
    return f"{training.splats:,} splats ({backend})" if training.splats else f"A field of {backend}"


def _figure(words: str, picture: NDArray[np.uint8], name: str) -> str:
    about = f'alt="{words}: {escape(name)}"'
    return f'<figure><img src="{_picture(picture)}" {about}><figcaption>{words}</figcaption></figure>'


def _frames(story: StageReports, result: NerfResult, pictures: ReportImages) -> str:
    frames = result.frames
    assert frames is not None
    rings = ", ".join(f"{angle:.1f}°" for angle in frames.elevations_deg)
    step, zips = 360 / frames.azimuths, "one zip" if frames.batches == 1 else f"{frames.batches} zips"
    spacing = max(one.spacing_error_deg for one in story.renderings)
    sheet = ""
    if pictures.contact_sheet is not None:
        source = data_url(pictures.contact_sheet.read_bytes(), "image/png")
        sheet = f'<div class="card wide"><img src="{source}" alt="The object from all sides, on a checkerboard"></div>'
    return (
        f'<section><h2>The frames</h2><p class="lead">{frames.frames:,} frames of {frames.size_px} × {frames.size_px} '
        f"px in {zips}: {frames.azimuths} around, every {step:g}°, at {rings} up. Each was read back "
        f"from its zip: {frames.verified:,} are whole, of the right size, and have an alpha channel that varies; no "
        f"pose is more than {spacing:.4f}° from its even place.</p>{sheet}</section>"
    )


def _expense(result: NerfResult) -> str:
    rows = "".join(_row(one) for one in result.stages)
    return (
        '<section><h2>Time and cost</h2><div class="sheet"><table><thead><tr><th>Stage</th><th>Jobs</th>'
        "<th>Device</th><th>Estimated</th><th>Took</th><th>Estimated, USD</th><th>Cost, USD</th></tr></thead>"
        f"<tbody>{rows}</tbody><tfoot><tr><th>What was run</th><td></td><td></td>"
        f"<td>{_duration(result.estimated_s)}</td><td>{_duration(result.actual_s)}</td>"
        f"<td>{result.estimated_usd:.4f}</td><td>{result.actual_usd:.4f}</td></tr></tfoot></table></div>"
        '<p class="lead">Seconds are of work, summed over a stage\'s jobs; waiting and the start of machines are not '
        "in them. Costs are the ledger's; on the operator's own machine nothing is billed.</p></section>"
    )


def _row(one: StageFigures) -> str:
    took = "not run" if one.actual_s is None else _duration(one.actual_s)
    cost = "" if one.actual_usd is None else f"{one.actual_usd:.4f}"
    return (
        f"<tr><th>{_TITLES[one.stage]}</th><td>{one.jobs}</td><td>{escape(one.device)}</td>"
        f"<td>{_duration(one.estimated_s)}</td><td>{took}</td><td>{one.estimated_usd:.4f}</td><td>{cost}</td></tr>"
    )


def _keeping(result: NerfResult, pictures: ReportImages) -> str:
    until = pictures.made_at + timedelta(hours=result.keep_hours)
    route = f"/v1/jobs/{escape(pictures.job_id)}"
    return (
        "<section><h2>How long it is kept</h2><ul>"
        f"<li>What is only kept to go on from (the stages' hand-over, caches on Modal's volume): {result.keep_hours} "
        f"hours after the end, until about {until:%Y-%m-%d %H:%M} UTC. "
        f'<code>POST {route}/extend {{"hours": 72}}</code> keeps it longer, '
        f'<code>POST {route}/confirm-download {{"remove": true}}</code> has it removed at once.</li>'
        "<li>Artifacts (frames, model, this page): as long as the bucket keeps them; Saccade removes none.</li>"
        "</ul></section>"
    )


def _picture(picture: NDArray[np.uint8]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "WEBP", quality=84)
    return data_url(buffer.getvalue(), "image/webp")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _usd(value: float) -> str:
    return f"{value:.4f} <small>USD</small>" if value < 1 else f"{value:.2f} <small>USD</small>"
