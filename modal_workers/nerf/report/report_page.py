"""Writes report.html: verdict, cameras, quality, frames, time and cost; one file that loads nothing.

User-given text (file names) is escaped wherever it is inserted.
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
from modal_workers.nerf.photo_arcs import FULL_CIRCLE, NEARBY_DEG, SEEN_SHARE, open_arcs
from modal_workers.nerf.report.charts import quality_curve, ring_from_above, ring_unrolled
from modal_workers.nerf.report.coverage_charts import ring_coverage
from modal_workers.nerf.report.frame_views import FrameRow
from modal_workers.nerf.report.held_out_comparison import HeldOutComparison
from modal_workers.nerf.report.html_page import data_url, write_page
from modal_workers.nerf.report.object_section import ShownChoice, object_section
from modal_workers.nerf.report.pipeline_result import SEEN_FRAMES_SHARE
from modal_workers.nerf.report.stage_reports import StageReports
from modal_workers.nerf.result import FramesFigures, NerfResult, StageFigures, headline
from modal_workers.nerf.training.spec import TrainingReport

_TITLES: Final = {
    "capture": "Check the photos",
    "poses": "Find the cameras",
    "training": "Train the model",
    "rendering": "Render the frames",
    "exhibit": "Make the report",
}


@dataclass(frozen=True)
class ReportImages:
    """Images of the report, as far as they exist, and the job they belong to."""

    job_id: str
    made_at: datetime
    hero: NDArray[np.uint8] | None = None
    contact_sheet: Path | None = None
    shown_frames: Sequence[FrameRow] = field(default_factory=tuple)
    comparisons: Sequence[HeldOutComparison] = field(default_factory=tuple)
    choices: Sequence[ShownChoice] = field(default_factory=tuple)


def write_report(path: Path, reports: StageReports, result: NerfResult, images: ReportImages) -> None:
    """Write the page; for a capture that went no further, only its verdict."""
    sections = [_hero(images), _photos(reports, result)]
    if reports.poses is not None:
        encoded = [[_image_url(image) for _, image in choice.pictures] for choice in images.choices]
        sections += [_cameras(reports), object_section(reports.poses.object, images.choices, encoded)]
        sections += [_model(reports, images)]
    if result.frames is not None:
        sections += [_frames(reports, result, images)]
    sections += [_costs(result), _retention(result, images)]
    write_page(
        path,
        "report",
        title=headline(result),
        style="report",
        headline=escape(headline(result)),
        tiles="".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in _tiles(result)),
        sections="\n".join(section for section in sections if section),
    )


def _tiles(result: NerfResult) -> list[tuple[str, str]]:
    light = f'<i class="light {result.verdict}"></i>'
    tiles = [("Photos", f"{light}{result.verdict} <small>{result.score:.0%}</small>")]
    if result.poses is not None:
        registered = f"{result.poses.photos_registered} <small>of {result.poses.photos_given}</small>"
        tiles.append(("Photos registered", registered))
    if result.model is not None and result.model.psnr_db is not None:
        tiles.append(("Held-out photos", f"{result.model.psnr_db:.1f} <small>dB PSNR</small>"))
    if result.frames is not None:
        tiles.append(("Frames verified", f"{result.frames.verified:,} <small>of {result.frames.frames:,}</small>"))
    if result.frames is not None and result.frames.seen is not None:
        tiles.append(("Frames seen", f"{result.frames.seen:,} <small>of {result.frames.frames:,}</small>"))
    tiles.append(("Working time", _duration(result.actual_s)))
    tiles.append(("Cost", _usd(result.actual_usd)) if result.poses is not None else ("Saved", _usd(result.spared_usd)))
    return tiles


def _hero(images: ReportImages) -> str:
    if images.hero is None:
        return ""
    return (
        f'<section class="hero card"><img class="checker" src="{_image_url(images.hero)}" alt="The object">'
        '<div><p><a href="spin.html">spin.html</a>: turn the object by hand.</p>'
        '<p><a href="splat.html">splat.html</a>: the 3D model in a viewer.</p>'
        '<p><a href="turntable.mp4">turntable.mp4</a> and <a href="turntable.webp">turntable.webp</a>: one turn; the '
        "WebP is transparent.</p><p>frames/batch_NN.zip: all frames at full size, PNG with straight alpha.</p>"
        "</div></section>"
    )


def _photos(reports: StageReports, result: NerfResult) -> str:
    capture = reports.capture
    lines = [f"{capture.photos} of {capture.sent} files are readable photos; {capture.sharp} are sharp."]
    if capture.orbit is not None:
        lines.append(f"They cover {capture.orbit.coverage_deg:.0f}° around the object.")
    if len(capture.pieces) > 1:
        lines.append(f"They form {len(capture.pieces)} separate groups without overlap.")
    if result.spared_usd > 0:
        lines.append(f"No later stage was run: {_usd(result.spared_usd)} were not spent.")
    reasons = "".join(_reason(reason) for reason in capture.verdict.reasons)
    skipped = "".join(f"<li>{escape(file.name)}: {escape(file.reason)}</li>" for file in capture.skipped[:20])
    more = f"<p>Not used:</p><ul>{skipped}</ul>" if skipped else ""
    nothing = "" if capture.verdict.reasons else "<p>No problems were found.</p>"
    return (
        f'<section id="verdict"><h2>The photos: {result.verdict}</h2>'
        f'<p class="lead">{" ".join(lines)}</p>{reasons}{nothing}{more}</section>'
    )


def _reason(reason: Reason) -> str:
    named = ", ".join(map(escape, reason.photos[:12])) + (" …" if len(reason.photos) > 12 else "")
    photos = f'<p class="photos">{named}</p>' if named else ""
    fix = f"<p>{escape(reason.fix)}</p>" if reason.fix else ""
    return f'<div class="reason {reason.severity}"><p><b>{escape(reason.message)}</b></p>{fix}{photos}</div>'


def _cameras(reports: StageReports) -> str:
    poses, dimensions = reports.poses, reports.dimensions
    assert poses is not None
    gaps = open_arcs(reports.arcs) if reports.arcs else []
    cameras = reports.cameras if dimensions is None or dimensions.cameras is None else dimensions.cameras
    above = ring_from_above(cameras, dimensions.radius if dimensions else 0.2, gaps)
    unrolled = ring_unrolled(cameras, dimensions.elevations_deg if dimensions else (), gaps)
    hatched = " Hatched: no photo shows the object from there." if gaps else ""
    missing = ", ".join(map(escape, poses.not_registered[:12]))
    left_out = f" Left out: {missing}." if missing else ""
    warned = "".join(f'<div class="reason"><p>{escape(warning)}</p></div>' for warning in poses.warnings)
    return (
        f"<section><h2>Camera positions</h2>{warned}"
        f'<div class="cards"><div class="card"><h3>From above</h3>{above}<p>{poses.photos_registered} of '
        f"{poses.photos_given} photos registered, {poses.reprojection_error_px:.2f} px mean reprojection error over "
        f'{poses.points:,} points; blue cameras are higher.{hatched}{left_out}</p></div><div class="card">'
        f"<h3>Azimuth and elevation</h3>{unrolled}<p>Dots are photos, at elevations from "
        f"{poses.elevation_min_deg:.0f}° to {poses.elevation_max_deg:.0f}°; dashed lines are the rings "
        "of the frames.</p></div></div></section>"
    )


def _model(reports: StageReports, images: ReportImages) -> str:
    training = reports.training
    if training is None:
        return ""
    score = "There were too few photos to hold any out for a score."
    if training.psnr_db is not None:
        ssim = "" if training.ssim is None else f", SSIM {training.ssim:.3f}"
        score = f"On {training.held_out} photos held out of the training: PSNR {training.psnr_db:.1f} dB{ssim}."
    curve = quality_curve(training.curve)
    drawn = f'<div class="card"><h3>PSNR in training</h3>{curve}</div>' if curve else ""
    figures = "".join(
        _figure(words, image, pair.name)
        for pair in images.comparisons
        for words, image in (("Photo", pair.photo), ("Model", pair.model), ("Difference × 3", pair.difference))
    )
    shown = (
        f'<div class="card"><h3>Held-out photos and the model</h3><div class="pairs">{figures}</div></div>'
        if figures
        else ""
    )
    stopped = ", stopped early because the score no longer rose" if training.stopped_early else ""
    cut = "by your masks" if training.masks == "given" else "by masks that training found"
    return (
        f'<section id="model"><h2>The model</h2>{_outline_warning(training)}<p class="lead">{_model_name(training)}, '
        f"{training.iterations:,} iterations{stopped}, on {escape(training.device)}, photos at "
        f"{training.training_size_px} px. The object was separated from the background {cut}. "
        f"{score}{_outline(training)}</p>"
        f'<div class="cards">{drawn}{shown}</div></section>'
    )


def _outline(training: TrainingReport) -> str:
    """Return the outline agreement in words; nothing where masks were given."""
    if training.masks == "given":
        return ""
    if training.outline_agreement is None:
        return " The outline was not checked: too little of a table is visible beside the object."
    return (
        f" {training.outline_agreement:.0%} of the outline of alpha in them is where the photo stops showing the "
        "table, within 2 px of 320. The lower edge, and edges without table behind them, are not checked."
    )


def _outline_warning(training: TrainingReport) -> str:
    if training.outline_agreement is None or not training.outline_doubtful:
        return ""
    return (
        '<div class="reason warning"><p><b>The outline is doubtful: '
        f"{1 - training.outline_agreement:.0%} of it is not where the photos stop showing the table.</b></p>"
        "<p>Check the frames. Send masks, or set crop_radius so that the whole object is inside the sphere.</p></div>"
    )


def _model_name(training: TrainingReport) -> str:
    backend = escape(training.backend)
    return f"{training.splats:,} splats ({backend})" if training.splats else f"A radiance field ({backend})"


def _figure(words: str, image: NDArray[np.uint8], name: str) -> str:
    about = f'alt="{words}: {escape(name)}"'
    return f'<figure><img src="{_image_url(image)}" {about}><figcaption>{words}</figcaption></figure>'


def _frames(reports: StageReports, result: NerfResult, images: ReportImages) -> str:
    frames = result.frames
    assert frames is not None
    rings = ", ".join(f"{angle:.1f}°" for angle in frames.elevations_deg)
    step, zips = reports.renderings[0].azimuth_step_deg, "one ZIP" if frames.batches == 1 else f"{frames.batches} ZIPs"
    spacing = max(rendering.spacing_error_deg for rendering in reports.renderings)
    sheet = ""
    if images.contact_sheet is not None:
        source = data_url(images.contact_sheet.read_bytes(), "image/png")
        sheet = f'<div class="card wide"><img src="{source}" alt="The object from all sides, on a checkerboard"></div>'
    return (
        f'<section id="frames"><h2>The frames</h2>{_unseen_warning(frames)}<p class="lead">{frames.frames:,} frames of '
        f"{frames.size_px} × {frames.size_px} px in {zips}: {frames.azimuths} per ring, every {step:.4g}°, at "
        f"elevations of {rings}. Each was read back from its ZIP: {frames.verified:,} are complete, of the right "
        f"size, and have a varying alpha channel. No pose is more than {spacing:.4f}° off even spacing.</p>"
        f"{_seen_frames(frames, images)}{sheet}</section>"
    )


def _unseen_warning(frames: FramesFigures) -> str:
    """Return what no photo shows, and what the frames do about it; nothing where all sides were photographed."""
    parts = []
    if frames.open_deg:
        if frames.arcs_deg == FULL_CIRCLE:
            meaning = "Frames of that side show what training made up."
        else:
            meaning = "The frames cover the photographed side only; orbit: full renders the whole circle."
        parts.append((f"{frames.open_deg:.0f}° of the circle around the object are in no photo.", meaning))
    if frames.seen is not None and frames.seen < SEEN_FRAMES_SHARE * frames.frames:
        unseen = frames.frames - frames.seen
        fix = "They are listed in frames.csv. Take photos from there, or leave these frames out."
        parts.append((f"{unseen:,} of {frames.frames:,} frames show what photos do not.", fix))
    return "".join(f'<div class="reason warning"><p><b>{fact}</b></p><p>{fix}</p></div>' for fact, fix in parts)


def _seen_frames(frames: FramesFigures, images: ReportImages) -> str:
    if frames.seen is None or not images.shown_frames:
        return ""
    nearest = max(frame.nearest_photo_deg or 0.0 for frame in images.shown_frames)
    chart = ring_coverage(images.shown_frames, len(frames.elevations_deg))
    return (
        f'<div class="card"><h3>How well the photos show each frame</h3>{chart}<p>{frames.seen:,} of {frames.frames:,} '
        f"frames count as seen: a photo within {NEARBY_DEG:.0f}° of the frame, and {SEEN_SHARE:.0%} of its pixels seen "
        f"in training from within {NEARBY_DEG:.0f}°. Bars are that share, other frames are hatched. The frame that is "
        f"furthest from a photo is {nearest:.0f}° away. Figures of each frame: frames.csv.</p></div>"
    )


def _costs(result: NerfResult) -> str:
    rows = "".join(_row(figures) for figures in result.stages)
    return (
        '<section><h2>Time and cost</h2><div class="sheet"><table><thead><tr><th>Stage</th><th>Jobs</th>'
        "<th>Device</th><th>Estimated</th><th>Took</th><th>Estimated, USD</th><th>Cost, USD</th></tr></thead>"
        f"<tbody>{rows}</tbody><tfoot><tr><th>Stages that ran</th><td></td><td></td>"
        f"<td>{_duration(result.estimated_s)}</td><td>{_duration(result.actual_s)}</td>"
        f"<td>{result.estimated_usd:.4f}</td><td>{result.actual_usd:.4f}</td></tr></tfoot></table></div>"
        '<p class="lead">Times are working time, summed over the jobs of a stage, without waiting and machine start. '
        "Costs are those of the pipeline; nothing is billed on the operator's own machine.</p></section>"
    )


def _row(figures: StageFigures) -> str:
    took = "not run" if figures.actual_s is None else _duration(figures.actual_s)
    cost = "" if figures.actual_usd is None else f"{figures.actual_usd:.4f}"
    return (
        f"<tr><th>{_TITLES[figures.stage]}</th><td>{figures.jobs}</td><td>{escape(figures.device)}</td>"
        f"<td>{_duration(figures.estimated_s)}</td><td>{took}</td><td>{figures.estimated_usd:.4f}</td><td>{cost}</td></tr>"
    )


def _retention(result: NerfResult, images: ReportImages) -> str:
    until = images.made_at + timedelta(hours=result.keep_hours)
    route = f"/v1/jobs/{escape(images.job_id)}"
    return (
        "<section><h2>Retention</h2><ul>"
        f"<li>Intermediate files of the stages and caches on the Modal volume: kept for {result.keep_hours} "
        f"hours after the end, until about {until:%Y-%m-%d %H:%M} UTC. "
        f'<code>POST {route}/extend {{"hours": 72}}</code> keeps them longer, '
        f'<code>POST {route}/confirm-download {{"remove": true}}</code> removes them now.</li>'
        "<li>Artifacts (frames, model, this page): as long as the bucket keeps them; Saccade removes none.</li>"
        "</ul></section>"
    )


def _image_url(image: NDArray[np.uint8]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "WEBP", quality=84)
    return data_url(buffer.getvalue(), "image/webp")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _usd(value: float) -> str:
    return f"{value:.4f} <small>USD</small>" if value < 1 else f"{value:.2f} <small>USD</small>"
