"""The badminton analysis, from the video to the report: the stages in order."""

from __future__ import annotations

import cv2

from modal_workers.badminton.analytics.analysis import Analysis, analyse
from modal_workers.badminton.checkpoints import (
    CourtStage,
    TrackStage,
    load_court,
    load_tracks,
    save_court,
    save_tracks,
)
from modal_workers.badminton.court_stage import find_courts
from modal_workers.badminton.detection.backends import DetectionBackends
from modal_workers.badminton.detection.detection_log import Detections
from modal_workers.badminton.detection.detection_stage import detect
from modal_workers.badminton.match import Match
from modal_workers.badminton.match_building import build_match
from modal_workers.badminton.players.tracking import track_players
from modal_workers.badminton.rendering.videos import RenderedVideos, render
from modal_workers.badminton.report.report import write_report
from modal_workers.badminton.result import build_result
from modal_workers.badminton.settings import BadmintonSettings
from modal_workers.badminton.shuttle.linking import link_shuttle
from modal_workers.badminton.spec import BadmintonParams, BadmintonResult
from modal_workers.runtime.context import Context


def run(params: BadmintonParams, context: Context) -> BadmintonResult:
    """Analyse a match.

    Raises:
        SaccadeError: the video cannot be read, no court is found, a backend is missing; see each stage.
    """
    cv2.setNumThreads(1)
    backends = DetectionBackends(params, BadmintonSettings())
    court = _court(params, context)
    # Not kept: the detections of a long match take as much memory as everything after them.
    tracks = _track(params, context, court, _detect(context, court, backends), backends)
    match, analysis = _analyse(params, context, court, tracks, backends)
    videos = _render(params, context, match, analysis)
    return _report(params, context, match, analysis, videos)


def _court(params: BadmintonParams, context: Context) -> CourtStage:
    with context.stage("court"):
        kept = context.checkpoint("court.npz")
        if kept is not None:
            return load_court(kept)
        found = find_courts(
            context.input("video"), context.input_name("video"), params.court_keypoints, progress=context.progress
        )
        save_court(context.scratch / "court.npz", found)
        context.keep(context.scratch / "court.npz", "court.npz")
        # As a resumed run has it: its pictures are stored with losses.
        return load_court(context.scratch / "court.npz")


def _detect(context: Context, court: CourtStage, backends: DetectionBackends) -> Detections:
    with context.stage("detect"):
        return detect(context.input("video"), context.input_name("video"), court, backends, context)


def _track(
    params: BadmintonParams, context: Context, court: CourtStage, detections: Detections, backends: DetectionBackends
) -> TrackStage:
    with context.stage("track"):
        name = f"tracks-{backends.key}.npz"
        kept = context.checkpoint(name)
        if kept is not None:
            return load_tracks(kept)
        size, courts = court.picture_size_px, court.courts
        players, warnings = track_players(
            detections.persons,
            court.times.time_s,
            courts,
            picture_size_px=size,
            players=params.players,
            has_skeletons=backends.has_skeletons,
            progress=lambda share: context.progress(0.5 * share, "following the players"),
        )
        context.progress(0.5, "following the shuttle")
        shuttle = None
        if backends.finds_shuttle:
            shuttle = link_shuttle(
                detections.candidates,
                court.times.time_s,
                size,
                courts,
                detections.persons,
                progress=lambda share: context.progress(0.5 + 0.5 * share, "following the shuttle"),
            )
        stage = TrackStage(players, shuttle, warnings)
        save_tracks(context.scratch / name, stage)
        context.keep(context.scratch / name, name)
        return stage


def _analyse(
    params: BadmintonParams, context: Context, court: CourtStage, tracks: TrackStage, backends: DetectionBackends
) -> tuple[Match, Analysis]:
    with context.stage("analyse"):
        match = build_match(
            params.mode, court, tracks, backends, lambda share: context.progress(0.8 * share, "finding hits")
        )
        context.check()
        return match, analyse(match)


def _render(params: BadmintonParams, context: Context, match: Match, analysis: Analysis) -> RenderedVideos:
    with context.stage("render"):
        videos = render(
            match,
            analysis,
            context.input("video"),
            context.scratch / "out",
            height_px=params.video_height_px,
            rally_clips=params.rally_clips,
            play_video=params.play_video,
            progress=lambda share, text: context.progress(
                share, text, frame=round(share * match.frame_count), frame_count=match.frame_count
            ),
        )
        context.save(videos.processed, "processed.mp4", "video/mp4", title="The match with all that was found in it")
        if videos.play is not None:
            context.save(videos.play, "play.mp4", "video/mp4", title="The rallies only")
        for number, clip in sorted(videos.rally_clips.items()):
            context.save(clip, f"rallies/rally_{number:03d}.mp4", "video/mp4", title=f"Rally {number}")
        return videos


def _report(
    params: BadmintonParams, context: Context, match: Match, analysis: Analysis, videos: RenderedVideos
) -> BadmintonResult:
    with context.stage("report"):
        files = write_report(
            match, analysis, videos, context.scratch / "out", video_id=params.video_id, check=context.check
        )
        for file in files:
            context.save(file.path, file.name, file.media_type, title=file.title, units=file.units)
        return build_result(match, analysis)
