"""The capture stage: read the input, make working copies, match, judge, and hand over to the next stages."""

from __future__ import annotations

import json
import time
from pathlib import Path

import cv2

from modal_workers.nerf.capture.capture_index import ARCHIVE, INDEX, read_index
from modal_workers.nerf.capture.checks.findings import find_problems
from modal_workers.nerf.capture.checks.matching import match_all
from modal_workers.nerf.capture.hint_place import place_hint
from modal_workers.nerf.capture.inputs.sources import open_input
from modal_workers.nerf.capture.preflight_report import build_report, capture_index, refusal_error
from modal_workers.nerf.capture.spec import CaptureReport
from modal_workers.nerf.capture.working_copies import WorkingCopies, make_working_copies, zip_entries
from modal_workers.nerf.params import NerfParams
from modal_workers.nerf.stored_zip import write_zip
from modal_workers.runtime.context import Context

_COPYING, _MATCHING = 0.7, 0.2


def run(params: NerfParams, context: Context) -> CaptureReport:
    """Check the input and prepare it; another run of the same job resumes from the checkpoints.

    Raises:
        SaccadeError: CAPTURE_REFUSED, after ``preflight.json`` was saved, unless the verdict is ignored or is all that
            was asked for; or why nothing could be read at all (``sources.open_input``); INVALID_PARAMETER, see
            ``place_hint``.
    """
    cv2.setNumThreads(1)
    with context.stage("capture"):
        archive = context.checkpoint(ARCHIVE)
        if archive is not None:
            return CaptureReport.model_validate(read_index(archive)["report"])
        return _capture(params, context)


def _capture(params: NerfParams, context: Context) -> CaptureReport:
    began_s = time.monotonic()
    folder = context.scratch / "capture"
    with open_input(context) as intake:
        copies = make_working_copies(intake, context, folder, share=_COPYING)
        hint = None if params.object_hint is None else place_hint(params.object_hint, copies.photos)
        qualities = [photo.quality for photo in copies.measured]
        pairs = match_all(qualities, ordered=intake.ordered, tick=lambda share: _matching(context, share))
        findings = find_problems(copies.measured, pairs)
        report = build_report(params, intake, copies, findings, checking_s=time.monotonic() - began_s)
    index = folder / INDEX
    content = capture_index(report, copies, findings)
    if hint is not None:
        content["object_hint"] = hint
    index.write_text(json.dumps(content, indent=1))
    _save_verdict(context, report, folder)
    if report.verdict.accept == "refused" and not (params.ignore_verdict or params.preflight_only):
        raise refusal_error(report.verdict)
    _hand_over(context, copies, index, folder)
    return report


def _matching(context: Context, share: float) -> None:
    context.progress(_COPYING + _MATCHING * share, "Matching the photos")


def _save_verdict(context: Context, report: CaptureReport, folder: Path) -> None:
    path = folder / "preflight.json"
    path.write_text(report.model_dump_json(indent=1))
    context.save(path, path.name, "application/json", title="Pre-flight report: problems, and what to shoot again")


def _hand_over(context: Context, copies: WorkingCopies, index: Path, folder: Path) -> None:
    """Save the photos for the next stages; the archive is kept last and marks the stage as done."""
    files = zip_entries(folder, copies.photos)
    images = folder / "images.zip"
    write_zip(images, files)
    context.progress(_COPYING + _MATCHING + 0.05, "Saving the photos")
    context.save(images, images.name, "application/zip", title="The photos as used for the model, upright")
    images.unlink()
    archive = folder / ARCHIVE
    write_zip(archive, [(INDEX, index), *files])
    context.keep(archive, ARCHIVE)
