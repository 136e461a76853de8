"""Frames as the vision tower takes them: resized and normalised on the model's device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from modal_workers.vision_stream.models.gemma.hugging_face import Gemma3ImageProcessorPil
from modal_workers.vision_stream.models.model import Rgb

#: Resampling of Pillow by its number.
_MODES = {2: "bilinear", 3: "bicubic"}


@dataclass(frozen=True)
class Pixels:
    """Steps of a model's image processor, without Pillow: on a GPU they cost less than the copy of the frame."""

    height_px: int
    width_px: int
    mode: str
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of_processor(cls, processor: Gemma3ImageProcessorPil) -> Pixels:
        """Return the steps that a model's processor is configured for."""
        return cls(
            int(processor.size["height"]),
            int(processor.size["width"]),
            _MODES[int(processor.resample)],
            float(processor.rescale_factor),
            tuple(processor.image_mean),
            tuple(processor.image_std),
        )

    def of(self, frames: Sequence[Rgb], device: torch.device, dtype: torch.dtype) -> torch.Tensor:
        """Return the frames' values: frames x 3 x height x width."""
        mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (self.mean, self.std))
        resized = torch.cat([self._resized(frame, device) for frame in frames])
        return ((resized * self.scale - mean) / std).to(dtype)

    def _resized(self, frame: Rgb, device: torch.device) -> torch.Tensor:
        values = torch.from_numpy(np.ascontiguousarray(frame)).to(device).permute(2, 0, 1).unsqueeze(0).float()
        resized = torch.nn.functional.interpolate(
            values, (self.height_px, self.width_px), mode=self.mode, align_corners=False, antialias=True
        )
        # to whole numbers, as pictures have
        return resized.round().clamp(0, 255)
