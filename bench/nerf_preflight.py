"""The pre-flight over generated captures: is it right, and how long does it take on one core.

    python bench/nerf_preflight.py [--captures 200] [--seed 5000] [--processes 1] [--found FILE]

Prints a confusion table (does the capture need a fix; does the pre-flight say so), whether the right thing was named,
and processor seconds. The seeds are other ones than those that thresholds were chosen by (below 1000).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.needs import needs

needs("cv2", "pi_heif")

from contracts.errors import SaccadeError
from modal_workers.nerf.capture import job
from modal_workers.nerf.params import NerfParams
from tests.harness.vision.simulated_captures import KINDS, CaptureContext, take


def judged(kind: str, seed: int, scene: int) -> dict[str, Any]:
    import cv2

    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photos = take(kind, folder / "photos", seed, scene=scene)
        desk = CaptureContext(folder / "desk", photos=photos)
        began_s, began_cpu_s = time.monotonic(), time.process_time()
        try:
            job.run(NerfParams(), desk)
        except SaccadeError as error:
            if error.code != "capture_refused":
                raise
        wall_s, cpu_s = time.monotonic() - began_s, time.process_time() - began_cpu_s
        report = json.loads(desk.saved["preflight.json"])
    reasons = report["verdict"]["reasons"]
    return {
        "kind": kind,
        "seed": seed,
        "photos": len(photos),
        "accept": report["verdict"]["accept"],
        "codes": [reason["code"] for reason in reasons if reason["severity"] != "note"],
        "unfixed": [reason["code"] for reason in reasons if not reason["fix"]],
        "wall_s": wall_s,
        "cpu_s": cpu_s,
    }


def scene_judged(captures: list[tuple[str, int]], scene: int, found: Path) -> None:
    """Judge the captures of one scene, which is rendered once, and note each as it comes."""
    for kind, seed in captures:
        line = json.dumps(judged(kind, seed, scene))
        with found.open("a") as file:
            file.write(line + "\n")


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--captures", type=int, default=200)
    asked.add_argument("--seed", type=int, default=5000)
    asked.add_argument("--processes", type=int, default=1)
    asked.add_argument("--found", type=Path, help="JSON lines of what was judged; those in it are not judged again")
    args = asked.parse_args()
    with tempfile.TemporaryDirectory() as name:
        found = args.found or Path(name) / "found.jsonl"
        found.touch()
        known = {json.loads(line)["seed"] for line in found.read_text().splitlines()}
        # A third are good: otherwise saying no to all would look well. Six captures share a scene.
        kinds = [kind for kind in KINDS if kind != "good"]
        scenes: dict[int, list[tuple[str, int]]] = {}
        for number in range(args.captures):
            kind = "good" if number % 3 == 0 else kinds[number * 2 // 3 % len(kinds)]
            if args.seed + number not in known:
                scenes.setdefault(args.seed + number // 6, []).append((kind, args.seed + number))
        with ProcessPoolExecutor(args.processes) as pool:
            for task in [pool.submit(scene_judged, captures, scene, found) for scene, captures in scenes.items()]:
                task.result()
        show([json.loads(line) for line in found.read_text().splitlines()])


def show(found: list[dict[str, Any]]) -> None:
    table: Counter[tuple[bool, bool]] = Counter()
    for row in found:
        table[row["kind"] != "good", row["accept"] != "good"] += 1
    print(f"{'':22}needs a fix: said   not said")
    print(f"{'it does':22}{table[True, True]:>17}{table[True, False]:>11}")
    print(f"{'it does not':22}{table[False, True]:>17}{table[False, False]:>11}")
    said, true = table[True, True] + table[False, True], table[True, True] + table[True, False]
    print(f"precision {table[True, True] / max(1, said):.3f}   recall {table[True, True] / max(1, true):.3f}\n")
    print(f"{'kind':16}{'captures':>9}{'good':>6}{'usable':>8}{'refused':>9}{'named right':>13}")
    for kind, expected in KINDS.items():
        ours = [row for row in found if row["kind"] == kind]
        accepts = Counter(row["accept"] for row in ours)
        named = sum(bool({*row["codes"]} & {*expected.codes}) if expected.codes else not row["codes"] for row in ours)
        figures = f"{len(ours):>9}{accepts['good']:>6}{accepts['usable']:>8}{accepts['refused']:>9}{named:>13}"
        print(f"{kind:16}{figures}")
    for name in ("cpu_s", "wall_s"):
        times = sorted(row[name] for row in found)
        print(f"{name}: median {times[len(times) // 2]:.2f}, worst {times[-1]:.2f}")
    print(f"reasons without a fix: {sum(len(row['unfixed']) for row in found)}")


if __name__ == "__main__":
    main()
