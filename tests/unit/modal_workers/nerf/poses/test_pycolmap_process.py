"""The child process of pycolmap: it stops on request, and a crash becomes an error with a code."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.nerf.poses import job
from modal_workers.nerf.poses.colmap.pycolmap_runner import PycolmapRunner, StepTimeout
from modal_workers.nerf.poses.image_set import unpack
from modal_workers.runtime.context import Stopped
from tests.harness.vision.textured_boxes import Shot, context_with, ring, stop


@pytest.fixture(scope="module")
def shots() -> list[Shot]:
    return ring(0, 18)


def group_is_gone(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def order_of(folder: Path, shots: list[Shot]) -> dict[str, object]:
    """Return the request that extracts the features of some photos."""
    captured = unpack(context_with(folder / "desk", shots).kept["capture.zip"], folder / "capture")
    return {
        "database": str(folder / "features.db"),
        "images": str(captured.images),
        "masks": "",
        "cameras": captured.cameras(),
        "long_side_px": 1600,
        "features": 500,
        "peak_threshold": 0.0067,
    }


def forget(folder: Path) -> Callable[[], None]:
    return lambda: (folder / "features.db").unlink(missing_ok=True)


def test_a_stop_before_the_first_word_ends_the_process_too(shots: list[Shot], tmp_path: Path) -> None:
    order = order_of(tmp_path, shots[:9])
    mapper = PycolmapRunner(tmp_path, lambda: stop() if time.monotonic() > end_s else None, cores=2)
    end_s = time.monotonic() + 0.15
    began_s = time.monotonic()
    with pytest.raises(Stopped):
        mapper.run("features", order, lambda *_: None, limit_s=60, clean_up=forget(tmp_path))
    assert time.monotonic() - began_s < 2.15
    assert mapper.process is not None
    assert group_is_gone(mapper.process.pid)


def test_a_step_that_takes_too_long_is_ended(shots: list[Shot], tmp_path: Path) -> None:
    mapper = PycolmapRunner(tmp_path, lambda: None, cores=2)
    with pytest.raises(StepTimeout):
        mapper.run("features", order_of(tmp_path, shots[:9]), lambda *_: None, limit_s=0.2, clean_up=forget(tmp_path))
    assert mapper.process is not None
    assert group_is_gone(mapper.process.pid)


def test_the_process_ends_with_its_parent(shots: list[Shot], tmp_path: Path) -> None:
    """A killed worker cannot stop its child, so the child detects that its parent is gone."""
    order = order_of(tmp_path, shots)
    (tmp_path / "order.json").write_text(json.dumps(order | {"step": "features", "threads": 2}))
    script = Path(job.__file__).with_name("colmap") / "pycolmap_process.py"
    ours, theirs = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-P", script, tmp_path / "order.json", str(theirs)], stdin=subprocess.PIPE, pass_fds=(theirs,)
    )
    os.close(theirs)
    assert os.read(ours, 10)
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(20) == 3
    os.close(ours)


# crashes of the process


def killing(mapper: PycolmapRunner, number: signal.Signals, times: int) -> Callable[[str, int, int], None]:
    """Return a progress callback that sends a signal to the mapper's process on its first ``times`` calls."""
    left = [times]

    def told(_step: str, _done: int, _total: int) -> None:
        if left[0] > 0:
            left[0] -= 1
            assert mapper.process is not None
            os.kill(mapper.process.pid, number)

    return told


def test_a_step_whose_process_dies_once_is_done_again(shots: list[Shot], tmp_path: Path) -> None:
    mapper, begun = PycolmapRunner(tmp_path, lambda: None, cores=2), []

    def afresh() -> None:
        begun.append(1)
        forget(tmp_path)()

    told = killing(mapper, signal.SIGABRT, 1)
    mapper.run("features", order_of(tmp_path, shots[:9]), told, limit_s=60, clean_up=afresh)
    assert len(begun) == 2
    assert (tmp_path / "features.db").stat().st_size > 100_000


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGABRT, ErrorCode.WORKER_BROKEN), (signal.SIGKILL, ErrorCode.OUT_OF_MEMORY)],
)
def test_one_that_dies_again_is_a_typed_error(
    number: signal.Signals, code: ErrorCode, shots: list[Shot], tmp_path: Path
) -> None:
    mapper = PycolmapRunner(tmp_path, lambda: None, cores=2)
    with pytest.raises(SaccadeError) as told:
        mapper.run(
            "features",
            order_of(tmp_path, shots[:9]),
            killing(mapper, number, 2),
            limit_s=60,
            clean_up=forget(tmp_path),
        )
    assert told.value.code is code


def test_what_pycolmap_refuses_is_a_typed_error_too(shots: list[Shot], tmp_path: Path) -> None:
    order = order_of(tmp_path, shots[:9])
    shutil.rmtree(str(order["images"]))
    mapper = PycolmapRunner(tmp_path, lambda: None, cores=2)
    with pytest.raises(SaccadeError) as told:
        mapper.run("features", order, lambda *_: None, limit_s=60, clean_up=forget(tmp_path))
    assert told.value.code is ErrorCode.WORKER_BROKEN
