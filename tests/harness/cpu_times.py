"""CPU time of every test file, with that of the processes that it started and waited for: ``--cpu-times FILE``."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

#: What a process does before its first test and after its last: imports, collection, the end of shared servers.
_OUTSIDE = "outside of tests"


def cpu_s() -> float:
    """Return the CPU time of this process and of those of its children that it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


class CpuTimes:
    """Plug-in that writes the CPU seconds of each file, the most expensive first, and shows those of each process."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._path: str | None = config.getoption("--cpu-times")
        self._began_s = time.monotonic()
        self._by_file: Counter[str] = Counter()
        self._by_process: dict[str, str] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Count a test with its set-up and the end of its fixtures."""
        before_s = cpu_s()
        try:
            return (yield)
        finally:
            self._by_file[item.nodeid.partition("::")[0]] += cpu_s() - before_s

    def pytest_sessionfinish(self) -> None:
        """Send what this process has counted to the one that distributes, which writes the file."""
        output = getattr(self._config, "workeroutput", None)
        if output is not None or not self._by_process:
            self._by_file[_OUTSIDE] += cpu_s() - sum(self._by_file.values())
        if output is not None:
            output["cpu_s"] = dict(self._by_file)
        elif self._path:
            lines = {file: round(seconds, 2) for file, seconds in self._by_file.most_common()}
            Path(self._path).write_text(json.dumps(lines, indent=1) + "\n", encoding="utf-8")

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take what a process has counted that has ended."""
        counted: dict[str, float] = getattr(node, "workeroutput", {}).get("cpu_s", {})
        self._by_file.update(counted)
        lanes = "+".join(node.workerinput["lanes"])
        ended_s = time.monotonic() - self._began_s
        self._by_process[node.gateway.id] = f"{lanes} {sum(counted.values()):.0f} (ended after {ended_s:.0f} s)"

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Show how much each process has used."""
        if self._by_process:
            shown = ", ".join(f"{name} {told}" for name, told in sorted(self._by_process.items()))
            terminalreporter.write_line(f"CPU time of the test processes in s: {shown}")
