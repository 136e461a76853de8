"""Shuttle candidates by a TrackNet network in an ONNX file: through onnxruntime where it is installed, else OpenCV.

Conventions of TrackNetV2 and TrackNetV3: the input is [1, channels, height, width] (288 x 512 in both), pictures in RGB
from 0 to 1, one after the other; the output [1, frames, height, width] holds one heat map for each picture. With
3 x frames channels the pictures are all; with 3 more, the median of earlier pictures comes first. A network with one
heat map for several pictures (the first TrackNet) shows the shuttle in the last of them. Sizes are read from the file.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.badminton.shuttle.median_background import MedianBackground
from modal_workers.badminton.shuttle.onnx_shapes import input_shape
from modal_workers.badminton.shuttle.shuttle_track import Picture, ShuttleCandidates

Floats = NDArray[np.float32]
Network = Callable[[Floats], Floats]

#: TrackNet takes the largest blob above this; here all are kept, and the linking decides.
_LEAST_HEAT: Final = 0.5
_MOST_CANDIDATES: Final = 4
_HINT: Final = (
    "Export TrackNet with torch.onnx.export, a fixed input of (1, 9, 288, 512) or (1, 27, 288, 512) and heat maps from"
    " 0 to 1 as output, and give the path of the file; or choose shuttle: classical, which needs no file."
)


@dataclass(frozen=True)
class _Layout:
    pictures: int
    background: bool
    height_px: int
    width_px: int
    #: Heat maps of a run: one for each picture, or one for the last.
    maps: int


class ShuttleNetwork:
    """A network from a file; loaded once for all camera segments."""

    def __init__(self, path: Path) -> None:
        """Load the network and run it once.

        Raises:
            SaccadeError: MODEL_FILE_INVALID, if there is no such file, or it is no TrackNet.
        """
        if not path.is_file():
            raise _refusal(f"There is no ONNX file {path.name} where the worker looks for the shuttle network.")
        try:
            shape = input_shape(path.read_bytes())
            runtime, self.run = _load(path)
            output = self.run(np.zeros(shape, np.float32)).shape if _is_input(shape) else ()
        # Both runtimes raise classes of their own for a broken file.
        except Exception as error:
            detail = " ".join(str(error).split())[:300]
            raise _refusal(f"{path.name} does not run as a network: {detail}") from error
        self.layout = _layout(path.name, shape, tuple(int(size) for size in output))
        self.name = f"onnx {path.stem} ({runtime})"


class OnnxShuttleBackend:
    """Detector by a network. Holds as many pictures as the network takes, in its size."""

    def __init__(self, network: ShuttleNetwork, rate_hz: float) -> None:
        """``rate_hz`` is the rate of the pictures that will be given."""
        self._network, self._layout = network.run, network.layout
        self._rate_hz = max(rate_hz, 1.0)
        self._name = network.name
        self.restart()

    @property
    def name(self) -> str:
        """Name of the file and what runs it."""
        return self._name

    def restart(self) -> None:
        """Forget the pictures so far: the camera has changed."""
        self._background = MedianBackground(self._rate_hz)
        self._waiting = 0
        self._scale = (1.0, 1.0)
        self._inputs: deque[Picture] = deque(maxlen=self._layout.pictures)

    def detect(self, pictures: Sequence[Picture]) -> list[ShuttleCandidates]:
        """Return the candidates of the pictures that complete a run of the network."""
        found: list[ShuttleCandidates] = []
        for picture in pictures:
            self._add(picture)
            if self._layout.maps == 1 or self._waiting == self._layout.pictures:
                found += self._run()
        return found

    def flush(self) -> list[ShuttleCandidates]:
        """Return the candidates of the last pictures; the network sees those before them once more."""
        found = self._run() if self._waiting else []
        self.restart()
        return found

    def _add(self, picture: Picture) -> None:
        layout = self._layout
        height, width = picture.shape[:2]
        self._scale = (width / layout.width_px, height / layout.height_px)
        small = cv2.resize(picture, (layout.width_px, layout.height_px), interpolation=cv2.INTER_AREA)
        self._inputs.append(np.asarray(small[..., ::-1], np.uint8))
        if layout.background:
            self._background.add(self._inputs[-1])
        self._waiting += 1

    def _run(self) -> list[ShuttleCandidates]:
        layout = self._layout
        pictures = list(self._inputs)
        # At the beginning there are too few: the first stands for those before it.
        pictures = [pictures[0]] * (layout.pictures - len(pictures)) + pictures
        if layout.background:
            first = self._background.picture
            pictures.insert(0, pictures[-1] if first is None else first)
        stacked = np.concatenate([picture.transpose(2, 0, 1) for picture in pictures])[None]
        heat = self._network(stacked.astype(np.float32) / 255.0)[0]
        count, self._waiting = self._waiting, 0
        return [_blobs(each, self._scale) for each in heat[len(heat) - count :]]


def _is_input(shape: tuple[int, ...]) -> bool:
    return len(shape) == 4 and all(size > 0 for size in shape) and shape[0] == 1


def _layout(name: str, shape: tuple[int, ...], output: tuple[int, ...]) -> _Layout:
    channels = shape[1] if _is_input(shape) else 0
    maps = output[1] if len(output) == 4 and output[2:] == shape[2:] else 0
    if channels % 3 == 0 and channels and maps == channels // 3:
        return _Layout(maps, False, shape[2], shape[3], maps)
    if channels % 3 == 0 and maps > 1 and maps == channels // 3 - 1:
        return _Layout(maps, True, shape[2], shape[3], maps)
    if channels % 3 == 0 and channels and maps == 1:
        return _Layout(channels // 3, False, shape[2], shape[3], 1)
    raise _refusal(
        f"{name} is no TrackNet: it takes {shape} and returns {output}, and not (1, 3 n, h, w) or (1, 3 n + 3, h, w)"
        " and (1, n, h, w)."
    )


def _blobs(heat: Floats, scale: tuple[float, float]) -> ShuttleCandidates:
    """Return the blobs of a heat map, largest first, in pixels of the picture."""
    mask = (heat > _LEAST_HEAT).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    order = 1 + np.argsort(-stats[1:count, cv2.CC_STAT_AREA])[:_MOST_CANDIDATES]
    places: list[tuple[float, float]] = []
    scores: list[float] = []
    for label in order:
        y, x = np.nonzero(labels == label)
        weight = heat[y, x].astype(float)
        place = (x @ weight / weight.sum(), y @ weight / weight.sum())
        places.append(((place[0] + 0.5) * scale[0] - 0.5, (place[1] + 0.5) * scale[1] - 0.5))
        scores.append(min(float(weight.max()), 1.0))
    return ShuttleCandidates(np.array(places, np.float32).reshape(-1, 2), np.array(scores, np.float32))


def _refusal(message: str) -> SaccadeError:
    return SaccadeError(ErrorCode.MODEL_FILE_INVALID, message, hint=_HINT)


def _load(path: Path) -> tuple[str, Network]:
    if importlib.util.find_spec("onnxruntime") is None:
        network = cv2.dnn.readNetFromONNX(str(path))

        def run_opencv(batch: Floats) -> Floats:
            network.setInput(batch)
            return np.array(network.forward(), np.float32)

        return "OpenCV", run_opencv
    runtime: Any = importlib.import_module("onnxruntime")
    available = runtime.get_available_providers()
    wanted = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in available]
    session = runtime.InferenceSession(str(path), providers=wanted)
    place = session.get_inputs()[0].name

    def run_onnxruntime(batch: Floats) -> Floats:
        return np.asarray(session.run(None, {place: batch})[0], np.float32)

    return "onnxruntime", run_onnxruntime
