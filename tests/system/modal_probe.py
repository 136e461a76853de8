"""A small Modal app, by which tests/system/test_modal_account.py asks a real account what nothing else says."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

import modal

#: Where its functions leave what they saw, by a key that the test chooses.
SEEN = "saccade-probe"

app = modal.App("saccade-probe")
image = modal.Image.debian_slim(python_version="3.11")
#: The cache's volume, mounted as it is for a worker; the variable is for a stand-in, which mounts nothing below /.
shelf = {
    "image": image.env({"SHELF": "/shelf"}),
    "volumes": {"/shelf": modal.Volume.from_name("nerf-data", create_if_missing=True)},
    "restrict_modal_access": True,
    "single_use_containers": True,
    "retries": 0,
}
said = {"exit_code": 0, "out_of_memory": False}


@app.function(image=image, timeout=300, retries=0)
def wait(key: str, seconds: float) -> dict[str, Any]:
    """Wait, and leave in which container, how often it began, and what ended it early."""
    seen = modal.Dict.from_name(SEEN, create_if_missing=True)
    began = seen.get(f"{key}.began", 0) + 1
    seen[f"{key}.began"] = began
    seen[f"{key}.container"] = os.environ["MODAL_TASK_ID"]  # noqa: TID251 - it is no part of ours
    if began > 1:
        return said
    try:
        time.sleep(seconds)
    except BaseException as error:
        seen[f"{key}.ended_by"] = type(error).__name__
        raise
    return said


@app.function(image=image, retries=0)
def answer() -> dict[str, Any]:
    """Do nothing, in order."""
    return said


@app.function(image=image, timeout=5, retries=0)
def hang() -> None:
    """Take longer than it may."""
    time.sleep(120)


@app.function(image=image, retries=0)
def crash() -> None:
    """End the container."""
    os._exit(3)


@app.function(image=image, retries=0)
def refuse() -> None:
    """Raise what nobody expects."""
    raise ValueError("bad 7")


@app.function(image=image, gpu=["L4", "T4"], retries=0)
def gpu() -> str:
    """Return the name of the GPU."""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout.strip()


@app.function(**shelf)
def shelve(job_id: str) -> dict[str, Any]:
    """Leave a file in a job's folder, and commit nothing: this code may not call Modal."""
    folder = Path(os.environ["SHELF"]) / job_id  # noqa: TID251
    folder.mkdir()
    (folder / "left").write_text(job_id)
    return said


@app.function(**shelf)
def is_shelved(job_id: str) -> bool:
    """Look for that file, in a container of its own."""
    return (Path(os.environ["SHELF"]) / job_id / "left").exists()  # noqa: TID251
