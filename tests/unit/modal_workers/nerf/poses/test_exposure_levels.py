"""Photos whose exposures differ get copies with equal contrast for the features; others are used as they are."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from modal_workers.nerf.poses.exposure_levels import exposures_differ, write_levelled


def write_photos(folder: Path, exposures: list[float]) -> list[Path]:
    folder.mkdir()
    picture = cv2.GaussianBlur(np.random.default_rng(5).uniform(0, 255, (96, 128, 3)), (0, 0), 3)
    picture = 40 + 160 * (picture - picture.min()) / np.ptp(picture)
    paths = [folder / f"{number:04d}.jpg" for number in range(len(exposures))]
    for path, exposure in zip(paths, exposures, strict=True):
        cv2.imwrite(str(path), np.clip(picture * exposure, 0, 255).astype(np.uint8))
    return paths


def test_only_photos_of_different_exposure_are_levelled(tmp_path: Path) -> None:
    assert not exposures_differ(write_photos(tmp_path / "even", [1.0, 0.95, 1.05, 1.0]))
    assert exposures_differ(write_photos(tmp_path / "uneven", [1.0, 0.5, 1.2, 0.3]))
    assert not exposures_differ([])


def test_levelled_copies_have_about_the_same_contrast_and_size(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", [1.0, 0.5, 0.25])
    write_levelled(photos, tmp_path / "levelled", lambda: None)
    copies = [cv2.imread(str(tmp_path / "levelled" / photo.name), cv2.IMREAD_GRAYSCALE) for photo in photos]
    assert {copy.shape for copy in copies} == {(96, 128)}
    spreads = [float(copy.std()) for copy in copies]
    assert max(spreads) < 1.1 * min(spreads)


def test_a_photo_that_cannot_be_read_is_left_out_and_a_stop_is_heard(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", [1.0, 0.5])
    photos[0].write_bytes(b"no picture")
    write_levelled(photos, tmp_path / "levelled", lambda: None)
    assert [path.name for path in (tmp_path / "levelled").iterdir()] == [photos[1].name]

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_levelled(photos, tmp_path / "again", stop)
