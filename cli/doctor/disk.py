"""Free space: against what the system needs to start, and against what the streams may grow to."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

from cli.doctor.report_line import ReportLine, fail, ok, warn
from cli.doctor.run import in_thread
from cli.doctor.streams import reserved_bytes
from cli.doctor.system import System
from cli.embedded.data_folder import MIN_FREE_BYTES
from contracts.limits import GIB, MIB

#: Where container engines keep volumes, if they keep them on this machine.
_VOLUMES: Final = (Path("/var/lib/docker"), Path("/var/lib/containers"))


async def check_disk(system: System) -> list[ReportLine]:
    """Look at the disks that bus and bucket of this system are on, where they are this machine's."""
    return await in_thread(_look, system)


def _look(system: System) -> list[ReportLine]:
    folder = _folder(system)
    if folder is None:
        return [ok("disk", "bus and bucket are elsewhere (set GATEWAY_DISK where they are on this machine)")]
    there = _existing(folder)
    used = _size(folder / "nats" / "jetstream") if system.kind == "embedded" else 0
    found = [judge_space(there, shutil.disk_usage(there).free, max(0, reserved_bytes() - used))]
    if system.kind == "embedded" and not os.access(there, os.W_OK):
        fix = "Use --data (or SACCADE_DATA) with a folder that you may write."
        found.append(fail("disk folder", f"{there} may not be written", fix))
    return found


def _folder(system: System) -> Path | None:
    if system.kind == "embedded":
        return system.folder
    if named := system.variables.get("GATEWAY_DISK"):
        return Path(named)
    if system.kind == "compose":
        return next((folder for folder in _VOLUMES if folder.exists()), system.project)
    return None


def judge_space(folder: Path, free: int, streams_may_grow: int) -> ReportLine:
    """Return whether there is enough free space. Pure."""
    says = f"{_text(free)} are free on the disk of {folder}"
    if free < MIN_FREE_BYTES:
        needed = f"{MIN_FREE_BYTES // MIB} MB are needed to start"
        return fail("disk", f"{says}, {needed}", "Free some space, or use a folder on another disk.")
    if free < streams_may_grow:
        says += f", and the streams may grow by {_text(streams_may_grow)} until they drop or refuse events"
        return warn("disk", says, "Watch the free space, or use a larger disk: a full one stops every job.")
    return ok("disk", f"{says}, the streams may grow by {_text(streams_may_grow)}")


def _existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists."""
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if path.exists())


def _size(folder: Path) -> int:
    """Return the size of a folder's files; those that vanish meanwhile are not counted."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(Path(path) / name).st_size
            except OSError:
                continue
    return total


def _text(size_bytes: int) -> str:
    return f"{size_bytes / GIB:.1f} GiB" if size_bytes >= GIB else f"{size_bytes / MIB:.0f} MiB"
