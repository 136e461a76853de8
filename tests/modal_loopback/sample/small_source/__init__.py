"""Actions of the small app: a result, and every way of ending without one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

#: Leaves its parent, its session and its environment, and says its number.
_ORPHAN = """import subprocess, sys
sleep = [sys.executable, "-c", "import time; time.sleep(300)"]
child = subprocess.Popen(sleep, env={}, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(child.pid)"""


def answer(launch: dict[str, Any]) -> dict[str, Any]:
    """Return the launch and the environment variables of the container."""
    return {"launch": launch, "environment": dict(os.environ)}  # noqa: TID251


def fail(launch: dict[str, Any]) -> None:
    """Raise."""
    raise ValueError("bad 7")


def leave(launch: dict[str, Any]) -> None:
    """End the process without a result."""
    os._exit(3)


def large(launch: dict[str, Any]) -> dict[str, Any]:
    """Return a result that is too large for a message."""
    return {"got": len(launch["bytes"]), "text": "x" * 3_000_000}


def look(launch: dict[str, Any]) -> dict[str, str]:
    """Import modules here, and in a program that has nothing of this one's environment."""
    tried = {}
    for name in launch["modules"]:
        try:
            __import__(name)
            tried[name] = "here"
        except ModuleNotFoundError:
            command = [sys.executable, "-c", f"import {name}"]
            code = subprocess.run(command, env={}, capture_output=True, check=False, timeout=300).returncode
            tried[name] = "nowhere" if code else "in a child"
    return tried


def shelve(launch: dict[str, Any]) -> dict[str, str]:
    """Write and remove files on the volume; return its previous contents."""
    place = Path(os.environ["PLACE"])  # noqa: TID251
    there = {str(path.relative_to(place)): path.read_text() for path in place.rglob("*") if path.is_file()}
    for name, text in launch.get("write", {}).items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    for name in launch.get("remove", []):
        (place / name).unlink()
    if "wait_for" in launch:
        Path(launch["wait_for"]).with_suffix(".started").touch()
        while not Path(launch["wait_for"]).exists():
            time.sleep(0.02)
    return there


def hang(launch: dict[str, Any]) -> dict[str, str]:
    """Start an orphan, say so, and sleep; say what ended the sleep, and sleep on if told to be stubborn."""
    folder = Path(launch["folder"])
    command = [sys.executable, "-c", _ORPHAN]
    orphan = int(subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout)
    if (folder / "started.json").exists():
        return {"run": "again"}
    (folder / "started.part").write_text(json.dumps([os.getpid(), os.getppid(), orphan]))
    (folder / "started.part").rename(folder / "started.json")
    while True:
        try:
            time.sleep(300)
        except BaseException as error:
            (folder / "ended").write_text(type(error).__name__)
            if not launch.get("stubborn"):
                raise
