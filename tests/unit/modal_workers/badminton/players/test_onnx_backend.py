"""The ONNX backend on files written here: what goes in, what comes out, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.badminton.players.onnx_backend import OnnxPoseBackend
from tests.harness.vision.onnx_files import Layout, write_red_patch_network

SIDE_PX = 160
#: Two boxes on the patch, which overlap; one beside it; one of little confidence.
PERSONS = [(0.0, 0.0, 0.9), (2.0, 1.0, 0.7), (50.0, 0.0, 0.6), (0.0, 45.0, 0.05)]


def _picture(width: int, height: int, x: int, y: int) -> np.ndarray:
    picture = np.full((height, width, 3), (90, 110, 60), np.uint8)
    picture[y - 8 : y + 8, x - 8 : x + 8] = (20, 20, 235)
    return picture


@pytest.mark.parametrize("layout", ["chosen", "cells"])
def test_places_are_those_of_the_picture(tmp_path: Path, layout: Layout) -> None:
    path = tmp_path / "yolo26n-pose.onnx"
    write_red_patch_network(path, SIDE_PX, PERSONS, layout, 57 if layout == "chosen" else 56)
    backend = OnnxPoseBackend(path, SIDE_PX)
    assert backend.name.startswith("onnx yolo26n-pose (")
    wide, tall = _picture(640, 360, 200, 100), _picture(200, 320, 80, 240)
    for persons, scale, middle in zip(backend.detect([wide, tall]), (4, 2), ((200, 100), (80, 240)), strict=True):
        # The network has chosen itself in the one layout; in the other the second box is suppressed by the first.
        assert len(persons) == (3 if layout == "chosen" else 2)
        width, height = 20 * scale, 40 * scale
        expected = [middle[0] - width / 2, middle[1] - height / 2, middle[0] + width / 2, middle[1] + height / 2]
        # The patch is even-sized: its middle is half a pixel before the pixel that names it.
        np.testing.assert_allclose(persons.boxes_px[0], np.array(expected) - 0.5, atol=0.15 * scale)
        np.testing.assert_allclose(
            persons.keypoints_px[0, 16, :2], (middle[0] - 0.5, middle[1] - 0.5 + 16 * scale), atol=0.6
        )
        np.testing.assert_allclose(persons.keypoints_px[0, :, 2], 0.8, atol=1e-5)
        np.testing.assert_allclose(persons.confidence[[0, -1]], (0.9, 0.6), atol=1e-5)
        assert persons.boxes_px.dtype == persons.keypoints_px.dtype == persons.confidence.dtype == np.float32


def test_nobody_in_the_picture(tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    write_red_patch_network(path, SIDE_PX, [(0.0, 0.0, 0.1)])
    (persons,) = OnnxPoseBackend(path, SIDE_PX).detect([_picture(320, 180, 100, 90)])
    assert len(persons) == 0
    assert persons.keypoints_px.shape == (0, 17, 3)


def test_a_file_that_cannot_be_used_is_refused_by_name(tmp_path: Path) -> None:
    missing = tmp_path / "missing.onnx"
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"<html>not found</html>")
    detection = tmp_path / "yolo26n.onnx"
    write_red_patch_network(detection, SIDE_PX, PERSONS, "chosen", 6)
    for path, said in ((missing, "no ONNX file"), (broken, "does not run"), (detection, "(1, 300, 6)")):
        with pytest.raises(SaccadeError) as refused:
            OnnxPoseBackend(path, SIDE_PX)
        assert refused.value.code == ErrorCode.MODEL_FILE_INVALID
        assert path.name in refused.value.message
        assert said in refused.value.message
        assert "yolo export" in refused.value.hint
