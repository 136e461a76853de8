"""What a user decides about a capture's way to frames; every stage takes the same parameters."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from contracts.workload import Params

Preset = Literal["draft", "standard", "best"]
TrainingBackend = Literal["gsplat", "nerfstudio"]

#: Most frames that one zip of the result holds.
BATCH_FRAMES = 144


class NerfParams(Params):
    """Parameters of the pipeline."""

    preflight_only: bool = Field(default=False, description="Only judge the photos: nothing else is run or paid for.")
    ignore_verdict: bool = Field(default=False, description="Go on with photos that the pre-flight refuses.")
    matcher: Literal["auto", "exhaustive", "sequential", "vocabulary"] = Field(
        default="auto", description="Which photos are matched with which; auto goes by their number and order."
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
        description="How the object is cut out: by a sphere around it, by masks; auto takes masks where there are any.",
    )
    crop_radius: float = Field(
        default=0.45, gt=0, lt=1, description="Radius of the sphere, as a share of the cameras' median distance."
    )
    frames: int = Field(default=1440, ge=1, le=14_400, description="Frames of the orbit: elevations times azimuths.")
    elevations: int = Field(default=4, ge=1, le=90, description="Rings of the orbit; it must divide frames.")
    elevation_min_deg: float | None = Field(
        default=None, ge=-89, le=89, description="Lowest ring; by default inside of what was photographed."
    )
    elevation_max_deg: float | None = Field(
        default=None, ge=-89, le=89, description="Highest ring; by default inside of what was photographed."
    )
    frame_size_px: int = Field(default=512, ge=32, le=2048, description="Width and height of a frame.")
    seed: int = Field(default=0, ge=0, lt=2**31, description="Seed of everything random.")
    keep_hours: int = Field(
        default=48, ge=1, le=24 * 90, description="Hours after its end at which what is only kept for it is removed."
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
        """Frames of one ring."""
        return self.frames // self.elevations

    @property
    def batches(self) -> int:
        """Zips of the result; each is one shard of the rendering."""
        return -(-self.frames // BATCH_FRAMES)
