"""The demo of a badminton match, short: a rendered rally through the whole embedded system, beside its truth."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from pathlib import Path

import pytest

from tests.system.embedded import command, environment

NEEDED = ("av", "cv2", "matplotlib", "PIL")
#: Upper limit; a loaded machine may need that long.
PATIENCE_S = 600.0


@pytest.mark.timeout(PATIENCE_S + 60)
def test_a_rendered_rally_is_analysed_and_is_near_its_truth(tmp_path: Path) -> None:
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    done = subprocess.run(
        command("demo", "badminton", "--seconds", "10", "--json", "--no-open", "--data", str(tmp_path / "data")),
        cwd=tmp_path,
        env=environment(BADMINTON_WEIGHTS_FOLDER=str(tmp_path / "none")),
        text=True,
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
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
