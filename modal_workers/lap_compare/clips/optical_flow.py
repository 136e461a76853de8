"""Optical flow as a motion proxy: median length in picture widths. It is not a speed, and nothing calibrates it."""

from __future__ import annotations

import importlib.util
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.footage.video_reader import DecodedFrame

Picture = NDArray[np.uint8]


class DisFlow:
    """Dense inverse search on small grey frames. Source: Kroeger et al. 2016, OpenCV's preset "fast"."""

    def __init__(self) -> None:
        """Create the estimator of one clip: it keeps buffers."""
        self._search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)

    def __call__(self, before: DecodedFrame, after: DecodedFrame) -> float:
        """Return the median flow between two frames in widths."""
        # OpenCV uses the field as initial flow: uninitialised memory with a NaN in it would crash it
        field = np.zeros((*before.grey.shape, 2), np.float32)
        return median_length(np.asarray(self._search.calc(before.grey, after.grey, field), np.float32))


class RaftFlow:
    """RAFT from torchvision on a GPU. Source: Teed and Deng 2020; weights C_T_V2 of torchvision."""

    def __init__(self) -> None:
        """Load the network and its weights.

        Raises:
            SaccadeError: BACKEND_NOT_INSTALLED.
        """
        if importlib.util.find_spec("torchvision") is None:
            text = "flow=raft needs torchvision, which is not installed on this worker."
            raise SaccadeError(ErrorCode.BACKEND_NOT_INSTALLED, text)
        import torch  # noqa: PLC0415 - imported on request only: it takes seconds and gigabytes

        try:
            from torchvision.models.optical_flow import Raft_Small_Weights, raft_small  # noqa: PLC0415
        except (ImportError, OSError, RuntimeError) as error:
            # Built for CUDA, it does not load beside a torch for the CPU (pytorch/pytorch#122494).
            text = f"flow=raft needs a torchvision that fits torch {torch.__version__}; this one does not load."
            raise SaccadeError(ErrorCode.BACKEND_NOT_INSTALLED, text) from error

        self._torch: Any = torch
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._network = raft_small(weights=Raft_Small_Weights.C_T_V2).to(self._device).eval()

    def __call__(self, before: DecodedFrame, after: DecodedFrame) -> float:
        """Return the median flow between two frames in widths."""
        torch = self._torch
        with torch.inference_mode():
            flow = self._network(self._tensor(before.grey), self._tensor(after.grey))[-1]
        return median_length(flow[0].permute(1, 2, 0).cpu().numpy())

    def _tensor(self, grey: Picture) -> Any:
        """Return a frame as [1, 3, H, W] in -1..1, with sides divisible by eight."""
        height, width = grey.shape[0] // 8 * 8, grey.shape[1] // 8 * 8
        value = self._torch.from_numpy(grey[:height, :width].copy()).float().to(self._device) / 127.5 - 1
        return value.expand(1, 3, height, width)


def median_length(flow: NDArray[np.float32]) -> float:
    """Return the median length of a flow field [H, W, 2] in px, in widths, without the lower part (the car)."""
    upper = flow[: int(flow.shape[0] * 0.8)]
    return float(np.median(np.hypot(upper[..., 0], upper[..., 1])) / flow.shape[1])


def make_flow_estimator(kind: Literal["dis", "raft", "off"]) -> DisFlow | RaftFlow | None:
    """Return the requested flow estimator; None for "off".

    Raises:
        SaccadeError: BACKEND_NOT_INSTALLED.
    """
    if kind == "off":
        return None
    return DisFlow() if kind == "dis" else RaftFlow()
