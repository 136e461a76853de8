"""Child process of a what-if: a window comes in by standard input, the answer goes out by standard output.

It is started without an environment and locks itself down before it reads anything (services/whatif/lockdown.py).
"""

from __future__ import annotations

import json
import sys

from kit.history.event_lines import decode_lines
from modal_workers import catalog
from services.whatif.answer import ask
from services.whatif.child_input import window_of_input
from services.whatif.lockdown import lock_down
from services.whatif.replay_settings import ReplaySettings
from services.whatif.virtual_time import VirtualLoop


def main() -> None:
    """Answer one question."""
    workloads = catalog.workloads()
    # It has a socket of its own, for signals: made before none can be.
    loop = VirtualLoop()
    isolated = lock_down()
    head = json.loads(sys.stdin.buffer.readline())
    lines = decode_lines(sys.stdin.buffer.read(), "the window")
    window = window_of_input(head, lines)
    answer = ask(loop, window, workloads, ReplaySettings(head["settings"]), head["changes"])
    print(json.dumps(answer.to_json() | {"network_namespace": isolated}))  # noqa: T201 - it is the answer


if __name__ == "__main__":
    main()
