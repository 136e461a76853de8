"""Schema of ``results.json``: every figure with its unit and its evidence, tracks as columns.

Unknown is null. Errors are half-widths of 95 % bands. Frames are counted from 0 and are those that were analysed;
times are seconds from the video's first frame. Places on the court are metres: x to the right, y towards the camera,
from the far left corner as the camera sees it.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Numbers = list[float | None]


class _Model(BaseModel):
    # Readers are to ignore fields that they do not know: later versions may have more.
    model_config = ConfigDict(frozen=True)


class ResultsVideo(_Model):
    """Facts of the video."""

    filename: str
    width_px: int = Field(description="As shown, after rotation metadata.")
    height_px: int
    rotation_deg: int
    frame_count: int = Field(description="Frames of the video; of those beyond 60 Hz some are not analysed.")
    analysed_frame_count: int
    duration_s: float
    mean_rate_hz: float
    variable_rate: bool


class ResultsCourt(_Model):
    """The court in the picture of one camera."""

    image_from_court: list[list[float]] = Field(description="3x3 homography, metres on the court to pixels.")
    corners_px: list[list[float | None]] = Field(description="Far left, far right, near right, near left.")
    residual_m: float | None = Field(description="Median distance of the model's lines to those found.")
    residual_px: float | None
    confidence: float
    source: Literal["lines", "keypoints"]
    inlier_share: float | None
    visible_share: float | None


class ResultsSegment(_Model):
    """A stretch filmed by one camera; without a court it was not analysed, and ``reason`` says why."""

    first_frame: int
    last_frame: int
    start_s: float
    end_s: float
    kind: str
    reason: str
    court: ResultsCourt | None
    frame_views: list[list[float]] | None = Field(
        default=None, description="Of a moving camera, the homography of each frame, row by row."
    )


class ResultsMotion(_Model):
    """Distance and speed over the time in which the player's place is known."""

    known_s: float
    observed_share: float | None = Field(description="Share of the frames in which the player was seen.")
    distance_m: float | None
    distance_error_m: float | None
    mean_speed_m_s: float | None
    mean_speed_error_m_s: float | None
    top_speed_m_s: float | None = Field(description="Highest speed where the player was seen.")
    top_speed_error_m_s: float | None
    top_speed_at_s: float | None
    mean_speed_kmh: float | None
    top_speed_kmh: float | None


class ResultsZones(_Model):
    """Time in the thirds of the own half, left and right as the player sees them, facing the net."""

    time_s: list[list[float]] = Field(description="Rows front, mid, back from the net; columns left, centre, right.")
    share: list[list[float | None]] = Field(description="Of the zones' time; null where the player was not seen.")
    mean_from_net_m: float | None
    outside_s: float = Field(description="Time behind a line, counted in the zone next to it.")
    near_edge_s: float = Field(description="Time nearer to an edge between zones than the place's standard deviation.")
    position_count: int
    depth_edges_m: list[float] = Field(description="Boundaries from the net.")
    width_edges_m: list[float] = Field(description="Boundaries from the player's left side line.")


class ResultsHeatMap(_Model):
    """Seconds in each cell of the floor, smoothed; row 0 is the far end, column 0 the left as the camera sees it."""

    cell_m: float
    smoothing_m: float
    left_m: float = Field(description="x of the left edge of the first column.")
    far_m: float = Field(description="y of the far edge of the first row.")
    time_s: list[list[float]]


class ResultsFootwork(_Model):
    """Use of the own half."""

    covered_share: float | None = Field(description="Share of the half's cells of 0.51 x 0.52 m.")
    hull_area_m2: float | None


class ResultsPlayer(_Model):
    """Figures of one player over the match."""

    player_id: int
    motion: ResultsMotion
    motion_point: Literal["body_centre", "feet"] = Field(
        description="What distances and speeds are of: the body's centre over the floor, by hips and feet; the middle "
        "between the feet where no skeletons were found."
    )
    in_rallies: ResultsMotion | None
    zones: ResultsZones
    heat_map: ResultsHeatMap
    footwork: ResultsFootwork
    hit_count: int | None = Field(
        description="Hits in rallies, by this player with evidence; null where the shuttle was not tracked."
    )
    won_count: int | None = Field(
        description="Rallies won with evidence; in doubles those of the pair. null where the shuttle was not tracked."
    )
    outlier_count: int = Field(description="Detections rejected because nobody moves like that.")
    identity_confidence: float | None
    identity_confidence_min: float | None
    position_error_m: float | None = Field(description="Median standard deviation of the position.")


class ResultsHit(_Model):
    """Contact of racket and shuttle."""

    frame: int
    time_s: float
    player_id: int | None
    player_confidence: float
    confidence: float
    shuttle_px: list[float | None]


class ResultsShot(_Model):
    """Way of the shuttle between two hits on the ground plane. It is no speed of the shuttle in space."""

    from_player: int
    to_player: int
    start_s: float
    flight_s: float
    ground_m: float
    mean_ground_speed_between_hits_m_s: float
    error_m_s: float | None
    confidence: float


class ResultsRally(_Model):
    """One rally."""

    number: int
    first_frame: int
    last_frame: int
    start_s: float
    end_s: float
    duration_s: float
    confidence: float = Field(
        description="By the shuttle, that both limits are within 0.3 s; by movement, that it and one rally have at "
        "least half of their time in common."
    )
    evidence: Literal["shuttle", "movement"]
    winner: int | None
    winner_confidence: float
    winner_evidence: str = Field(description="What shows who won, or why nobody is named.")
    hits: list[ResultsHit]
    shots: list[ResultsShot]
    players: list[ResultsMotion] = Field(description="In the order of the players' ids.")
    hit_counts: list[int] = Field(description="Of the players; empty where only their movement shows the rally.")


class ResultsPlayTime(_Model):
    """Time in rallies and in all."""

    total_s: float
    rally_s: float
    mean_rally_s: float | None
    longest_rally_s: float | None
    shortest_rally_s: float | None


class ResultsPlayerTrack(_Model):
    """One player in every analysed frame, as columns."""

    player_id: int
    x_m: Numbers
    y_m: Numbers
    error_m: Numbers = Field(description="Standard deviation of the position.")
    speed_m_s: Numbers
    observed: list[bool]
    confidence: Numbers
    identity_confidence: Numbers
    box_px: list[Numbers] = Field(description="Left, top, right, bottom of each frame.")


class ResultsShuttleTrack(_Model):
    """The shuttle in the picture in every analysed frame."""

    x_px: Numbers
    y_px: Numbers
    confidence: Numbers


class ResultsTracks(_Model):
    """Columns with one entry for each analysed frame."""

    time_s: list[float]
    source_frame: list[int] = Field(description="Number of each frame in the video, from 0.")
    players: list[ResultsPlayerTrack]
    shuttle: ResultsShuttleTrack | None


class ResultsSkeleton(_Model):
    """Keypoints of one player: for each kept frame 17 numbers."""

    player_id: int
    x_px: list[Numbers]
    y_px: list[Numbers]
    confidence: list[Numbers]


class ResultsSkeletons(_Model):
    """Skeletons of every k-th analysed frame; k is 1 unless the match is long."""

    keypoints: list[str]
    every: int
    players: list[ResultsSkeleton]


class ResultsMissing(_Model):
    """A part that does not exist, and why."""

    part: str
    reason: str


class MatchResults(_Model):
    """Everything that was measured in one video."""

    version: Literal[1]
    video_id: str
    video: ResultsVideo
    mode: Literal["full", "rally_only"]
    pose_backend: str
    shuttle_backend: str
    has_skeletons: bool
    warnings: list[str]
    missing: list[ResultsMissing]
    segments: list[ResultsSegment]
    players: list[ResultsPlayer]
    play_time: ResultsPlayTime
    rallies: list[ResultsRally]
    hits: list[ResultsHit]
    tracks: ResultsTracks
    skeletons: ResultsSkeletons | None
