"""Record the golden windows of a version: ``python -m tests.golden.record 0.1.0``, once, when it is released.

They are never recorded again: what a later dispatcher decides otherwise on purpose is written into the window's
settings file, under ``different``, with the reason. A window that the version does not have yet is added.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any, Final

from contracts.events.base import decode
from kit.history.event_lines import HistoryEvent
from kit.history.segments import encode_segment
from services.whatif.answer import recorded_usd
from services.whatif.virtual_time import run
from tests.golden.windows import FOLDER, Golden
from tests.harness.dispatch.varied_run import run_varied

#: Name, seed, jobs and settings of each window.
RECIPES: Final[tuple[tuple[str, int, int, Mapping[str, Any]], ...]] = (
    ("crowded", 1, 80, {}),
    ("limited", 2, 80, {"budget.daily_usd": 0.9, "backoff_s": 2.0, "slots": 20}),
    # Jobs whose next attempt would come after their deadline, and pipelines that split a cost cap.
    ("late", 36, 40, {}),
)


def record(version: str) -> None:
    (FOLDER / version).mkdir(exist_ok=True)
    for name, seed, count, changes in RECIPES:
        golden = Golden(version, name)
        if golden.events.exists():
            continue
        varied = run(run_varied(seed, count, changes))
        events = [
            HistoryEvent(
                sequence=stored.sequence,
                subject=stored.subject,
                timestamp=(envelope := decode(stored.body)).time.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
                id=envelope.id,
                body=stored.body,
            )
            for stored in varied.events
        ]
        segment = encode_segment(events, stream="EVENTS", epoch="golden", first=1, last=events[-1].sequence)
        golden.events.write_bytes(segment.data)
        golden.settings.write_text("{}")
        told = {"settings": dict(varied.settings), "jobs": count, "different": []}
        golden.settings.write_text(json.dumps(told))
        told["recorded_usd"] = recorded_usd(golden.window())
        golden.settings.write_text(json.dumps(told, indent=1) + "\n")
        print(f"{golden.events}: {len(events)} events, {len(segment.data)} bytes, {told['recorded_usd']} USD")


if __name__ == "__main__":
    record(sys.argv[1])
