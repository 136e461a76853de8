"""The demo of a badminton match, short: a rendered rally through the whole embedded system, beside its truth."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.system.embedded import run_demo

NEEDED = ("av", "cv2", "matplotlib", "PIL")
#: Upper limit; a loaded machine may need that long.
PATIENCE_S = 600.0


@pytest.mark.timeout(PATIENCE_S + 60)
def test_a_rendered_rally_is_analysed_and_is_near_its_truth(tmp_path: Path) -> None:
    shown = run_demo(
        "badminton",
        "--seconds",
        "10",
        cwd=tmp_path,
        needed=NEEDED,
        timeout_s=PATIENCE_S,
        BADMINTON_WEIGHTS_FOLDER=str(tmp_path / "none"),
    )
    result, truth, folder = shown["result"], shown["truth"], Path(shown["folder"])
    assert shown["headline"]
    assert result["court"]["time_share"] > 0.95
    assert len(result["players"]) == 2
    assert truth["corner_error_median_px"] < 2
    assert truth["position_error_median_m"] < 0.3
    left = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {
        "results.json",
        "processed.mp4",
        "report.html",
        "report.pdf",
        "players.csv",
        "rallies.csv",
        "compat/results.json",
        "compat/summary.json",
        "compat/speed.json",
        "compat/zones.json",
        "compat/heatmap.json",
    } <= left
    assert json.loads((folder / "results.json").read_text())["video"]["duration_s"] == pytest.approx(10, abs=0.1)
