"""Measure a what-if: jobs a second that are checked, and simulated with another setting; false alarms; changes found.

``bench/whatif.py --jobs 400 --seeds 3 --changes`` also applies every seeded change of tests/golden/seeded_changes.py.
"""

from __future__ import annotations

from bench.needs import needs

needs("zstandard")

import argparse
import time

from services.whatif.answer import Answer, ask
from services.whatif.replay_settings import ReplaySettings
from services.whatif.virtual_time import VirtualLoop, run
from services.whatif.window import RecordedWindow, window_of
from tests.golden.seeded_changes import CHANGES, applied
from tests.golden.windows import golden_windows
from tests.harness.dispatch.varied_run import VARIED_WORKLOADS, run_varied


def answer_of(window: RecordedWindow, settings: ReplaySettings, **changes: object) -> tuple[Answer, float]:
    began = time.process_time()
    answer = ask(VirtualLoop(), window, VARIED_WORKLOADS, settings, changes)
    return answer, time.process_time() - began


def speed(jobs: int, seeds: int) -> None:
    checked_s, simulated_s, decisions, alarms = 0.0, 0.0, 0, 0
    for seed in range(seeds):
        varied = run(run_varied(1000 + seed, jobs))
        window, settings = window_of(varied.events, recorded_settings=varied.settings), ReplaySettings(varied.settings)
        answer, took_s = answer_of(window, settings)
        checked_s, decisions, alarms = (
            checked_s + took_s,
            decisions + sum(answer.compared.values()),
            alarms + len(answer.findings),
        )
        if seed == 0:
            simulated_s = answer_of(window, settings, tenant_concurrency=4)[1]
    print(f"| decisions checked, jobs a second of CPU | {jobs * seeds / checked_s:.0f} |")
    print(f"| decisions checked, false alarms | {decisions}, {alarms} |")
    print(f"| `--set tenant_concurrency=4`: two checks and a simulation, jobs a second | {jobs / simulated_s:.0f} |")


def changes_found() -> None:
    recorded = [(golden.window(), ReplaySettings(golden.recorded()["settings"])) for golden in golden_windows()]
    missed = []
    for change in CHANGES:
        with applied(change):
            if not any(answer_of(window, settings)[0].answer == "different" for window, settings in recorded):
                missed.append(str(change))
    print(f"| seeded changes found in the golden windows | {len(CHANGES) - len(missed)} of {len(CHANGES)} |")
    for name in missed:
        print(f"| missed | {name} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--changes", action="store_true")
    arguments = parser.parse_args()
    print("| | |\n|---|---|")
    speed(arguments.jobs, arguments.seeds)
    if arguments.changes:
        changes_found()


if __name__ == "__main__":
    main()
