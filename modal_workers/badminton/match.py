"""One analysed match: all that the figures, the videos and the report are made from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.court.homography import CourtView
from modal_workers.badminton.court.homography_track import HomographyTrack
from modal_workers.badminton.players.player_tracks import PlayerTracks
from modal_workers.badminton.rallies.rally import Hit, Rally
from modal_workers.badminton.shuttle.shuttle_track import ShuttleTrack
from modal_workers.footage.video_reader import VideoFacts

Mode = Literal["full", "rally_only"]


@dataclass(frozen=True, eq=False)
class CameraSegmentResult:
    """A stretch filmed by one camera; what has no court is left out of the analysis."""

    first_frame: int
    last_frame: int  # included
    start_s: float
    end_s: float
    #: As the court stage names it: ``play`` where the court was found, else what the stretch shows instead.
    kind: str
    court: CourtView | None
    #: One sentence for the user: why there is no court, or what is to be known about it. May be empty.
    reason: str
    #: Of a camera that shakes or turns a little: the court frame by frame; ``court`` is then one of these views.
    track: HomographyTrack | None = None

    @property
    def analysed(self) -> bool:
        """Whether players were measured on a court here."""
        return self.court is not None

    def court_at(self, frame: int) -> CourtView | None:
        """Return the court as the camera sees it in a frame of this segment."""
        homography = self.track.at(frame) if self.track is not None else None
        if self.court is None or homography is None:
            return self.court
        return replace(self.court, image_from_court=homography)

    def moving_views(self) -> NDArray[np.float64] | None:
        """Return the homography of every frame of this segment [n, 3, 3]; None if one holds for all, or none is known.

        A frame whose own is not known has that of ``court``.
        """
        if self.court is None or self.track is None:
            return None
        views = np.tile(self.court.image_from_court, (self.last_frame - self.first_frame + 1, 1, 1))
        for number in range(len(views)):
            homography = self.track.at(self.first_frame + number)
            if homography is not None and np.isfinite(homography).all():
                views[number] = homography
        return views


@dataclass(frozen=True)
class Missing:
    """A part of the result that does not exist, and why, in one sentence for the user."""

    part: str
    reason: str


@dataclass(frozen=True, eq=False)
class Match:
    """A video and what the stages found in it; None or empty where they found nothing, and ``missing`` says why."""

    facts: VideoFacts
    #: Presentation time of each analysed frame from the video's first, [N]; everything else counts these frames.
    times_s: NDArray[np.float64]
    #: Number of each analysed frame in the video, [N]: of videos beyond 60 Hz some frames are left out.
    source_frame: NDArray[np.int64]
    segments: tuple[CameraSegmentResult, ...]
    tracks: PlayerTracks | None
    shuttle: ShuttleTrack | None
    rallies: tuple[Rally, ...]
    #: All hits, including those outside of rallies.
    hits: tuple[Hit, ...]
    pose_backend: str
    shuttle_backend: str
    has_skeletons: bool
    mode: Mode
    warnings: tuple[str, ...]
    missing: tuple[Missing, ...]

    @property
    def frame_count(self) -> int:
        """Number of frames that were analysed."""
        return len(self.times_s)

    @property
    def player_count(self) -> int:
        """Number of players with a track."""
        return 0 if self.tracks is None else self.tracks.player_count

    def segment_of_frame(self) -> NDArray[np.int32]:
        """Return for each frame the index of its segment; -1 where there is none."""
        index = np.full(self.frame_count, -1, np.int32)
        for number, segment in enumerate(self.segments):
            index[segment.first_frame : segment.last_frame + 1] = number
        return index

    def court_at(self, frame: int) -> CourtView | None:
        """Return the court as the camera sees it in a frame."""
        for segment in self.segments:
            if segment.first_frame <= frame <= segment.last_frame:
                return segment.court_at(frame)
        return None
