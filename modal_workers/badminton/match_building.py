"""The match: hits and rallies from the tracks, and what could not be found."""

from __future__ import annotations

from collections.abc import Callable

from modal_workers.badminton.checkpoints import CourtStage, TrackStage
from modal_workers.badminton.detection.backends import DetectionBackends
from modal_workers.badminton.detection.stabilisation import players_in_frames, shuttle_in_frames
from modal_workers.badminton.match import Match, Mode
from modal_workers.badminton.missing import missing_parts, seen_players, seen_shuttle
from modal_workers.badminton.rallies.hits import judge_contacts
from modal_workers.badminton.rallies.segmentation import find_rallies
from modal_workers.badminton.shuttle.shuttle_track import ShuttleTrack


def build_match(
    mode: Mode,
    court: CourtStage,
    tracks: TrackStage,
    backends: DetectionBackends,
    progress: Callable[[float], None] | None = None,
) -> Match:
    """Find hits and rallies, and return all that the figures, the videos and the report are made from.

    ``progress`` is called with the share done (0 to 1); what it raises stops the work.
    """
    size, courts, times_s = court.picture_size_px, court.courts, court.times.time_s
    # Who and what was hardly seen is missing, and says nothing anywhere: neither figures nor hits.
    players, tracked = seen_players(tracks.players, court.analysed), seen_shuttle(tracks.shuttle, court.analysed)
    shuttle = tracked or ShuttleTrack.none(len(times_s))
    contacts = []
    if tracked:
        contacts = judge_contacts(shuttle, players, times_s, courts, picture_size=size, progress=progress)
    hits = [contact.hit for contact in contacts if contact.hit is not None]
    rallies = find_rallies(hits, shuttle, players, times_s, courts, mode=mode, picture_size=size, contacts=contacts)
    measured = players is not None and mode == "full"
    return Match(
        facts=court.facts,
        times_s=times_s,
        source_frame=court.times.source_frame,
        segments=court.segments,
        tracks=players_in_frames(players, court.segments) if players is not None and measured else None,
        shuttle=shuttle_in_frames(shuttle, court.segments) if tracked is not None else None,
        rallies=tuple(rallies),
        hits=tuple(hits),
        pose_backend=backends.pose_name,
        shuttle_backend=backends.shuttle_name,
        has_skeletons=backends.has_skeletons and measured,
        mode=mode,
        warnings=court.warnings + tracks.warnings,
        missing=missing_parts(
            mode,
            pose_backend=backends.pose_name,
            has_skeletons=backends.has_skeletons,
            players=tracks.players,
            shuttle=tracks.shuttle,
            rallies=rallies,
            analysed=court.analysed,
        ),
    )
