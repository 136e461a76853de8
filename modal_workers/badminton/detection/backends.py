"""Choice of the backends that find persons and shuttle, and their set-up for a camera segment."""

from __future__ import annotations

import re
from typing import Literal

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.badminton.checkpoints import CourtStage
from modal_workers.badminton.detection.analysis_picture import AnalysisSize
from modal_workers.badminton.detection.detection_pass import Detectors
from modal_workers.badminton.match import CameraSegmentResult
from modal_workers.badminton.players.appearance import APPEARANCE_BINS, appearances
from modal_workers.badminton.players.motion_backend import MotionPoseBackend
from modal_workers.badminton.players.onnx_backend import OnnxPoseBackend
from modal_workers.badminton.players.persons import PoseBackend
from modal_workers.badminton.players.ultralytics_backend import UltralyticsPoseBackend, is_installed, weights_file
from modal_workers.badminton.settings import BadmintonSettings
from modal_workers.badminton.shuttle.classical import ClassicalShuttleBackend
from modal_workers.badminton.shuttle.onnx_backend import OnnxShuttleBackend, ShuttleNetwork
from modal_workers.badminton.shuttle.shuttle_track import ShuttleBackend
from modal_workers.badminton.spec import BadmintonParams

PoseChoice = Literal["motion", "onnx", "ultralytics"]


def chosen_pose(params: BadmintonParams, settings: BadmintonSettings) -> PoseChoice:
    """Return the pose backend of a job: where the parameters leave it open, the first that this worker has."""
    if params.pose != "auto":
        return params.pose
    if params.mode == "rally_only":
        return "motion"  # only the movement of the players is used, and this is the cheapest way to it
    if is_installed() and weights_file(params.yolo, settings) is not None:
        return "ultralytics"
    return "onnx" if settings.pose_onnx is not None else "motion"


class DetectionBackends:
    """The backends of one job. A network is loaded once, when it is first needed."""

    def __init__(self, params: BadmintonParams, settings: BadmintonSettings) -> None:
        """Choose the backends; what the job cannot have is refused before work starts.

        Raises:
            SaccadeError: BACKEND_NOT_INSTALLED, MODEL_FILE_INVALID.
        """
        self._params, self._settings = params, settings
        self._pose_choice = chosen_pose(params, settings)
        self._network: PoseBackend | None = None
        if self._pose_choice == "onnx" and settings.pose_onnx is None:
            raise SaccadeError(
                ErrorCode.MODEL_FILE_INVALID,
                "This worker has no pose model as an ONNX file.",
                hint="Set BADMINTON_POSE_ONNX to its path on the worker, or use pose=motion.",
            )
        if self._pose_choice != "motion":
            self._network = self._load_network()
        self._shuttle_network: ShuttleNetwork | None = None
        if self.finds_shuttle and params.shuttle == "onnx":
            self._shuttle_network = self._load_shuttle_network()

    @property
    def pose_name(self) -> str:
        """Name of the pose backend and its model."""
        return self._network.name if self._network else "motion"

    @property
    def has_skeletons(self) -> bool:
        """Whether players get skeletons."""
        return self._network is not None

    @property
    def finds_shuttle(self) -> bool:
        """Whether the shuttle is looked for."""
        return self._params.mode == "full"

    @property
    def shuttle_name(self) -> str:
        """Name of the shuttle backend and its model; empty where the shuttle is not looked for."""
        if not self.finds_shuttle:
            return ""
        return self._shuttle_network.name if self._shuttle_network else "classical"

    @property
    def key(self) -> str:
        """Part of the names of the checkpoints of what they find.

        A job that is resumed on a worker with other backends finds none of these, and detects again instead of mixing.
        """
        return re.sub(r"[^a-z0-9]+", "-", f"{self.pose_name} {self.shuttle_name}".lower()).strip("-")[:80]

    def of_segment(self, segment: CameraSegmentResult, court: CourtStage, size: AnalysisSize) -> Detectors:
        """Return backends that have seen nothing yet, for a camera segment with a court."""
        if self._network is not None:
            self._network.restart()
            pose = self._network
        else:
            pose = self._motion(segment, court, size)
        shuttle: ShuttleBackend | None = None
        if self.finds_shuttle:
            rate_hz = court.times.rate_hz
            network = self._shuttle_network
            shuttle = OnnxShuttleBackend(network, rate_hz) if network else ClassicalShuttleBackend(rate_hz)
        return Detectors(pose, shuttle, appearances, APPEARANCE_BINS)

    def _motion(self, segment: CameraSegmentResult, court: CourtStage, size: AnalysisSize) -> MotionPoseBackend:
        pictures = court.pictures.get(court.segments.index(segment), ())
        full_size = (size.full_width_px, size.full_height_px)
        return MotionPoseBackend(pictures, court=segment.court, court_size_px=full_size)

    def _load_network(self) -> PoseBackend:
        if self._pose_choice == "ultralytics":
            return UltralyticsPoseBackend(self._params.yolo, self._settings)
        assert self._settings.pose_onnx is not None
        return OnnxPoseBackend(self._settings.pose_onnx, self._settings.yolo_image_px)

    def _load_shuttle_network(self) -> ShuttleNetwork:
        if self._settings.shuttle_onnx is None:
            raise SaccadeError(
                ErrorCode.MODEL_FILE_INVALID,
                "This worker has no TrackNet model as an ONNX file.",
                hint="Set BADMINTON_SHUTTLE_ONNX to its path on the worker, or use shuttle=classical.",
            )
        return ShuttleNetwork(self._settings.shuttle_onnx)
