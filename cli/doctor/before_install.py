"""``saccade doctor`` before anything is installed: with the standard library alone, it says what is missing."""

from __future__ import annotations

import importlib.util
import json
import shutil
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cli.doctor.report_line import ReportLine, fail, ok, warn

_ROOT: Final = Path(__file__).resolve().parents[2]
#: A package of each group that `saccade up` needs, by the name it is imported by.
_PACKAGES: Final = ("click", "pydantic", "nats", "aiohttp", "fastapi", "uvicorn", "av")
_PROGRAMS: Final = ("nats-server", "rclone")
_PORT: Final = 8080
#: What `make install` writes, roughly.
_INSTALL_BYTES: Final = 2 * 1024**3
_INSTALL: Final = "Run `make install` in a clone of the repository, then `.venv/bin/saccade doctor`."


def judge_python(version: Sequence[int]) -> ReportLine:
    """Return whether a version of Python is new enough."""
    text = ".".join(map(str, version[:3]))
    if tuple(version[:2]) >= (3, 11):
        return ok("python", text)
    return fail("python", f"{text} is too old", "Install Python 3.11 or newer, and make the environment with it.")


def missing_packages() -> list[str]:
    """Return which of the needed packages cannot be imported."""
    return [name for name in _PACKAGES if importlib.util.find_spec(name) is None]


def judge_packages(missing: Sequence[str]) -> ReportLine:
    """Return whether the packages of `saccade up` are there."""
    if missing:
        return fail("packages", f"not installed: {', '.join(missing)}", _INSTALL)
    return ok("packages", "what `saccade up` needs is installed")


def _judge_venv() -> ReportLine:
    if importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip"):
        return ok("venv", "this Python can make virtual environments")
    return fail("venv", "this Python makes no virtual environments", "Install it, on Debian: apt install python3-venv.")


def _judge_disk() -> ReportLine:
    free = shutil.disk_usage(_ROOT).free
    text = f"{free / 1024**3:.1f} GiB are free for the installation"
    if free < _INSTALL_BYTES:
        return fail("disk", text, "Free some space: packages need about 2 GiB.")
    return ok("disk", text)


def _judge_port() -> ReportLine:
    with socket.socket() as probe:
        taken = probe.connect_ex(("127.0.0.1", _PORT)) == 0
    if taken:
        return warn("port", f"{_PORT} is used by another program", "Start later with `saccade up --port` and another.")
    return ok("port", f"{_PORT} is free")


def _judge_programs() -> ReportLine:
    beside = Path(sys.executable).parent
    missing = [name for name in _PROGRAMS if not (beside / name).exists() and not shutil.which(name)]
    if missing:
        return fail("programs", f"not installed: {', '.join(missing)}", _INSTALL)
    return ok("programs", f"{' and '.join(_PROGRAMS)} are installed")


def main(arguments: Sequence[str]) -> int:
    """Print what is there and what is missing, and return the exit code; other commands are refused."""
    if arguments[:1] != ["doctor"]:
        sys.stderr.write("error: Saccade is not installed in this Python (not_installed)\n")
        sys.stderr.write("  hint: `python3 -m cli doctor` says what is missing\n")
        return 1
    found = [judge_python(sys.version_info[:3]), _judge_venv(), judge_packages(missing_packages()), _judge_programs()]
    found += [_judge_disk(), _judge_port()]
    for finding in found:
        if "--json" in arguments:
            line = {"check": finding.check, "outcome": finding.outcome, "message": finding.says, "fix": finding.fix}
            sys.stdout.write(json.dumps(line) + "\n")
        else:
            sys.stdout.write(finding.line + "\n")
    return int(any(finding.outcome == "FAIL" for finding in found))
