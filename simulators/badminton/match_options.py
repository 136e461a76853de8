"""Options of a match video: what it shows and how it is recorded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

CameraName = Literal["broadcast_high", "broadcast_low", "phone_back", "phone_corner"]
Scene = Literal["badminton", "tennis", "plain"]
Persons = Literal["all", "one", "none"]

CAMERA_NAMES: Final[tuple[CameraName, ...]] = ("broadcast_high", "broadcast_low", "phone_back", "phone_corner")


@dataclass(frozen=True)
class MatchOptions:
    """A match and its recording; the same options give the same video.

    The size is that of the upright picture, as a viewer sees it: a portrait video has a width below its height.
    """

    seed: int = 0
    duration_s: float = 30.0
    camera: CameraName = "broadcast_high"
    width_px: int = 1280
    height_px: int = 720
    rate_hz: float = 30.0
    doubles: bool = False
    #: ``one``: one player without a shuttle; ``none``: an empty court.
    persons: Persons = "all"
    #: ``tennis`` has the lines of another sport, ``plain`` has none: neither shows a badminton court.
    scene: Scene = "badminton"

    #: Persons beside the court: umpire, line judges, coaches, spectators. Some of them move.
    bystanders: bool = False
    #: Change of ends after this rally, counted from 1.
    change_of_ends_after: int | None = None
    #: How long server and receiver stand ready before a service, on average. Before that the shuttle is fetched.
    waiting_s: float = 2.0
    #: The server has another shuttle at once, the one on the floor disappears: pauses of 4 s instead of 10 s.
    quick_service: bool = False
    #: Replays, close-ups and views of the crowd in pauses and after rallies.
    cuts: bool = False
    #: The picture is black between these times.
    black_s: tuple[float, float] | None = None

    #: The camera turns all the time after the play, by up to this angle.
    pan_deg: float = 0.0
    #: The hand that holds the camera shakes by this (one standard deviation).
    shake_px: float = 0.0
    #: The camera is turned aside, so that about half of the court is out of view.
    half_out_of_view: bool = False

    #: Share of a frame's time in which the shutter is open.
    shutter: float = 0.35
    noise: float = 3.0
    #: Slow change of the exposure, as a share of the brightness; white balance and contrast differ by as much.
    exposure_variation: float = 0.05
    quality_crf: int = 23
    #: Jitter of the frame times as a share of their distance, and share of missing frames, as phones record.
    rate_jitter: float = 0.0
    dropped: float = 0.0
    #: Frames are stored turned, with a note in the file how a player has to turn them back.
    rotation_deg: Literal[0, 90, 180, 270] = 0
