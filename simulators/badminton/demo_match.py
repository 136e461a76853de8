"""Render the match of the demo: singles in a hall, with judges and spectators, and its ground truth.

``python -m simulators.badminton.demo_match FOLDER`` writes ``match.mp4``, ``match.npz`` and ``match.json`` there and
prints its progress, one JSON object per line: ``{"fraction": 0.5}``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Final

from simulators.badminton.match_options import MatchOptions
from simulators.badminton.match_video import render_match

_PROGRESS_INTERVAL_S: Final = 0.1


def main() -> None:
    """Render the match that the command line asks for, if it is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--duration-s", type=float, default=60.0)
    parser.add_argument("--doubles", action="store_true")
    wanted = parser.parse_args()
    options = MatchOptions(
        seed=wanted.seed,
        duration_s=wanted.duration_s,
        doubles=wanted.doubles,
        bystanders=True,
        quick_service=True,
    )
    last_s = 0.0

    def report(fraction: float) -> None:
        nonlocal last_s
        if fraction >= 1 or time.monotonic() - last_s >= _PROGRESS_INTERVAL_S:
            last_s = time.monotonic()
            sys.stdout.write(json.dumps({"fraction": fraction}) + "\n")
            sys.stdout.flush()

    wanted.folder.mkdir(parents=True, exist_ok=True)
    render_match(wanted.folder / "match.mp4", options, progress=report)


if __name__ == "__main__":
    main()
