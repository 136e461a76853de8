"""The detection stage: one decoding of the video, resumed at its last stored stretch."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from modal_workers.badminton.checkpoints import CourtStage
from modal_workers.badminton.detection.analysis_picture import AnalysisSize
from modal_workers.badminton.detection.backends import DetectionBackends
from modal_workers.badminton.detection.detection_log import Detections, load_detections
from modal_workers.badminton.detection.detection_pass import STRETCH_FRAMES, DetectionPass
from modal_workers.badminton.detection.stabilisation import stabilised
from modal_workers.badminton.players.appearance import APPEARANCE_BINS
from modal_workers.footage.video_reader import VideoReader
from modal_workers.runtime.context import StageContext


def detect(video: Path, name: str, court: CourtStage, backends: DetectionBackends, context: StageContext) -> Detections:
    """Find persons and shuttle candidates in all analysed frames of segments with a court.

    Raises:
        SaccadeError: the video no longer decodes, or a backend cannot be loaded.
    """
    count = len(court.times)
    stretches = _kept(context, backends.key, -(-count // STRETCH_FRAMES))
    done = min(count, len(stretches) * STRETCH_FRAMES)
    if done < count:
        facts = court.facts
        size = AnalysisSize.of(facts.width_px, facts.height_px)
        detection = DetectionPass(
            court.segments,
            size,
            lambda segment: backends.of_segment(segment, court, size),
            appearance_length=APPEARANCE_BINS,
            first_frame=done,
        )
        first = detection.next_frame
        wanted = iter(court.times.source_frame[first:].tolist())
        frame, due = first, next(wanted, None)
        with closing(VideoReader(video, name).decoded()) as decoded:
            for number, (_, picture) in enumerate(decoded):
                if due is None:
                    break
                if number != due:
                    continue
                segment = detection.wanting(frame)
                analysed = None
                if segment is not None:
                    analysed = stabilised(
                        size.picture(picture, facts.rotation_deg), segment, frame, court.picture_size_px
                    )
                detection.feed(frame, analysed)
                frame, due = frame + 1, next(wanted, None)
                context.progress(frame / count, "looking for players and shuttle", frame=frame, frame_count=count)
                _store(detection, stretches, backends.key, context)
        detection.finish()
        while _store(detection, stretches, backends.key, context, last=True):
            pass
    return load_detections(stretches)


def _stretch_name(key: str, number: int) -> str:
    return f"detections-{key}-{number:04d}.npz"


def _kept(context: StageContext, key: str, most: int) -> list[Path]:
    """Return the stretches that an earlier run with the same backends stored, from the first on."""
    paths: list[Path] = []
    while len(paths) < most and (path := context.checkpoint(_stretch_name(key, len(paths)))) is not None:
        paths.append(path)
    return paths


def _store(
    detection: DetectionPass, stretches: list[Path], key: str, context: StageContext, *, last: bool = False
) -> bool:
    name = _stretch_name(key, len(stretches))
    path = context.scratch / name
    if not detection.stored(path, last=last):
        return False
    context.keep(path, name)
    stretches.append(path)
    return True
