"""Camera orbit of the frames: even rings over the photographed arcs. Pure; poses are world_from_camera, OpenCV axes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modal_workers.nerf.params import NerfParams
from modal_workers.nerf.photo_arcs import FULL_CIRCLE, Arc, arc_azimuth_deg

Floats = NDArray[np.float64]

#: Share of half the frame side that the sphere around the object fills.
FILLED = 0.92


@dataclass(frozen=True)
class CameraOrbit:
    """Rings around the origin of a world with z up: elevations from lowest to highest, each over the same arcs.

    Azimuth 0 is over +x, 90 degrees over +y. ``distance`` is in the unit of the scene, ``focal`` a share of the frame
    side.
    """

    elevations_deg: tuple[float, ...]
    azimuths: int
    distance: float
    focal: float
    size_px: int
    centre: tuple[float, float, float] = (0.0, 0.0, 0.0)
    arcs: tuple[Arc, ...] = FULL_CIRCLE

    def __len__(self) -> int:
        return len(self.elevations_deg) * self.azimuths

    def angles_deg(self, frame: int) -> tuple[float, float]:
        """Return azimuth and elevation of a frame: ring ``frame // azimuths``, then around."""
        ring, step = divmod(frame, self.azimuths)
        return arc_azimuth_deg(self.arcs, step, self.azimuths), self.elevations_deg[ring]

    @property
    def azimuth_step_deg(self) -> float:
        """Step between neighbouring frames of a ring."""
        steps = self.azimuths if self.arcs == FULL_CIRCLE else max(1, self.azimuths - 1)
        return sum(length for _, length in self.arcs) / steps

    def world_from_camera(self, frame: int) -> Floats:
        """Return the pose [4, 4] of a frame: x right, y down, z towards the object."""
        azimuth, elevation = (math.radians(angle) for angle in self.angles_deg(frame))
        outward = np.array(
            [math.cos(elevation) * math.cos(azimuth), math.cos(elevation) * math.sin(azimuth), math.sin(elevation)]
        )
        right = np.array([-math.sin(azimuth), math.cos(azimuth), 0.0])
        pose = np.eye(4)
        pose[:3, :3] = np.stack([right, np.cross(-outward, right), -outward], 1)
        pose[:3, 3] = np.array(self.centre) + self.distance * outward
        return pose

    @property
    def focal_px(self) -> float:
        """Focal length of the frames."""
        return self.focal * self.size_px


def elevations_deg(params: NerfParams, captured_deg: tuple[float, float]) -> tuple[float, ...]:
    """Return the elevations of the rings, both ends included; a single ring is at their mean.

    Open ends default to the photographed range; where the given end is outside of that range, both ends are the given
    one.
    """
    low, high = params.elevation_min_deg, params.elevation_max_deg
    if low is None:
        low = captured_deg[0] if high is None else min(captured_deg[0], high)
    if high is None:
        high = max(captured_deg[1], low)
    if params.elevations == 1:
        return ((low + high) / 2,)
    return tuple(float(low + (high - low) * ring / (params.elevations - 1)) for ring in range(params.elevations))


def focal_for(radius: float, distance: float) -> float:
    """Return the focal length, as a share of the frame side, at which a sphere fills ``FILLED`` of the frame."""
    return 0.5 * FILLED / math.tan(math.asin(min(0.95, radius / distance)))
