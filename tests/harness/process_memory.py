"""Memory of the test processes: returned after each file, and checked against a limit at the end of a run."""

from __future__ import annotations

import ctypes
import gc
from pathlib import Path
from typing import Any

import pytest

#: Peak resident memory that a test process may reach; the goal is 1536, and 1587 was measured once. What a stage needs
#: beyond this belongs into a child process.
LIMIT_MIB = 2048
#: Cyclic garbage is collected between two files when a process is larger than this.
_COLLECT_ABOVE_MIB = 700


def peak_mib(status: Path = Path("/proc/self/status")) -> int:
    """Return the peak resident memory of this process; 0 where the kernel does not tell."""
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM:")), 0)


def _resident_mib() -> int:
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * 4 // 1024 if statm.exists() else 0


def release_memory() -> None:
    """Return freed memory to the system: native libraries leave large holes in glibc's heap.

    What the tests of this file have left to the collector is found here, and an open socket among it fails the file.
    """
    gc.collect(2 if _resident_mib() > _COLLECT_ABOVE_MIB else 1)
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class PeakMemory:
    """Plug-in that reports the peak of every test process, and fails the run where one is above the limit."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._peaks_mib: dict[str, int] = {}

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Note this process's peak, for the process that distributes; that one fails the run."""
        output = getattr(self._config, "workeroutput", None)
        if output is not None:
            output["peak_mib"] = peak_mib()
        elif any(peak > LIMIT_MIB for peak in self._peaks_mib.values()) and session.exitstatus == 0:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take the peak of a process that has ended."""
        self._peaks_mib[node.gateway.id] = getattr(node, "workeroutput", {}).get("peak_mib", 0)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Show the peaks."""
        if self._peaks_mib:
            shown = ", ".join(f"{name} {peak}" for name, peak in sorted(self._peaks_mib.items()))
            terminalreporter.write_line(f"Peak memory of the test processes in MiB (limit {LIMIT_MIB}): {shown}")
