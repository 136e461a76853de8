"""The demo of product photos, small: photos of the toy through the whole pipeline in the embedded system."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.system.embedded import environment, run_demo

NEEDED = ("torch", "pycolmap", "av", "PIL")
#: Upper limit; a loaded machine may need that long.
PATIENCE_S = 1200.0


def demo(tmp_path: Path, *words: str) -> dict[str, Any]:
    """Run it as a user does; gives what it shows."""
    return run_demo("nerf", *words, cwd=tmp_path, needed=NEEDED, timeout_s=PATIENCE_S)


@pytest.mark.soak
@pytest.mark.timeout(PATIENCE_S + 60)
def test_the_demo_as_it_is_reaches_what_it_says_is_wanted(tmp_path: Path, soak_runs: int) -> None:
    if soak_runs <= 12:
        pytest.skip("two minutes of training: in a soak of more than 12 runs")
    shown = demo(tmp_path)
    truth = shown["truth"]
    assert truth["pose_error_rms"] <= 0.005
    assert shown["result"]["model"]["psnr_db"] >= 24
    assert min(truth["edges_near"], truth["edges_found"]) >= 0.95


@pytest.mark.timeout(PATIENCE_S + 60)
def test_photos_of_a_toy_become_frames_that_are_near_the_truth(tmp_path: Path) -> None:
    words = ["--frames", "12", "--size", "64", "--photos", "34", "--preset", "draft", "--iterations", "150"]
    shown = demo(tmp_path, *words, "--masks")
    result, truth, folder = shown["result"], shown["truth"], tmp_path / shown["folder"]
    assert (result["verdict"], result["poses"]["photos_registered"]) == ("good", 34)
    assert truth["pose_error_rms"] < 0.005
    assert result["frames"]["verified"] == truth["frames"] == 12
    # A ninth of the demo's training: near enough to know that it is the toy, from where it says.
    assert min(truth["edges_near"], truth["edges_found"]) > 0.9
    assert truth["psnr_db"] > 15
    assert [one["stage"] for one in result["stages"] if one["actual_s"] is None] == []
    with zipfile.ZipFile(folder / "frames" / "batch_00.zip") as archive:
        assert archive.namelist() == [f"frame_{number:04d}.png" for number in range(12)]
    left = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {
        "images.zip",
        "preflight.json",
        "colmap/cameras.bin",
        "colmap/images.bin",
        "colmap/points3D.bin",
        "dataset/transforms.json",
        "model/config.json",
        "model/splat.ply",
        "frames/batch_00.json",
        "spin.html",
        "splat.html",
        "report.html",
        "contact_sheet.png",
        "turntable.mp4",
        "turntable.webp",
    } <= left


def test_the_demo_says_what_to_install_where_pycolmap_is_missing(tmp_path: Path) -> None:
    code = (
        "import importlib.util, sys; found = importlib.util.find_spec; "
        "importlib.util.find_spec = lambda name, *rest: None if name == 'pycolmap' else found(name, *rest); "
        "sys.argv = ['saccade', 'demo', 'nerf', '--json']; from cli.__main__ import main; sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment(),
        text=True,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode != 0
    told = json.loads(done.stderr)["error"]
    assert (told["code"], told["message"]) == ("nerf_not_installed", "The demo needs pycolmap, which is not installed.")
    assert "make demo-nerf" in told["hint"]
