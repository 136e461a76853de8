"""Decoding of frames: undistorted, at training size in colour and at full size in grey."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from contracts.errors import ErrorCode, SaccadeError
from contracts.limits import FRAME_SIDE_PX
from contracts.picture_header import read_picture_header
from modal_workers.footage.picture_decoder import decode_picture
from modal_workers.gaussians.camera import Camera
from modal_workers.live_splat.spec import Intrinsics, LiveSplatParams


@dataclass(frozen=True)
class FrameImage:
    """One frame twice: colour [H, W, 3] uint8 RGB at training size, and grey [h, w] at the camera's size."""

    colour: NDArray[np.uint8]
    grey: NDArray[np.uint8]


class FrameDecoder:
    """Decoder of the frames of one camera, all of one size."""

    def __init__(self, params: LiveSplatParams) -> None:
        """Set the camera's lens; its size is that of the first frame."""
        self._params = params
        self._size: tuple[int, int] | None = None
        self._maps: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None
        self.camera: Camera | None = None
        self.training_camera: Camera | None = None

    def decode(self, body: bytes) -> FrameImage:
        """Decode a JPEG or PNG.

        Raises:
            SaccadeError: FRAME_UNREADABLE, FRAME_TOO_LARGE, FRAME_SIZE_CHANGED.
        """
        decoded: Any = decode_picture(body, cv2.IMREAD_COLOR, max_side_px=FRAME_SIDE_PX)
        if decoded is None:
            raise _refusal(body)
        height_px, width_px = decoded.shape[:2]
        if self._size is None:
            self.set_size(width_px, height_px)
        elif self._size != (width_px, height_px):
            message = f"The frame is {width_px} x {height_px}; the frames before are {self._size[0]} x {self._size[1]}."
            raise SaccadeError(ErrorCode.FRAME_SIZE_CHANGED, message)
        if self._maps is not None:
            decoded = cv2.remap(decoded, *self._maps, cv2.INTER_LINEAR)
        training = self.cameras[1]
        size = (training.width_px, training.height_px)
        small = cv2.resize(decoded, size, interpolation=cv2.INTER_AREA) if size != (width_px, height_px) else decoded
        grey = cv2.cvtColor(decoded, cv2.COLOR_BGR2GRAY)
        return FrameImage(np.ascontiguousarray(small[:, :, ::-1], np.uint8), np.asarray(grey, np.uint8))

    def set_size(self, width_px: int, height_px: int) -> None:
        """Set the camera by the size of the first frame.

        Raises:
            SaccadeError: FRAME_SIZE_CHANGED, when it has another shape than the intrinsics are of.
        """
        given = self._params.intrinsics
        if given is None:
            focal_px = width_px / 2 / float(np.tan(np.deg2rad(self._params.field_of_view_deg) / 2))
            camera = Camera(width_px, height_px, focal_px, focal_px, width_px / 2, height_px / 2)
        else:
            camera = self._scaled(given, width_px, height_px)
            if given.distortion:
                # OpenCV has the origin at the centre of the first pixel, we at its corner
                matrix = np.array(
                    [[camera.fx_px, 0, camera.cx_px - 0.5], [0, camera.fy_px, camera.cy_px - 0.5], [0, 0, 1]]
                )
                size = (width_px, height_px)
                lens = np.array(given.distortion)
                across, down = cv2.initUndistortRectifyMap(matrix, lens, None, matrix, size, cv2.CV_32FC1)
                self._maps = np.asarray(across, np.float32), np.asarray(down, np.float32)
        self._size, self.camera = (width_px, height_px), camera
        self.training_camera = camera.scaled(min(1.0, self._params.training_width_px / width_px))

    @staticmethod
    def _scaled(given: Intrinsics, width_px: int, height_px: int) -> Camera:
        across, down = width_px / given.width_px, height_px / given.height_px
        if abs(across / down - 1) > 0.02:
            message = (
                f"The frame is {width_px} x {height_px}; the intrinsics are for {given.width_px} x {given.height_px}."
            )
            raise SaccadeError(
                ErrorCode.FRAME_SIZE_CHANGED, message, hint="Give intrinsics for the size of the frames."
            )
        return Camera(
            width_px, height_px, given.fx_px * across, given.fy_px * down, given.cx_px * across, given.cy_px * down
        )

    @property
    def cameras(self) -> tuple[Camera, Camera]:
        """The full-size camera and the training camera; available once a frame was decoded."""
        assert self.camera is not None
        assert self.training_camera is not None
        return self.camera, self.training_camera

    def matrix(self) -> NDArray[np.float64]:
        """Return the full-size camera's matrix [3, 3], the first pixel's centre at (0.5, 0.5)."""
        camera = self.cameras[0]
        return np.array([[camera.fx_px, 0, camera.cx_px], [0, camera.fy_px, camera.cy_px], [0, 0, 1]])


def _refusal(body: bytes) -> SaccadeError:
    """Return why a frame was not decoded."""
    try:
        header = read_picture_header(body)
    except ValueError:
        return SaccadeError(ErrorCode.FRAME_UNREADABLE)
    if max(header.width_px, header.height_px) <= FRAME_SIDE_PX:
        return SaccadeError(ErrorCode.FRAME_UNREADABLE)
    message = f"The frame is {header.width_px} x {header.height_px} pixels large."
    return SaccadeError(ErrorCode.FRAME_TOO_LARGE, message)
