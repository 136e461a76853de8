"""The capture stage in order: take in, make upright JPEGs, match, judge, hand over. Reads like a table of contents."""

from __future__ import annotations

import json
import time
from pathlib import Path

import cv2

from modal_workers.nerf.capture.capture_index import ARCHIVE, INDEX, read_index
from modal_workers.nerf.capture.checks.findings import find_problems
from modal_workers.nerf.capture.checks.matching import match_all
from modal_workers.nerf.capture.inputs.sources import open_input
from modal_workers.nerf.capture.preflight_report import build_report, capture_index, refusal_error
from modal_workers.nerf.capture.spec import CaptureReport
from modal_workers.nerf.capture.working_copies import WorkingCopies, make_working_copies, zip_entries
from modal_workers.nerf.params import NerfParams
from modal_workers.nerf.stored_zip import write_zip
from modal_workers.runtime.context import Context

_DEVELOPING, _MATCHING = 0.7, 0.2


def run(params: NerfParams, context: Context) -> CaptureReport:
    """Judge what was sent and make it ready; another run of the same job goes on where this one was.

    Raises:
        SaccadeError: CAPTURE_REFUSED, after ``preflight.json`` was saved, unless the verdict is to be ignored or is
            all that was asked for; or why nothing could be read at all (``intake.received``).
    """
    cv2.setNumThreads(1)
    with context.stage("capture"):
        kept = context.checkpoint(ARCHIVE)
        if kept is not None:
            return CaptureReport.model_validate(read_index(kept)["report"])
        return _judged(params, context)


def _judged(params: NerfParams, context: Context) -> CaptureReport:
    began_s = time.monotonic()
    folder = context.scratch / "capture"
    with open_input(context) as intake:
        made = make_working_copies(intake, context, folder, share=_DEVELOPING)
        looks = [shot.look for shot in made.shots]
        pairs = match_all(looks, ordered=intake.ordered, tick=lambda share: _matching(context, share))
        found = find_problems(made.shots, pairs)
        report = build_report(params, intake, made, found, checking_s=time.monotonic() - began_s)
    index = folder / INDEX
    index.write_text(json.dumps(capture_index(report, made, found), indent=1))
    _save_verdict(context, report, folder)
    if report.verdict.accept == "refused" and not (params.ignore_verdict or params.preflight_only):
        raise refusal_error(report.verdict)
    _hand_over(context, made, index, folder)
    return report


def _matching(context: Context, share: float) -> None:
    context.progress(_DEVELOPING + _MATCHING * share, "Which photos show the same")


def _save_verdict(context: Context, report: CaptureReport, folder: Path) -> None:
    path = folder / "preflight.json"
    path.write_text(report.model_dump_json(indent=1))
    context.save(path, path.name, "application/json", title="What the pre-flight found, and what to shoot again")


def _hand_over(context: Context, made: WorkingCopies, index: Path, folder: Path) -> None:
    """Save the photos as the next stages take them; the hand-over is kept last, and with it the stage is done."""
    files = zip_entries(folder, made.photos)
    images = folder / "images.zip"
    write_zip(images, files)
    context.progress(_DEVELOPING + _MATCHING + 0.05, "Handing the photos over")
    context.save(images, images.name, "application/zip", title="The photos, upright, as the model is made of them")
    images.unlink()
    handover = folder / ARCHIVE
    write_zip(handover, [(INDEX, index), *files])
    context.keep(handover, ARCHIVE)
