"""The lap detection job, from a video to its laps: the stages in order."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2

from modal_workers.lap_detection.checkpoints import Description, load_description, save_description
from modal_workers.lap_detection.detection import Detection, detect_laps
from modal_workers.lap_detection.laps import build_result
from modal_workers.lap_detection.report.crossing_pictures import (
    MAX_PICTURES,
    contact_sheet,
    crossing_pictures,
    jpeg,
    mean_level,
)
from modal_workers.lap_detection.report.report import ShownCrossing, crossing_label, write_report
from modal_workers.lap_detection.report.similarity_map import similarity_map
from modal_workers.lap_detection.report.tables import LAP_UNITS, write_laps_csv, write_laps_json
from modal_workers.lap_detection.spec import LapDetectionParams, LapDetectionResult, VideoFactsResult
from modal_workers.road_video.clip_description import extract_clip
from modal_workers.runtime.context import Context


def run(params: LapDetectionParams, context: Context) -> LapDetectionResult:
    """Find the laps of a video; one without laps is no error, the result says why there are none.

    Raises:
        SaccadeError: INPUT_UNREADABLE, MEDIA_NO_VIDEO, MEDIA_TOO_LARGE, CLIP_TOO_SHORT.
    """
    cv2.setNumThreads(1)
    description = _read(context)
    facts, descriptors, warnings = description
    path, name = context.input("video"), context.input_name("video")
    with context.stage("match"):
        detection = detect_laps(
            descriptors,
            params,
            mean_level=lambda: mean_level(path, name, facts.duration_s),
            progress=lambda share: context.progress(share, "finding repeats"),
        )
    result = build_result(
        VideoFactsResult(**dataclasses.asdict(facts)),
        detection.laps,
        detection.crossings,
        reference_s=detection.reference_s,
        given=params.start_line_s is not None,
        reason=detection.reason,
        warnings=warnings,
    )
    with context.stage("report"):
        _report(context, result, detection)
    return result


def _read(context: Context) -> Description:
    with context.stage("read"):
        kept = context.checkpoint("described.npz")
        if kept is not None:
            return load_description(kept)
        description = extract_clip(
            context.input("video"),
            context.input_name("video"),
            progress=lambda share: context.progress(share, "reading"),
            accept_static=True,
        )
        save_description(context.scratch / "described.npz", description)
        context.keep(context.scratch / "described.npz", "described.npz")
        return description


def _report(context: Context, result: LapDetectionResult, detection: Detection) -> None:
    folder, laps = context.scratch, detection.laps
    write_laps_json(folder / "laps.json", result, laps, detection.crossings)
    context.save(folder / "laps.json", "laps.json", "application/json", title="The laps, with the evidence for each")
    write_laps_csv(folder / "laps.csv", laps)
    context.save(folder / "laps.csv", "laps.csv", "text/csv", title="The laps", units=LAP_UNITS)
    shown, map_png = _crossings(context, detection), b""
    if detection.moments is not None:
        cv2.imwrite(str(folder / "map.png"), similarity_map(detection.moments, detection.paths))
        map_png = (folder / "map.png").read_bytes()
        context.save(folder / "map.png", "map.png", "image/png", title="Where the video repeats itself")
    write_report(folder / "report.html", result, laps, shown, map_png)
    context.save(folder / "report.html", "report.html", "text/html", title="Report")


def _crossings(context: Context, detection: Detection) -> list[ShownCrossing]:
    """Return the crossings with their pictures, and save them on one sheet."""
    crossings = detection.crossings
    if len(crossings) > MAX_PICTURES:
        uncertain = sorted(crossings, key=lambda crossing: crossing.confidence)[:MAX_PICTURES]
        crossings = tuple(sorted(uncertain, key=lambda crossing: crossing.time_s))
    path, name = context.input("video"), context.input_name("video")
    pictures = crossing_pictures(path, name, [crossing.time_s for crossing in crossings], context.check)
    shown = crossings[: len(pictures)]
    labels = [crossing_label(crossing, detection.laps) for crossing in shown]
    if pictures:
        sheet: Path = context.scratch / "crossings.jpg"
        captions = [f"{label}: {each.time_s:.2f} s" for label, each in zip(labels, shown, strict=True)]
        sheet.write_bytes(jpeg(contact_sheet(pictures, captions)))
        context.save(sheet, sheet.name, "image/jpeg", title="The frame at each crossing of the line")
    return [
        ShownCrossing(crossing, label, jpeg(picture))
        for crossing, label, picture in zip(shown, labels, pictures, strict=True)
    ]
