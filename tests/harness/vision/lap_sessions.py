"""Videos of laps that cost almost nothing: a camera that slides along a closed panorama."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tests.harness.vision.lap_videos import write_clip

Floats = NDArray[np.float64]

SIZE = (160, 90)
#: Length of the panorama in pixels, and of a lap at the mean speed in seconds.
AROUND_PX = 1500
LAP_S = 7.5
RATE_HZ = 15.0


@dataclass(frozen=True)
class SlidingSession:
    """A video and where the camera was: place_px [F], unwrapped, at time_s [F]."""

    path: Path
    time_s: Floats
    place_px: Floats

    def crossings_s(self, place_px: float) -> list[float]:
        """Return when the camera passed a place of the panorama."""
        first, last = (int(np.ceil((end - place_px) / AROUND_PX)) for end in (self.place_px[0], self.place_px[-1]))
        wanted = [place_px + number * AROUND_PX for number in range(first, last)]
        return [float(np.interp(place, self.place_px, self.time_s)) for place in wanted]


def panorama(seed: int) -> NDArray[np.uint8]:
    """Return a closed panorama [90, AROUND_PX + 160, 3] with detail at several scales."""
    random = np.random.default_rng(seed)
    picture = np.zeros((SIZE[1], AROUND_PX, 3), np.float32)
    for cell, weight in ((30, 0.45), (15, 0.35), (6, 0.2)):
        shape = (SIZE[1] // cell + 1, AROUND_PX // cell, 3)
        coarse = np.kron(random.uniform(0, 255, shape), np.ones((cell, cell, 1)))
        picture += np.float32(weight) * coarse[: SIZE[1], :AROUND_PX].astype(np.float32)
    closed = np.hstack([picture, picture[:, : SIZE[0]]])
    return np.clip(closed, 0, 255).astype(np.uint8)


def slide(
    path: Path, laps: float, *, seed: int = 0, rest_at_lap: float | None = None, gain: float = 1.0, speed: float = 1.0
) -> SlidingSession:
    """Write a video of ``laps`` laps at a speed that varies; ``rest_at_lap`` is where the camera stops for 3 s."""
    random = np.random.default_rng([seed, 5])
    step_s = 1 / RATE_HZ
    place, places = float(random.uniform(0, AROUND_PX)), []
    start, rests = place, round(3.0 * RATE_HZ) if rest_at_lap is not None else 0
    phase = float(random.uniform(0, 6))
    while place < start + laps * AROUND_PX:
        places.append(place)
        if rests and rest_at_lap is not None and place - start >= rest_at_lap * AROUND_PX:
            rests -= 1
            continue
        pace = 1 + 0.25 * np.sin(place / 170 + phase) + 0.1 * np.sin(place / 610 + 2 * phase)
        place += speed * pace * AROUND_PX / LAP_S * step_s
    around, noise = panorama(seed), np.random.default_rng([seed, 6])
    pictures = []
    for at in places:
        shift = np.array([[1, 0, -(at % AROUND_PX)], [0, 1, 0]])
        view = cv2.warpAffine(around, shift, SIZE, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        grain = noise.normal(0, 3, view.shape)
        pictures.append(np.clip(view * gain + grain, 0, 255).astype(np.uint8))
    times = np.arange(len(places)) * step_s
    return SlidingSession(write_clip(path, pictures, times.tolist()), times, np.asarray(places))


if __name__ == "__main__":
    # FILE LAPS SEED: for tests whose process has no OpenCV.
    slide(Path(sys.argv[1]), float(sys.argv[2]), seed=int(sys.argv[3]))
