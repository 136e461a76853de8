"""Parameters of the pipeline; every stage takes the same."""

from __future__ import annotations

from typing import Final, Literal, Self

from pydantic import Field, model_validator

from contracts.workload import Params
from modal_workers.nerf.found_object import ObjectHint

Preset = Literal["draft", "standard", "best"]
TrainingBackend = Literal["gsplat", "nerfstudio"]

#: nerfstudio has a Python environment of its own; that of its Modal image.
NERFSTUDIO_HOME: Final = "/opt/nerfstudio"
NERFSTUDIO_PROGRAM: Final = f"{NERFSTUDIO_HOME}/bin/ns-train"

#: Radius of the sphere around the object where it was not found, as a share of the cameras' median distance.
CROP_RADIUS: Final = 0.45
#: Maximum number of frames in one ZIP of the result.
BATCH_FRAMES = 144


class NerfParams(Params):
    """Parameters of the pipeline."""

    preflight_only: bool = Field(
        default=False, description="Only check the photos; no other stage runs or costs anything."
    )
    ignore_verdict: bool = Field(default=False, description="Continue with photos that the checks refuse.")
    matcher: Literal["auto", "exhaustive", "sequential", "vocabulary"] = Field(
        default="auto", description="Which photos are matched with which; auto decides by their number and order."
    )
    backend: TrainingBackend = Field(
        default="gsplat", description="What is trained: Gaussian splats, or nerfstudio's nerfacto in its own image."
    )
    preset: Preset = Field(default="standard", description="How long to train: draft, standard or best.")
    iterations: int | None = Field(
        default=None, ge=50, le=200_000, description="Training iterations; by default those of the preset."
    )
    max_splats: int | None = Field(
        default=None, ge=500, le=5_000_000, description="Hard cap on Gaussians; by default that of the preset."
    )
    training_size_px: int | None = Field(
        default=None, ge=64, le=4096, description="Long side of the photos in training; by default that of the preset."
    )
    background: Literal["auto", "sphere", "masks"] = Field(
        default="auto",
        description="How the object is separated: by a sphere around it or by masks; auto uses masks if there are any.",
    )
    crop_radius: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Radius of the sphere, as a share of the cameras' median distance; by default as large as the "
        "object that was found, or 0.45.",
    )
    object_hint: ObjectHint | None = Field(
        default=None, description="Where the object is in one photo, where the photos alone do not tell."
    )
    frames: int = Field(default=1440, ge=1, le=14_400, description="Frames of the orbit: elevations times azimuths.")
    elevations: int = Field(default=4, ge=1, le=90, description="Rings of the orbit; it must divide frames.")
    elevation_min_deg: float | None = Field(
        default=None, ge=-89, le=89, description="Lowest ring; by default the lowest elevation photographed."
    )
    elevation_max_deg: float | None = Field(
        default=None,
        ge=-89,
        le=89,
        description="Highest ring, not below the lowest; by default the highest elevation photographed.",
    )
    orbit: Literal["seen", "full"] = Field(
        default="seen",
        description="How far around: where more than 60 degrees are in no photo, seen spreads the frames over the "
        "photographed arcs; full always renders the whole circle.",
    )
    frame_size_px: int = Field(default=512, ge=32, le=2048, description="Width and height of a frame.")
    seed: int = Field(default=0, ge=0, lt=2**31, description="Seed of everything random.")
    keep_hours: int = Field(
        default=48,
        ge=1,
        le=24 * 90,
        description="Hours after the end of the job at which its intermediate files are removed.",
    )

    @model_validator(mode="after")
    def _orbit(self) -> Self:
        if self.frames % self.elevations:
            raise ValueError(f"{self.frames} frames cannot be {self.elevations} equal rings: make one divide the other")
        low, high = self.elevation_min_deg, self.elevation_max_deg
        if low is not None and high is not None and low > high:
            raise ValueError("elevation_min_deg is above elevation_max_deg")
        return self

    @property
    def azimuths(self) -> int:
        """Frames per ring."""
        return self.frames // self.elevations

    @property
    def batches(self) -> int:
        """ZIPs of the result; each is one shard of the rendering."""
        return -(-self.frames // BATCH_FRAMES)
