"""The ultralytics backend runs the library's own predict and track, offline, and names what is missing.

The weights here are random, with a head that is biased to report persons: what is found means nothing, how it arrives
does. bench/badminton_yolo.py trains weights and measures what they find.
"""

from __future__ import annotations

import socket
from pathlib import Path

import numpy as np
import pytest

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.badminton.players.ultralytics_backend import UltralyticsPoseBackend, is_installed
from modal_workers.badminton.settings import BadmintonSettings, keep_ultralytics_offline

pytestmark = pytest.mark.skipif(not is_installed(), reason="the extra badminton-yolo is not installed")


@pytest.fixture(scope="module")
def weights_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    keep_ultralytics_offline()
    import torch
    from ultralytics import YOLO

    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    model = YOLO("yolo26n-pose.yaml", task="pose")
    head = model.model.model[-1]
    for branch in (head.cv3, head.one2one_cv3):
        for layers in branch:
            torch.nn.init.constant_(layers[-1].bias, -6.0)
            layers[-1].bias.data[0] = 1.0
    model.save(folder / "yolo26n-pose.pt")
    return folder


@pytest.fixture
def pictures() -> list[np.ndarray]:
    random = np.random.default_rng(1)
    return [random.integers(0, 255, (180, 320, 3), np.uint8) for _ in range(3)]


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    asked: list[object] = []

    def refuse(*arguments: object, **_: object) -> None:
        asked.append(arguments)
        raise OSError("this test has no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return asked


@pytest.mark.parametrize("tracker", ["off", "bytetrack", "botsort"])
def test_persons_arrive_with_boxes_and_seventeen_keypoints_in_pixels(
    weights_folder: Path, pictures: list[np.ndarray], no_network: list[object], tracker: str
) -> None:
    settings = BadmintonSettings(weights_folder=weights_folder, yolo_image_px=160, yolo_tracker=tracker)
    backend = UltralyticsPoseBackend("n", settings)
    backend.restart()
    found = backend.detect(pictures)
    assert len(found) == len(pictures)
    assert len(found[-1]) > 0
    for persons in found:
        assert persons.boxes_px.shape == (len(persons), 4)
        assert persons.keypoints_px.shape == (len(persons), 17, 3)
        assert np.isfinite(persons.keypoints_px).all()
        assert (persons.boxes_px[:, 2:] >= persons.boxes_px[:, :2]).all()
    # The library cuts boxes at the picture's edges, which are half a pixel from the centres of the outermost pixels.
    boxes_px = np.concatenate([persons.boxes_px for persons in found])
    assert boxes_px[:, :2].min() == -0.5
    assert (boxes_px[:, 2:].max(axis=0) <= (319.5, 179.5)).all()
    assert no_network == []
    assert backend.name.startswith("ultralytics yolo26n-pose")


def test_a_batch_gives_what_its_pictures_give_alone(weights_folder: Path, pictures: list[np.ndarray]) -> None:
    backend = UltralyticsPoseBackend("n", BadmintonSettings(weights_folder=weights_folder, yolo_image_px=160))
    together = backend.detect(pictures)
    for picture, persons in zip(pictures, together, strict=True):
        (alone,) = backend.detect([picture])
        assert persons.boxes_px == pytest.approx(alone.boxes_px, abs=0.1)


def test_missing_weights_are_named_and_nothing_is_downloaded(tmp_path: Path, no_network: list[object]) -> None:
    with pytest.raises(SaccadeError) as caught:
        UltralyticsPoseBackend("m", BadmintonSettings(weights_folder=tmp_path))
    assert caught.value.code == ErrorCode.MODEL_FILE_INVALID
    assert "yolo26m-pose.pt" in caught.value.message
    assert "BADMINTON_WEIGHTS_FOLDER" in caught.value.hint
    assert no_network == []


@pytest.mark.parametrize("content", [b"", b"not a model", b"PK\x03\x04 half a file"])
def test_a_broken_file_is_no_model(tmp_path: Path, content: bytes, no_network: list[object]) -> None:
    (tmp_path / "yolo26n-pose.pt").write_bytes(content)
    with pytest.raises(SaccadeError) as caught:
        UltralyticsPoseBackend("n", BadmintonSettings(weights_folder=tmp_path))
    assert caught.value.code == ErrorCode.MODEL_FILE_INVALID
    assert no_network == []


def test_a_model_with_other_keypoints_is_refused(tmp_path: Path) -> None:
    keep_ultralytics_offline()
    import yaml
    from ultralytics import YOLO
    from ultralytics.nn.tasks import yaml_model_load

    design = tmp_path / "yolo26n-pose.yaml"
    architecture = yaml_model_load("yolo26n-pose.yaml") | {"kpt_shape": [5, 3]}
    design.write_text(yaml.safe_dump({name: value for name, value in architecture.items() if name != "yaml_file"}))
    YOLO(str(design), task="pose").save(tmp_path / "yolo26n-pose.pt")
    with pytest.raises(SaccadeError) as caught:
        UltralyticsPoseBackend("n", BadmintonSettings(weights_folder=tmp_path))
    assert caught.value.code == ErrorCode.MODEL_FILE_INVALID
    assert "17" in caught.value.message
