"""A TrackNet file is run as its shape says; any other file is refused with what to do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.badminton.shuttle.onnx_backend import OnnxShuttleBackend, ShuttleNetwork
from modal_workers.badminton.shuttle.shuttle_track import Picture
from tests.harness.vision.onnx_files import write_red_patch_network, write_white_network

SCALE = 5


def pictures(count: int, lamp: bool = False) -> list[Picture]:
    """Return pictures 640 x 360 with a white square whose centre moves by 10 px a picture."""
    found = []
    for number in range(count):
        picture = np.full((72 * SCALE, 128 * SCALE, 3), 40, np.uint8)
        left, top = 20 + 10 * number, 100
        picture[top : top + 10, left : left + 10] = 255
        if lamp:
            picture[300:320, 600:620] = 255
        found.append(picture)
    return found


@pytest.mark.parametrize(
    ("frames", "background", "maps"), [(3, False, 3), (8, True, 8), (3, False, 1)], ids=["v2", "v3", "v1"]
)
def test_each_picture_gets_its_own_candidates(tmp_path: Path, frames: int, background: bool, maps: int) -> None:
    write_white_network(tmp_path / "net.onnx", pictures=frames, background=background, maps=maps)
    backend = OnnxShuttleBackend(ShuttleNetwork(tmp_path / "net.onnx"), 30.0)
    shown = pictures(23)
    for batch in (1, 8):
        backend.restart()
        found = [each for start in range(0, 23, batch) for each in backend.detect(shown[start : start + batch])]
        found += backend.flush()
        assert len(found) == 23
        # The first run of a network with a background has only its own pictures for one.
        for number in range(8 if background else 0, 23):
            place = found[number].position_px[0]
            assert np.hypot(place[0] - (24.5 + 10 * number), place[1] - 104.5) < 4
            assert 0.5 < found[number].score[0] <= 1


def test_the_background_takes_away_what_stands_still(tmp_path: Path) -> None:
    counts = []
    for background in (False, True):
        write_white_network(tmp_path / "net.onnx", pictures=3, background=background, maps=3)
        backend = OnnxShuttleBackend(ShuttleNetwork(tmp_path / "net.onnx"), 30.0)
        found = backend.detect(pictures(45, lamp=True)) + backend.flush()
        counts.append(len(found[40].score))
    assert counts == [2, 1]


def test_a_clip_shorter_than_a_run_gets_its_entries(tmp_path: Path) -> None:
    write_white_network(tmp_path / "net.onnx", pictures=8, background=True, maps=8)
    backend = OnnxShuttleBackend(ShuttleNetwork(tmp_path / "net.onnx"), 30.0)
    for count in (0, 1, 5):
        assert backend.detect(pictures(count)) == []
        assert len(backend.flush()) == count


def test_a_file_that_is_no_tracknet_is_refused(tmp_path: Path) -> None:
    write_red_patch_network(tmp_path / "pose.onnx", 64, [(0.0, 0.0, 0.9)])
    write_white_network(tmp_path / "maps.onnx", pictures=4, background=False, maps=2)
    (tmp_path / "text.onnx").write_bytes(b"this is no network")
    (tmp_path / "empty.onnx").write_bytes(b"")
    for name in ("pose.onnx", "maps.onnx", "text.onnx", "empty.onnx", "missing.onnx"):
        with pytest.raises(SaccadeError) as caught:
            ShuttleNetwork(tmp_path / name)
        assert caught.value.code is ErrorCode.MODEL_FILE_INVALID
        assert name in caught.value.message
        assert "classical" in caught.value.hint
