"""Detection of calibration targets in images: chessboard and ChArUco board."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from contracts.errors import ErrorCode, SaccadeError

Floats = NDArray[np.float64]
Picture = NDArray[np.uint8]

#: Fewer corners do not determine a pose well.
MIN_CORNERS: Final = 6


@dataclass(frozen=True)
class TargetView:
    """Corners of a target in one image: points_m [C, 3] on the target, corners_px [C, 2]."""

    points_m: Floats
    corners_px: Floats

    def camera_from_target(self, camera_matrix: Floats, distortion: Floats) -> Floats:
        """Return the target's pose [4, 4] in the camera.

        Raises:
            SaccadeError: INVALID_PARAMETER, no pose explains the corners.
        """
        # a flat target far away has two poses of nearly the same error; the better one comes first
        _, turns, shifts, _ = cv2.solvePnPGeneric(
            self.points_m, self.corners_px, camera_matrix, distortion, flags=cv2.SOLVEPNP_IPPE
        )
        if not turns:
            raise SaccadeError(
                ErrorCode.INVALID_PARAMETER,
                "No pose of the target fits the corners in a picture.",
                hint="Check the camera matrix and the target's size.",
            )
        turn, shift = cv2.solvePnPRefineLM(
            self.points_m, self.corners_px, camera_matrix, distortion, turns[0].copy(), shifts[0].copy()
        )
        pose = np.eye(4)
        pose[:3, :3] = cv2.Rodrigues(turn)[0]
        pose[:3, 3] = shift[:, 0]
        return pose


class CalibrationTarget(Protocol):
    """A flat target whose corners are known: x to the right, y down, z into it."""

    def find(self, picture: Picture) -> TargetView | None:
        """Find it in an image [H, W] or [H, W, 3] (RGB); None if it is not visible."""
        ...


@dataclass(frozen=True)
class Chessboard:
    """A chessboard, by its number of inner corners across and down.

    Raises:
        SaccadeError: INVALID_PARAMETER, the board is too small or looks the same rotated by 180 degrees.
    """

    columns: int
    rows: int
    square_m: float

    def __post_init__(self) -> None:
        if min(self.columns, self.rows) < 3 or not self.square_m > 0:
            raise SaccadeError(
                ErrorCode.INVALID_PARAMETER, "A chessboard needs 3 x 3 inner corners and a square's size."
            )
        if (self.columns + self.rows) % 2 == 0:
            raise SaccadeError(
                ErrorCode.INVALID_PARAMETER,
                f"A chessboard of {self.columns} x {self.rows} inner corners looks the same rotated by 180 degrees.",
                hint="Use one with an even and an odd number of inner corners (9 x 6), or a ChArUco board.",
            )

    def find(self, picture: Picture) -> TargetView | None:
        """Find all inner corners; the first is the one whose square towards the last is dark."""
        grey = _grey(picture)
        found, corners = cv2.findChessboardCornersSB(
            grey, (self.columns, self.rows), flags=cv2.CALIB_CB_NORMALIZE_IMAGE
        )
        if not found:
            return None
        grid = np.asarray(corners, np.float64).reshape(self.rows, self.columns, 2)
        if _clockwise(grid) < 0:
            grid = grid[:, ::-1]  # mirrored: the board is seen from the front
        if _brightness(grey, grid[:2, :2]) > _brightness(grey, grid[-2:, -2:]):
            grid = grid[::-1, ::-1]
        across, down = np.meshgrid(np.arange(self.columns), np.arange(self.rows))
        points = np.stack([across, down, np.zeros_like(across)], -1).reshape(-1, 3) * self.square_m
        return TargetView(points.astype(np.float64), grid.reshape(-1, 2))


@dataclass(frozen=True)
class CharucoBoard:
    """A chessboard with a marker in each white square: a part of it is enough, and its orientation is unique.

    ``columns`` and ``rows`` count squares; ``dictionary`` is OpenCV's name, such as ``DICT_4X4_50``.
    """

    columns: int
    rows: int
    square_m: float
    marker_m: float
    dictionary: str = "DICT_4X4_50"

    def __post_init__(self) -> None:
        if min(self.columns, self.rows) < 3 or not 0 < self.marker_m < self.square_m:
            raise SaccadeError(
                ErrorCode.INVALID_PARAMETER, "A ChArUco board needs 3 x 3 squares and markers smaller than its squares."
            )
        if not (self.dictionary.startswith("DICT_") and hasattr(cv2.aruco, self.dictionary)):
            raise SaccadeError(ErrorCode.INVALID_PARAMETER, f"OpenCV has no marker dictionary {self.dictionary}.")

    @cached_property
    def board(self) -> cv2.aruco.CharucoBoard:
        """The board as an OpenCV object, which can also draw it."""
        dictionary = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, self.dictionary))
        return cv2.aruco.CharucoBoard((self.columns, self.rows), self.square_m, self.marker_m, dictionary)

    def find(self, picture: Picture) -> TargetView | None:
        """Find the corners between the markers that can be decoded."""
        corners, numbers, _, _ = cv2.aruco.CharucoDetector(self.board).detectBoard(_grey(picture))
        if numbers is None or len(numbers) < MIN_CORNERS:
            return None
        points = np.asarray(self.board.getChessboardCorners(), np.float64)[np.asarray(numbers).ravel()]
        if min(np.ptp(points[:, 0]), np.ptp(points[:, 1])) < 0.5 * self.square_m:
            return None  # corners on one line do not determine a pose
        return TargetView(points, np.asarray(corners, np.float64).reshape(-1, 2))


def _grey(picture: Picture) -> Picture:
    return picture if picture.ndim == 2 else np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.uint8)


def _clockwise(grid: Floats) -> float:
    across, down = grid[0, -1] - grid[0, 0], grid[-1, 0] - grid[0, 0]
    return float(across[0] * down[1] - across[1] * down[0])


def _brightness(grey: Picture, square: Floats) -> float:
    """Return the mean of the middle of a square with corners [2, 2, 2] in px."""
    middle = square.reshape(4, 2).mean(0)
    inside = middle + 0.5 * (square.reshape(4, 2) - middle)
    mask = np.zeros(grey.shape, np.uint8)
    cv2.fillConvexPoly(mask, np.round(inside[[0, 1, 3, 2]]).astype(np.int32), 255)
    return float(cv2.mean(grey, mask)[0])
