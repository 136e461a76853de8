"""Key frames survive a lost worker, each is uploaded once, and they stay small."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from modal_workers.vision_stream.key_frames import KeyFrame, KeyFrames, read_segment


class Folder:
    """Scratch folder and checkpoints of a run, in folders."""

    def __init__(self, scratch: Path, kept: Path) -> None:
        self.scratch, self.kept = scratch, kept
        self.uploaded: list[tuple[str, int]] = []
        scratch.mkdir()

    def progress(self, fraction: float, message: str = "", **more: object) -> None:
        raise AssertionError(f"it reports no progress: {fraction} {message} {more}")

    def checkpoint(self, name: str) -> Path | None:
        return self.kept / name if (self.kept / name).exists() else None

    def keep(self, path: Path, name: str) -> None:
        self.kept.mkdir(exist_ok=True)
        shutil.copy(path, self.kept / name)
        self.uploaded.append((name, path.stat().st_size))


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (480, 640, 3), np.uint8)


def test_a_key_frame_is_small_whatever_the_picture(tmp_path: Path) -> None:
    frames = KeyFrames(Folder(tmp_path / "scratch", tmp_path / "kept"))
    frames.add_image(1, 7, 1.5, picture(1))
    jpeg = frames[1]
    assert len(jpeg) <= 20_000
    shown = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert max(shown.shape) <= 320


def test_a_later_run_has_those_that_were_saved_and_uploads_none_of_them_again(tmp_path: Path) -> None:
    first = Folder(tmp_path / "first", tmp_path / "kept")
    frames = KeyFrames(first)
    for chunk in range(1, 6):
        frames.add(KeyFrame(chunk, 10 * chunk, float(chunk), bytes([chunk]) * chunk))
        if chunk in (2, 4):
            frames.save()
    frames.save()
    frames.add(KeyFrame(6, 60, 6.0, b"lost"))  # the run is killed before it is saved
    segments = [size for name, size in first.uploaded if not name.endswith("json")]
    assert len(segments) == 3
    assert sum(segments) == (frames_size := sum(24 + chunk for chunk in range(1, 6))), frames_size

    second = Folder(tmp_path / "second", tmp_path / "kept")
    again = KeyFrames(second)
    assert again.kept == 5
    again.add(KeyFrame(6, 60, 6.0, b"again"))
    again.save()
    assert [name for name, _ in second.uploaded] == ["key-frames-00004", "key-frames.json"]
    again.load()
    assert dict(again) == {chunk: bytes([chunk]) * chunk for chunk in range(1, 6)} | {6: b"again"}
    assert list(again) == [1, 2, 3, 4, 5, 6]
    with pytest.raises(KeyError):
        again[7]


def test_a_segment_that_is_cut_off_ends_with_its_last_whole_frame(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "scratch", tmp_path / "kept")
    frames = KeyFrames(folder)
    for chunk in (1, 2):
        frames.add(KeyFrame(chunk, chunk, 0.5, b"jpeg"))
    frames.save()
    segment = (folder.kept / "key-frames-00001").read_bytes()
    assert list(read_segment(segment)) == [KeyFrame(1, 1, 0.5, b"jpeg"), KeyFrame(2, 2, 0.5, b"jpeg")]
    assert list(read_segment(segment[:-1])) == [KeyFrame(1, 1, 0.5, b"jpeg")]
