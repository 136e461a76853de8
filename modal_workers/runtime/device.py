"""Actual GPU of a worker: Modal may provide a larger one than was requested."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import Final

#: Product names of nvidia-smi, with the name in prices and ladders; the first match counts.
_NAMES: Final = (
    (re.compile(r"\bT4\b"), "T4"),
    (re.compile(r"\bL40S\b"), "L40S"),
    (re.compile(r"\bL4\b"), "L4"),
    (re.compile(r"\bA10G?\b"), "A10"),
    (re.compile(r"\bA100\b.*\b80GB\b"), "A100-80GB"),
    (re.compile(r"\bA100\b"), "A100-40GB"),
    (re.compile(r"\bH200\b"), "H200"),
    (re.compile(r"\bH100\b"), "H100"),
    (re.compile(r"\bB200\b"), "B200"),
)
_NVIDIA_SMI_TIMEOUT_S: Final = 10.0


def gpu_name(product: str) -> str | None:
    """Return our name of a product (``NVIDIA A100-SXM4-80GB``); None for one that is not in the table."""
    return next((name for pattern, name in _NAMES if pattern.search(product)), None)


def actual_device(requested: str) -> str:
    """Return the name of this machine's device; ``requested`` if it cannot be found out.

    It is reported but not billed: Modal charges the requested GPU where it chose a larger one itself
    (https://modal.com/docs/guide/gpu).
    """
    if requested == "cpu" or shutil.which("nvidia-smi") is None:
        return requested
    try:
        output = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],  # noqa: S607 - its folder depends on the image
            capture_output=True,
            text=True,
            timeout=_NVIDIA_SMI_TIMEOUT_S,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return requested
    return gpu_name(output.partition("\n")[0]) or requested
