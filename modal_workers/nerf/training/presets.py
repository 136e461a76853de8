"""Length and size of a training, by preset and device."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

from modal_workers.nerf.params import NerfParams, Preset

DeviceClass = Literal["cpu", "gpu"]

#: Part of the iterations for the whole scene, from which the object is segmented.
_SCENE_SHARE: Final = 0.35


@dataclass(frozen=True)
class TrainingSchedule:
    """Schedule of one training. Iterations are those of both fits together."""

    iterations: int
    max_splats: int
    size_px: int  # long side of the photos
    harmonics: int  # coefficients above degree 0: 0, 3, 8 or 15
    scene_size_px: int  # long side in the first fit, which only has to find the object

    def scene_iterations(self, *, masks: bool) -> int:
        """Return the iterations of the first fit; 0 where masks are given."""
        return 0 if masks else round(self.iterations * _SCENE_SHARE)


#: On a GPU limited by memory, from gsplat's documentation; on a CPU by minutes on two cores.
PRESETS: Final[dict[tuple[DeviceClass, Preset], TrainingSchedule]] = {
    ("gpu", "draft"): TrainingSchedule(5_000, 200_000, 800, 3, 640),
    ("gpu", "standard"): TrainingSchedule(15_000, 600_000, 1280, 15, 800),
    ("gpu", "best"): TrainingSchedule(30_000, 1_500_000, 1920, 15, 960),
    ("cpu", "draft"): TrainingSchedule(600, 4_000, 192, 0, 128),
    ("cpu", "standard"): TrainingSchedule(1_300, 6_500, 320, 0, 160),
    ("cpu", "best"): TrainingSchedule(5_000, 20_000, 480, 3, 240),
}


def schedule_for(params: NerfParams, device: DeviceClass) -> TrainingSchedule:
    """Return the preset of a device with the user's parameters applied."""
    preset = PRESETS[device, params.preset]
    size_px = params.training_size_px or preset.size_px
    return replace(
        preset,
        iterations=params.iterations or preset.iterations,
        max_splats=params.max_splats or preset.max_splats,
        size_px=size_px,
        scene_size_px=min(size_px, preset.scene_size_px),
    )
